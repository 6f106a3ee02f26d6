"""Named arrays with text metadata, as one ``.safetensors`` or ``.npz`` file."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import replacing

__all__ = ["CheckpointError", "read_arrays", "write_arrays"]

_METADATA = "__metadata__"  # the key that safetensors reserves; in an .npz file, an array that holds JSON text


class CheckpointError(ValueError):
    """A file of weights that is damaged, cut short or of another kind."""


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``arrays`` and ``metadata`` to ``path``, atomically, in the format that the extension names.

    Raises:
        ValueError: an extension other than ``.safetensors`` and ``.npz``.
        TypeError: ``metadata`` with keys or values that are not strings.
        FileNotFoundError: the folder of ``path`` does not exist.
    """
    write, _ = _format(path)
    metadata = dict(metadata or {})
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"`metadata` has {key!r}: {value!r}; keys and values must be strings")
    with replacing(path) as temporary:
        write(temporary, {name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays (owned and writable) and the metadata of ``path``.

    Raises:
        ValueError: an extension other than ``.safetensors`` and ``.npz``.
        CheckpointError: the file is damaged, cut short or of another kind.
        FileNotFoundError: there is no such file.
    """
    _, read = _format(path)
    data = Path(path).read_bytes()
    try:
        return read(data)
    except Exception as error:  # what damaged bytes make the parsers raise is no closed list
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{os.fspath(path)!r} is no whole {Path(path).suffix} file: {reason}") from error


def _format(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"`path` {os.fspath(path)!r} must end in {' or '.join(_FORMATS)}")
    return _FORMATS[suffix]


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    # Not save_file: it goes through a file of its own, which only the owner may read.
    path.write_bytes(save(arrays, metadata or None))


def _read_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors.numpy import load

    arrays = {name: array.copy() for name, array in load(data).items()}
    header_size = int.from_bytes(data[:8], "little")
    return arrays, _checked(json.loads(data[8 : 8 + header_size]).get(_METADATA, {}))


def _write_npz(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    if metadata:
        arrays = {**arrays, _METADATA: np.array(json.dumps(metadata))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                raise ValueError(f"it holds {name!r}, which is no array")
            # Reading the whole member first compares its checksum before anything believes its header.
            member = io.BytesIO(archive.read(name))
            arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    text = arrays.pop(_METADATA, None)
    return arrays, {} if text is None else _checked(json.loads(str(text)))


def _checked(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no table of strings")
    return metadata


_FORMATS = {".safetensors": (_write_safetensors, _read_safetensors), ".npz": (_write_npz, _read_npz)}
