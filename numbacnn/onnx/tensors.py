"""Tensors of ONNX files as arrays of NumPy, and arrays as tensors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .messages import Tensor

__all__ = ["DTYPES", "MOST_ELEMENTS", "array_of", "name_of_type", "tensor_of"]

MOST_ELEMENTS = 1 << 31
"""Of one tensor; more are taken for a damaged shape."""

DTYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip
"""By TensorProto.DataType."""

BFLOAT16 = 16
"""NumPy has no such dtype: its numbers become float32, exactly."""

_NAMES = {8: "string", 14: "complex64", 15: "complex128", BFLOAT16: "bfloat16"}
_EXTERNAL = 1


def name_of_type(number: int) -> str:
    """Of a TensorProto.DataType: ``float32``, ``bfloat16``, ..."""
    return np.dtype(DTYPES[number]).name if number in DTYPES else _NAMES.get(number, f"type {number}")


def array_of(tensor: Tensor, folder: Path | None) -> np.ndarray[Any, Any]:
    """The numbers of ``tensor``; those of bfloat16 as float32. ``folder`` is where external data may be.

    Raises:
        ValueError: naming the tensor, for data that do not fill its shape, a type of no numbers, and external data that
            is not within the folder.
    """
    name = f"tensor {tensor.name!r}"
    shape = tuple(int(size) for size in tensor.dims)
    if min(shape, default=0) < 0 or math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS:
        raise ValueError(f"{name} has the shape {_short(shape)}, which none can have")
    count = math.prod(shape)
    if tensor.data_type not in DTYPES and tensor.data_type != BFLOAT16:
        raise ValueError(f"{name} is of {name_of_type(tensor.data_type)}, must be of real numbers")
    stored = np.dtype(DTYPES.get(tensor.data_type, np.uint16)).newbyteorder("<")
    if tensor.data_location == _EXTERNAL:
        data = _external(tensor, folder, count * stored.itemsize)
        numbers: Any = np.frombuffer(data, stored)
    elif len(tensor.raw_data):
        if len(tensor.raw_data) != count * stored.itemsize:
            raise ValueError(f"{name} {shape} of {stored.name} has {len(tensor.raw_data)} bytes of data")
        numbers = np.frombuffer(tensor.raw_data, stored)
    else:
        numbers = _typed(tensor, stored)
    if len(numbers) != count:
        raise ValueError(f"{name} {shape} has {len(numbers)} numbers")
    if tensor.data_type == BFLOAT16:
        numbers = (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False).reshape(shape)


def tensor_of(name: str, array: Any) -> Tensor:
    """``array`` as a tensor, its bytes in ``raw_data``."""
    array = np.asarray(array)
    number = next(number for number, dtype in DTYPES.items() if array.dtype == dtype)
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return Tensor(name=name, dims=np.array(array.shape, np.int64), data_type=number, raw_data=data)


def _typed(tensor: Tensor, stored: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Out of the field of its type, in which small types are in int32, float16 and bfloat16 as their bits."""
    if stored == np.float32:
        return tensor.float_data
    if stored == np.float64:
        return tensor.double_data
    if stored == np.int64:
        return tensor.int64_data
    if stored in (np.uint32, np.uint64):
        return tensor.uint64_data.astype(stored)
    if stored == np.float16:
        return tensor.int32_data.astype(np.uint16).view(np.float16)
    return tensor.int32_data.astype(stored)


def _external(tensor: Tensor, folder: Path | None, size: int) -> bytes:
    """The bytes in another file, whose place is relative to the folder of the model and may not lead out of it."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, name = entries.get("location", ""), f"tensor {tensor.name!r}"
    if folder is None:
        raise ValueError(f"{name} is in another file, {location!r}, and a model out of memory has no folder")
    root = folder.resolve()
    path = root / location
    # A link in the folder may lead out of it, too.
    if not location or "\0" in location or root not in path.resolve().parents:
        raise ValueError(f"{name} is in {location!r}, which is not within the model's folder {folder}")
    numbers = {key: entries.get(key, default) for key, default in (("offset", "0"), ("length", str(size)))}
    if not all(value.isascii() and value.isdigit() and len(value) < 20 for value in numbers.values()):
        raise ValueError(f"{name} is in {location!r} at {numbers}, which must be whole numbers")
    offset, length = int(numbers["offset"]), int(numbers["length"])
    if length != size:
        raise ValueError(f"{name} has {length} bytes of data in {location!r}, must have {size}")
    if not path.is_file():
        raise ValueError(f"{name} is in {location!r}, and there is no such file in {folder}")
    there = path.stat().st_size
    if offset + length > there:
        raise ValueError(f"{name} needs bytes {offset} to {offset + length} of {location!r}, which has {there}")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) < 12 else f"{shape[:12]}..."
