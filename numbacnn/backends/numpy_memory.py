"""Memory of the backends whose arrays are NumPy's: ``reference`` and ``cpu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .contract import Array

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
    return "cpu"


def is_array(x: Any) -> bool:
    """Whether ``x`` is a NumPy array."""
    return isinstance(x, np.ndarray)


def adopt(x: Any) -> Array | None:
    """None: there is no device."""
    return None


def asarray(x: Any, dtype: Any = None) -> Array:
    """``x`` as a C-contiguous array of ``dtype``, copied only if it must be."""
    # A dtype that was unpickled equals float32 without being it, and NumPy would make a view for that.
    if type(x) is np.ndarray and x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    # Not np.ascontiguousarray, which turns shape () into (1,).
    return np.asarray(x, dtype=dtype, order="C")


def to_numpy(x: Array) -> Any:
    """``x`` itself."""
    return x


def empty(shape: Sequence[int], dtype: Any) -> Array:
    """A new uninitialised array."""
    return np.empty(tuple(shape), dtype)


def zeros(shape: Sequence[int], dtype: Any) -> Array:
    """A new array of zeros."""
    return np.zeros(tuple(shape), dtype)


def copy(x: Array) -> Array:
    """A new array with the values of ``x``."""
    return np.array(x, order="C")


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The values of ``x`` in another shape."""
    return x.reshape(tuple(shape))


def assign(target: Array, source: Array) -> None:
    """Overwrite ``target`` with the values of ``source``, same shape and dtype."""
    target[...] = source


def synchronize() -> None:
    """Nothing runs in the background here."""


def free_memory() -> int | None:
    """None: arrays are in the host's memory."""
    return None
