"""The memory functions of the contract: arrays from the host and other libraries, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import Array
from .runtime.device_array import DeviceArray, check_size, clear, device, new, overwrite, uploaded
from .runtime.kernel import mapping
from .runtime.target import SIMULATED, quotient

__all__ = [
    "adopt",
    "asarray",
    "assign",
    "copy",
    "device_name",
    "empty",
    "free_memory",
    "is_array",
    "reshape",
    "synchronize",
    "to_numpy",
    "zeros",
]


def device_name() -> str:
    """The device as users know it."""
    return str(device().name)


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of this backend."""
    return isinstance(x, DeviceArray)


def adopt(x: Any) -> Array | None:
    """``x``, an array that another library has on the GPU, as one of this backend; without a copy if C-contiguous.

    ValueError for one on another GPU than that of the backend, one that is masked, and one of 2**31 elements or more.
    """
    if SIMULATED or isinstance(x, (np.ndarray, DeviceArray)):
        return None
    if hasattr(x, "__cuda_array_interface__"):
        device().let_go()
        interface = x.__cuda_array_interface__
        if interface.get("mask") is not None:
            raise ValueError("`x` has a mask, which the cuda backend cannot use")
        if 0 not in interface["shape"]:
            _check_device(device().ordinal(interface["data"][0]))
        device().wait_for(interface.get("stream"))
        return _foreign(interface["shape"], interface["typestr"], interface["data"][0], interface.get("strides"), x)
    if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == 2:  # kDLCUDA
        device().let_go()
        _check_device(x.__dlpack_device__()[1])
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_dlpack(x, stream_ptr=device().stream)
        strides = view.strides and tuple(step * view.dtype.itemsize for step in view.strides)
        return _foreign(view.shape, view.dtype, view.ptr, strides, view)
    return None


def _check_device(ordinal: int) -> None:
    if ordinal != device().number:
        raise ValueError(
            f"`x` is on cuda:{ordinal}, the cuda backend takes arrays on {device_name()}: copy it there first"
        )


class _Borrowed:
    """Holds another library's array until the device has done what it was asked for."""

    def __init__(self, owner: Any) -> None:
        self._owner, self._keep = owner, device().keep

    def __del__(self) -> None:
        self._keep(self._owner)


def _foreign(shape: Sequence[int], dtype: Any, address: int, strides: Sequence[int] | None, owner: Any) -> Array:
    dtype = np.dtype(dtype)
    shape = tuple(int(size) for size in shape)
    check_size(shape)
    if not strides or _contiguous(shape, strides, dtype.itemsize):
        return DeviceArray(shape, dtype, address, _Borrowed(owner))
    if any(step % dtype.itemsize for step in strides):
        raise ValueError(f"`x` has strides {tuple(strides)} that are not multiples of its {dtype.itemsize} bytes")
    # A negative stride would need the memory before the address, which no pointer of ours may start at.
    steps = np.array([step // dtype.itemsize for step in strides], np.int64)
    lowest = sum(int(step) * (size - 1) for step, size in zip(steps, shape, strict=True) if step < 0 and size)
    source = DeviceArray((math.prod(shape),), dtype, address + lowest * dtype.itemsize, _Borrowed(owner))
    target = new(shape, dtype)
    places = asarray(np.stack([np.array(shape, np.int64), steps]))
    _copy_strided(target.size, bytes_for_bools(target), bytes_for_bools(source), places, len(shape), -lowest)
    return target


def _contiguous(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    expected = itemsize
    for size, step in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and step != expected:
            return 0 in shape
        expected *= size
    return True


@mapping
def _copy_strided(i, x, places, axes, start):
    """``places`` are the sizes and then the strides of the axes."""
    rest, place = i, start
    for axis in range(axes - 1, -1, -1):
        outer = quotient(rest, places[axis])
        place += (rest - outer * places[axis]) * places[axes + axis]
        rest = outer
    return x[place]


@mapping
def _cast(i, x):
    return x[i]


def bytes_for_bools(x: DeviceArray) -> DeviceArray:
    """``x`` as kernels read it: a bool is a byte, 0 or 1."""
    return DeviceArray(x.shape, np.uint8, x.place, x.owner) if x.dtype == np.bool_ else x


def asarray(x: Any, dtype: Any = None) -> Array:
    """``x``, of this backend or anything NumPy takes: C-contiguous, of ``dtype``, copied only if needed."""
    if not isinstance(x, DeviceArray):
        adopted = adopt(x)
        if adopted is None:
            # Not np.ascontiguousarray, which turns shape () into (1,).
            values = np.asarray(x, dtype=dtype, order="C")
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            return uploaded(values)
        x = adopted
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    if dtype == x.dtype:
        return x
    if dtype == np.bool_:
        raise TypeError(f"`dtype` {dtype} is none that an array on the GPU is converted to")
    array = new(x.shape, dtype)
    _cast(x.size, array, bytes_for_bools(x))
    return array


def to_numpy(x: Array) -> np.ndarray:
    """``x`` as a new NumPy array; waits for the device."""
    return np.asarray(x)


def empty(shape: Sequence[int], dtype: Any) -> Array:
    """A new uninitialised array."""
    return new(shape, dtype)


def zeros(shape: Sequence[int], dtype: Any) -> Array:
    """A new array of zeros."""
    array = new(shape, dtype)
    clear(array)
    return array


def copy(x: Array) -> Array:
    """A new array with the values of ``x``."""
    array = new(x.shape, x.dtype)
    overwrite(array, x)
    return array


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The same elements in another shape, in the same memory."""
    return x.reshape(shape)


def assign(target: Array, source: Array) -> None:
    """Overwrite ``target`` with the values of ``source``, same shape and dtype."""
    overwrite(target, source)


def synchronize() -> None:
    """Wait until everything that was asked for is done."""
    device().synchronize()


def free_memory() -> int:
    """Bytes that arrays may still take."""
    return int(device().free_memory())
