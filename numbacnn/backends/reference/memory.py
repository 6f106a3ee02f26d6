"""The arrays of this backend are NumPy's."""

from __future__ import annotations

from ..numpy_memory import (
    adopt,
    asarray,
    assign,
    copy,
    device_name,
    empty,
    free_memory,
    is_array,
    reshape,
    synchronize,
    to_numpy,
    zeros,
)

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
