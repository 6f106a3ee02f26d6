"""Convolution as a matrix product: a kernel lays each window out as a row, then W (taps x k) meets them.

The rows of a whole batch would be taps times the output; here they exist for one band of output rows at a time, in
about ROW_ELEMENTS elements that stay in the cache of the core that made them.

roofline: 2 n k oh ow taps operations in the product, at the rate of the tile where a group has at least a vector of
output channels; taps n oh ow elements written and read once more for the rows, which bounds layers with few output
channels (k operations an element).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...contract import Activation
from ...geometry import Conv2dGeometry, round_up
from ..runtime import threads
from ..runtime.allocator import empty
from ..runtime.captured import fold_constant
from ..runtime.kernel import Scratch, inlined, kernel
from ..runtime.microkernel import Microkernel
from ..vector.activations import activation_of
from ..vector.blocks import fill_zero
from ..vector.simd import VECTOR_BYTES, copy_run, flattened
from ..vector.sums import RUN_IN_ORDER, SUM_IN_ORDER, add_parts, move_sums
from ..vector.tiles import LARGEST, choose_tile, multiply_gathered
from .bands import extent, lay_band, lay_positions, laying
from .correlation import forward_correlation, forward_strides
from .operands import activate_pixels, bias_and_number, bias_or_zeros, pack_weights

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

ROW_ELEMENTS = 1 << 16
DEPTH = 256
# Of the sums of the gradient of the weights, and of those that are added up at a time.
MIN_PARTS, AT_A_TIME = 16, 1 << 10


@inlined
def lay_windows(source, places, first, count, kh, kw, dh, dw, columns, channels, windows, size):
    """windows[position, (i, j, c)], rows ``size`` apart, of a band whose pixels have ``channels`` each."""
    for p in range(count):
        at = p * size
        for i in range(kh):
            start = places[first + p] + i * dh * columns * channels
            if kw == 1 or dw == 1:
                copy_run(windows, at, source, start, kw * channels)
                at += kw * channels
            else:
                for j in range(kw):
                    copy_run(windows, at, source, start + j * dw * channels, channels)
                    at += channels


class _Forward(NamedTuple):
    """What :func:`_forward_bands` is told; the rows and columns are those of a band of x."""

    laying: Microkernel
    tile: Microkernel
    activating: Microkernel | int
    height: int
    width: int
    activation: int
    groups: int
    panels: int
    band: int
    bands: int
    in_rows: int
    in_columns: int
    top: int
    left: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int


class _BackwardInput(NamedTuple):
    """What :func:`_backward_input_images` is told."""

    tile: Microkernel
    height: int
    width: int
    groups: int
    band: int
    kh: int
    kw: int
    sh: int
    sw: int
    pt: int
    pl: int
    dh: int
    dw: int


class _BackwardWeight(NamedTuple):
    """What :func:`_sum_windows` is told; the rows and columns are those of a band of x."""

    laying: Microkernel
    tile: Microkernel
    height: int
    width: int
    groups: int
    size: int
    steps: int
    band: int
    bands: int
    in_rows: int
    in_columns: int
    top: int
    left: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int


@kernel
def _forward_bands(chunk, x, packed, packed_at, bias, y, steps, table, work, p):
    """A chunk is a band of output rows of one group of one image: product, bias, activation."""
    group, rest = chunk % p.groups, chunk // p.groups
    at_band, image = rest % p.bands, rest // p.bands
    channels, outputs = x.shape[3] // p.groups, y.shape[3] // p.groups
    oh, ow, size = y.shape[1], y.shape[2], steps.size
    rows = min(p.band, oh - at_band * p.band)
    count = rows * ow
    padded = (count + p.height - 1) // p.height * p.height
    source, windows = work[: p.in_rows * p.in_columns * channels], work[p.in_rows * p.in_columns * channels :]
    places, row_at, targets = table[:padded], table[padded : 2 * padded], table[2 * padded :]
    lay_band(
        p.laying, x, image, 1, group * channels, channels, channels, p.top + at_band * p.band * p.sh, p.in_rows, p.left,
        p.in_columns, source,
    )  # fmt: skip
    lay_positions(places, 1, rows, ow, 0, p.sh * p.in_columns * channels, p.sw * channels, padded)
    lay_positions(row_at, 1, 1, count, 0, 0, size, padded)
    lay_positions(targets, 1, 1, count, 0, 0, y.shape[3], padded)
    lay_windows(source, places, 0, count, p.kh, p.kw, p.dh, p.dw, p.in_columns, channels, windows, size)
    flat, at = flattened(y), (image * oh + at_band * p.band) * ow * y.shape[3] + group * outputs
    for panel in range(p.panels):
        at_packed = (group * p.panels + panel) * size * p.width
        multiply_gathered(
            p.tile, p.height, windows, 0, row_at, padded, steps, 0, size, DEPTH, packed, at_packed, packed_at, 0, bias,
            group * outputs + panel * p.width, flat, at + panel * p.width, targets, outputs - panel * p.width, 0,
        )  # fmt: skip
    if p.activation > 0:
        activate_pixels(p.activating, flat, at, targets, count, outputs, p.activation)


@kernel
def _lay_weights(chunk, weight, laid, window):
    """laid[k, (tap, c)] = weight[k, (c, tap)]; a chunk is an output channel."""
    channels = weight.shape[1] // window
    for tap in range(window):
        for c in range(channels):
            laid[chunk, tap * channels + c] = weight[chunk, c * window + tap]


@kernel
def _backward_input_images(chunk, dy, laid, dx, zeros, table, windows, p):
    """A chunk is one group of one image: a band of rows at a time is a product, and each row is added to its window."""
    group, image = chunk % p.groups, chunk // p.groups
    channels, outputs = dx.shape[3] // p.groups, dy.shape[3] // p.groups
    h, w, oh, ow = dx.shape[1], dx.shape[2], dy.shape[1], dy.shape[2]
    size = channels * p.kh * p.kw
    flat, dy_values, weights = flattened(dx), flattened(dy), flattened(laid)
    for position in range(h * w):
        at = (image * h * w + position) * dx.shape[3] + group * channels
        for c in range(channels):
            flat[at + c] = 0
    most = (p.band * ow + p.height - 1) // p.height * p.height
    row_at, row_to, steps, weight_at = (
        table[:most], table[most : 2 * most], table[2 * most : 2 * most + outputs], table[2 * most + outputs :]
    )  # fmt: skip
    for k in range(outputs):
        steps[k], weight_at[k] = k, (group * outputs + k) * size
    for first in range(0, oh, p.band):
        rows = min(p.band, oh - first)
        count = rows * ow
        padded = (count + p.height - 1) // p.height * p.height
        lay_positions(row_at, 1, 1, count, 0, 0, dy.shape[3], padded)
        lay_positions(row_to, 1, 1, count, 0, 0, size, padded)
        at_dy = (image * oh + first) * ow * dy.shape[3] + group * outputs
        for panel in range(0, size, p.width):
            multiply_gathered(
                p.tile, p.height, dy_values, at_dy, row_at, padded, steps, 0, outputs, DEPTH, weights, panel, weight_at,
                0, zeros, 0, windows, panel, row_to, size - panel, 0,
            )  # fmt: skip
        for position in range(count):
            for tap in range(p.kh * p.kw):
                r = (first + position // ow) * p.sh + tap // p.kw * p.dh - p.pt
                c = position % ow * p.sw + tap % p.kw * p.dw - p.pl
                if r >= 0 and r < h and c >= 0 and c < w:
                    to = ((image * h + r) * w + c) * dx.shape[3] + group * channels
                    at = position * size + tap * channels
                    for i in range(np.uintp(channels)):
                        flat[np.uintp(to) + i] += windows[np.uintp(at) + i]


@kernel
def _sum_windows(chunk, dy, x, sums, zeros, totals, rows_at, dy_at, window_at, places, work, p):
    """A chunk is one group, summed over ``p.steps`` bands: sums[part, group, output, (i, j, c)], rows ``p.size`` apart.

    ``rows_at`` are where rows of the product begin, in dy and in the sums, rounded up to whole tiles.
    """
    output_at, sums_at = rows_at[0], rows_at[1]
    group, part = chunk % p.groups, chunk // p.groups
    channels, outputs = x.shape[3] // p.groups, dy.shape[3] // p.groups
    oh, ow = dy.shape[1], dy.shape[2]
    taps = channels * p.kh * p.kw
    base = chunk * outputs * p.size
    source, windows = work[: p.in_rows * p.in_columns * channels], work[p.in_rows * p.in_columns * channels :]
    dy_values, row = flattened(dy), p.in_columns * channels
    totals[:] = 0
    held = 0
    for step in range(part * p.steps, min((part + 1) * p.steps, x.shape[0] * p.bands)):
        image, first_row = step // p.bands, step % p.bands * p.band
        rows = min(p.band, oh - first_row)
        lay_band(
            p.laying, x, image, 1, group * channels, channels, channels, p.top + first_row * p.sh, p.in_rows, p.left,
            p.in_columns, source,
        )  # fmt: skip
        count = rows * ow
        lay_positions(places, 1, rows, ow, 0, p.sh * row, p.sw * channels, count)
        at_dy = (image * oh + first_row) * ow * dy.shape[3] + group * outputs
        for first in range(0, count, SUM_IN_ORDER):
            here = min(SUM_IN_ORDER, count - first)
            lay_windows(
                source, places, first, here, p.kh, p.kw, p.dh, p.dw, p.in_columns, channels, windows, p.size
            )  # fmt: skip
            if held + here > SUM_IN_ORDER:
                move_sums(sums, base, totals, 0, outputs * p.size)
                held = 0
            for panel in range(0, taps, p.width):
                multiply_gathered(
                    p.tile, p.height, dy_values, at_dy, output_at, output_at.size, dy_at, first, here, RUN_IN_ORDER,
                    windows, panel, window_at, 0, zeros, 0, sums, base + panel, sums_at, taps - panel,
                    1 if held > 0 else 0,
                )  # fmt: skip
            held += here
    for i in range(outputs * p.size):
        sums[np.uintp(base + i)] += totals[np.uintp(i)]


@kernel
def _finish_weights(chunk, sums, dweight, totals, groups, size):
    """A chunk is one group: the parts are added up, and the channels of a window put before its taps."""
    outputs, channels = dweight.shape[0] // groups, dweight.shape[1]
    window = dweight.shape[2] * dweight.shape[3]
    base, flat = chunk * outputs * size, flattened(dweight)
    add_parts(sums, base, outputs * size, groups * outputs * size, totals)
    for k in range(outputs):
        at = (chunk * outputs + k) * channels * window
        for c in range(channels):
            for tap in range(window):
                flat[at + c * window + tap] = sums[base + k * size + tap * channels + c]


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry, activation: Activation
) -> np.ndarray:
    bias, number = bias_and_number(bias, activation, x.dtype)
    y = empty((g.n, g.oh, g.ow, g.k), x.dtype)
    channels, outputs = g.c // g.groups, g.k // g.groups
    c, tile = forward_correlation(g), choose_tile(outputs, x.itemsize)
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    panels, band = -(-outputs // width), _band(g)
    packed = fold_constant(
        weight, lambda: pack_weights(c, weight, forward_strides(g), width, channels, outputs, g.groups)
    )
    in_rows, in_columns = extent(g, band)
    steps = np.arange(g.kh * g.kw) * channels + np.arange(channels)[:, None]
    positions = round_up(band * g.ow, tile.rows)
    _forward_bands(
        g.n * -(-g.oh // band) * g.groups, x, packed, np.arange(g.taps) * width, bias_or_zeros(bias, g.k), y,
        steps.reshape(-1), Scratch(3 * positions, np.dtype(np.int64)),
        Scratch(in_rows * in_columns * channels + positions * g.taps, x.dtype),
        _Forward(
            laying=laying, tile=tile.microkernel, activating=activation_of(number), height=tile.rows, width=width,
            activation=number, groups=g.groups, panels=panels, band=band, bands=-(-g.oh // band), in_rows=in_rows,
            in_columns=in_columns, top=-g.pt, left=-g.pl, kh=g.kh, kw=g.kw, sh=g.sh, sw=g.sw, dh=g.dh, dw=g.dw,
        ),
    )  # fmt: skip
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    laid = fold_constant(weight, lambda: _laid(weight))
    width, band = LARGEST.vectors * VECTOR_BYTES // dy.itemsize, _band(g)
    positions = round_up(band * g.ow, LARGEST.rows)
    _backward_input_images(
        g.n * g.groups, dy, laid, dx, np.zeros(width, dy.dtype),
        Scratch(2 * (positions + g.k // g.groups), np.dtype(np.int64)), Scratch(positions * g.taps, dy.dtype),
        _BackwardInput(
            tile=LARGEST.microkernel, height=LARGEST.rows, width=width, groups=g.groups, band=band, kh=g.kh, kw=g.kw,
            sh=g.sh, sw=g.sw, pt=g.pt, pl=g.pl, dh=g.dh, dw=g.dw,
        ),
    )  # fmt: skip
    return dx


def _laid(weight: np.ndarray) -> np.ndarray:
    k, window = weight.shape[0], weight.shape[2] * weight.shape[3]
    laid = empty((k, weight[0].size), weight.dtype)
    _lay_weights(k, weight.reshape(laid.shape), laid, window)
    return laid


def backward_weight(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry) -> None:
    if not g.n:
        fill_zero(dweight)
        return
    outputs, index = g.k // g.groups, np.dtype(np.int64)
    size, band, parts, steps = _weight_plan(g, x.itemsize)
    positions = np.arange(band * g.ow)
    in_rows, in_columns = extent(g, band)
    held = min(positions.size, SUM_IN_ORDER)
    rows = np.minimum(np.arange(round_up(outputs, LARGEST.rows)), outputs - 1)
    width = LARGEST.vectors * VECTOR_BYTES // x.itemsize
    sums = empty((g.groups * parts * outputs * size,), x.dtype)
    _sum_windows(
        g.groups * parts, dy, x, sums, np.zeros(width, x.dtype), Scratch(outputs * size, np.dtype(np.float64)),
        np.stack([rows, rows * size]), positions * g.k, np.arange(held) * size, Scratch(positions.size, index),
        Scratch(in_rows * in_columns * (g.c // g.groups) + held * size, x.dtype),
        _BackwardWeight(
            laying=laying, tile=LARGEST.microkernel, height=LARGEST.rows, width=width, groups=g.groups, size=size,
            steps=steps, band=band, bands=-(-g.oh // band), in_rows=in_rows, in_columns=in_columns, top=-g.pt,
            left=-g.pl, kh=g.kh, kw=g.kw, sh=g.sh, sw=g.sw, dh=g.dh, dw=g.dw,
        ),
    )  # fmt: skip
    _finish_weights(g.groups, sums, dweight, Scratch(AT_A_TIME, np.dtype(np.float64)), g.groups, size)


def _weight_plan(g: Conv2dGeometry, itemsize: int) -> tuple[int, int, int, int]:
    """Elements of a row of sums, rows of a band, parts of the sums, and bands of a part."""
    band, size = _band(g), round_up(g.taps, VECTOR_BYTES // itemsize)
    steps = g.n * -(-g.oh // band)
    parts = min(steps, -(-MIN_PARTS // g.groups))
    of_part = -(-steps // max(parts, 1))
    return size, band, -(-steps // max(of_part, 1)), of_part


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if pass_ == "backward_weight":
        size, _, parts, _ = _weight_plan(g, itemsize)
        return itemsize * g.k * size * parts
    in_rows, in_columns = extent(g, _band(g))
    band = in_rows * in_columns * (g.c // g.groups) if pass_ == "forward" else 0
    return itemsize * (threads.number() * (band + _band(g) * g.ow * g.taps) + g.k * g.taps)


def _band(g: Conv2dGeometry) -> int:
    """Output rows whose windows fit ROW_ELEMENTS."""
    return min(g.oh, max(1, ROW_ELEMENTS // max(1, g.taps * g.ow)))
