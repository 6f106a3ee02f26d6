"""Depthwise convolution: every channel has filters of its own, one or, with a multiplier, several.

Channels lie along the vectors in all three passes, images and weights are multiplied lane by lane, and sums stay in
registers. Nothing is padded: outputs whose windows have the same taps within the image are computed together, of those
taps alone, from where the image lies. The gradient of the input is a correlation for each phase of the stride, as in
``direct.py``. With a multiplier each channel of x is repeated first, so that it is met by every filter of its own;
in the gradient of the input the sums of these are added up.

roofline: 2 n k oh ow kh kw operations, a load for each vector of them from L1; from memory x once and y once, which
bounds 3 x 3 windows.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ...geometry import Conv2dGeometry, round_up
from ..runtime.allocator import empty
from ..runtime.captured import fold_constant
from ..runtime.kernel import Kernel, Scratch, kernel
from ..runtime.microkernel import Microkernel
from ..vector.activations import activation_of
from ..vector.blocks import fill_zero
from ..vector.simd import VECTOR_BYTES, clear, flattened
from ..vector.sums import RUN_IN_ORDER, SUM_IN_ORDER, move_sums
from ..vector.tiles import ADD, ELEMENTWISE_TILES, RELU, Tile, elementwise_tile_of, multiply, multiply_gathered
from .bands import lay_positions
from .correlation import Correlation, backward_correlations, forward_correlation, spans
from .operands import activate_pixels, bias_or_zeros

__all__ = ["applies", "backward_input", "backward_weight", "forward", "workspace"]

# Of the outputs of a chunk: they and what they are computed from stay in the second cache.
BAND_ELEMENTS = 16 << 10
MIN_CHUNKS = 8
MIN_PARTS = 16


class _Correlating(NamedTuple):
    """What :func:`_correlate_depthwise` is told; ``single`` is a tile of one row."""

    tile: Microkernel
    single: Microkernel
    activating: Microkernel | int
    height: int
    width: int
    activation: int
    blocks: int
    block: int
    band_images: int
    band_rows: int
    bands: int


class _Summing(NamedTuple):
    """What :func:`_sum_filters` is told."""

    tile: Microkernel
    height: int
    width: int
    blocks: int
    block: int
    bands_of_part: int
    band_images: int
    band_rows: int
    bands: int
    window: int
    window_columns: int
    sh: int
    sw: int


@kernel
def _correlate_depthwise(chunk, x, packed, bias, y, row_spans, column_spans, steps, packed_at, table, g, p):
    """A chunk is ``p.band_rows`` of the ``g.rows`` of outputs of some images, of a block of the channels.

    Each of ``row_spans`` is a `Span`, each of ``column_spans`` likewise, and where its taps begin in ``steps``, all
    rows of them.
    """
    at_block, rest = chunk % p.blocks, chunk // p.blocks
    band, first_image = rest % p.bands, rest // p.bands * p.band_images
    images = min(p.band_images, x.shape[0] - first_image)
    first = at_block * p.block
    channels = x.shape[3]
    here = min(p.block, channels - first)
    x_row, y_row = x.shape[2] * channels, y.shape[2] * channels
    source, target = flattened(x), flattened(y)
    todo = RELU if p.activation == 1 else 0
    for r in range(row_spans.shape[0]):
        low = max(row_spans[r, 0], band * p.band_rows)
        rows_here = min(row_spans[r, 0] + row_spans[r, 1], min((band + 1) * p.band_rows, g.rows)) - low
        for s in range(column_spans.shape[0] if rows_here > 0 else 0):
            left, columns, taps = column_spans[s, 0], column_spans[s, 1], column_spans[s, 3]
            count = images * rows_here * columns
            padded = (count + p.height - 1) // p.height * p.height
            places, targets = table[:padded], table[padded : 2 * padded]
            lay_positions(places, images, rows_here, columns, x.shape[1] * x_row, g.sh * x_row, g.sw * channels, padded)
            lay_positions(
                targets, images, rows_here, columns, y.shape[1] * y_row, g.row_step * y_row, g.column_step * channels,
                padded,
            )  # fmt: skip
            start = (first_image * x.shape[1] + low * g.sh) * x_row + left * g.sw * channels + first
            at = first_image * y.shape[1] * y_row + (g.at_row + low * g.row_step) * y_row
            at += (g.at_column + left * g.column_step) * channels + first
            depth = row_spans[r, 3] * taps
            tap = column_spans[s, 4] + row_spans[r, 2] * taps
            if depth == 0:
                for i in range(count):
                    for j in range(here):
                        value = bias[first + j]
                        is_cut = p.activation == 1 and value <= 0  # which a NaN is not
                        target[at + targets[i] + j] = y.dtype.type(0) if is_cut else value
            position = 0
            while position < count and depth > 0:
                # A tile with less than half of its rows takes longer than as many single rows.
                whole = 2 * (count - position) > p.height
                for panel in range(0, here, p.width):
                    # The last panel begins early enough to be whole, if there is another: masks take their time.
                    j = max(0, min(panel, here - p.width))
                    multiply(
                        p.tile if whole else p.single, source, start + j, places, position, steps, tap, depth, depth,
                        packed, first + j, packed_at, tap, bias, first + j, target, at + j, targets, position,
                        here - j, todo,
                    )  # fmt: skip
                position += p.height if whole else 1
            if p.activation > 1:
                activate_pixels(p.activating, target, at, targets, count, here, p.activation)


@kernel
def _pack_filters(chunk, weight, taps, packed, filters, window, pitch):
    """packed[tap, filter] = weight[filter, taps[tap]], rows ``pitch`` apart."""
    clear(packed, 0, packed.size)
    for t in range(taps.size):
        for i in range(filters):
            packed[t * pitch + i] = weight[i * window + taps[t]]


@kernel
def _repeat_channels(chunk, x, y, times, some):
    """A chunk is ``some`` pixels: y[pixel, c times + j] = x[pixel, c]."""
    for pixel in range(chunk * some, min((chunk + 1) * some, x.shape[0])):
        for c in range(x.shape[1]):
            for j in range(times):
                y[pixel, c * times + j] = x[pixel, c]


@kernel
def _fold_channels(chunk, x, y, times, some):
    """A chunk is ``some`` pixels: y[pixel, c] = the sum over j of x[pixel, c times + j]."""
    for pixel in range(chunk * some, min((chunk + 1) * some, y.shape[0])):
        for c in range(y.shape[1]):
            total = y.dtype.type(0)
            for j in range(times):
                total += x[pixel, c * times + j]
            y[pixel, c] = total


@kernel
def _sum_filters(chunk, dy, x, row_spans, column_spans, steps, sums, zeros, totals, table, p):
    """A chunk is a block of filters, summed over ``p.bands_of_part`` bands: sums[part, block, tap, filter].

    ``totals`` are the sums of one chunk in float64, where it has more than are summed in order. Spans are those of
    :func:`_correlate_depthwise`; a tap is a row of the tile, and positions are what it sums over.
    """
    at_block, part = chunk % p.blocks, chunk // p.blocks
    oh, ow, channels = dy.shape[1], dy.shape[2], dy.shape[3]
    first = at_block * p.block
    here = min(p.block, channels - first)
    size_of_sums = p.window * p.block
    base = chunk * size_of_sums
    x_row, dy_row = x.shape[2] * channels, ow * channels
    source, dy_values = flattened(x), flattened(dy)
    most = p.window + p.height
    tap_at, sums_at = table[:most], table[most : 2 * most]
    clear(sums, base, base + size_of_sums)
    totals[:] = 0
    held = 0
    end = min((part + 1) * p.bands_of_part, (x.shape[0] + p.band_images - 1) // p.band_images * p.bands)
    for step in range(part * p.bands_of_part, end):
        first_image, band = step // p.bands * p.band_images, step % p.bands
        images = min(p.band_images, x.shape[0] - first_image)
        for r in range(row_spans.shape[0]):
            low = max(row_spans[r, 0], band * p.band_rows)
            rows_here = min(row_spans[r, 0] + row_spans[r, 1], min((band + 1) * p.band_rows, oh)) - low
            for s in range(column_spans.shape[0] if rows_here > 0 else 0):
                left, columns, taps = column_spans[s, 0], column_spans[s, 1], column_spans[s, 3]
                depth, tap = row_spans[r, 3] * taps, column_spans[s, 4] + row_spans[r, 2] * taps
                if depth == 0:
                    continue
                count = images * rows_here * columns
                places, dy_at = table[2 * most : 2 * most + count], table[2 * most + count : 2 * most + 2 * count]
                lay_positions(
                    places, images, rows_here, columns, x.shape[1] * x_row, p.sh * x_row, p.sw * channels, count
                )
                lay_positions(dy_at, images, rows_here, columns, oh * dy_row, dy_row, channels, count)
                for t in range((depth + p.height - 1) // p.height * p.height):
                    i = min(t, depth - 1)
                    tap_at[t] = steps[tap + i]
                    at = (row_spans[r, 2] + i // taps) * p.window_columns + column_spans[s, 2] + i % taps
                    sums_at[t] = at * p.block
                start = (first_image * x.shape[1] + low * p.sh) * x_row + left * p.sw * channels + first
                at_dy = (first_image * oh + low) * dy_row + left * channels + first
                for begin in range(0, count, SUM_IN_ORDER):
                    size = min(SUM_IN_ORDER, count - begin)
                    if held + size > SUM_IN_ORDER:
                        move_sums(sums, base, totals, 0, totals.size)
                        clear(sums, base, base + size_of_sums)
                        held = 0
                    for panel in range(0, here, p.width):
                        multiply_gathered(
                            p.tile, p.height, source, start + panel, tap_at, depth, places, begin, size, RUN_IN_ORDER,
                            dy_values, at_dy + panel, dy_at, begin, zeros, 0, sums, base + panel, sums_at, here - panel,
                            ADD,
                        )  # fmt: skip
                    held += size
    for i in range(totals.size):
        sums[np.uintp(base + i)] += totals[np.uintp(i)]


@kernel
def _finish_filters(chunk, sums, dweight, totals, blocks, block):
    """A chunk is a tap of a block of filters: the parts are added up in float64."""
    window = dweight.shape[1]
    at_block, tap = chunk // window, chunk % window
    size = window * block
    totals[:] = 0
    for part in range(sums.size // (blocks * size)):
        move_sums(sums, (part * blocks + at_block) * size + tap * block, totals, 0, block)
    first = at_block * block
    for i in range(min(block, dweight.shape[0] - first)):
        dweight[first + i, tap] = totals[i]


class _Plan(NamedTuple):
    block: int
    """Filters that a chunk has at once."""
    band_images: int
    band_rows: int

    def positions(self, columns: int) -> int:
        return self.band_images * self.band_rows * columns


class _Tables(NamedTuple):
    row_spans: np.ndarray
    column_spans: np.ndarray
    steps: np.ndarray
    """Where the taps of a column span lie from its output's place in x, rows of them."""
    packed_at: np.ndarray
    """Where their weights begin."""


