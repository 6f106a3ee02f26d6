"""Pickled dictionaries with arrays of bytes in them, as the Python version of CIFAR-10 has them."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np

from ...io.plain_pickle import Name, Vocabulary, of_type, read_pickle

__all__ = ["read_pickled_arrays"]

_ARRAY = {Name(b"numpy.core.multiarray", b"_reconstruct"), Name(b"numpy._core.multiarray", b"_reconstruct")}
_MOST_AXES = 32
_NDARRAY, _DTYPE = Name(b"numpy", b"ndarray"), Name(b"numpy", b"dtype")


def read_pickled_arrays(data: bytes) -> Any:
    """The dictionaries, lists, tuples, numbers, bytes (text is bytes, too) and uint8 arrays in a pickle.

    Raises:
        ValueError: the pickle is damaged, or holds anything else.
    """
    return read_pickle(io.BytesIO(data), len(data), _Arrays())


class _Made(NamedTuple):
    """What a function would make of its arguments."""

    by: Name
    arguments: tuple[Any, ...]


class _Arrays(Vocabulary):
    names = frozenset({*_ARRAY, _NDARRAY, _DTYPE})
    only = "only arrays of NumPy are read"

    def called(self, name: Name, arguments: tuple[Any, ...]) -> _Made:
        return _Made(name, arguments)

    def built(self, value: Any, state: Any) -> Any:
        """The array with this state; ``value`` itself where that is a dtype, whose state is of no account for bytes."""
        made = of_type(value, _Made)
        if made.by not in _ARRAY:
            return made
        if type(state) is not tuple or len(state) != 5:
            raise ValueError("its pickle is damaged: an array has another state")
        _, shape, dtype, fortran, content = state
        if dtype.by != _DTYPE or dtype.arguments[0] != b"u1":
            raise ValueError("its pickle has an array that is not of uint8")
        array = np.frombuffer(of_type(content, bytes), np.uint8)
        is_shape = len(shape) <= _MOST_AXES and all(type(size) is int and size >= 0 for size in shape)
        if not is_shape or math.prod(shape) != array.size:
            raise ValueError("its pickle is damaged: an array has another shape than elements")
        return array.reshape(shape, order="F" if fortran else "C")
