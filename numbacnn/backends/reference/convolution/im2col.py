"""Convolution as one matrix product per group: every window written out as a column.

Columns are (groups, c // groups * kh * kw, n * oh * ow), so forward is ``weight @ columns``, the weight gradient
``dy @ columns^T``, and the input gradient ``weight^T @ dy``, whose columns are added back where they came from (the
adjoint of writing them out, col2im). Chellapilla, Puri and Simard, IWFHR 2006.
"""

from __future__ import annotations

import math

import numpy as np

from ...contract import Activation, Array, ConvPass
from ...geometry import Conv2dGeometry
from ..windows import tap_view
from .loops import crop, pad, padded_elements, with_bias

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def forward(x: Array, weight: Array, bias: Array | None, geometry: Conv2dGeometry, activation: Activation) -> Array:
    """y (n, k, oh, ow)."""
    g = geometry
    y = _weight_matrix(weight, g) @ _im2col(x, g)
    y = np.ascontiguousarray(y.reshape(g.k, g.n, g.oh, g.ow).transpose(1, 0, 2, 3))
    return with_bias(y, bias, activation)


def backward_input(dy: Array, weight: Array, geometry: Conv2dGeometry) -> Array:
    """dx (n, c, h, w)."""
    g = geometry
    return _col2im(_weight_matrix(weight, g).transpose(0, 2, 1) @ _output_matrix(dy, g), g)


def backward_weight(dy: Array, x: Array, dweight: Array, geometry: Conv2dGeometry) -> None:
    """dweight (k, c // groups, kh, kw), summed in float64."""
    g = geometry
    columns = _im2col(x.astype(np.float64, copy=False), g)
    products = _output_matrix(dy.astype(np.float64, copy=False), g) @ columns.transpose(0, 2, 1)
    dweight[...] = products.reshape(g.weight_shape)


def workspace(geometry: Conv2dGeometry, pass_: ConvPass, itemsize: int) -> int:
    """Bytes: the columns, the padded image, the outputs as a matrix; x and dy in float64."""
    g = geometry
    columns, outputs = g.n * g.oh * g.ow * g.c * g.kh * g.kw, math.prod(g.y_shape)
    if pass_ == "forward":
        return itemsize * (columns + padded_elements(g))
    if pass_ == "backward_input":
        # NumPy adds to a strided view in place by way of two copies of it, and one of a transposed summand.
        return itemsize * (columns + max(outputs, padded_elements(g) + 3 * g.n * g.c * g.oh * g.ow))
    wide = 0 if itemsize == 8 else outputs
    return 8 * (columns + max(padded_elements(g), outputs + wide))


def _weight_matrix(weight: Array, geometry: Conv2dGeometry) -> Array:
    """weight as (g, k // g, c // g * kh * kw)."""
    g = geometry
    return weight.reshape(g.groups, g.k // g.groups, g.taps)


def _output_matrix(y: Array, geometry: Conv2dGeometry) -> Array:
    """y or dy (n, k, oh, ow) as (g, k // g, n * oh * ow)."""
    g = geometry
    return y.transpose(1, 0, 2, 3).reshape(g.groups, g.k // g.groups, g.n * g.oh * g.ow)


def _im2col(x: Array, geometry: Conv2dGeometry) -> Array:
    """The windows of x as columns."""
    g = geometry
    extent = (g.dh * (g.kh - 1) + 1, g.dw * (g.kw - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(pad(x, g), extent, axis=(2, 3))
    windows = windows[:, :, :: g.sh, :: g.sw, :: g.dh, :: g.dw]  # (n, c, oh, ow, kh, kw), still a view
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(g.groups, g.taps, g.n * g.oh * g.ow)


def _col2im(columns: Array, geometry: Conv2dGeometry) -> Array:
    """The image to which every column adds its window."""
    g = geometry
    columns = columns.reshape(g.c, g.kh, g.kw, g.n, g.oh, g.ow)
    padded = np.zeros((g.n, g.c, g.h + g.pt + g.pb, g.w + g.pl + g.pr), columns.dtype)
    for i, j in np.ndindex(g.kh, g.kw):
        padded_tap = tap_view(padded, i, j, g)
        padded_tap += columns[:, i, j].transpose(1, 0, 2, 3)
    return crop(padded, g)
