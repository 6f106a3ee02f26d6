"""The fully connected layer: three tile products (``block/gemm.py`` and ``tensor_gemm.py`` have their roofline)."""

from __future__ import annotations

from ..contract import Activation
from .block.gemm import multiply
from .block.places import Strides
from .block.reduce import channel_sums
from .runtime.device_array import DeviceArray, new

__all__ = ["linear", "linear_backward_bias", "linear_backward_input", "linear_backward_weight"]


def linear(x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, activation: Activation = None) -> DeviceArray:
    (n, i), o = x.shape, weight.shape[0]
    y = new((n, o), x.dtype)
    strides = (Strides(i, 1), Strides(1, i), Strides(o, 1))
    multiply(y, x, weight, (n, o, i), strides, bias=bias, bias_strides=Strides(0, 1), activation=activation)
    return y


def linear_backward_input(dy: DeviceArray, weight: DeviceArray) -> DeviceArray:
    (n, o), i = dy.shape, weight.shape[1]
    dx = new((n, i), dy.dtype)
    multiply(dx, dy, weight, (n, i, o), (Strides(o, 1), Strides(i, 1), Strides(i, 1)))
    return dx


def linear_backward_weight(dy: DeviceArray, x: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    (n, o), i = dy.shape, x.shape[1]
    dweight = new((o, i), x.dtype) if out is None else out
    multiply(dweight, dy, x, (o, i, n), (Strides(1, o), Strides(i, 1), Strides(i, 1)))
    return dweight


def linear_backward_bias(dy: DeviceArray) -> DeviceArray:
    n, o = dy.shape
    return channel_sums(dy, n, o, 1)
