"""Winograd's convolution: 3 x 3 windows of step 1 with 4 (or 2.25) times fewer products than there are taps, 5 x 5
windows with 6.25 times fewer.

A tile of x of size s = m + r - 1 is transformed, multiplied element by element with transformed weights and summed over
the channels, which are s^2 matrix products, and what comes out is transformed to m x m outputs. Channels lie along the
vectors in all of this.

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

from ...geometry import round_up
from ..runtime import threads
from ..runtime.allocator import empty
from ..runtime.captured import fold_constant
from ..runtime.kernel import Scratch, kernel
from ..runtime.microkernel import Microkernel
from ..vector.activations import activate, activation_of
from ..vector.costs import WINOGRAD_DATA, WinogradData
from ..vector.simd import VECTOR_BYTES, copy_run, lanes_of
from ..vector.tiles import TILES, Tile, multiply_gathered
from .bands import lay_band, laying, unevenness
from .correlation import ENOUGH_IMAGES, Correlation, WeightStrides
from .operands import bias_or_zeros, pack_weights
from .winograd_range import CONTRAST, levels_of_windows, list_unsafe, most_allowed, sum_directly
from .winograd_transforms import ACROSS, LARGEST, SMALLEST, TRANSFORMS, Transforms, finish, transform

__all__ = ["applies", "correlate", "cycles", "made", "plan_of", "workspace"]

# Tiles of a band: enough that the transformed weights are multiplied often when they have come from memory.
BAND_TILES = 48
MIN_CHUNKS = 4
MAX_LANES = VECTOR_BYTES // 4
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
    parts: int
    """Into how many the output channels of a band are cut, which transform the band each for itself."""
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
        return round_up(rows * columns, MAX_LANES)

    @property
    def places(self) -> int:
        """Outputs of a band of one image, rounded up to whole register tiles."""
        return round_up(self.band_rows * self.tile_columns * self.transforms.outputs**2, self.tile.rows)

    @property
    def work(self) -> int:
        """Elements of scratch: a band, its tiles, their products, levels, the outputs of a tile that is cut."""
        rows, columns = self.band_shape
        s, m = self.transforms.size, self.transforms.outputs
        band = round_up(rows * columns, MAX_LANES) * self.channels
        width = self.tile.vectors * MAX_LANES
        tiles = s * s * (self.tiles * (self.channels + width) + 2 * MAX_LANES)
        return band + tiles + (self.band_images + 2) * self.level_size + m * m * width


class _Weights(NamedTuple):
    """What :func:`_transform_weights` is told."""

    microkernel: Microkernel
    largest: Microkernel
    size: int
    taps: int
    width: int
    panels: int
    channels: int


class _Tiles(NamedTuple):
    """What :func:`_correlate_tiles` is told: ``s`` and ``m`` are the sizes of a tile of x and of y."""

    of_x: Microkernel
    of_products: Microkernel
    largest: Microkernel
    smallest: Microkernel
    across: Microkernel
    laying: Microkernel
    tile: Microkernel
    activating: Microkernel | int
    height: int
    width: int
    activation: int
    s: int
    m: int
    panels: int
    parts: int
    padded_channels: int
    tiles: int
    places: int
    level_size: int
    tile_rows: int
    tile_columns: int
    band_images: int
    band_rows: int
    bands: int
    rows: int
    columns: int
    top: int
    left: int


@kernel
def _transform_weights(chunk, packed, transformed, most, levels, span, p):
    """A chunk is one panel of output channels: transformed[panel, i, j, channel, output], and what it allows."""
    window = p.taps * p.taps
    start = chunk * p.channels * window * p.width
    most[chunk] = most_allowed(p.largest, packed, start, levels, span, p.width, window, p.channels)
    row = p.channels * p.width
    for c in range(p.channels):
        transform(
            p.microkernel, packed, start + c * window * p.width, p.taps * p.width, p.width, transformed,
            chunk * p.size * p.size * row + c * p.width, p.size * row, row, p.width // lanes_of(packed.itemsize),
        )  # fmt: skip


@kernel
def _correlate_tiles(chunk, x, packed, transformed, most, bias, y, zeros, channel_tables, tile_tables, work, table, p):
    """A chunk is a band of rows of tiles of some images, and a part of the panels of output channels.

    ``channel_tables`` are the steps between channels of a transformed tile, and between rows of the weights;
    ``tile_tables`` are where tiles and their products begin.
    """
    channel_at, weight_at, tile_at, product_at = channel_tables[0], channel_tables[1], tile_tables[0], tile_tables[1]
    windows, targets, steps = table[: p.places], table[p.places : 2 * p.places], table[2 * p.places :]
    part, rest = chunk % p.parts, chunk // p.parts
    band, first_image = rest % p.bands, rest // p.bands * p.band_images
    images = min(p.band_images, x.shape[0] - first_image)
    rows_here = min(p.band_rows, p.tile_rows - band * p.band_rows)
    channels, outputs = x.shape[3], bias.size
    lanes = lanes_of(x.itemsize)
    more = p.s - p.m
    in_rows, in_columns = rows_here * p.m + more, p.tile_columns * p.m + more
    place_row = in_columns * p.padded_channels
    image_tiles = rows_here * p.tile_columns
    count = images * image_tiles
    padded = (count + p.height - 1) // p.height * p.height
    # A vector more than there is: numbers a power of two apart would push each other out of the first cache.
    element_size, product_size = p.tiles * p.padded_channels + lanes, p.tiles * p.width + lanes

    full = ((p.band_rows * p.m + more) * in_columns + lanes - 1) // lanes * lanes
    source, rest = work[: full * p.padded_channels], work[full * p.padded_channels :]
    of_tiles, rest = rest[: p.s * p.s * element_size], rest[p.s * p.s * element_size :]
    products, rest = rest[: p.s * p.s * product_size], rest[p.s * p.s * product_size :]
    levels, edge = rest[: (p.band_images + 2) * p.level_size], rest[(p.band_images + 2) * p.level_size :]
    rows_left = min(rows_here * p.m, p.rows - band * p.band_rows * p.m)
    level, uneven = x.dtype.type(0), False
    for image in range(images):
        lay_band(
            p.laying, x, first_image + image, 1, 0, channels, p.padded_channels, p.top + band * p.band_rows * p.m,
            in_rows, p.left, in_columns, source,
        )  # fmt: skip
        high, low = levels_of_windows(
            p.largest, p.smallest, p.across, source, p.padded_channels, in_rows, in_columns, more + 1, rows_here * p.m,
            p.tile_columns * p.m, rows_left, p.columns, levels, image * p.level_size, p.band_images * p.level_size,
        )  # fmt: skip
        level, uneven = max(level, high), uneven or high > CONTRAST * low
        for i in range(rows_here):
            for j in range(p.tile_columns):
                at = (image * image_tiles + i * p.tile_columns + j) * p.padded_channels
                transform(
                    p.of_x, source, (i * place_row + j * p.padded_channels) * p.m, place_row, p.padded_channels,
                    of_tiles, at, p.s * element_size, element_size, p.padded_channels // lanes,
                )  # fmt: skip
    row = p.columns * outputs
    relu = 1 if p.activation == 1 else 0
    laid = images - 1
    first_panel, end_panel = p.panels * part // p.parts, p.panels * (part + 1) // p.parts
    for panel in range(first_panel, end_panel):
        for element in range(p.s * p.s):
            multiply_gathered(
                p.tile, p.height, of_tiles, element * element_size, tile_at, padded, channel_at, 0, channels, channels,
                transformed, (panel * p.s * p.s + element) * channels * p.width, weight_at, 0, zeros, 0, products,
                element * product_size, product_at, p.width, 0,
            )  # fmt: skip
        here, first = min(p.width, outputs - panel * p.width), panel * p.width
        for number in range(count):
            image, rest_of = number // image_tiles, number % image_tiles
            r, c = rest_of // p.tile_columns * p.m, rest_of % p.tile_columns * p.m
            to = ((first_image + image) * p.rows + band * p.band_rows * p.m + r) * row + c * outputs + first
            if r + p.m <= rows_left and c + p.m <= p.columns:
                finish(
                    p.of_products, products, number * p.width, p.s * product_size, product_size, bias, first, y, to,
                    row, outputs, here, relu,
                )  # fmt: skip
            else:
                finish(
                    p.of_products, products, number * p.width, p.s * product_size, product_size, bias, first, edge, 0,
                    p.m * p.width, p.width, here, relu,
                )  # fmt: skip
                for i in range(min(p.m, rows_left - r)):
                    for j in range(min(p.m, p.columns - c)):
                        copy_run(y, to + i * row + j * outputs, edge, (i * p.m + j) * p.width, here)
        for image in range(images if uneven or level > most[panel] else 0):
            found = list_unsafe(
                levels, image * p.level_size, in_columns, p.m, rows_here, p.tile_columns, rows_left, p.columns,
                most[panel], windows, targets,
                ((first_image + image) * p.rows + band * p.band_rows * p.m) * row + first, row, outputs, y, bias,
                first, here, relu,
            )  # fmt: skip
            if found > 0 and image != laid:
                lay_band(
                    p.laying, x, first_image + image, 1, 0, channels, p.padded_channels,
                    p.top + band * p.band_rows * p.m, in_rows, p.left, in_columns, source,
                )  # fmt: skip
                laid = image
            sum_directly(
                p.tile, p.height, source, windows, targets, found, p.padded_channels, in_columns, steps, packed,
                panel * channels * (more + 1) * (more + 1) * p.width, weight_at, p.width, channels, more + 1, bias,
                first, y, here, relu,
            )  # fmt: skip
    if p.activation > 1:
        here = min(end_panel * p.width, outputs) - first_panel * p.width
        for image in range(first_image, first_image + images):
            for r in range(rows_left):
                to = (image * p.rows + band * p.band_rows * p.m + r) * row + first_panel * p.width
                for c in range(1 if here == outputs else p.columns):
                    activate(
                        p.activating, y, to + c * outputs, row if here == outputs else here, p.activation
                    )  # fmt: skip


def applies(c: Correlation, groups: int) -> bool:
    """Whether the windows are 3 x 3 or 5 x 5 neighbours, one from output to output, and channels are in one group."""
    taps = (len(c.row_taps), len(c.column_taps))
    plain = c.step == c.output_step == (1, 1) and c.extent == taps
    return groups == 1 and plain and any(taps == (t.taps, t.taps) for t in TRANSFORMS)


def correlate(
    c: Correlation,
    x: np.ndarray,
    weight: np.ndarray,
    w: WeightStrides,
    bias: np.ndarray,
    y: np.ndarray,
    activation: int = 0,
) -> None:
    """What ``direct_data.py`` computes, where it :func:`applies`."""
    n, channels, outputs = x.shape[0], x.shape[3], y.shape[3]
    plan = plan_of(c, n, channels, outputs, x.itemsize)
    t, tile = plan.transforms, plan.tile
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    panels = plan.outputs // width

    def transform_weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        packed = pack_weights(c, weight, w, width, channels, outputs, 1)
        transformed = empty((t.size**2 * channels * plan.outputs,), x.dtype)
        most = empty((panels,), x.dtype)
        span = float(np.finfo(x.dtype).max) / (channels * t.growth)
        _transform_weights(
            panels, packed, transformed, most, Scratch(t.taps**2 * width, x.dtype), span,
            _Weights(t.of_weights, LARGEST, t.size, t.taps, width, panels, channels),
        )  # fmt: skip
        return packed, transformed, most

    packed, transformed, most = fold_constant(weight, transform_weights)
    tables = _tables(plan, channels, width)
    bands = -(-plan.tile_rows // plan.band_rows)
    _correlate_tiles(
        -(-n // plan.band_images) * bands * plan.parts, x, packed, transformed, most, bias_or_zeros(bias, outputs),
        y.reshape(-1), np.zeros(width, x.dtype), *tables, Scratch(plan.work, x.dtype),
        Scratch(2 * plan.places + channels * t.taps**2, np.dtype(np.int64)),
        _Tiles(
            of_x=t.of_x, of_products=t.of_products, largest=LARGEST, smallest=SMALLEST, across=ACROSS, laying=laying,
            tile=tile.for_rows(plan.tiles, transformed.nbytes), activating=activation_of(activation), height=tile.rows,
            width=width, activation=activation, s=t.size, m=t.outputs, panels=panels, parts=plan.parts,
            padded_channels=plan.channels, tiles=plan.tiles, places=plan.places, level_size=plan.level_size,
            tile_rows=plan.tile_rows, tile_columns=plan.tile_columns, band_images=plan.band_images,
            band_rows=plan.band_rows, bands=bands, rows=c.rows, columns=c.columns, top=c.row_taps[0][1],
            left=c.column_taps[0][1],
        ),
    )  # fmt: skip


def cycles(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> float:
    """About how many :func:`correlate` takes, of all threads together."""
    return plan_of(c, n, channels, outputs, itemsize).cycles


def workspace(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> int:
    """Bytes beside the arguments: the weights, packed and transformed, and the work of each thread."""
    plan = plan_of(c, n, channels, outputs, itemsize)
    weights = channels * plan.outputs * (plan.transforms.taps**2 + plan.transforms.size**2)
    return itemsize * (weights + threads.number() * plan.work)


@functools.lru_cache(maxsize=256)
def _tables(plan: _Plan, channels: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's ``channel_tables`` and ``tile_tables``."""
    of_channel, of_tile = np.arange(channels), np.arange(plan.tiles)
    return np.stack([of_channel, of_channel * width]), np.stack([of_tile * plan.channels, of_tile * width])


