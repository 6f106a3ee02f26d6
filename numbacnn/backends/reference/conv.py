"""Convolution: which algorithms there are, and one call for each pass."""

from __future__ import annotations

import numpy as np

from ..contract import Activation, Array, ConvPass
from ..conv2d_dispatch import Conv2dDispatch
from ..geometry import Conv2dGeometry
from .convolution import im2col, loops

__all__ = [
    "add_bias",
    "choose_conv2d_algorithm",
    "conv2d",
    "conv2d_algorithms",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_workspace",
]

_dispatch = Conv2dDispatch({"loops": loops, "im2col": im2col}, np.empty)
conv2d_algorithms, conv2d_workspace = _dispatch.conv2d_algorithms, _dispatch.conv2d_workspace
conv2d = _dispatch.conv2d
conv2d_backward_input, conv2d_backward_weight = _dispatch.conv2d_backward_input, _dispatch.conv2d_backward_weight


def choose_conv2d_algorithm(geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    """``loops`` for every problem: it is the definition, and never holds kh * kw copies of the image."""
    return "loops"


def conv2d_backward_bias(dy: Array) -> Array:
    """dbias (k,): the sum of dy (n, k, oh, ow) over all but channels."""
    return dy.sum(axis=(0, 2, 3), dtype=np.float64).astype(dy.dtype)


def add_bias(target: Array, bias: Array, activation: Activation = None) -> None:
    """In place: target (n, k, oh, ow) becomes activation(target + bias)."""
    target[...] = loops.with_bias(target, bias, activation)
