"""The IDX format of the MNIST files: two zero bytes, element type, number of axes, big-endian sizes, the elements."""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...files import user_path
from ...io import replacing
from .opening import DataFileError, open_regular

__all__ = ["IdxError", "read_idx", "write_idx"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_AXES = 32  # what every supported NumPy can hold
_MAX_BYTES = 2**63 - 1
_CHUNK = 1 << 20  # bytes that are read, or written, at a time
_MAX_DEFLATION = 1032  # bytes that one byte of gzip can stand for


class IdxError(DataFileError):
    """A file that is damaged, cut short or not in the IDX format that is expected."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the array in an IDX file, gzipped or not: the first bytes tell, not the name.

    Takes the memory of the array and no more, and that only once the header is found to fit the size of the file.

    Args:
        path: the file; ``~`` is the home folder.

    Returns:
        The array in the machine's byte order, owned and writable; dtype uint8, int8, int16, int32, float32 or float64.

    Raises:
        IdxError: anything wrong with the contents, the gzip layer included, or more in them than memory can hold.
        DataFileError: ``path`` is a folder, a pipe or a device.
        FileNotFoundError: there is no such file.
    """
    return read_idx_of(path, lambda dtype, shape: None)


def read_idx_of(path: str | os.PathLike[str], problem: Callable[[np.dtype, tuple[int, ...]], str | None]) -> np.ndarray:
    """:func:`read_idx`, where ``problem`` says what is wrong with a dtype and a shape before any data are read."""
    path = user_path(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(len(_GZIP_MAGIC))
        file.seek(0)
        if magic != _GZIP_MAGIC:
            return _parse(file, path, size, problem)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _parse(stream, path, size * _MAX_DEFLATION, problem)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise IdxError(f"{str(path)!r} is damaged: its gzip data must be whole ({error})") from error


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as an IDX file, gzipped when the name ends in ``.gz``.

    The file appears whole or not at all, and the same array gives the same bytes every time.

    Args:
        path: the file; an existing one is replaced; ``~`` is the home folder.
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
    path = user_path(path)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        # Neither a name nor a time goes into the gzip data.
        packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if path.suffix == ".gz" else nullcontext(file)
        with packed as stream:
            stream.write(struct.pack(f">HBB{array.ndim}I", 0, codes[0], array.ndim, *array.shape))
            flat = array.reshape(-1)
            for start in range(0, flat.size, _CHUNK):
                chunk = flat[start : start + _CHUNK]
                stream.write(chunk.astype(array.dtype.newbyteorder(">")).tobytes())


def _parse(
    stream: BinaryIO | gzip.GzipFile,
    path: Path,
    most: int,
    problem: Callable[[np.dtype, tuple[int, ...]], str | None],
) -> np.ndarray:
    """The array in ``stream``, which cannot give more than ``most`` bytes."""
    name = repr(str(path))
    magic = stream.read(4)
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
    sizes = stream.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise IdxError(f"{name} is cut short: a header of {axes} axes has {4 + 4 * axes} bytes")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(_DTYPES[code])
    # NumPy refuses shapes that overflow without the empty axes, too.
    if math.prod(size for size in shape if size) * dtype.itemsize > _MAX_BYTES:
        raise IdxError(f"{name} claims shape {shape}, which is more than any array can hold")
    if wrong := problem(dtype, shape):
        raise IdxError(f"{name} holds {dtype.name} of shape {shape}; {wrong}")
    expected = math.prod(shape) * dtype.itemsize
    takes = f"{dtype.name} of shape {shape} takes {expected}"
    room = most - len(magic) - len(sizes)
    if expected > room:
        held = f"at most {room}" if isinstance(stream, gzip.GzipFile) else f"{room}"
        raise IdxError(f"{name} holds {held} bytes of data; {takes}")
    try:
        array = np.empty(shape, dtype)
        found = _fill(array, stream)
    except MemoryError as error:
        raise IdxError(f"{name} claims {expected} bytes of data, more than there is memory for") from error
    # The byte too many finds trailing data, and makes gzip check its sum; a bomb is left where it is.
    if found < expected or stream.read(1):
        held = f"{found}" if found < expected else f"more than {found}"
        raise IdxError(f"{name} holds {held} bytes of data; {takes}")
    return array.byteswap(inplace=True) if sys.byteorder == "little" else array


def _fill(array: np.ndarray, stream: BinaryIO | gzip.GzipFile) -> int:
    """Read the bytes of the new ``array``, fewer only where the stream ends; how many there were."""
    view = array.reshape(-1).view(np.uint8)
    found = 0
    while found < view.size and (chunk := stream.read(min(_CHUNK, view.size - found))):
        view[found : found + len(chunk)] = np.frombuffer(chunk, np.uint8)
        found += len(chunk)
    return found
