"""Activations beyond those of elementwise.py: the functions of shared/pointwise.py, and PReLU.

``np.asarray`` around a formula is for shape (), as there.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from ..shared.pointwise import formulas, two_of

__all__ = ["pointwise", "pointwise_backward", "prelu", "prelu_backward"]


def pointwise(x: Array, kind: str, parameters: tuple[float, ...]) -> Array:
    """The function ``kind`` of shared/pointwise.py of each element."""
    with np.errstate(all="ignore"):
        return np.asarray(_FORMULAS[kind].value(x.astype(np.float64), *two_of(parameters)), x.dtype)


def pointwise_backward(dy: Array, x: Array, kind: str, parameters: tuple[float, ...]) -> Array:
    """dx: its gradient."""
    with np.errstate(all="ignore"):
        dx = _FORMULAS[kind].gradient(dy.astype(np.float64), x.astype(np.float64), *two_of(parameters))
    return np.asarray(dx, dy.dtype)


def prelu(x: Array, weight: Array) -> Array:
    """x where it is above 0, else weight times x; weight is (c,) for x (n, c, ...), or (1,) for any x."""
    return np.asarray(np.where(x > 0, x, _of_channels(weight, x) * x), x.dtype)


def prelu_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """dx, and dweight, the sums of dy x where x is not above 0."""
    dx = np.asarray(np.where(x > 0, dy, _of_channels(weight, x) * dy), dy.dtype)
    terms = np.where(x > 0, 0, np.multiply(dy, x, dtype=np.float64))
    axes = tuple(axis for axis in range(x.ndim) if weight.size == 1 or axis != 1)
    return dx, terms.sum(axis=axes).reshape(weight.shape).astype(dy.dtype)


def _of_channels(weight: Array, x: Array) -> Array:
    """weight (c,) as it multiplies x (n, c, ...); of one number, any x."""
    return weight.reshape(() if weight.size == 1 else (-1, *[1] * (x.ndim - 2)))


_FORMULAS = formulas(
    lambda definition: definition,
    lambda x, value: value,
    np.where,
    np.exp,
    np.expm1,
    np.log,
    np.log1p,
    np.vectorize(math.erf, otypes=[np.float64]),
    np.sqrt,
    np.power,
)
