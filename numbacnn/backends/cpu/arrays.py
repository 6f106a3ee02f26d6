"""Arrays of this backend, which are NumPy's, also while a step is captured."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import host
from ..replay import CaptureError
from .graph import perform, recording
from .memory import empty

__all__ = ["asarray", "assign", "copy", "to_numpy", "zeros"]


def asarray(x: Any, dtype: Any = None) -> np.ndarray:
    found: np.ndarray = host.asarray(x, dtype)
    if not found.flags.aligned or not found.dtype.isnative:  # neither of which machine code looks at
        found = np.array(found, found.dtype.newbyteorder("="), order="C")
    if recording() is None or not isinstance(x, np.ndarray) or np.may_share_memory(found, x):
        return found
    y = empty(found.shape, found.dtype)
    perform(functools.partial(np.copyto, casting="unsafe"), y, x)
    return y


def assign(target: np.ndarray, source: np.ndarray) -> None:
    perform(host.assign, target, source)


def copy(x: np.ndarray) -> np.ndarray:
    y = empty(x.shape, x.dtype)
    perform(np.copyto, y, x)
    return y


def to_numpy(x: np.ndarray) -> np.ndarray:
    if recording() is not None:
        raise CaptureError("an array that is read cannot be part of a captured step")
    return x


def zeros(shape: Sequence[int], dtype: Any) -> np.ndarray:
    if recording() is None:
        return np.zeros(tuple(shape), dtype)
    x = empty(tuple(shape), dtype)
    perform(np.ndarray.fill, x, 0)
    return x
