"""Winograd's convolution: 3 x 3 windows of step 1 with 4 (or 2.25) times fewer products than there are taps, 5 x 5
windows with 6.25 times fewer.

A tile of x of size s = m + r - 1 is transformed, multiplied element by element with transformed weights and summed over
the channels, which are s^2 matrix products, and what comes out is transformed to m x m outputs. Channels lie along the
vectors in all of this, so bands of x are turned on their side first, and finished outputs last.

Its sums round differently. F(4 x 4, 3 x 3) and F(4 x 4, 5 x 5), whose matrices have numbers up to 8, were off by up to
1.9e-5 of the largest result (512 channels, normal numbers), seven and four times as much as ``direct``;
F(2 x 2, 3 x 3) by 1.1e-6. The contract allows 1e-5 sqrt(r^2 c) of it. An error is relative to the largest number in
the tile: ``winograd_range.py`` keeps NaN, infinity and huge numbers to the outputs that see them. F(6 x 6, 3 x 3) was
never faster than F(4 x 4), nor F(2 x 2, 5 x 5).

roofline: 2 s^2 c k operations for m^2 outputs at the rate of the tile, and about a tenth of that in transforms; the
transformed weights, s^2 c k elements, pass through the core once for each band.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from . import threads
from .bands import lay_band, round_up
from .correlate import Correlation, Weights, pack_weights, store_rows
from .elementwise import activate, activation_of
from .graph import prepared
from .jit import Scratch, kernel
from .memory import empty
from .simd import VECTOR_BYTES, lanes_of
from .tiles import TRANSPOSITION, Tile, choose_tile, multiply_gathered, transpose
from .winograd_range import CONTRAST, DIRECT_TILES, levels_of_windows, list_unsafe, most_allowed, sum_directly
from .winograd_routines import LARGEST, SMALLEST, TRANSFORMS, Transforms, transform

__all__ = ["applies", "correlate", "cycles", "workspace"]

# Tiles of a band: enough that the transformed weights are multiplied often when they have come from memory.
BAND_TILES = 48
FEWEST_CHUNKS = 4
LANES_MOST = VECTOR_BYTES // 4
# Cycles, beside one for a vector of multiply-adds: of an element of a transformed tile, of an element that is turned on
# its side alone and not with a vector of channels, of packing a weight, and of a vector of transformed weights on its
# way into the core, from L2 and from beyond.
TRANSFORMING, TURNING_ALONE, PACKING, FROM_L2, FROM_FAR = 6.0, 5.0, 0.5, 4.0, 16.0
L2_ELEMENTS = 1 << 17


class _Plan(NamedTuple):
    transforms: Transforms
    tile: Tile
    tile_rows: int
    tile_columns: int
    band_rows: int
    """Rows of tiles."""
    band_images: int
    channels: int
    """Rounded up to vectors."""
    outputs: int
    """Rounded up to the tile's width."""
    cycles: float

    @property
    def tiles(self) -> int:
        """In a band, rounded up to whole register tiles."""
        return round_up(self.band_rows * self.tile_columns * self.band_images, self.tile.rows)

    @property
    def band_shape(self) -> tuple[int, int]:
        """Rows and columns of x under a band."""
        m, more = self.transforms.outputs, self.transforms.taps - 1
        return self.band_rows * m + more, self.tile_columns * m + more

    @property
    def transformed_weights(self) -> int:
        """Elements."""
        return self.transforms.size**2 * self.channels * self.outputs

    @property
    def level_size(self) -> int:
        """Elements for the levels of an image's windows; a row of them needs no more."""
        rows, columns = self.band_shape
        return round_up(rows * columns, LANES_MOST)

    @property
    def places(self) -> int:
        """Outputs of a band of one image, rounded up to whole register tiles."""
        return round_up(self.band_rows * self.tile_columns * self.transforms.outputs**2, self.tile.rows)

    def work(self, channels: int) -> int:
        """Elements of scratch: a band, on its side, its tiles, their products, their outputs; levels, direct sums."""
        rows, columns = self.band_shape
        s, m = self.transforms.size, self.transforms.outputs
        side = rows * columns * self.channels
        tiles = s * s * self.tiles * (self.channels + self.outputs)
        width = self.tile.vectors * LANES_MOST
        checks = (self.band_images + 2) * self.level_size + DIRECT_TILES * self.tile.rows * width
        return channels * rows * columns + side + tiles + 2 * round_up(m * m * self.tiles, LANES_MOST) * width + checks


