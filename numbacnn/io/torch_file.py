"""Files of ``torch.save``, read without PyTorch and without executing anything that is in them.

From version 1.6 on they are zip archives, with a pickle of what was saved and a member for each storage, before that a
stream of pickles with the storages behind them; https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from .contents import LONGEST_TEXT, Contents, Entry
from .plain_pickle import Vocabulary, read_pickle
from .torch_pickle import Refused, Storage, Tensor, TensorPickle

__all__ = ["read_torch"]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TABLES = (b"state_dict", b"model_state_dict", b"model_state", b"model", b"module", b"net", b"params")
"""Where training loops put the weights, beside an optimizer's state and the like."""
_FOREIGN = {
    (0, b"version https://git-lfs"): "it is a pointer of Git LFS, in the place of the file",
    (257, b"ustar"): "it is a tar archive, as PyTorch wrote them before version 0.2",
    (0, b"\x89HDF"): "it is a file of HDF5",
}
_CHUNK = 1 << 20


class _Place(NamedTuple):
    """Where the bytes of a storage begin in the file, their order, and what is to be checked before they are used."""

    start: int
    order: Literal["<", ">"]
    check: Callable[[], None]


def read_torch(file: BinaryIO) -> Contents:
    """The tensors in a file of ``torch.save``: those of the table that was saved, or of the one in it for a model's.

    Text and numbers beside that table are the metadata.

    Raises:
        ValueError: the file is damaged, is none of PyTorch's, or holds what is neither tensors nor plain data.
    """
    start = file.read(512)
    for (position, magic), what in _FOREIGN.items():
        if start[position:].startswith(magic):
            raise ValueError(what)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        content, place = _open_archive(file)
    elif start.startswith(b"\x80"):
        content, place = _open_stream(file)
    else:
        raise ValueError("it is neither a zip archive nor a pickle")
    table, name = _weights(content)
    entries = {}
    for key, value in table.items():
        shown = key.decode("utf-8") if isinstance(key, bytes) else str(key)
        if isinstance(value, Refused):
            raise ValueError(f"{shown!r} is {value.what}, which is not supported")
        if isinstance(value, Tensor):
            entries[shown] = Entry(value.dtype, value.shape, partial(_read, file, place(value.storage), value))
    metadata = {} if table is content else dict(_texts(content))
    return Contents(entries, metadata, name)


def _weights(content: Any) -> tuple[dict[Any, Any], str]:
    """The table of tensors in what was saved, and its name if it is inside of another."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a table of tensors")
    inner = {key: value for key, value in content.items() if isinstance(value, dict) and _has_tensors(value)}
    for key in _TABLES:
        if key in inner:
            return inner[key], key.decode()
    if _has_tensors(content) or not content:
        return content, ""
    if len(inner) != 1:
        names = ", ".join(repr(_text(key)) for key in [*(inner or content)][:8])
        raise ValueError(f"it holds {'several tables' if inner else 'no table'} of tensors; it has {names}")
    key, table = inner.popitem()
    return table, _text(key)


def _has_tensors(table: dict[Any, Any]) -> bool:
    return any(isinstance(value, (Tensor, Refused)) for value in table.values())


def _texts(content: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, (bytes, bool, int, float)):
            yield _text(key), _text(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _open_archive(file: BinaryIO) -> tuple[Any, Callable[[Storage], _Place]]:
    """What was saved in an archive, and where a storage is."""
    archive = zipfile.ZipFile(file)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if members.setdefault(info.filename, info) is not info:
            raise ValueError(f"it holds {info.filename!r} twice")
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("it is a zip archive, but none of `torch.save`, which have one member `data.pkl`")
    root = roots[0]
    if f"{root}constants.pkl" in members:
        raise ValueError("it is a program of TorchScript; only the weights in a file of `torch.save` are read")

    def member(name: str, most: int) -> zipfile.ZipInfo:
        info = members.get(f"{root}{name}")
        if info is None:
            raise ValueError(f"it has no member {root + name!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"its member {info.filename!r} is compressed, which none of `torch.save` is")
        if info.file_size > most:
            raise ValueError(f"its member {info.filename!r} has {info.file_size} bytes, must have at most {most}")
        return info

    order: Literal["<", ">"] = "<"
    if f"{root}byteorder" in members:
        text = archive.read(member("byteorder", 16))
        if text not in (b"little", b"big"):
            raise ValueError(f"its byte order is {text!r}, must be 'little' or 'big'")
        order = "<" if text == b"little" else ">"
    text = archive.read(member("data.pkl", LONGEST_TEXT))
    content = read_pickle(io.BytesIO(text), len(text), TensorPickle())
    places: dict[str, _Place] = {}

    def place(storage: Storage) -> _Place:
        if storage.key not in places:
            size = storage.total * storage.dtype.itemsize
            info = member(f"data/{storage.key}", size)
            if info.file_size < size:
                raise ValueError(f"its member {info.filename!r} has {info.file_size} bytes, must have {size}")
            file.seek(info.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            start = info.header_offset + 30 + name_length + extra_length
            places[storage.key] = _Place(start, order, _Checksum(archive, info).check)
        return places[storage.key]

    return content, place


class _Checksum:
    """That of a member, which is compared once."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._archive, self._info = archive, info
        self._is_checked = False

    def check(self) -> None:
        if not self._is_checked:
            with self._archive.open(self._info) as member:
                while member.read(_CHUNK):
                    pass
            self._is_checked = True


