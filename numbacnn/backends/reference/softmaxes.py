"""Exponentials that add up to 1 along an axis, and their logarithms. Sums are float64."""

from __future__ import annotations

import numpy as np

from ..contract import Array

__all__ = ["softmax", "softmax_backward"]


def softmax(x: Array, axis: int, logarithm: bool = False) -> Array:
    """exp(x - max) over its sum along an axis, 0..ndim-1, or the logarithm of that."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = x.astype(np.float64) - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        e = np.exp(centred)
        total = e.sum(axis=axis, keepdims=True)
        return np.asarray(centred - np.log(total) if logarithm else e / total, x.dtype)


def softmax_backward(dy: Array, y: Array, axis: int, logarithm: bool = False) -> Array:
    """dx = y (dy - s), s being the sum of dy y; for the logarithm dy - exp(y) s, s being the sum of dy."""
    dy64, y64 = dy.astype(np.float64), y.astype(np.float64)
    if logarithm:
        return np.asarray(dy64 - np.exp(y64) * dy64.sum(axis=axis, keepdims=True), dy.dtype)
    return np.asarray(y64 * (dy64 - (dy64 * y64).sum(axis=axis, keepdims=True)), dy.dtype)
