"""Convolution: which algorithms there are, and which one ``auto`` takes."""

from __future__ import annotations

from ..contract import Activation, ConvPass
from ..geometry import Conv2dGeometry
from .block.reduce import channel_sums
from .convolution import im2col, implicit_gemm, loops, tables
from .runtime.device_array import DeviceArray, new
from .runtime.target import SIMULATED

__all__ = [
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


def conv2d_algorithms() -> tuple[str, ...]:
    return tuple(_ALGORITHMS)


def choose_conv2d_algorithm(geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    """``implicit_gemm``, but ``loops`` where a group has few output channels or the image is too large for tables.

    A weight gradient of few channels is a long sum for few threads, so it is a product all the same. In the simulator
    always ``loops``, because a barrier costs as much there as thousands of products.
    """
    few = geometry.k // geometry.groups < FEW_CHANNELS and pass_ != "backward_weight"
    return "loops" if SIMULATED or few or not tables.fits(geometry) else "implicit_gemm"


def conv2d_workspace(geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, itemsize: int) -> int:
    return int(_ALGORITHMS[algorithm].workspace(geometry, pass_, itemsize))


def conv2d(
    x: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    geometry: Conv2dGeometry,
    algorithm: str,
    activation: Activation = None,
) -> DeviceArray:
    return _algorithm(geometry, algorithm).forward(x, weight, bias, geometry, activation)


def conv2d_backward_input(
    dy: DeviceArray, weight: DeviceArray, geometry: Conv2dGeometry, algorithm: str
) -> DeviceArray:
    return _algorithm(geometry, algorithm).backward_input(dy, weight, geometry)


def conv2d_backward_weight(
    dy: DeviceArray, x: DeviceArray, geometry: Conv2dGeometry, algorithm: str, out: DeviceArray | None = None
) -> DeviceArray:
    dweight = new(geometry.weight_shape, x.dtype) if out is None else out
    _algorithm(geometry, algorithm).backward_weight(dy, x, dweight, geometry)
    return dweight


def conv2d_backward_bias(dy: DeviceArray) -> DeviceArray:
    n, k, oh, ow = dy.shape
    return channel_sums(dy, n, k, oh * ow)


def _algorithm(geometry: Conv2dGeometry, algorithm: str):
    if algorithm != "loops" and not tables.fits(geometry):
        raise ValueError(
            f"`algorithm` {algorithm!r} takes padded images of fewer than 65536 rows and columns; use 'loops'"
        )
    return _ALGORITHMS[algorithm]


_ALGORITHMS = {"loops": loops, "im2col": im2col, "implicit_gemm": implicit_gemm}
