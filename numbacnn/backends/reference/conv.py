"""Convolution: which algorithms there are, and one call for each pass."""

from __future__ import annotations

import numpy as np

from ..contract import Activation, Array, ConvPass
from ..geometry import Conv2dGeometry
from .convolution import im2col, loops
from .elementwise import activate, written

__all__ = [
    "choose_conv2d_algorithm",
    "conv2d",
    "conv2d_algorithms",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_workspace",
]


def conv2d_algorithms() -> tuple[str, ...]:
    """Names that ``algorithm`` takes."""
    return tuple(_ALGORITHMS)


def choose_conv2d_algorithm(geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    """``loops`` for every problem: it is the definition, and never holds kh * kw copies of the image."""
    return "loops"


def conv2d_workspace(geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, itemsize: int) -> int:
    """Bytes that one pass needs besides its arguments and result."""
    return _ALGORITHMS[algorithm].workspace(geometry, pass_, itemsize)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    geometry: Conv2dGeometry,
    algorithm: str,
    activation: Activation = None,
) -> Array:
    """y (n, k, oh, ow) of x (n, c, h, w), weight (k, c // groups, kh, kw), bias (k,) or None."""
    y = _ALGORITHMS[algorithm].forward(x, weight, geometry)
    if bias is not None:
        y += bias[:, None, None]
    return activate(y, activation)


def conv2d_backward_input(dy: Array, weight: Array, geometry: Conv2dGeometry, algorithm: str) -> Array:
    """dx (n, c, h, w)."""
    return _ALGORITHMS[algorithm].backward_input(dy, weight, geometry)


def conv2d_backward_weight(
    dy: Array, x: Array, geometry: Conv2dGeometry, algorithm: str, out: Array | None = None
) -> Array:
    """dweight (k, c // groups, kh, kw)."""
    return written(_ALGORITHMS[algorithm].backward_weight(dy, x, geometry), out)


def conv2d_backward_bias(dy: Array) -> Array:
    """dbias (k,): the sum of dy (n, k, oh, ow) over all but channels."""
    return dy.sum(axis=(0, 2, 3), dtype=np.float64).astype(dy.dtype)


_ALGORITHMS = {"loops": loops, "im2col": im2col}
