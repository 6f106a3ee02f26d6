"""Depthwise convolution: every channel has filters of its own, one or, with a multiplier, several.

Channels lie along the vectors in all three passes, images and weights are multiplied lane by lane, and sums stay in
registers. The gradient of the input is a correlation for each phase of the stride, as in ``conv_direct.py``. With a
multiplier each channel of a band of x is repeated, so that it is met by every filter of its own; in the gradient of the
input the sums of these are added up.

roofline: 2 n k oh ow kh kw operations, two loads for each vector of them from L1; from memory x once and y once, which
bounds 3 x 3 windows.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..geometry import Conv2dGeometry
from . import threads
from .bands import clear, lay_band, lay_positions, round_up
from .correlate import activate_pixels, is_in_place, shift_of
from .correlations import Correlation, backward_correlations, forward_correlation
from .elementwise import activation_of, fill_zero
from .graph import prepared
from .jit import Scratch, function, kernel
from .memory import empty
from .simd import VECTOR_BYTES
from .sums import RUN_IN_ORDER, SUM_IN_ORDER, move_sums
from .tiles import ELEMENTWISE_TILES, RELU, Tile, elementwise_tile_of, multiply_gathered

__all__ = ["applies", "backward_input", "backward_weight", "forward", "workspace"]

# Of a band and of its sums: they stay in the first cache.
BAND_ELEMENTS = 6 << 10
FEWEST_CHUNKS = 8
FEWEST_PARTS = 16


@function
def lay_repeated(x, image, images, first, channels, times, pitch, top, rows, left, width, band):
    """What ``lay_band`` lays, each of ``channels`` channels ``times`` times side by side; ``first`` counts as many."""
    if times == 1:
        lay_band(x, image, images, first, channels, pitch, top, rows, left, width, band)
        return
    h, w, distance = x.shape[1], x.shape[2], x.shape[3]
    flat = x.reshape(-1)
    at = 0
    for n in range(image, image + images):
        for row in range(top, top + rows):
            for column in range(left, left + width):
                clear(band, at, at + pitch)
                if row >= 0 and row < h and column >= 0 and column < w:
                    source = ((n * h + row) * w + column) * distance
                    for i in range(channels):
                        band[at + i] = flat[source + (first + i) // times]
                at += pitch


@kernel
def _correlate_depthwise(
    chunk, x, packed, shift, y, steps, packed_at, table, work, tile, activating, height, width, activation, times,
    folded, filters, blocks, block, in_place, band_images, band_rows, bands, rows, columns, in_rows, in_columns, top,
    left, sh, sw, at_row, at_column, row_step, column_step,
):  # fmt: skip
    """A chunk is a band, as in ``correlate.py``, of a block of the ``filters`` channels of the product.

    Each channel of x goes into ``times`` of them, and ``folded`` of them are added up to one of y.
    """
    at_block, rest = chunk % blocks, chunk // blocks
    band, first_image = rest % bands, rest // bands * band_images
    images, rows_here = min(band_images, x.shape[0] - first_image), min(band_rows, rows - band * band_rows)
    first = at_block * block
    here = min(block, filters - first)
    count = images * rows_here * columns
    padded = (count + height - 1) // height * height
    places, targets = table[:padded], table[padded : 2 * padded]
    sums = work
    if in_place:
        row = x.shape[2] * x.shape[3]
        source = x.reshape(-1)
        start = (first_image * x.shape[1] + top + band * band_rows * sh) * row + left * x.shape[3] + first
        lay_positions(places, images, rows_here, columns, x.shape[1] * row, sh * row, sw * x.shape[3], padded)
    else:
        size = images * in_rows * in_columns * block
        source, start, sums = work[:size], 0, work[size:]
        lay_repeated(
            x, first_image, images, first, here, times, block, top + band * band_rows * sh, in_rows, left, in_columns,
            source,
        )  # fmt: skip
        row = in_columns * block
        lay_positions(places, images, rows_here, columns, in_rows * row, sh * row, sw * block, padded)
    flat, row = y.reshape(-1), y.shape[2] * y.shape[3]
    lay_positions(
        targets, images, rows_here, columns, y.shape[1] * row, row_step * row, column_step * y.shape[3], padded
    )
    first_row = first_image * y.shape[1] + at_row + band * band_rows * row_step
    at = (first_row * y.shape[2] + at_column) * y.shape[3] + first // folded
    todo = RELU if activation == 1 else 0
    sums_at = table[2 * padded :]
    for i in range(padded if folded > 1 else 0):
        sums_at[i] = min(i, count - 1) * here
    for panel in range(0, here, width):
        if folded == 1:
            multiply_gathered(
                tile, height, source, start + panel, places, padded, steps, 0, steps.size, steps.size, packed,
                first + panel, packed_at, 0, shift, first + panel, flat, at + panel, targets, here - panel, todo,
            )  # fmt: skip
        else:
            multiply_gathered(
                tile, height, source, start + panel, places, padded, steps, 0, steps.size, steps.size, packed,
                first + panel, packed_at, 0, shift, first + panel, sums, panel, sums_at, here - panel, 0,
            )  # fmt: skip
    for p in range(count if folded > 1 else 0):
        for i in range(here // folded):
            total = y.dtype.type(0)
            for j in range(folded):
                total += sums[p * here + i * folded + j]
            flat[at + targets[p] + i] = total
    if activation > 1:
        activate_pixels(activating, flat, at, targets, count, here, activation)


@kernel
def _pack_filters(chunk, weight, taps, packed, filters, window, pitch):
    """packed[tap, filter] = weight[filter, taps[tap]], rows ``pitch`` apart."""
    clear(packed, 0, packed.size)
    for t in range(taps.size):
        for i in range(filters):
            packed[t * pitch + i] = weight[i * window + taps[t]]


@kernel
def _sum_filters(
    chunk, dy, x, tap_at, sums, zeros, totals, dy_at, sums_at, places, work, tile, height, width, times, blocks, block,
    steps, band_images, band_rows, bands, in_rows, in_columns, top, left, sh, sw,
):  # fmt: skip
    """A chunk is a block of filters, summed over ``steps`` bands: sums[part, block, tap, filter], rows ``block`` apart.

    ``tap_at``, where the band has a tap of the first window, and ``sums_at`` are rounded up to whole tiles. ``totals``
    are the sums of one chunk in float64.
    """
    at_block, part = chunk % blocks, chunk // blocks
    oh, ow, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    first = at_block * block
    here = min(block, filters - first)
    base = chunk * totals.size
    taps = tap_at.size
    slopes = dy.reshape(-1)
    totals[:] = 0
    held = 0
    for step in range(part * steps, min((part + 1) * steps, (x.shape[0] + band_images - 1) // band_images * bands)):
        first_image, band = step // bands * band_images, step % bands
        images = min(band_images, x.shape[0] - first_image)
        rows = min(band_rows, oh - band * band_rows)
        lay_repeated(
            x, first_image, images, first, here, times, block, top + band * band_rows * sh, in_rows, left, in_columns,
            work,
        )  # fmt: skip
        count = images * rows * ow
        row = in_columns * block
        lay_positions(places, images, rows, ow, in_rows * row, sh * row, sw * block, count)
        at_dy = (first_image * oh + band * band_rows) * ow * filters + first
        for start in range(0, count, SUM_IN_ORDER):
            size = min(SUM_IN_ORDER, count - start)
            if held + size > SUM_IN_ORDER:
                move_sums(sums, base, totals, 0, 1, totals.size, 0)
                held = 0
            for panel in range(0, here, width):
                multiply_gathered(
                    tile, height, work, panel, tap_at, taps, places, start, size, RUN_IN_ORDER, slopes,
                    at_dy + panel, dy_at, start, zeros, 0, sums, base + panel, sums_at, here - panel,
                    1 if held > 0 else 0,
                )  # fmt: skip
            held += size
    for i in range(totals.size):
        sums[np.uintp(base + i)] += totals[np.uintp(i)]


@kernel
def _finish_filters(chunk, sums, dweight, blocks, block, window):
    """A chunk is a block of filters: the parts are added up in float64."""
    first, size = chunk * block, window * block
    for i in range(min(block, dweight.shape[0] - first)):
        for tap in range(window):
            total = 0.0
            for at in range(chunk * size + tap * block + i, sums.size, blocks * size):
                total += sums[at]
            dweight[first + i, tap] = total


class _Plan(NamedTuple):
    block: int
    """Filters that a chunk has at once."""
    band_images: int
    band_rows: int
    in_rows: int
    in_columns: int


def applies(g: Conv2dGeometry) -> bool:
    """Whether every channel is a group of its own, and there are some."""
    return g.groups == g.c > 1


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    y = empty((g.n, g.oh, g.ow, g.k), x.dtype)
    _correlate(forward_correlation(g), g, x, weight, bias, y, g.k // g.c, 1, activation)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    correlations = backward_correlations(g)
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    if sum(c.rows * c.columns for c in correlations) < g.h * g.w:
        fill_zero(dx)
    for c in correlations:
        _correlate(c, g, dy, weight, np.empty(0, dy.dtype), dx, 1, g.k // g.c, 0)
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    dweight = empty(g.weight_shape, x.dtype)
    if not g.n:
        fill_zero(dweight)
        return dweight
    c = forward_correlation(g)
    plan, parts, steps = _weight_plan(c, g.n, g.k, x.itemsize)
    tile = _weight_tile(g.kh * g.kw, -(-plan.block // (VECTOR_BYTES // x.itemsize)))
    blocks, bands = -(-g.k // plan.block), -(-g.oh // plan.band_rows)
    row, index = plan.in_columns * plan.block, np.dtype(np.int64)
    places = np.array([i * g.dh * row + j * g.dw * plan.block for i in range(g.kh) for j in range(g.kw)])
    rows = np.minimum(np.arange(round_up(places.size, tile.rows)), places.size - 1)
    positions = plan.band_images * plan.band_rows * g.ow
    sums = empty((parts * blocks * places.size * plan.block,), x.dtype)
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    _sum_filters(
        parts * blocks, dy, x, places[rows], sums, np.zeros(width, x.dtype),
        Scratch(places.size * plan.block, np.dtype(np.float64)), np.arange(positions) * g.k, rows * plan.block,
        Scratch(positions, index), Scratch(plan.band_images * plan.in_rows * row, x.dtype), tile.routine, tile.rows,
        width, g.k // g.c, blocks, plan.block, steps, plan.band_images, plan.band_rows, bands, plan.in_rows,
        plan.in_columns, -g.pt, -g.pl, g.sh, g.sw,
    )  # fmt: skip
    _finish_filters(blocks, sums, dweight.reshape(g.k, places.size), blocks, plan.block, places.size)
    return dweight


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if not g.n:
        return 0
    if pass_ == "backward_weight":
        plan, parts, _ = _weight_plan(forward_correlation(g), g.n, g.k, itemsize)
        return itemsize * (parts * round_up(g.k, plan.block) * g.kh * g.kw + threads.number() * BAND_ELEMENTS)
    correlations = (forward_correlation(g),) if pass_ == "forward" else backward_correlations(g)
    folded = 1 if pass_ == "forward" else g.k // g.c
    most = 0
    for c in correlations:
        plan = _plan(c, g.n, g.k, folded, itemsize)
        sums = plan.band_images * plan.band_rows * c.columns if folded > 1 else 0
        most = max(most, plan.block * (plan.band_images * plan.in_rows * plan.in_columns + sums))
    return itemsize * (g.k * g.kh * g.kw + threads.number() * most)


def _correlate(
    c: Correlation, g: Conv2dGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray, times: int,
    folded: int, activation: int,
) -> None:  # fmt: skip
    plan = _plan(c, g.n, g.k, folded, x.itemsize)
    in_place = times == 1 and is_in_place(c)
    lanes = VECTOR_BYTES // x.itemsize
    taps = np.array([i * g.kw + j for i, _ in c.row_taps for j, _ in c.column_taps])
    pitch = round_up(g.k, lanes)
    packed = prepared(weight, lambda: _pack(weight, taps, g.k, pitch))
    tile = ELEMENTWISE_TILES[min(len(ELEMENTWISE_TILES), -(-plan.block // lanes)) - 1]
    positions = round_up(plan.band_images * plan.band_rows * c.columns, tile.rows)
    band = 0 if in_place else plan.band_images * plan.in_rows * plan.in_columns * plan.block
    work = band + (positions * plan.block if folded > 1 else 0)
    top, left = c.row_taps[0][1], c.column_taps[0][1]
    row, column = (c.image[1] * x.shape[3], x.shape[3]) if in_place else (plan.in_columns * plan.block, plan.block)
    steps = np.array([(i - top) * row + (j - left) * column for _, i in c.row_taps for _, j in c.column_taps])
    blocks, bands = -(-g.k // plan.block), -(-c.rows // plan.band_rows)
    _correlate_depthwise(
        -(-g.n // plan.band_images) * bands * blocks, x, packed, shift_of(bias, g.k), y, steps,
        np.arange(taps.size) * pitch, Scratch(3 * positions, np.dtype(np.int64)), Scratch(work, x.dtype), tile.routine,
        activation_of, tile.rows, tile.vectors * lanes, activation, times, folded, g.k, blocks, plan.block,
        int(in_place), plan.band_images, plan.band_rows, bands, c.rows, c.columns, plan.in_rows, plan.in_columns, top,
        left, *c.step, *c.first, *c.output_step,
    )  # fmt: skip


def _pack(weight: np.ndarray, taps: np.ndarray, filters: int, pitch: int) -> np.ndarray:
    packed = empty((taps.size * pitch,), weight.dtype)
    _pack_filters(1, weight.reshape(-1), taps, packed, filters, weight[0].size, pitch)
    return packed


def _weight_tile(taps: int, vectors: int) -> Tile:
    """Whole rows of taps, as few as may be left over."""
    largest = ELEMENTWISE_TILES[min(len(ELEMENTWISE_TILES), vectors, 2) - 1]
    return elementwise_tile_of(-(-taps // -(-taps // largest.rows)), largest.vectors)


@functools.lru_cache(maxsize=1024)
def _plan(c: Correlation, n: int, filters: int, folded: int, itemsize: int) -> _Plan:
    """Bands that stay in the first cache, of as many filters as leave some positions."""
    lanes = VECTOR_BYTES // itemsize
    unit = lanes * folded
    (height, width), (down, right) = c.extent, c.step
    smallest = height * ((c.columns - 1) * right + width)
    block = filters
    if smallest * filters > BAND_ELEMENTS or n * c.rows < FEWEST_CHUNKS:
        most = max(1, BAND_ELEMENTS // (smallest * unit))
        if n * c.rows < FEWEST_CHUNKS:
            most = min(most, max(1, filters * n * c.rows // (FEWEST_CHUNKS * unit)))
        block = min(filters, most * unit)
    in_columns = (c.columns - 1) * right + width
    rows = [r for r in range(1, c.rows + 1) if ((r - 1) * down + height) * in_columns * block <= BAND_ELEMENTS]
    band_rows = -(-c.rows // -(-c.rows // max(rows, default=1)))
    in_rows = (band_rows - 1) * down + height
    images = 1
    if band_rows == c.rows:
        blocks = -(-filters // block)
        most = max(1, n * blocks // FEWEST_CHUNKS)
        images = max(1, min(n, most, BAND_ELEMENTS // (in_rows * in_columns * block)))
    return _Plan(block, images, band_rows, in_rows, in_columns)


@functools.lru_cache(maxsize=1024)
def _weight_plan(c: Correlation, n: int, filters: int, itemsize: int) -> tuple[_Plan, int, int]:
    """Bands, how many parts of the sums there are, and how many bands each has; a matter of sizes, never of threads."""
    plan = _plan(c, n, filters, 1, itemsize)
    steps = -(-n // plan.band_images) * -(-c.rows // plan.band_rows)
    parts = min(steps, -(-FEWEST_PARTS // -(-filters // plan.block)))
    of_part = -(-steps // parts)
    return plan, -(-steps // of_part), of_part