def applies(g: Conv2dGeometry) -> bool:
    """Whether every channel is a group of its own, and there are some."""
    return g.groups == g.c > 1


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    y = empty((g.n, g.oh, g.ow, g.k), x.dtype)
    _correlate(forward_correlation(g), _channel_per_filter(x, g), weight, bias, y, activation)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    correlations = backward_correlations(g)
    dx = empty((g.n, g.h, g.w, g.k), dy.dtype)
    if sum(c.rows * c.columns for c in correlations) < g.h * g.w:
        fill_zero(dx)
    for c in correlations:
        _correlate(c, dy, weight, np.empty(0, dy.dtype), dx, 0)
    if g.k == g.c:
        return dx
    folded = empty((g.n, g.h, g.w, g.c), dy.dtype)
    _each_pixel(_fold_channels, dx, folded, g)
    return folded


def backward_weight(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry) -> None:
    if not g.n:
        fill_zero(dweight)
        return
    c = forward_correlation(g)
    plan, parts, bands_of_part = _weight_plan(c, g.n, g.k, x.itemsize)
    window = g.kh * g.kw
    tile = _weight_tile(window, -(-plan.block // (VECTOR_BYTES // x.itemsize)))
    tables = _tables(c, g.k, 1)
    blocks = -(-g.k // plan.block)
    sums = empty((parts * blocks * window * plan.block,), x.dtype)
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    is_long = bands_of_part * plan.positions(g.ow) > SUM_IN_ORDER
    _sum_filters(
        parts * blocks, dy, _channel_per_filter(x, g), tables.row_spans, tables.column_spans, tables.steps, sums,
        np.zeros(width, x.dtype), Scratch(window * plan.block if is_long else 0, np.dtype(np.float64)),
        Scratch(2 * (window + tile.rows + plan.positions(g.ow)), np.dtype(np.int64)),
        _Summing(
            tile=tile.microkernel, height=tile.rows, width=width, blocks=blocks, block=plan.block,
            bands_of_part=bands_of_part, band_images=plan.band_images, band_rows=plan.band_rows,
            bands=-(-g.oh // plan.band_rows), window=window, window_columns=g.kw, sh=g.sh, sw=g.sw,
        ),
    )  # fmt: skip
    _finish_filters(
        blocks * window,
        sums,
        dweight.reshape(g.k, window),
        Scratch(plan.block, np.dtype(np.float64)),
        blocks,
        plan.block,
    )


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if not g.n:
        return 0
    images = g.n * g.h * g.w * g.k if g.k > g.c else 0
    if pass_ == "backward_weight":
        plan, parts, _ = _weight_plan(forward_correlation(g), g.n, g.k, itemsize)
        return itemsize * (parts * round_up(g.k, plan.block) * g.kh * g.kw + images)
    return itemsize * (g.k * g.kh * g.kw + images)


def _correlate(
    c: Correlation, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray, activation: int
) -> None:
    n, channels = x.shape[0], x.shape[3]
    lanes = VECTOR_BYTES // x.itemsize
    plan = _plan(c, n, channels, x.itemsize)
    pitch = round_up(channels, lanes)
    tables = _tables(c, channels, pitch)
    packed = fold_constant(weight, lambda: _pack(weight, c, channels, pitch))
    tile = max(
        (tile for tile in ELEMENTWISE_TILES if tile.vectors == 1 or plan.block % (tile.vectors * lanes) == 0),
        key=lambda tile: tile.vectors,
    )
    single = elementwise_tile_of(1, tile.vectors)
    bands, blocks = -(-c.rows // plan.band_rows), -(-channels // plan.block)
    _correlate_depthwise(
        -(-n // plan.band_images) * bands * blocks, x, packed, bias_or_zeros(bias, channels), y, *tables,
        Scratch(2 * round_up(plan.positions(c.columns), tile.rows), np.dtype(np.int64)), c.grid,
        _Correlating(
            tile=tile.microkernel, single=single.microkernel, activating=activation_of(activation), height=tile.rows,
            width=tile.vectors * lanes, activation=activation, blocks=blocks, block=plan.block,
            band_images=plan.band_images, band_rows=plan.band_rows, bands=bands,
        ),
    )  # fmt: skip


def _pack(weight: np.ndarray, c: Correlation, filters: int, pitch: int) -> np.ndarray:
    taps = np.array([i * weight.shape[3] + j for i, _ in c.row_taps for j, _ in c.column_taps])
    packed = empty((taps.size * pitch,), weight.dtype)
    _pack_filters(1, weight.reshape(-1), taps, packed, filters, weight[0].size, pitch)
    return packed


def _channel_per_filter(x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    """x with each channel as often as it has filters."""
    if g.k == g.c:
        return x
    y = empty((g.n, g.h, g.w, g.k), x.dtype)
    _each_pixel(_repeat_channels, x, y, g)
    return y


def _each_pixel(work: Kernel, source: np.ndarray, target: np.ndarray, g: Conv2dGeometry) -> None:
    pixels, some = g.n * g.h * g.w, max(1, BAND_ELEMENTS // g.k)
    flat = [images.reshape(pixels, images.shape[3]) for images in (source, target)]
    work(-(-pixels // some), *flat, g.k // g.c, some)


def _weight_tile(taps: int, vectors: int) -> Tile:
    """Whole rows of taps, as few as may be left over."""
    largest = ELEMENTWISE_TILES[min(len(ELEMENTWISE_TILES), vectors, 2) - 1]
    return elementwise_tile_of(-(-taps // -(-taps // largest.rows)), largest.vectors)


@functools.lru_cache(maxsize=1024)
def _tables(c: Correlation, channels: int, pitch: int) -> _Tables:
    """For images of so many channels, and weights of which a tap's are ``pitch`` apart."""
    rows = spans(c.row_taps, c.rows, c.step[0], c.image[0])
    columns = spans(c.column_taps, c.columns, c.step[1], c.image[1])
    steps: list[int] = []
    packed_at: list[int] = []
    of_columns = []
    for span in columns:
        of_columns.append((*span, len(steps)))
        taps = range(span.first_tap, span.first_tap + span.taps)
        steps += [(i * c.image[1] + c.column_taps[j][1]) * channels for _, i in c.row_taps for j in taps]
        packed_at += [(i * len(c.column_taps) + j) * pitch for i in range(len(c.row_taps)) for j in taps]
    return _Tables(*(np.array(table, np.int64) for table in (rows, of_columns, steps, packed_at)))


@functools.lru_cache(maxsize=1024)
def _plan(c: Correlation, n: int, filters: int, itemsize: int) -> _Plan:
    """Whole rows of one image, or several whole ones where these are small, of fewer filters where these are few."""
    row = c.columns * filters
    images = max(1, min(BAND_ELEMENTS // (row * c.rows), n // MIN_CHUNKS))
    groups = max(1, -(-n // images))
    fewest_bands = -(-MIN_CHUNKS // groups)
    band_rows = min(c.rows, max(1, BAND_ELEMENTS // row), -(-c.rows // fewest_bands))
    bands = -(-c.rows // band_rows)
    band_rows = -(-c.rows // bands)
    lanes = ELEMENTWISE_TILES[-1].vectors * VECTOR_BYTES // itemsize
    blocks = min(-(-filters // lanes), max(1, MIN_CHUNKS // (bands * groups)))
    return _Plan(round_up(-(-filters // blocks), lanes) if blocks > 1 else filters, images, band_rows)


@functools.lru_cache(maxsize=1024)
def _weight_plan(c: Correlation, n: int, filters: int, itemsize: int) -> tuple[_Plan, int, int]:
    """Bands, how many parts of the sums there are, and how many bands each has; a matter of sizes, never of threads."""
    plan = _plan(c, n, filters, itemsize)
    bands = -(-n // plan.band_images) * -(-c.rows // plan.band_rows)
    parts = min(bands, -(-MIN_PARTS // -(-filters // plan.block)))
    of_part = -(-bands // parts)
    return plan, -(-bands // of_part), of_part
