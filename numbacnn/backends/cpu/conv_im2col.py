"""Convolution as a matrix product: a kernel lays the windows out as columns, then W (k x taps) meets them.

The columns of a whole batch would be taps times the output; here they exist for one band of output rows at a time, in
about COLUMN_ELEMENTS elements that stay in the cache of the core that made them.

roofline: 2 n k oh ow taps operations in the product, at the rate of ``gemm.py`` where a group has at least a tile's
rows of output channels; taps n oh ow elements written and read once more for the columns, which bounds layers with
few output channels (k operations an element).
"""

from __future__ import annotations

import numba
import numpy as np

from ..geometry import Conv2dGeometry
from .elementwise import activate, activation_of
from .gemm import DEPTH, TILE, multiply_block, scratch_of
from .jit import Scratch, function, kernel
from .memory import empty
from .rows import add_to_strided, copy_strided
from .sums import RUN_IN_ORDER, SUM_IN_ORDER, move_sums
from .windows import output_range

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

COLUMN_ELEMENTS = 1 << 17
PARTIAL_ELEMENTS = 1 << 21
MOST_PARTIALS = 32


@function
def lay_columns(x, n, first_channel, channels, kh, kw, ow, sh, sw, pt, pl, dh, dw, first_row, rows, columns):
    """columns[(c, i, j), (row, column)]: what tap (c, i, j) multiplies at the output rows first_row .. + rows."""
    h, w = x.shape[2], x.shape[3]
    at = 0
    for c in range(channels):
        image = x[n, first_channel + c].reshape(-1)
        for i in range(kh):
            for j in range(kw):
                offset = j * dw - pl
                first, end = output_range(offset, sw, w, ow)
                for row in range(first_row, first_row + rows):
                    source = row * sh + i * dh - pt
                    if source < 0 or source >= h:
                        columns[at : at + ow] = 0
                    else:
                        columns[at : at + first] = 0
                        copy_strided(columns, at + first, image, source * w + first * sw + offset, sw, end - first)
                        columns[at + end : at + ow] = 0
                    at += ow


@function
def add_columns(dx, n, first_channel, channels, kh, kw, ow, sh, sw, pt, pl, dh, dw, first_row, rows, columns):
    """The adjoint of :func:`lay_columns`: every column element is added to the element of dx it came from."""
    h, w = dx.shape[2], dx.shape[3]
    one = dx.dtype.type(1)
    at = 0
    for c in range(channels):
        image = dx[n, first_channel + c].reshape(-1)
        for i in range(kh):
            for j in range(kw):
                offset = j * dw - pl
                first, end = output_range(offset, sw, w, ow)
                for row in range(first_row, first_row + rows):
                    target = row * sh + i * dh - pt
                    if target >= 0 and target < h:
                        start = target * w + first * sw + offset
                        add_to_strided(image, start, sw, one, columns, at + first, end - first)
                    at += ow


@kernel
def _forward_bands(
    chunk, tile, panel, places, laid, activating, x, weight, bias, y, activation, groups, band, pointwise, sh, sw, pt,
    pl, dh, dw,
):  # fmt: skip
    """A chunk is a band of output rows of one group of one image: product, bias, activation."""
    out_channels, oh, ow = y.shape[1], y.shape[2], y.shape[3]
    channels, kh, kw = weight.shape[1], weight.shape[2], weight.shape[3]
    bands = (oh + band - 1) // band
    first_row = chunk % bands * band
    group, n = chunk // bands % groups, chunk // bands // groups
    size, taps, plane = out_channels // groups, channels * kh * kw, oh * ow
    rows = min(band, oh - first_row)
    at = (n * out_channels + group * size) * plane + first_row * ow
    if pointwise:
        columns, at_columns = x.reshape(-1), (n * x.shape[1] + group * channels) * plane + first_row * ow
        column_row = plane
    else:
        columns, at_columns, column_row = laid, 0, rows * ow
        lay_columns(x, n, group * channels, channels, kh, kw, ow, sh, sw, pt, pl, dh, dw, first_row, rows, columns)
    flat = y.reshape(-1)
    multiply_block(
        tile,
        panel,
        places,
        weight.reshape(-1),
        group * size * taps,
        taps,
        1,
        columns,
        at_columns,
        column_row,
        1,
        flat,
        at,
        plane,
        size,
        rows * ow,
        taps,
        DEPTH,
        0,
    )
    if bias.size:
        for k in range(size):
            shift = bias[group * size + k]
            for p in range(at + k * plane, at + k * plane + rows * ow):
                flat[p] += shift
    for k in range(size):
        activate(activating, flat, at + k * plane, rows * ow, activation)


