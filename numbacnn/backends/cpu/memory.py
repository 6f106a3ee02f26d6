"""Arrays of this backend, which are NumPy's, also while a step is captured."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import numpy_memory
from ..capture import CaptureError
from ..numpy_memory import adopt, device_name, free_memory, is_array, synchronize
from .runtime import allocator
from .runtime.captured import current_recording, record_call
from .runtime.kernel import kernel
from .vector import layout
from .vector.layout import empty
from .vector.simd import copy_run

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

COPIED = 1 << 13
# Of which kernels are compiled anyway.
FLOATING = (np.float32, np.float64)


@kernel
def _copy(chunk, source, target):
    """A chunk is COPIED elements."""
    first = chunk * COPIED
    copy_run(target, first, source, first, min(COPIED, source.size - first))


def asarray(x: Any, dtype: Any = None) -> np.ndarray:
    if type(x) is np.ndarray and (dtype is None or dtype == x.dtype) and _is_plain(x):
        return x
    # Of a step that is written down the arrays hold no numbers yet, which a warning could be about.
    with contextlib.nullcontext() if current_recording() is None else np.errstate(all="ignore"):
        found: np.ndarray = numpy_memory.asarray(x, dtype)
    if not found.flags.aligned or not found.dtype.isnative:  # neither of which machine code looks at
        found = np.array(found, found.dtype.newbyteorder("="), order="C")
    if current_recording() is None or not isinstance(x, np.ndarray) or np.may_share_memory(found, x):
        return found
    y = allocator.empty(found.shape, found.dtype)
    record_call(functools.partial(np.copyto, casting="unsafe"), y, x)
    return y


def _is_plain(x: np.ndarray) -> bool:
    """Whether ``x`` lies as machine code expects it, images plane by plane or channels last."""
    flags = x.flags
    return flags.aligned and x.dtype.isnative and (flags.c_contiguous or layout.is_laid_out(x))


def assign(target: np.ndarray, source: np.ndarray) -> None:
    alike = source.dtype == target.dtype in FLOATING and source.shape == target.shape
    laid_out = layout.is_laid_out(source) and layout.is_laid_out(target)
    # Done by machine code, a step that is written down is not cut in two. Nothing is compiled to copy a weight.
    is_written_down = current_recording() is not None
    if is_written_down and alike and laid_out and not np.may_share_memory(source, target):
        _copy(-(-source.size // COPIED), layout.flat(layout.like(source, target)), layout.flat(target))
    else:
        record_call(numpy_memory.assign, target, source)


def copy(x: np.ndarray) -> np.ndarray:
    y = allocator.empty_like(x) if layout.is_laid_out(x) else allocator.empty(x.shape, x.dtype)
    assign(y, x)
    return y


def reshape(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    # Images of the same shape stay as they lie: to lay them plane by plane would be a copy.
    return x if x.shape == tuple(shape) else layout.contiguous(x).reshape(tuple(shape))


def to_numpy(x: np.ndarray) -> np.ndarray:
    if current_recording() is not None:
        raise CaptureError("an array that is read cannot be part of a captured step")
    return x


def zeros(shape: Sequence[int], dtype: Any) -> np.ndarray:
    if current_recording() is None:
        return np.zeros(tuple(shape), dtype)
    x = allocator.empty(tuple(shape), dtype)
    record_call(np.ndarray.fill, x, 0)
    return x
