"""Convolution: which algorithms there are, and which one ``auto`` takes."""

from __future__ import annotations

import numpy as np

from ..contract import Activation, ConvPass
from ..geometry import Conv2dGeometry
from ..precision import is_allowed
from ..shared.activations import ACTIVATIONS
from . import conv_direct, conv_im2col, conv_loops, conv_winograd
from .jit import kernel
from .sums import sum_rows

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
    return tuple(_ALGORITHMS)


def choose_conv2d_algorithm(geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    """``direct`` or, where it takes fewer cycles and ``precision`` allows it, ``winograd``; but where the tiles of both
    would stay empty, ``loops`` for depthwise convolutions and ``im2col`` for dx of few channels.
    """
    channels, outputs = geometry.c // geometry.groups, geometry.k // geometry.groups
    if channels == outputs == 1:
        return "loops"
    if pass_ == "backward_input" and channels < FEW_CHANNELS <= outputs:
        return "im2col"
    if pass_ == "backward_weight" or not is_allowed("winograd"):
        return "direct"
    # In float32: float64 has half the lanes in both.
    saved = conv_direct.cycles(geometry, pass_, 4) > SURE * conv_winograd.cycles(geometry, pass_, 4)
    return "winograd" if saved else "direct"


FEW_CHANNELS = 4
# What a count of cycles has to promise before it is believed.
SURE = 1.1


def conv2d_workspace(geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, itemsize: int) -> int:
    return _ALGORITHMS[algorithm].workspace(geometry, pass_, itemsize)


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    geometry: Conv2dGeometry,
    algorithm: str,
    activation: Activation = None,
) -> np.ndarray:
    if bias is None:
        bias = np.empty(0, x.dtype)
    return _algorithm(geometry, "forward", algorithm).forward(x, weight, bias, geometry, ACTIVATIONS[activation])


def conv2d_backward_input(dy: np.ndarray, weight: np.ndarray, geometry: Conv2dGeometry, algorithm: str) -> np.ndarray:
    return _algorithm(geometry, "backward_input", algorithm).backward_input(dy, weight, geometry)


def conv2d_backward_weight(dy: np.ndarray, x: np.ndarray, geometry: Conv2dGeometry, algorithm: str) -> np.ndarray:
    return _algorithm(geometry, "backward_weight", algorithm).backward_weight(dy, x, geometry)


def conv2d_backward_bias(dy: np.ndarray) -> np.ndarray:
    dbias = np.empty(dy.shape[1], dy.dtype)
    _channel_sums(dy.shape[1], dy.reshape(dy.shape[0], dy.shape[1], dy.shape[2] * dy.shape[3]), dbias)
    return dbias


@kernel
def _channel_sums(chunk, dy, sums):
    """A chunk is one channel, summed plane by plane."""
    channels, size = dy.shape[1], dy.shape[2]
    sums[chunk] = sum_rows(dy.reshape(-1), chunk * size, channels * size, dy.shape[0], size)


def _algorithm(geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str):
    return _ALGORITHMS[choose_conv2d_algorithm(geometry, pass_) if algorithm == "auto" else algorithm]


_ALGORITHMS = {"loops": conv_loops, "im2col": conv_im2col, "direct": conv_direct, "winograd": conv_winograd}
