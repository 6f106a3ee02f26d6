"""Activations beyond those of elementwise.py: the functions of shared/pointwise.py, and PReLU.

Each has a thread per element, four at a time.

roofline: memory, one read per argument and one write. The sums of PReLU's slopes read dy and x once more.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from ..shared.pointwise import two_of
from .block.pointwise import FORMULAS
from .block.reduce import ChannelSums, first_sums, no_center
from .runtime import device_array
from .runtime.kernel import Kernel, mapping
from .runtime.target import device_function, quotient, scalar

__all__ = ["pointwise", "pointwise_backward", "prelu", "prelu_backward"]


def _value_kernel(kind: str) -> Kernel:
    formula = FORMULAS[kind].value

    def values(i, x, a, b):
        return formula(x[i], a, b)

    return mapping(values, f"{__name__}.values-of-{kind}")


def _gradient_kernel(kind: str) -> Kernel:
    formula = FORMULAS[kind].gradient

    def gradients(i, dy, x, a, b):
        return formula(dy[i], x[i], a, b)

    return mapping(gradients, f"{__name__}.gradients-of-{kind}")


VALUES = {kind: _value_kernel(kind) for kind in FORMULAS}
GRADIENTS = {kind: _gradient_kernel(kind) for kind in FORMULAS}


@device_function
def _slope(i, weight, g):
    """Of the channel that element ``i`` of x (n, c, length) is in."""
    c, length = g
    line = quotient(i, length)
    return weight[line - quotient(line, c) * c]


@mapping
def _prelu(i, x, weight, g):
    value = x[i]
    return value if value > scalar(x, 0) else _slope(i, weight, g) * value


@mapping
def _prelu_backward(i, dy, x, weight, g):
    gradient = dy[i]
    return gradient if x[i] > scalar(x, 0) else _slope(i, weight, g) * gradient


@device_function
def _slope_term(value, gradient, center):
    value = np.float64(value)
    return (0.0 if value > 0.0 else value * np.float64(gradient)), 0.0


_slope_terms = ChannelSums("slopes", _slope_term, no_center)


def pointwise(x: Array, kind: str, parameters: tuple[float, ...]) -> Array:
    y = device_array.new(x.shape, x.dtype)
    VALUES[kind](y.size, y, x, *two_of(parameters))
    return y


def pointwise_backward(dy: Array, x: Array, kind: str, parameters: tuple[float, ...]) -> Array:
    dx = device_array.new(x.shape, x.dtype)
    GRADIENTS[kind](dx.size, dx, dy, x, *two_of(parameters))
    return dx


def prelu(x: Array, weight: Array) -> Array:
    y = device_array.new(x.shape, x.dtype)
    _, c, length = _slopes(x, weight)
    _prelu(y.size, y, x, weight, (c, length))
    return y


def prelu_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    dx = device_array.new(x.shape, x.dtype)
    n, c, length = _slopes(x, weight)
    _prelu_backward(dx.size, dx, dy, x, weight, (c, length))
    return dx, first_sums(_slope_terms, x, dy, n, c, length)


def _slopes(x: Array, weight: Array) -> tuple[int, int, int]:
    """x as (n, c, length), c being as many as there are slopes."""
    return (1, 1, x.size) if weight.size == 1 else (x.shape[0], x.shape[1], math.prod(x.shape[2:]))