@kernel
def _backward_input_images(
    chunk, tile, panel, places, laid, dy, weight, dx, groups, band, pointwise, sh, sw, pt, pl, dh, dw
):
    """A chunk is one group of one image: bands that overlap in dx are added by one thread, in order."""
    out_channels, oh, ow = dy.shape[1], dy.shape[2], dy.shape[3]
    channels, kh, kw = weight.shape[1], weight.shape[2], weight.shape[3]
    group, n = chunk % groups, chunk // groups
    size, taps, plane = out_channels // groups, channels * kh * kw, oh * ow
    if pointwise:
        columns, at_columns, column_row = dx.reshape(-1), (n * dx.shape[1] + group * channels) * plane, plane
    else:
        columns, at_columns, column_row = laid, 0, 0
        for c in range(channels):
            dx[n, group * channels + c] = 0
    for first_row in range(0, oh, band):
        rows = min(band, oh - first_row)
        multiply_block(
            tile,
            panel,
            places,
            weight.reshape(-1),
            group * size * taps,
            1,
            taps,
            dy.reshape(-1),
            (n * out_channels + group * size) * plane + first_row * ow,
            plane,
            1,
            columns,
            at_columns + (first_row * ow if pointwise else 0),
            column_row if pointwise else rows * ow,
            taps,
            rows * ow,
            size,
            DEPTH,
            0,
        )
        if not pointwise:
            add_columns(dx, n, group * channels, channels, kh, kw, ow, sh, sw, pt, pl, dh, dw, first_row, rows, columns)


@kernel
def _backward_weight_partials(
    chunk, tile, panel, places, laid, sums, dy, x, partials, groups, images, band, pointwise, sh, sw, pt, pl, dh, dw
):
    """A chunk is one group of weights summed over ``images`` images: partials[part, group rows] += dy columns^T.

    ``sums`` hold those of a few runs, as precise as the bound of the contract asks for; ``partials`` are float64.
    """
    out_channels, oh, ow = dy.shape[1], dy.shape[2], dy.shape[3]
    channels, kh, kw = partials.shape[2], partials.shape[3], partials.shape[4]
    group, part = chunk % groups, chunk // groups
    size, taps, plane = out_channels // groups, channels * kh * kw, oh * ow
    flat = partials.reshape(-1)
    at = (part * out_channels + group * size) * taps
    flat[at : at + size * taps] = 0
    held = 0
    for n in range(part * images, min((part + 1) * images, x.shape[0])):
        for first_row in range(0, oh, band):
            rows = min(band, oh - first_row)
            if pointwise:
                columns, at_columns = x.reshape(-1), (n * x.shape[1] + group * channels) * plane + first_row * ow
                column_row = plane
            else:
                columns, at_columns, column_row = laid, 0, rows * ow
                lay_columns(
                    x, n, group * channels, channels, kh, kw, ow, sh, sw, pt, pl, dh, dw, first_row, rows, columns
                )
            for first in range(0, rows * ow, SUM_IN_ORDER):
                count = min(SUM_IN_ORDER, rows * ow - first)
                added = (count + RUN_IN_ORDER - 1) // RUN_IN_ORDER * RUN_IN_ORDER
                if held + added > SUM_IN_ORDER:
                    move_sums(sums, 0, flat, at, 1, size * taps, 0)
                    held = 0
                multiply_block(
                    tile,
                    panel,
                    places,
                    dy.reshape(-1),
                    (n * out_channels + group * size) * plane + first_row * ow + first,
                    plane,
                    1,
                    columns,
                    at_columns + first,
                    1,
                    column_row,
                    sums,
                    0,
                    taps,
                    size,
                    taps,
                    count,
                    RUN_IN_ORDER,
                    1 if held > 0 else 0,
                )
                held += added
    if held > 0:
        move_sums(sums, 0, flat, at, 1, size * taps, 0)