@kernel
def _transform_weights(
    chunk, packed, transformed, most, levels, routine, largest, span, size, taps, width, panels, channels
):
    """A chunk is one panel of output channels: transformed[i, j, panel, channel, output], and what it allows."""
    most[chunk] = most_allowed(
        largest, packed, chunk * channels * taps * taps * width, levels, span, width, taps * taps, channels
    )
    row = panels * channels * width
    for c in range(channels):
        transform(
            routine, packed, (chunk * channels + c) * taps * taps * width, taps * width, width, transformed,
            (chunk * channels + c) * width, size * row, row, width // lanes_of(packed.itemsize),
        )  # fmt: skip


@kernel
def _correlate_tiles(
    chunk, x, packed, transformed, most, bias, y, channel_at, tile_at, product_at, work, windows, targets, steps, of_x,
    of_products, largest, smallest, tile, turn, activating, height, width, activation, s, m, panels, padded_channels,
    tiles, level_size, tile_rows, tile_columns, band_images, band_rows, bands, rows, columns, top, left,
):  # fmt: skip
    """A chunk is a band of rows of tiles of some images: all of its outputs."""
    band, first_image = chunk % bands, chunk // bands * band_images
    images = min(band_images, x.shape[0] - first_image)
    rows_here = min(band_rows, tile_rows - band * band_rows)
    channels, outputs = x.shape[1], y.shape[1]
    lanes = lanes_of(x.itemsize)
    more = s - m
    in_rows, in_columns = rows_here * m + more, tile_columns * m + more
    place_row = in_columns * padded_channels
    image_tiles = rows_here * tile_columns
    count = images * image_tiles
    padded = (count + height - 1) // height * height

    full = (band_rows * m + more) * in_columns
    source, rest = work[: channels * full], work[channels * full :]
    side, rest = rest[: full * padded_channels], rest[full * padded_channels :]
    of_tiles, rest = rest[: s * s * tiles * padded_channels], rest[s * s * tiles * padded_channels :]
    products, rest = rest[: s * s * tiles * panels * width], rest[s * s * tiles * panels * width :]
    levels, rest = rest[: (band_images + 2) * level_size], rest[(band_images + 2) * level_size :]
    results, rest = rest[: DIRECT_TILES * height * width], rest[DIRECT_TILES * height * width :]
    rows_left = min(rows_here * m, rows - band * band_rows * m)
    plane = in_rows * in_columns
    level, uneven = x.dtype.type(0), False
    for image in range(images):
        lay_band(
            x, first_image + image, 1, 0, channels, top + band * band_rows * m, in_rows, left, in_columns, source
        )  # fmt: skip
        high, low = levels_of_windows(
            largest, smallest, source, channels, plane, in_columns, more + 1, rows_here * m, tile_columns * m,
            rows_left, columns, levels, image * level_size, band_images * level_size,
        )  # fmt: skip
        level, uneven = max(level, high), uneven or high > CONTRAST * low
        transpose(turn, source, 0, plane, channels, plane, side, 0, padded_channels)
        for i in range(rows_here):
            for j in range(tile_columns):
                at = (image * image_tiles + i * tile_columns + j) * padded_channels
                transform(
                    of_x, side, (i * place_row + j * padded_channels) * m, place_row, padded_channels, of_tiles, at,
                    s * tiles * padded_channels, tiles * padded_channels, padded_channels // lanes,
                )  # fmt: skip
    for element in range(s * s):
        for panel in range(panels):
            multiply_gathered(
                tile, height, of_tiles, tile_at[element * tiles : element * tiles + padded], padded, channel_at, 0,
                channels, channels, transformed, (element * panels + panel) * channels * width, product_at, 0, products,
                (element * panels + panel) * tiles * width, width, 0,
            )  # fmt: skip
    plane_row = tile_columns * m
    band_outputs = rows_here * m * plane_row
    turned_row = (images * band_outputs + lanes - 1) // lanes * lanes
    sums, turned = rest[: turned_row * width], rest[turned_row * width :]
    laid = images - 1
    for panel in range(panels):
        here = min(width, outputs - panel * width)
        for p in range(count):
            image, within = p // image_tiles, p % image_tiles
            at = image * band_outputs + within // tile_columns * m * plane_row + within % tile_columns * m
            transform(
                of_products, products, (panel * tiles + p) * width, s * panels * tiles * width, panels * tiles * width,
                sums, at * width, plane_row * width, width, width // lanes,
            )  # fmt: skip
        for image in range(images if uneven or level > most[panel] else 0):
            found = list_unsafe(
                levels, image * level_size, in_columns, m, rows_here, tile_columns, rows_left, columns, most[panel],
                windows, targets, image * band_outputs, sums, width,
            )  # fmt: skip
            if found > 0 and image != laid:
                lay_band(
                    x, first_image + image, 1, 0, channels, top + band * band_rows * m, in_rows, left, in_columns,
                    source,
                )  # fmt: skip
                laid = image
            sum_directly(
                tile, height, source, windows, targets, found, plane, in_columns, steps, packed,
                panel * channels * (more + 1) * (more + 1) * width, product_at, channels, more + 1, width, results,
                sums,
            )  # fmt: skip
        transpose(turn, sums, 0, width, turned_row, width, turned, 0, turned_row)
        if bias.size:
            for j in range(here):
                shift = bias[panel * width + j]
                for i in range(j * turned_row, (j + 1) * turned_row):
                    turned[np.uintp(i)] += shift
        activate(activating, turned, 0, here * turned_row, activation)
        for image in range(images):
            store_rows(
                turned[image * band_outputs :], turned_row, plane_row, 1, first_image + image, here, panel * width, y,
                rows_left, columns, band * band_rows * m, 0, 1, 1,
            )  # fmt: skip


