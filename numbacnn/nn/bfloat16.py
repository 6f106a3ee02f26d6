"""Arrays of bfloat16, which NumPy has no type for: the upper halves of float32 numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["widened"]


def widened(array: Any, dtype: np.dtype[Any]) -> Any:
    """An array of bfloat16 as float32, exactly, if it is to become one of the floating ``dtype``; others as they are.

    Of bfloat16 are: the type of the package ml_dtypes; two bytes without a type, as which ``.npz`` files keep it;
    uint16, as which PyTorch gives it to NumPy (``tensor.view(torch.uint16).numpy()``); and a tensor of PyTorch.

    >>> widened(np.array([0x3FC0, 0xC000], np.uint16), np.dtype(np.float64))
    array([ 1.5, -2. ], dtype=float32)
    """
    own = getattr(array, "dtype", None)
    if dtype.kind != "f" or own is None:
        return array
    if str(own) == "torch.bfloat16":
        return array.float()
    if isinstance(own, np.dtype) and own.itemsize == 2 and (own.kind == "u" or (own.kind == "V" and own.names is None)):
        bits = array.view(own if own.kind == "u" else np.uint16)
        return np.asarray(bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array