@kernel
def _sum_partials(chunk, partials, total):
    """A chunk is a run of SUM_BLOCK elements: the parts are added in their order."""
    for i in range(chunk * SUM_BLOCK, min((chunk + 1) * SUM_BLOCK, total.size)):
        value = partials[0, i]
        for part in range(1, partials.shape[0]):
            value += partials[part, i]
        total[i] = value


SUM_BLOCK = 4096


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    y = empty(g.y_shape, x.dtype)
    band = _band(g)
    _forward_bands(
        g.n * g.groups * -(-g.oh // band), TILE.routine, *scratch_of(g.k // g.groups, x.dtype), _columns(g, x.dtype),
        activation_of, x, weight, bias, y, activation, g.groups, band, g.is_pointwise, *_window(g),
    )  # fmt: skip
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    dx = empty(g.x_shape, dy.dtype)
    _backward_input_images(
        g.n * g.groups, TILE.routine, *scratch_of(g.taps, dy.dtype), _columns(g, dy.dtype), dy, weight, dx, g.groups,
        _band(g), g.is_pointwise, *_window(g),
    )  # fmt: skip
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    parts, images = _parts(g)
    partials = empty((parts, *g.weight_shape), np.float64)
    _backward_weight_partials(
        parts * g.groups, TILE.routine, *scratch_of(g.k // g.groups, x.dtype), _columns(g, x.dtype),
        Scratch(g.k // g.groups * g.taps, x.dtype), dy, x, partials, g.groups, images, _band(g), g.is_pointwise,
        *_window(g),
    )  # fmt: skip
    dweight = empty(g.weight_shape, x.dtype)
    _sum_partials(-(-dweight.size // SUM_BLOCK), partials.reshape(parts, -1), dweight.reshape(-1))
    return dweight


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    columns, sums, partials = _column_elements(g), 0, 0
    if pass_ == "backward_weight":
        sums, partials = g.k // g.groups * g.taps, _parts(g)[0] * g.k * g.taps
    return itemsize * (columns + sums) * numba.get_num_threads() + np.dtype(np.float64).itemsize * partials


def _columns(g: Conv2dGeometry, dtype: np.dtype) -> Scratch:
    return Scratch(_column_elements(g), dtype)


def _column_elements(g: Conv2dGeometry) -> int:
    """Of the columns of one band."""
    return 0 if g.is_pointwise else g.taps * min(_band(g), g.oh) * g.ow


def _window(g: Conv2dGeometry) -> tuple[int, ...]:
    return g.sh, g.sw, g.pt, g.pl, g.dh, g.dw


def _band(g: Conv2dGeometry) -> int:
    """Output rows whose columns fit COLUMN_ELEMENTS."""
    return max(1, COLUMN_ELEMENTS // max(1, g.taps * g.ow))


def _parts(g: Conv2dGeometry) -> tuple[int, int]:
    """How many partial sums of the weight gradient, over how many images each; a matter of sizes, never of threads."""
    most = max(1, min(MOST_PARTIALS, PARTIAL_ELEMENTS // max(1, g.k * g.taps), g.n))
    images = -(-max(g.n, 1) // most)
    return -(-max(g.n, 1) // images), images
