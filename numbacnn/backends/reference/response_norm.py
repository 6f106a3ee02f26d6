"""Local response normalisation across channels: Krizhevsky, Sutskever and Hinton, NeurIPS 2012."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..shared.response import reach

__all__ = ["local_response_norm", "local_response_norm_backward"]


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
    """y = x / scale^beta, and scale = k + alpha/size times the sum of the squares in each element's window."""
    before, after = reach(size)
    scale = k + alpha / size * _window_sums(np.square(x, dtype=np.float64), before, after)
    return (x / scale**beta).astype(x.dtype), scale.astype(x.dtype)


def local_response_norm_backward(dy: Array, x: Array, scale: Array, size: int, alpha: float, beta: float) -> Array:
    """dx = dy / scale^beta - 2 alpha beta/size x times the sum of dy x / scale^(beta + 1) over what sees x."""
    before, after = reach(size)
    wide = scale.astype(np.float64)
    through_scales = _window_sums(dy * x / wide ** (beta + 1), after, before)
    return (dy / wide**beta - 2 * alpha * beta / size * x * through_scales).astype(dy.dtype)


def _window_sums(values: Array, before: int, after: int) -> Array:
    """Of each channel the sum from ``before`` channels before it to ``after`` channels after it."""
    total, c = np.zeros(values.shape), values.shape[1]
    for shift in range(-min(before, c), min(after, c) + 1):
        first, end = max(0, -shift), max(0, min(c, c - shift))
        total[:, first:end] += values[:, first + shift : end + shift]
    return total