def applies(c: Correlation, groups: int) -> bool:
    """Whether the windows are 3 x 3 or 5 x 5 neighbours, one from output to output, and channels are in one group."""
    taps = (len(c.row_taps), len(c.column_taps))
    plain = c.step == c.output_step == (1, 1) and c.extent == taps
    return groups == 1 and plain and any(taps == (t.taps, t.taps) for t in TRANSFORMS)


def correlate(
    c: Correlation, x: np.ndarray, weight: np.ndarray, w: Weights, bias: np.ndarray, y: np.ndarray, activation: int = 0
) -> None:
    """What ``correlate.py`` computes, where it :func:`applies`."""
    n, channels, outputs = x.shape[0], x.shape[1], y.shape[1]
    plan = _plan(c, n, channels, outputs, x.itemsize)
    t, tile = plan.transforms, plan.tile
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    panels = plan.outputs // width

    def transform_weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        packed = pack_weights(c, weight, w, width, channels, outputs, 1)
        transformed = empty((t.size**2 * channels * plan.outputs,), x.dtype)
        most = empty((panels,), x.dtype)
        span = float(np.finfo(x.dtype).max) / (channels * t.growth)
        _transform_weights(
            panels, packed, transformed, most, Scratch(t.taps**2 * width, x.dtype), t.of_weights, LARGEST, span, t.size,
            t.taps, width, panels, channels,
        )  # fmt: skip
        return packed, transformed, most

    packed, transformed, most = prepared(weight, transform_weights)
    tables = _tables(plan, channels, width)
    bands = -(-plan.tile_rows // plan.band_rows)
    _correlate_tiles(
        -(-n // plan.band_images) * bands, x, packed, transformed, most, bias, y, *tables,
        Scratch(plan.work(channels), x.dtype), Scratch(plan.places, np.dtype(np.int64)),
        Scratch(plan.places, np.dtype(np.int64)), Scratch(channels * t.taps**2, np.dtype(np.int64)), t.of_x,
        t.of_products, LARGEST, SMALLEST, tile.routine, TRANSPOSITION, activation_of, tile.rows, width, activation,
        t.size, t.outputs, panels, plan.channels, plan.tiles, plan.level_size, plan.tile_rows, plan.tile_columns,
        plan.band_images, plan.band_rows, bands, c.rows, c.columns, c.row_taps[0][1], c.column_taps[0][1],
    )  # fmt: skip


def cycles(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> float:
    """About how many :func:`correlate` takes, of all threads together."""
    return _plan(c, n, channels, outputs, itemsize).cycles


def workspace(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> int:
    """Bytes beside the arguments: the weights, packed and transformed, and the work of each thread."""
    plan = _plan(c, n, channels, outputs, itemsize)
    weights = channels * plan.outputs * (plan.transforms.taps**2 + plan.transforms.size**2)
    return itemsize * (weights + threads.number() * plan.work(channels))


@functools.lru_cache(maxsize=256)
def _tables(plan: _Plan, channels: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps between channels of a transformed tile, where these begin, and steps between rows of weights."""
    elements = np.arange(plan.transforms.size**2 * plan.tiles) * plan.channels
    return np.arange(channels), elements, np.arange(channels) * width


@functools.lru_cache(maxsize=1024)
def _plan(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> _Plan:
    plans = (_plan_of(t, c, n, channels, outputs, itemsize) for t in TRANSFORMS if t.taps == len(c.row_taps))
    return min(plans, key=lambda plan: plan.cycles)


def _plan_of(t: Transforms, c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> _Plan:
    lanes = VECTOR_BYTES // itemsize
    tile = choose_tile(outputs, itemsize)
    tile_rows, tile_columns = -(-c.rows // t.outputs), -(-c.columns // t.outputs)
    whole = tile_rows * tile_columns
    if whole <= BAND_TILES:
        band_rows, band_images = tile_rows, max(1, min(BAND_TILES // whole, -(-n // FEWEST_CHUNKS)))
    else:
        band_rows, band_images = max(1, min(tile_rows, BAND_TILES // tile_columns)), 1
        band_rows = -(-tile_rows // -(-tile_rows // band_rows))
    padded_channels, padded_outputs = round_up(channels, lanes), round_up(outputs, tile.vectors * lanes)
    bands = -(-tile_rows // band_rows) * -(-n // band_images)
    in_vectors, out_vectors = padded_channels // lanes, padded_outputs // lanes
    s2, m2 = t.size**2, t.outputs**2
    tiles = round_up(band_rows * tile_columns * band_images, tile.rows)
    band = band_images * (band_rows * t.outputs + t.taps - 1) * (tile_columns * t.outputs + t.taps - 1)
    weights = s2 * channels * out_vectors
    of_band = (
        tiles * s2 * channels * out_vectors / tile.rate
        + tiles * TRANSFORMING * s2 * (in_vectors + out_vectors)
        + tiles * 2 * m2 * (in_vectors + 3 * out_vectors)
        + band * (channels % lanes) * TURNING_ALONE
        + weights * (FROM_L2 if weights * lanes <= L2_ELEMENTS else FROM_FAR)
    )
    cycles = bands * of_band + channels * out_vectors * (t.taps**2 * PACKING * lanes + TRANSFORMING * s2)
    return _Plan(
        t, tile, tile_rows, tile_columns, band_rows, band_images, padded_channels, padded_outputs, cycles
    )  # fmt: skip