def _open_stream(file: BinaryIO) -> tuple[Any, Callable[[Storage], _Place]]:
    """What was saved in a stream of pickles, and where a storage is."""
    size = os.fstat(file.fileno()).st_size

    def unpickled(vocabulary: Vocabulary) -> Any:
        return read_pickle(file, min(size - file.tell(), LONGEST_TEXT), vocabulary)

    if unpickled(Vocabulary()) != _MAGIC:
        raise ValueError("it is a pickle, but none of `torch.save`")
    if unpickled(Vocabulary()) != _PROTOCOL:
        raise ValueError("its protocol is not the one that PyTorch wrote before version 1.6")
    unpickled(Vocabulary())  # the sizes of C's types where it was written; the file has none that depend on them
    vocabulary = TensorPickle()
    content = unpickled(vocabulary)
    keys = unpickled(Vocabulary())
    if not isinstance(keys, list) or not all(isinstance(key, bytes) for key in keys):
        raise ValueError("it is damaged: it has no list of storages")
    keys = [key.decode("utf-8", "replace") for key in keys]
    if sorted(keys) != sorted(vocabulary.storages):
        raise ValueError("it is damaged: the storages that it lists are not those that its tensors have")
    places = {}
    for key in keys:
        storage = vocabulary.storages[key]
        count = int.from_bytes(file.read(8), "little")
        start = file.tell()
        end = start + count * storage.dtype.itemsize
        if count != storage.total or end > size:
            raise ValueError(
                f"the storage {key!r} of {count} numbers at byte {start} of {size} must have {storage.total}"
            )
        # Little-endian on every machine.
        places[key] = _Place(start, "<", lambda: None)
        file.seek(end)
    if file.tell() != size:
        raise ValueError(f"its storages end at byte {file.tell()} of {size}")
    return content, lambda storage: places[storage.key]


def _read(file: BinaryIO, place: _Place, tensor: Tensor) -> np.ndarray[Any, Any]:
    place.check()
    dtype = np.dtype("u2") if tensor.dtype.kind == "V" else tensor.dtype
    result = np.empty(tensor.shape, dtype)
    _fill(result, file, place.start, dtype.newbyteorder(place.order), tensor.offset, tensor.strides)
    return result.view(tensor.dtype)


def _fill(
    result: np.ndarray[Any, Any],
    file: BinaryIO,
    start: int,
    dtype: np.dtype[Any],
    offset: int,
    strides: tuple[int, ...],
) -> None:
    """Numbers that lie ``strides`` elements apart, from the one with the number ``offset`` on, into ``result``.

    They are read in one piece, unless it has many more numbers than are wanted; then along an axis, piece by piece.
    """
    if not result.size:
        return
    steps = [(length - 1) * stride for length, stride in zip(result.shape, strides, strict=True)]
    extent = 1 + sum(steps)
    if extent <= max(4 * result.size, _CHUNK // dtype.itemsize):
        file.seek(start + offset * dtype.itemsize)
        numbers = np.fromfile(file, dtype, extent)
        if numbers.size != extent:
            raise ValueError("it is cut short")
        apart = [stride * dtype.itemsize for stride in strides]
        result[...] = np.lib.stride_tricks.as_strided(numbers, result.shape, apart, writeable=False)
        return
    axis = int(np.argmax(steps))
    rest = (*strides[:axis], *strides[axis + 1 :])
    for i in range(result.shape[axis]):
        part = result[(slice(None),) * axis + (i, ...)]
        _fill(part, file, start, dtype, offset + i * strides[axis], rest)
