"""Convolution by its definition, one kernel tap at a time.

``y[n, k, oh, ow] = sum over i, j, c of weight[k, c, i, j] * padded[n, c, oh * sh + i * dh, ow * sw + j * dw]``

For one tap (i, j) the positions form a strided view of the padded image, and the sum over c is a matrix product at
every position. Channels are split into groups throughout: ``g`` groups of ``c // g`` inputs and ``k // g`` outputs.
"""

from __future__ import annotations

import math

import numpy as np

from ...contract import Activation, Array, ConvPass
from ...geometry import Conv2dGeometry
from ..elementwise import activate
from ..windows import tap_view

__all__ = ["backward_input", "backward_weight", "crop", "forward", "pad", "padded_elements", "with_bias", "workspace"]


def forward(x: Array, weight: Array, bias: Array | None, geometry: Conv2dGeometry, activation: Activation) -> Array:
    """y (n, k, oh, ow)."""
    g = geometry
    padded, taps = pad(x, g), _taps(weight, g)
    y = np.zeros((g.n, g.groups, g.k // g.groups, g.oh * g.ow), x.dtype)
    for i, j in np.ndindex(g.kh, g.kw):
        y += taps[i, j] @ _grouped(tap_view(padded, i, j, g), g)
    return with_bias(y.reshape(g.y_shape), bias, activation)


def backward_input(dy: Array, weight: Array, geometry: Conv2dGeometry) -> Array:
    """dx (n, c, h, w): each dy goes back, times the weight, to the inputs it was made from."""
    g = geometry
    taps, dy = _taps(weight, g), _grouped(dy, g)
    dpadded = np.zeros((g.n, g.c, g.h + g.pt + g.pb, g.w + g.pl + g.pr), dy.dtype)
    for i, j in np.ndindex(g.kh, g.kw):
        dpadded_tap = tap_view(dpadded, i, j, g)
        dpadded_tap += (taps[i, j].transpose(0, 2, 1) @ dy).reshape(g.n, g.c, g.oh, g.ow)
    return crop(dpadded, g)


def backward_weight(dy: Array, x: Array, dweight: Array, geometry: Conv2dGeometry) -> None:
    """dweight (k, c // groups, kh, kw): for each tap the products of dy with the inputs it met, summed in float64."""
    g = geometry
    padded, slopes = pad(x, g), _grouped(dy, g).astype(np.float64, copy=False)
    for i, j in np.ndindex(g.kh, g.kw):
        # Without a name for the inputs, which would keep one tap's while the next one's are made.
        products = slopes @ _grouped(tap_view(padded, i, j, g).astype(np.float64, copy=False), g).transpose(0, 1, 3, 2)
        dweight[:, :, i, j] = products.sum(axis=0).reshape(g.k, g.c // g.groups)


def workspace(geometry: Conv2dGeometry, pass_: ConvPass, itemsize: int) -> int:
    """Bytes: the padded image, the weights tap by tap, one tap's inputs, and its product; dy in float64."""
    g = geometry
    tap = g.n * g.c * g.oh * g.ow
    if pass_ == "backward_input":
        # NumPy adds to a strided view in place by way of two copies of it.
        return itemsize * (padded_elements(g) + math.prod(g.weight_shape) + 3 * tap)
    if pass_ == "forward":
        inputs = 0 if g.is_pointwise else tap
        return itemsize * (padded_elements(g) + math.prod(g.weight_shape) + inputs + math.prod(g.y_shape))
    inputs = 0 if g.is_pointwise and itemsize == 8 else tap
    slopes = 0 if itemsize == 8 else math.prod(g.y_shape)
    return itemsize * padded_elements(g) + 8 * (inputs + slopes + (g.n + 1) * g.k * (g.c // g.groups))


def with_bias(y: Array, bias: Array | None, activation: Activation) -> Array:
    """What becomes of the sums: the bias is added, and the activation applied."""
    if bias is not None:
        y += bias[:, None, None]
    return activate(y, activation)


def pad(x: Array, geometry: Conv2dGeometry) -> Array:
    """``x`` with its rows and columns of zeros; ``x`` itself where there are none."""
    g = geometry
    return np.pad(x, ((0, 0), (0, 0), (g.pt, g.pb), (g.pl, g.pr))) if _has_padding(g) else x


def crop(padded: Array, geometry: Conv2dGeometry) -> Array:
    """The image inside its padding."""
    g = geometry
    return np.ascontiguousarray(padded[:, :, g.pt : g.pt + g.h, g.pl : g.pl + g.w])


def padded_elements(geometry: Conv2dGeometry) -> int:
    """Size of the padded copy of x; 0 where there is no padding and therefore no copy."""
    g = geometry
    return g.n * g.c * (g.h + g.pt + g.pb) * (g.w + g.pl + g.pr) if _has_padding(g) else 0


def _has_padding(geometry: Conv2dGeometry) -> bool:
    return any((geometry.pt, geometry.pb, geometry.pl, geometry.pr))


def _taps(weight: Array, geometry: Conv2dGeometry) -> Array:
    """One matrix (k // g, c // g) per tap and group: (kh, kw, g, k // g, c // g)."""
    g = geometry
    grouped = weight.reshape(g.groups, g.k // g.groups, g.c // g.groups, g.kh, g.kw)
    # A copy: matrix products of numbers that lie kh * kw apart are slow.
    return np.ascontiguousarray(grouped.transpose(3, 4, 0, 1, 2))


def _grouped(image: Array, geometry: Conv2dGeometry) -> Array:
    """An image (n, channels, oh, ow) as (n, g, channels // g, oh * ow)."""
    g = geometry
    return image.reshape(g.n, g.groups, image.shape[1] // g.groups, g.oh * g.ow)
