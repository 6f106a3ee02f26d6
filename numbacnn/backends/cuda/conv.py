"""Convolution: which algorithms there are, and which one ``auto`` takes."""

from __future__ import annotations

from ..contract import Activation, ConvPass
from ..conv2d_dispatch import Conv2dDispatch
from ..geometry import Conv2dGeometry
from ..shared.activations import ACTIVATIONS
from .block.pointwise import activate
from .block.reduce import channel_sums
from .convolution import im2col, implicit_gemm, loops, tables
from .runtime.device_array import DeviceArray, new
from .runtime.kernel import mapping
from .runtime.target import SIMULATED, quotient

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

# A tile of the product has at least 16 rows; below 3 most of it would be empty, and each row has so little to reuse
# that threads on their own do as well.
FEW_CHANNELS = 3


def choose_conv2d_algorithm(geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    """``implicit_gemm``, but ``loops`` where a group has few output channels or the image is too large for tables.

    A weight gradient of few channels is a long sum for few threads, so it is a product all the same. In the simulator
    always ``loops``, because a barrier costs as much there as thousands of products.
    """
    few = geometry.k // geometry.groups < FEW_CHANNELS and pass_ != "backward_weight"
    return "loops" if SIMULATED or few or not tables.fits(geometry) else "implicit_gemm"


def conv2d_backward_bias(dy: DeviceArray) -> DeviceArray:
    n, k, oh, ow = dy.shape
    return channel_sums(dy, n, k, oh * ow)


@mapping
def _biased(i, y, bias, channels, size, activation):
    """A thread per element; roofline: memory, one read and one write of y."""
    plane = quotient(i, size)
    return activate(activation, y[i] + bias[plane - quotient(plane, channels) * channels], y)


def add_bias(target: DeviceArray, bias: DeviceArray, activation: Activation = None) -> None:
    _, k, oh, ow = target.shape
    _biased(target.size, target, target, bias, k, oh * ow, ACTIVATIONS[activation])


def _check(geometry: Conv2dGeometry, algorithm: str) -> None:
    if algorithm != "loops" and not tables.fits(geometry):
        raise ValueError(
            f"`algorithm` {algorithm!r} takes padded images of fewer than 65536 rows and columns; use 'loops'"
        )


_dispatch = Conv2dDispatch({"loops": loops, "im2col": im2col, "implicit_gemm": implicit_gemm}, new, check=_check)
conv2d_algorithms, conv2d_workspace = _dispatch.conv2d_algorithms, _dispatch.conv2d_workspace
conv2d = _dispatch.conv2d
conv2d_backward_input, conv2d_backward_weight = _dispatch.conv2d_backward_input, _dispatch.conv2d_backward_weight
