"""The IDX format of the MNIST files: two zero bytes, element type, number of axes, big-endian sizes, the elements."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..io import replacing

__all__ = ["IdxError", "read_idx", "write_idx"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_AXES = 32  # what every supported NumPy can hold
_MAX_BYTES = 2**63 - 1
_CHUNK = 1 << 20


class IdxError(ValueError):
    """A file that is damaged, cut short or not in the IDX format that is expected."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the array in an IDX file, gzipped or not: the first bytes tell, not the name.

    Args:
        path: the file.

    Returns:
        The array in the machine's byte order, owned and writable; dtype uint8, int8, int16, int32, float32 or float64.

    Raises:
        IdxError: anything wrong with the contents, the gzip layer included. Memory is taken as the data arrive, so a
            header that claims more than the file holds costs nothing.
        FileNotFoundError: there is no such file.
    """
    with open(path, "rb") as file:
        magic = file.read(len(_GZIP_MAGIC))
        file.seek(0)
        if magic != _GZIP_MAGIC:
            return _parse(file, path)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _parse(stream, path)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise IdxError(f"{os.fspath(path)!r} is damaged: its gzip data must be whole ({error})") from error


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as an IDX file, gzipped when the name ends in ``.gz``.

    The file appears whole or not at all, and the same array gives the same bytes every time.

    Args:
        path: the file; an existing one is replaced.
        array: uint8, int8, int16, int32, float32 or float64, in either byte order, with 1 to 32 axes.

    Raises:
        TypeError: another dtype.
        ValueError: no axis, too many axes, or one longer than 2**32 - 1.
        FileNotFoundError: the folder of ``path`` does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "labels-idx1-ubyte.gz")
        ...     write_idx(path, np.array([7, 2, 1], np.uint8))
        ...     read_idx(path)
        array([7, 2, 1], dtype=uint8)
    """
    array = np.asarray(array)
    codes = [code for code, dtype in _DTYPES.items() if array.dtype.newbyteorder("=") == dtype]
    if not codes:
        names = ", ".join(np.dtype(dtype).name for dtype in _DTYPES.values())
        raise TypeError(f"`array` of dtype {array.dtype} must be one of {names}")
    if not 1 <= array.ndim <= _MAX_AXES or max(array.shape) >= 2**32:
        raise ValueError(f"`array` of shape {array.shape} must have 1 to {_MAX_AXES} axes shorter than 2**32")
    header = struct.pack(f">HBB{array.ndim}I", 0, codes[0], array.ndim, *array.shape)
    data = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    if Path(path).suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _parse(stream: BinaryIO | gzip.GzipFile, path: str | os.PathLike[str]) -> np.ndarray:
    name = repr(os.fspath(path))
    magic = _read(stream, 4)
    if len(magic) < 4:
        raise IdxError(f"{name} is cut short: it holds {len(magic)} bytes, an IDX header has at least 8")
    zeros, code, axes = struct.unpack(">HBB", magic)
    if zeros != 0:
        raise IdxError(f"{name} is neither gzip nor IDX: it starts with {magic.hex(' ')}, IDX starts with 00 00")
    if code not in _DTYPES:
        known = ", ".join(f"0x{each:02x}" for each in _DTYPES)
        raise IdxError(f"{name} has element type 0x{code:02x}; it must be one of {known}")
    if not 1 <= axes <= _MAX_AXES:
        raise IdxError(f"{name} has {axes} axes; there must be 1 to {_MAX_AXES}")
    sizes = _read(stream, 4 * axes)
    if len(sizes) < 4 * axes:
        raise IdxError(f"{name} is cut short: a header of {axes} axes has {4 + 4 * axes} bytes")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(_DTYPES[code]).newbyteorder(">")
    # NumPy refuses shapes that overflow without the empty axes, too.
    if math.prod(size for size in shape if size) * dtype.itemsize > _MAX_BYTES:
        raise IdxError(f"{name} claims shape {shape}, which is more than any array can hold")
    expected = math.prod(shape) * dtype.itemsize
    # The byte too many finds trailing data, and makes gzip check its sum; a bomb is left where it is.
    data = _read(stream, expected + 1)
    if len(data) != expected:
        found = f"more than {expected}" if len(data) > expected else f"{len(data)}"
        raise IdxError(f"{name} holds {found} bytes of data; {dtype.name} of shape {shape} takes {expected}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read(stream: BinaryIO | gzip.GzipFile, count: int) -> bytearray:
    """At most ``count`` bytes, fewer only where the stream ends."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(_CHUNK, count - len(data)))):
        data += chunk
    return data
