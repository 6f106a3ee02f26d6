"""Convolution by direct nested loops: no memory besides its arguments and result, but for the weights, output channels
last.

A pixel of the image, one of its channels under a tap of the window, is multiplied with the weights of all output
channels, which are neighbours, and so are the sums: the innermost loop is a vector's. No element of the padding is ever
touched.

roofline: 2 n k oh ow taps operations. Every product loads and stores one sum, which stays in L1, so the load and store
units bound it to a quarter of the peak; where there are few output channels, most of the time goes into starting and
ending the loop over them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...contract import Activation
from ...geometry import Conv2dGeometry
from ..runtime import threads
from ..runtime.allocator import empty
from ..runtime.captured import fold_constant
from ..runtime.kernel import Scratch, kernel
from ..runtime.microkernel import Microkernel
from ..vector.activations import activate, activation_of
from ..vector.blocks import fill_zero
from ..vector.simd import flattened
from ..vector.sums import RUN_IN_ORDER, move_sums
from .correlation import (
    Correlation,
    WeightStrides,
    backward_correlations,
    backward_strides,
    forward_correlation,
    forward_strides,
)
from .operands import bias_and_number, pack_weights

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


class _Plan(NamedTuple):
    activating: Microkernel | int
    activation: int
    groups: int


@kernel
def _correlate_rows(chunk, x, packed, bias, y, row_taps, column_taps, g, p):
    """A chunk is a row of the grid of outputs, as in ``correlation.py``; taps say where the first one has them."""
    n, row = chunk // g.rows, chunk % g.rows
    h, w, channels, outputs = x.shape[1], x.shape[2], x.shape[3] // p.groups, y.shape[3] // p.groups
    window = row_taps.size * column_taps.size
    image, flat = flattened(x), flattened(y)
    to = ((n * y.shape[1] + g.at_row + row * g.row_step) * y.shape[2] + g.at_column) * y.shape[3]
    for column in range(g.columns):
        for k in range(y.shape[3]):
            flat[np.uintp(to + k)] = bias[np.uintp(k)] if bias.size > 0 else 0
        for i in range(row_taps.size):
            r = row * g.sh + row_taps[i]
            for j in range(column_taps.size if r >= 0 and r < h else 0):
                c = column * g.sw + column_taps[j]
                if c < 0 or c >= w:
                    continue
                at = ((n * h + r) * w + c) * x.shape[3]
                tap = i * column_taps.size + j
                for group in range(p.groups):
                    target = to + group * outputs
                    for channel in range(group * channels, (group + 1) * channels):
                        factor, weights = image[at + channel], (channel * window + tap) * outputs
                        for k in range(np.uintp(outputs)):
                            flat[np.uintp(target) + k] += factor * packed[np.uintp(weights) + k]
        activate(p.activating, flat, to, y.shape[3], p.activation)
        to += g.column_step * y.shape[3]


@kernel
def _backward_weight_channels(chunk, dy, x, dweight, sums, totals, sh, sw, pt, pl, dh, dw):
    """A chunk is an input channel: sums[tap, output] of up to RUN_IN_ORDER positions, added up in ``totals``."""
    kh, kw, channels = dweight.shape[2], dweight.shape[3], dweight.shape[1]
    h, w, oh, ow = x.shape[1], x.shape[2], dy.shape[1], dy.shape[2]
    outputs = dweight.shape[0] * channels // x.shape[3]
    first = chunk // channels * outputs
    image, dy_values = flattened(x), flattened(dy)
    sums[:], totals[:] = 0, 0
    held = 0
    for n in range(x.shape[0]):
        for row in range(oh):
            for column in range(ow):
                at = ((n * oh + row) * ow + column) * dy.shape[3] + first
                for i in range(kh):
                    r = row * sh + i * dh - pt
                    for j in range(kw if r >= 0 and r < h else 0):
                        c = column * sw + j * dw - pl
                        if c >= 0 and c < w:
                            factor, to = image[((n * h + r) * w + c) * x.shape[3] + chunk], (i * kw + j) * outputs
                            for k in range(np.uintp(outputs)):
                                sums[np.uintp(to) + k] += factor * dy_values[np.uintp(at) + k]
                held += 1
                if held == RUN_IN_ORDER:
                    move_sums(sums, 0, totals, 0, sums.size)
                    sums[:] = 0
                    held = 0
    for k in range(outputs):
        for tap in range(kh * kw):
            at = tap * outputs + k
            dweight[first + k, chunk % channels, tap // kw, tap % kw] = totals[at] + sums[at]


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry, activation: Activation
) -> np.ndarray:
    bias, number = bias_and_number(bias, activation, x.dtype)
    y = empty((g.n, g.oh, g.ow, g.k), x.dtype)
    _correlate(forward_correlation(g), forward_strides(g), g.groups, x, weight, bias, y, number)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    correlations = backward_correlations(g)
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    if sum(c.rows * c.columns for c in correlations) < g.h * g.w:
        fill_zero(dx)
    for c in correlations:
        _correlate(c, backward_strides(g), g.groups, dy, weight, np.empty(0, dy.dtype), dx, 0)
    return dx


def _correlate(
    c: Correlation, w: WeightStrides, groups: int, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray,
    activation: int,
) -> None:  # fmt: skip
    channels, outputs = x.shape[3] // groups, y.shape[3] // groups
    packed = fold_constant(weight, lambda: pack_weights(c, weight, w, outputs, channels, outputs, groups))
    _correlate_rows(
        x.shape[0] * c.rows, x, packed, bias, y, np.array([row for _, row in c.row_taps]),
        np.array([column for _, column in c.column_taps]), c.grid,
        _Plan(activation_of(activation), activation, groups),
    )  # fmt: skip


def backward_weight(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry) -> None:
    size = g.k // g.groups * g.kh * g.kw
    _backward_weight_channels(
        g.c, dy, x, dweight, Scratch(size, x.dtype), Scratch(size, np.dtype(np.float64)), g.sh, g.sw, g.pt, g.pl, g.dh,
        g.dw,
    )  # fmt: skip


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if pass_ == "backward_weight":
        return (itemsize + np.dtype(np.float64).itemsize) * g.k // g.groups * g.kh * g.kw * threads.number()
    return itemsize * g.k * g.taps