@functools.lru_cache(maxsize=1024)
def plan_of(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> _Plan:
    if n > ENOUGH_IMAGES:
        # The tile's width, too, decides what is computed: what a panel of weights allows is that of its worst channel.
        plan = plan_of(c, ENOUGH_IMAGES, channels, outputs, itemsize)
        return made(plan.transforms, plan.tile, c, n, channels, outputs, itemsize)
    plans = (
        made(t, tile, c, n, channels, outputs, itemsize)
        for t in TRANSFORMS
        for tile in TILES
        if t.taps == len(c.row_taps)
    )
    return min(plans, key=lambda plan: plan.cycles)


def made(
    t: Transforms, tile: Tile, c: Correlation, n: int, channels: int, outputs: int, itemsize: int,
    costs: WinogradData = WINOGRAD_DATA,
) -> _Plan:  # fmt: skip
    """The plan of such tiles; its cycles are a sum of ``costs``, each times a number."""
    lanes = VECTOR_BYTES // itemsize
    tile_rows, tile_columns = -(-c.rows // t.outputs), -(-c.columns // t.outputs)
    whole = tile_rows * tile_columns
    if whole <= BAND_TILES:
        band_rows, band_images = tile_rows, max(1, min(BAND_TILES // whole, -(-n // MIN_CHUNKS)))
    else:
        band_rows, band_images = max(1, min(tile_rows, BAND_TILES // tile_columns)), 1
        band_rows = -(-tile_rows // -(-tile_rows // band_rows))
    padded_channels, padded_outputs = round_up(channels, lanes), round_up(outputs, tile.vectors * lanes)
    bands = -(-tile_rows // band_rows) * -(-n // band_images)
    panels = padded_outputs // (tile.vectors * lanes)
    parts = min(panels, -(-MIN_CHUNKS // bands))
    in_vectors, out_vectors = padded_channels // lanes, padded_outputs // lanes
    s2 = t.size**2
    tiles = round_up(band_rows * tile_columns * band_images, tile.rows)
    weights = s2 * channels * out_vectors
    of_band = (
        costs.multiplying * tiles * s2 * channels * out_vectors / tile.rate
        + costs.transforming * t.size * tiles * s2 * (parts * in_vectors + out_vectors)
        + costs.looking * band_images * parts
        + weights * (costs.from_l2 if weights * lanes <= L2_ELEMENTS else costs.from_far)
    )
    outside = costs.storing * n * c.rows * c.columns * -(-outputs // lanes)
    prepared_weights = channels * out_vectors * (t.taps**2 * costs.packing * lanes + costs.transforming * t.size * s2)
    cycles = (bands * of_band + outside) * unevenness((bands * parts, 1)) + prepared_weights
    return _Plan(
        t, tile, tile_rows, tile_columns, band_rows, band_images, padded_channels, padded_outputs, parts, cycles
    )  # fmt: skip
