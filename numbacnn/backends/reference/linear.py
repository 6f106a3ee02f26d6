"""The affine map: x (n, i), weight (o, i), bias (o,) or None, dy (n, o)."""

from __future__ import annotations

import numpy as np

from ..contract import Activation, Array
from .elementwise import activate, written

__all__ = ["linear", "linear_backward_bias", "linear_backward_input", "linear_backward_weight"]


def linear(x: Array, weight: Array, bias: Array | None, activation: Activation = None) -> Array:
    """y (n, o) = activation(x weight^T + bias)."""
    y = x @ weight.T
    if bias is not None:
        y += bias
    return activate(y, activation)


def linear_backward_input(dy: Array, weight: Array) -> Array:
    """dx (n, i) = dy weight."""
    return dy @ weight


def linear_backward_weight(dy: Array, x: Array, out: Array | None = None) -> Array:
    """dweight (o, i) = dy^T x."""
    return written((dy.T.astype(np.float64) @ x).astype(dy.dtype), out)


def linear_backward_bias(dy: Array) -> Array:
    """dbias (o,): the sum of dy over the batch."""
    return dy.sum(axis=0, dtype=np.float64).astype(dy.dtype)
