"""Convolution by direct nested loops: no memory besides its arguments and result, but for a row of sums a weight.

All three passes walk the taps of the window outside and the output row inside, so that the innermost loop reads and
writes neighbours and vectorises; bounds are worked out per tap, and no element of the padding is ever touched.

roofline: 2 n k oh ow taps operations. Every product loads and stores one element of a plane that stays in L1, so
the load and store units bound it to a quarter of the peak; where image rows are short, most of the time goes into
starting and ending the loop over one.
"""

from __future__ import annotations

import numba
import numpy as np

from ..geometry import Conv2dGeometry
from .elementwise import activate, activation_of
from .jit import Scratch, function, kernel
from .memory import empty
from .rows import add_products_strided, add_strided, add_to_strided
from .sums import RUN_IN_ORDER, sum_rows
from .windows import output_range

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


@kernel
def _forward_planes(chunk, activating, x, weight, bias, y, activation, sh, sw, pt, pl, dh, dw):
    """A chunk is one plane of y: the activation of bias[k] + sum over taps of weight * the shifted plane of x."""
    out_channels, oh, ow = y.shape[1], y.shape[2], y.shape[3]
    channels, kh, kw = weight.shape[1], weight.shape[2], weight.shape[3]
    h, w = x.shape[2], x.shape[3]
    n, k = chunk // out_channels, chunk % out_channels
    first_channel = k // (out_channels * channels // x.shape[1]) * channels
    plane = y[n, k].reshape(-1)
    plane[:] = bias[k] if bias.size else 0
    for c in range(channels):
        image = x[n, first_channel + c].reshape(-1)
        for i in range(kh):
            row_offset = i * dh - pt
            row_first, row_end = output_range(row_offset, sh, h, oh)
            for j in range(kw):
                offset = j * dw - pl
                first, end = output_range(offset, sw, w, ow)
                factor = weight[k, c, i, j]
                for row in range(row_first, row_end):
                    start = (row * sh + row_offset) * w + first * sw + offset
                    add_strided(plane, row * ow + first, factor, image, start, sw, end - first)
    activate(activating, plane, 0, plane.size, activation)


@kernel
def _backward_input_planes(chunk, dy, weight, dx, sh, sw, pt, pl, dh, dw):
    """A chunk is one plane of dx, which gathers from all output channels of its group."""
    out_channels, oh, ow = dy.shape[1], dy.shape[2], dy.shape[3]
    channels, kh, kw = weight.shape[1], weight.shape[2], weight.shape[3]
    in_channels, h, w = dx.shape[1], dx.shape[2], dx.shape[3]
    n, channel = chunk // in_channels, chunk % in_channels
    group_size = out_channels * channels // in_channels
    first_k = channel // channels * group_size
    image = dx[n, channel].reshape(-1)
    image[:] = 0
    for k in range(first_k, first_k + group_size):
        plane = dy[n, k].reshape(-1)
        for i in range(kh):
            row_offset = i * dh - pt
            row_first, row_end = output_range(row_offset, sh, h, oh)
            for j in range(kw):
                offset = j * dw - pl
                first, end = output_range(offset, sw, w, ow)
                factor = weight[k, channel % channels, i, j]
                for row in range(row_first, row_end):
                    start = (row * sh + row_offset) * w + first * sw + offset
                    add_to_strided(image, start, sw, factor, plane, row * ow + first, end - first)


@function
def add_rows(sums, row, totals):
    """totals[i] += the sum of row i of ``sums``, whose rows have ``row`` elements."""
    for i in range(totals.size):
        totals[i] += sum_rows(sums, i * row, row, 1, row)


@kernel
def _backward_weight_kernels(chunk, dy, x, dweight, sums, totals, sh, sw, pt, pl, dh, dw):
    """A chunk is the kh x kw weights of one pair of channels: a row of ``sums`` each over up to RUN_IN_ORDER rows.

    These are added up in ``totals`` (kh kw), in float64.
    """
    out_channels, oh, ow = dy.shape[1], dy.shape[2], dy.shape[3]
    channels, kh, kw = dweight.shape[1], dweight.shape[2], dweight.shape[3]
    h, w = x.shape[2], x.shape[3]
    k, c = chunk // channels, chunk % channels
    channel = k // (out_channels * channels // x.shape[1]) * channels + c
    sums[:], totals[:] = 0, 0
    held = 0
    for n in range(x.shape[0]):
        image, plane = x[n, channel].reshape(-1), dy[n, k].reshape(-1)
        for top in range(0, oh, RUN_IN_ORDER):
            bottom = min(top + RUN_IN_ORDER, oh)
            if held + bottom - top > RUN_IN_ORDER:
                add_rows(sums, ow, totals)
                sums[:] = 0
                held = 0
            held += bottom - top
            for i in range(kh):
                row_offset = i * dh - pt
                row_first, row_end = output_range(row_offset, sh, h, oh)
                for j in range(kw):
                    offset = j * dw - pl
                    first, end = output_range(offset, sw, w, ow)
                    at = (i * kw + j) * ow + first
                    for row in range(max(row_first, top), min(row_end, bottom)):
                        start = (row * sh + row_offset) * w + first * sw + offset
                        add_products_strided(sums, at, plane, row * ow + first, image, start, sw, end - first)
    add_rows(sums, ow, totals)
    for i in range(kh):
        for j in range(kw):
            dweight[k, c, i, j] = totals[i * kw + j]


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    y = empty(g.y_shape, x.dtype)
    _forward_planes(g.n * g.k, activation_of, x, weight, bias, y, activation, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    dx = empty(g.x_shape, dy.dtype)
    _backward_input_planes(g.n * g.c, dy, weight, dx, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    dweight = empty(g.weight_shape, x.dtype)
    pairs, window = g.weight_shape[0] * g.weight_shape[1], g.kh * g.kw
    rows, totals = Scratch(window * g.ow, x.dtype), Scratch(window, np.dtype(np.float64))
    _backward_weight_kernels(pairs, dy, x, dweight, rows, totals, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
    return dweight


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    return itemsize * g.kh * g.kw * g.ow * numba.get_num_threads() if pass_ == "backward_weight" else 0
