"""Named arrays with text metadata, as one ``.safetensors`` or ``.npz`` file."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from ..files import replacing, user_path
from ..ops.arguments import integer
from .contents import LONGEST_TEXT, Contents, Entry
from .json_text import parse_json
from .torch_file import read_torch

__all__ = ["TORCH_FORMATS", "CheckpointError", "Shapes", "needed", "read_arrays", "read_contents", "write_arrays"]

_T = TypeVar("_T")
Shapes = Mapping[str, tuple[int, ...]]

_METADATA = "__metadata__"  # the key that safetensors reserves; in an .npz file, an array that holds JSON text
TORCH_FORMATS = (".pth", ".pt", ".bin", ".ckpt")
"""How names of files of ``torch.save`` end."""


class CheckpointError(ValueError):
    """A file of weights that is damaged, cut short, of another kind, or for something else."""


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``arrays`` and ``metadata`` to ``path``, atomically, in the format that the extension names.

    Raises:
        ValueError: an extension other than ``.safetensors`` and ``.npz``.
        TypeError: ``metadata`` with keys or values that are not strings.
        FileNotFoundError: the folder of ``path`` does not exist.
        OSError: the file cannot be written.
    """
    write = _WRITERS[_format(path, _WRITERS)]
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"`metadata` of type {type(metadata).__name__} must be a dict of strings")
    metadata = dict(metadata or {})
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"`metadata` has {key!r}: {value!r}; keys and values must be strings")
    with replacing(path) as temporary:
        write(temporary, {name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)


def read_arrays(
    path: str | os.PathLike[str], shapes: Shapes | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays (writable) and the metadata of ``path``, a file of :func:`write_arrays`.

    With ``shapes``, only arrays that have these names and shapes are read, so that a file takes no more memory than
    what it is for. In the place of any other stand zeros of the shape and dtype that the file gives it, which take no
    memory and are read-only. The dtype of bfloat16 is ``"V2"``.

    Raises:
        ValueError: an extension other than ``.safetensors`` and ``.npz``.
        CheckpointError: the file is damaged, cut short or of another kind.
        FileNotFoundError: there is no such file.
    """
    _format(path, _WRITERS)
    return read_contents(path, lambda contents: (needed(contents.entries, shapes), contents.metadata))


def read_contents(path: str | os.PathLike[str], use: Callable[[Contents], _T]) -> _T:
    """What ``use`` makes of the contents of ``path``, while the file is open.

    Raises:
        ValueError: an extension that is none of a file of weights.
        CheckpointError: the file is damaged, cut short or of another kind.
        FileNotFoundError: there is no such file.
    """
    read = _READERS[_format(path, _READERS)]
    path = user_path(path)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{str(path)!r} is no regular file")
    with open(path, "rb") as file:
        try:
            return use(read(file))
        except MemoryError:
            raise
        except Exception as error:  # what damaged bytes make the parsers raise is no closed list
            # A damaged offset that points before the file's beginning is EINVAL; all others are the disk's.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{str(path)!r} is no whole {path.suffix} file: {reason}") from error


def needed(entries: Mapping[str, Entry], shapes: Shapes | None) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that have these names and shapes, and zeros that take no memory in the place of all others."""
    return {
        name: entry.read() if shapes is None or shapes.get(name) == entry.shape else _stand_in(entry)
        for name, entry in entries.items()
    }


def _stand_in(entry: Entry) -> np.ndarray[Any, Any]:
    return np.broadcast_to(np.zeros((), entry.dtype), entry.shape)


def _format(path: str | os.PathLike[str], formats: Iterable[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        *others, last = formats
        raise ValueError(f"`path` {os.fspath(path)!r} must end in {', '.join(others)} or {last}")
    return suffix


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    # Not save_file: it goes through a file of its own, which only the owner may read.
    path.write_bytes(save(arrays, metadata or None))


_SAFETENSORS_DTYPES = {
    "BOOL": "?",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "C64": "<c8",
    "BF16": "V2",
}


def _read_safetensors(file: BinaryIO) -> Contents:
    # Not by the package: it takes the last of several arrays of one name, knows no bfloat16, and copies the whole file.
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = 8 + int.from_bytes(file.read(8), "little")
    if start > min(size, LONGEST_TEXT):
        raise ValueError(f"its header would end at byte {start} of {size}")
    header = parse_json(file.read(start - 8).decode("utf-8"))
    metadata = _checked(header.pop(_METADATA, {}))
    entries, position = {}, start
    # Bytes that are no array's, and those of two, are refused, as the format has it.
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError(f"{name!r} has the dtype {entry['dtype']!r}, which is not supported")
        dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
        shape = tuple(integer("shape", length) for length in entry["shape"])
        end = position + dtype.itemsize * math.prod(shape)
        if [start + offset for offset in entry["data_offsets"]] != [position, end] or end > size:
            raise ValueError(f"{name!r} of {end - position} bytes is not at byte {position} of {size}")
        entries[name] = Entry(dtype, shape, partial(_read_at, file, position, dtype, shape))
        position = end
    if position != size:
        raise ValueError(f"its arrays end at byte {position} of {size}")
    return Contents(entries, metadata)


def _read_at(file: BinaryIO, position: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    file.seek(position)
    return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)


def _write_npz(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    if metadata:
        arrays = {**arrays, _METADATA: np.array(json.dumps(metadata))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(file: BinaryIO) -> Contents:
    entries, metadata = {}, {}
    seen = set()
    archive = zipfile.ZipFile(file)
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise ValueError(f"it holds {name!r}, which is no array")
        if name in seen:
            raise ValueError(f"it holds {name!r} twice")
        seen.add(name)
        # The others unpack without a bound on the memory that a few bytes take.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name!r} is compressed by another method than deflate")
        dtype, shape = _npy_header(archive, info)
        if name == _METADATA:
            if dtype.kind != "U" or info.file_size > LONGEST_TEXT:
                raise ValueError("its metadata is no text, or too long")
            metadata = _checked(parse_json(str(_read_member(archive, info))))
        elif dtype.kind not in "biufc" and dtype != np.dtype("V2"):
            raise ValueError(f"{name!r} has the dtype {dtype}, which is not supported")
        else:
            entries[name] = Entry(dtype, shape, partial(_read_member, archive, info))
    return Contents(entries, metadata)


_LONGEST_HEADER = 1 << 14
"""More bytes than NumPy reads of one."""


def _npy_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Dtype and shape of a member, which is as long as they say."""
    with archive.open(info) as member:
        start = io.BytesIO(member.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    try:
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(start)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(start)
        else:
            raise ValueError(f"{info.filename!r} is of version {version}, which is not supported")
    except MemoryError:  # what Python's parser raises for text that is nested too deep
        raise ValueError(f"the header of {info.filename!r} is no readable text") from None
    if not dtype.hasobject and start.tell() + dtype.itemsize * math.prod(shape) != info.file_size:
        raise ValueError(f"{info.filename!r} is not as long as its shape {shape} and dtype {dtype} say")
    return dtype, shape


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    # Its checksum is compared when its last byte is read, which is the last of the array.
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _checked(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no table of strings")
    return metadata


_WRITERS = {".safetensors": _write_safetensors, ".npz": _write_npz}
_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz, **dict.fromkeys(TORCH_FORMATS, read_torch)}
