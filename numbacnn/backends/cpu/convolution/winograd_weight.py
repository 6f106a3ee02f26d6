"""The gradient of a convolution's weights by Winograd's transforms: for 3 x 3 windows of step 1 with 4 (or 2.25) times
fewer products than there are taps, for 5 x 5 windows with 6.25 times fewer.

A tile of x and the tile of dy under it are transformed, multiplied element by element and summed over all tiles of all
images, which are s^2 matrix products of input and output channels, and the sums are transformed to weights. That is
the gradient of ``winograd_data.py``: dW = G^T (sum of (B^T x B) * (A dy A^T)) G.

A rounding error is relative to the largest numbers of x and dy in a *band*, whether or not these meet. So each chunk
adds up how large that may be; where it is more than the largest result allows, or something is no finite number, the
whole gradient is summed directly, afterwards: what is computed depends on the numbers alone.

roofline: 2 s^2 c k operations for m^2 positions at the rate of the tile; the transforms of x are made once for each
block of output channels, those of dy once for each block of input channels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ...geometry import Conv2dGeometry, round_up
from ..runtime.allocator import empty
from ..runtime.kernel import Scratch, inlined, kernel
from ..runtime.microkernel import Microkernel
from ..vector.costs import WINOGRAD_WEIGHT, WinogradWeight
from ..vector.simd import VECTOR_BYTES, flattened, lanes_of
from ..vector.sums import RUN_IN_ORDER
from ..vector.tiles import TILES, TRANSPOSITION, Tile, multiply_gathered, transpose
from . import direct_weight
from .bands import lay_band, laying, unevenness
from .winograd_transforms import LARGEST, TRANSFORMS, Transforms, extreme, transform

__all__ = ["correlate", "cycles", "made", "plan_of", "workspace"]

# Tiles of a band, and input channels of a block: its sums, of s^2 elements each, stay in the second cache.
BAND_TILES, BLOCK_CHANNELS = 48, 64
MIN_CHUNKS = 4
# Tiles that are summed in the dtype, in runs; then parts are added up in float64. Fewer are worth no part of their own.
PART_TILES, MIN_TILES = 768, 256
# Of the largest products of x and dy in the bands of all tiles, the root of the sum of squares may be so many times the
# largest result. Of normal numbers it is about once; a rounding error is some units in the last place of it.
ALLOWED = 10.0


class _Plan(NamedTuple):
    transforms: Transforms
    tile: Tile
    tile_rows: int
    tile_columns: int
    band_rows: int
    """Rows of tiles."""
    band_images: int
    block: int
    """Input channels of a chunk, and how many blocks of them there are; and so for output channels, and bands."""
    blocks: int
    panels: int
    steps: int
    parts: int
    cycles: float

    @property
    def tiles(self) -> int:
        """In a band."""
        return self.band_rows * self.tile_columns * self.band_images


@inlined
def largest_of(largest, x, count, levels):
    """The largest magnitude of x[:count], whole vectors; infinity if there is a NaN. ``levels`` has room for one."""
    lanes = lanes_of(x.itemsize)
    extreme(largest, x, 0, lanes, count // lanes, levels, 0, lanes)
    level = levels[0]
    for i in range(1, lanes):
        level = max(level, levels[i])
    return level


class _Tiles(NamedTuple):
    """What :func:`_sum_tiles` is told: ``s`` and ``m`` are the sizes of a tile of x and of dy."""

    of_x: Microkernel
    of_dy: Microkernel
    largest: Microkernel
    laying: Microkernel
    tile: Microkernel
    height: int
    width: int
    s: int
    m: int
    blocks: int
    block: int
    panels: int
    tiles: int
    steps: int
    tile_rows: int
    tile_columns: int
    band_images: int
    band_rows: int
    bands: int
    top: int
    left: int


class _Finishing(NamedTuple):
    """What :func:`_finish_tiles` is told."""

    of_sums: Microkernel
    transposition: Microkernel
    width: int
    s: int
    taps: int
    panels: int
    blocks: int
    block: int
    parts: int


@kernel
def _sum_tiles(chunk, dy, x, sums, errors, zeros, channel_at, x_steps, dy_steps, sums_at, work, p):
    """A chunk is a block of input channels and a panel of output channels, summed over ``p.steps`` bands.

    sums[part, panel, block, element, channel, output]; ``errors`` are the squares of what they may be off by.
    """
    panel, rest = chunk % p.panels, chunk // p.panels
    at_block, part = rest % p.blocks, rest // p.blocks
    lanes = lanes_of(x.itemsize)
    pitch = (p.block + lanes - 1) // lanes * lanes
    here = min(p.block, x.shape[3] - at_block * p.block)
    outputs_here = min(p.width, dy.shape[3] - panel * p.width)
    padded = (here + p.height - 1) // p.height * p.height
    more = p.s - p.m
    # A vector more than there is: numbers a power of two apart would push each other out of the first cache.
    x_size, dy_size = p.tiles * pitch + lanes, p.tiles * p.width + lanes
    source, rest_of = work[: (p.band_rows * p.m + more) * (p.tile_columns * p.m + more) * max(pitch, p.width)], work
    rest_of = rest_of[source.size :]
    of_tiles, of_dy_tiles = rest_of[: p.s * p.s * x_size], rest_of[p.s * p.s * x_size :]
    levels = of_dy_tiles[p.s * p.s * dy_size :]
    size = p.s * p.s * p.block * p.width
    base = chunk * size
    error, add = 0.0, 0
    for step in range(
        part * p.steps, min((part + 1) * p.steps, (x.shape[0] + p.band_images - 1) // p.band_images * p.bands)
    ):
        first_image, band = step // p.bands * p.band_images, step % p.bands
        images = min(p.band_images, x.shape[0] - first_image)
        rows = min(p.band_rows, p.tile_rows - band * p.band_rows)
        count = images * rows * p.tile_columns
        level_x, level_dy = x.dtype.type(0), x.dtype.type(0)
        for image in range(images):
            in_rows, in_columns = rows * p.m + more, p.tile_columns * p.m + more
            lay_band(
                p.laying, x, first_image + image, 1, at_block * p.block, here, pitch, p.top + band * p.band_rows * p.m,
                in_rows, p.left, in_columns, source,
            )  # fmt: skip
            level_x = max(level_x, largest_of(p.largest, source, in_rows * in_columns * pitch, levels))
            for number in range(rows * p.tile_columns):
                i, j = number // p.tile_columns, number % p.tile_columns
                transform(
                    p.of_x, source, (i * in_columns + j) * p.m * pitch, in_columns * pitch, pitch, of_tiles,
                    (image * rows * p.tile_columns + number) * pitch, p.s * x_size, x_size, pitch // lanes,
                )  # fmt: skip
            lay_band(
                p.laying, dy, first_image + image, 1, panel * p.width, outputs_here, p.width, band * p.band_rows * p.m,
                rows * p.m, 0, p.tile_columns * p.m, source,
            )  # fmt: skip
            level_dy = max(level_dy, largest_of(p.largest, source, rows * p.tile_columns * p.m * p.m * p.width, levels))
            for number in range(rows * p.tile_columns):
                i, j = number // p.tile_columns, number % p.tile_columns
                transform(
                    p.of_dy, source, (i * p.tile_columns * p.m + j) * p.m * p.width, p.tile_columns * p.m * p.width,
                    p.width, of_dy_tiles, (image * rows * p.tile_columns + number) * p.width, p.s * dy_size, dy_size,
                    p.width // lanes,
                )  # fmt: skip
        product = np.float64(level_x) * np.float64(level_dy)
        error += product * product * count
        for element in range(p.s * p.s):
            multiply_gathered(
                p.tile, p.height, of_tiles, element * x_size, channel_at, padded, x_steps, 0, count, RUN_IN_ORDER,
                of_dy_tiles, element * dy_size, dy_steps, 0, zeros, 0, sums, base + element * p.block * p.width,
                sums_at, p.width, add,
            )  # fmt: skip
        add = 1
    errors[chunk] = error


@kernel
def _finish_tiles(chunk, sums, dweight, levels, totals, work, p):
    """A chunk is a block and a panel: the parts are added up, and transformed to weights; ``levels`` is the largest."""
    panel, at_block = chunk % p.panels, chunk // p.panels
    channels, outputs = dweight.shape[1], dweight.shape[0]
    here, wide = min(p.block, channels - at_block * p.block), min(p.width, outputs - panel * p.width)
    window, size = p.taps * p.taps, p.s * p.s * p.block * p.width
    flat = flattened(dweight)
    row = p.block * p.width
    all_sums, weights = work[: p.s * p.s * p.width], work[p.s * p.s * p.width :]
    level, finite = 0.0, True
    for c in range(here):
        totals[:] = 0
        for part in range(p.parts):
            at = (part * p.blocks * p.panels + chunk) * size + c * p.width
            for element in range(p.s * p.s):
                source, q = np.uintp(at + element * row), np.uintp(element * p.width)
                for i in range(np.uintp(p.width)):
                    totals[q + i] += sums[source + i]
        for i in range(np.uintp(p.s * p.s * p.width)):
            all_sums[i] = totals[i]
        transform(
            p.of_sums, all_sums, 0, p.s * p.width, p.width, weights, 0, p.taps * p.width, p.width,
            p.width // lanes_of(sums.itemsize),
        )  # fmt: skip
        for tap in range(window):
            for i in range(wide):
                value = np.float64(abs(weights[tap * p.width + i]))
                finite = finite and value < np.inf
                level = max(level, value)
        transpose(
            p.transposition, weights, 0, p.width, window, wide, flat,
            (panel * p.width * channels + at_block * p.block + c) * window, channels * window,
        )  # fmt: skip
    levels[chunk] = level if finite else -1.0


@kernel
def _check(chunk, errors, levels, wanted):
    """wanted[0] = 0 if the sums are as exact as they have to be, else 1."""
    error, level, finite = 0.0, 0.0, True
    for i in range(levels.size):
        of_parts = 0.0
        for j in range(i, errors.size, levels.size):
            of_parts += errors[j]
        error, level = max(error, of_parts), max(level, levels[i])
        finite = finite and of_parts < np.inf and levels[i] >= 0
    wanted[0] = 0 if finite and np.sqrt(error) <= ALLOWED * level else 1


def correlate(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry) -> None:
    """What ``direct_weight.py`` computes, of windows that ``winograd_data.py`` takes."""
    plan = plan_of(g, x.itemsize)
    t, tile, lanes = plan.transforms, plan.tile, VECTOR_BYTES // x.itemsize
    width = tile.vectors * lanes
    pitch, block_chunks = round_up(plan.block, lanes), plan.blocks * plan.panels
    chunks = plan.parts * block_chunks
    float64 = np.dtype(np.float64)
    sums = empty((chunks * t.size**2 * plan.block * width,), x.dtype)
    errors, levels, wanted = empty((chunks,), float64), empty((block_chunks,), float64), empty((1,), np.dtype(np.int64))
    more = t.size - t.outputs
    band = (plan.band_rows * t.outputs + more) * (plan.tile_columns * t.outputs + more) * max(pitch, width)
    work = band + t.size**2 * (plan.tiles * (pitch + width) + 2 * lanes) + lanes
    rows = np.minimum(np.arange(round_up(plan.block, tile.rows)), plan.block - 1)
    tiles = np.arange(plan.tiles)
    _sum_tiles(
        chunks, dy, x, sums, errors, np.zeros(width, x.dtype), rows, tiles * pitch, tiles * width, rows * width,
        Scratch(work, x.dtype),
        _Tiles(
            of_x=t.of_x, of_dy=t.of_dy, largest=LARGEST, laying=laying, tile=tile.microkernel, height=tile.rows,
            width=width, s=t.size, m=t.outputs, blocks=plan.blocks, block=plan.block, panels=plan.panels,
            tiles=plan.tiles, steps=plan.steps, tile_rows=plan.tile_rows, tile_columns=plan.tile_columns,
            band_images=plan.band_images, band_rows=plan.band_rows, bands=-(-plan.tile_rows // plan.band_rows),
            top=-g.pt, left=-g.pl,
        ),
    )  # fmt: skip
    _finish_tiles(
        block_chunks, sums, dweight, levels, Scratch(t.size**2 * width, float64),
        Scratch((t.size**2 + t.taps**2) * width, x.dtype),
        _Finishing(
            t.of_sums, TRANSPOSITION, width, t.size, t.taps, plan.panels, plan.blocks, plan.block, plan.parts
        ),
    )  # fmt: skip
    _check(1, errors, levels, wanted)
    direct_weight.correlate_weights(dy, x, dweight, g, wanted)


def cycles(g: Conv2dGeometry, itemsize: int) -> float:
    """About how many :func:`correlate` takes, of all threads together."""
    return plan_of(g, itemsize).cycles


def workspace(g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes of the sums of all parts, and of those of the direct sums that may follow."""
    plan = plan_of(g, itemsize)
    width = plan.tile.vectors * VECTOR_BYTES // itemsize
    sums = plan.parts * plan.blocks * plan.panels * plan.transforms.size**2 * plan.block * width
    return itemsize * sums + direct_weight.workspace(g, itemsize)


@functools.lru_cache(maxsize=1024)
def plan_of(g: Conv2dGeometry, itemsize: int) -> _Plan:
    plans = (made(t, tile, g, itemsize) for t in TRANSFORMS for tile in TILES if t.taps == g.kh)
    return min(plans, key=lambda plan: plan.cycles)


def made(t: Transforms, tile: Tile, g: Conv2dGeometry, itemsize: int, costs: WinogradWeight = WINOGRAD_WEIGHT) -> _Plan:
    """The plan of such tiles; its cycles are a sum of ``costs``, each times a number."""
    lanes = VECTOR_BYTES // itemsize
    tile_rows, tile_columns = -(-g.oh // t.outputs), -(-g.ow // t.outputs)
    whole = tile_rows * tile_columns
    if whole <= BAND_TILES:
        band_rows, band_images = tile_rows, max(1, min(g.n, BAND_TILES // whole))
    else:
        band_rows, band_images = max(1, min(tile_rows, BAND_TILES // tile_columns)), 1
        band_rows = -(-tile_rows // -(-tile_rows // band_rows))
    blocks = -(-g.c // BLOCK_CHANNELS)
    block = -(-g.c // blocks)
    panels = -(-g.k // (tile.vectors * lanes))
    bands = -(-tile_rows // band_rows) * -(-g.n // band_images)
    tiles = band_rows * tile_columns * band_images
    parts = min(-(-MIN_CHUNKS // (blocks * panels)), max(2, bands * tiles // MIN_TILES))
    parts = max(parts, -(-bands * tiles // PART_TILES))
    steps = -(-bands // min(bands, parts))
    parts = -(-bands // steps)
    s2, out_vectors = t.size**2, panels * tile.vectors
    sums = s2 * g.c * out_vectors
    of_band = (
        costs.multiplying * s2 * tiles * blocks * round_up(block, tile.rows) * out_vectors / tile.rate
        + costs.transforming * t.size * s2 * tiles * (panels * blocks * -(-block // lanes) + blocks * out_vectors)
        + costs.adding * sums
    )
    cycles = bands * of_band * unevenness((parts * blocks * panels, 1)) + costs.finishing * sums * parts
    return _Plan(
        t, tile, tile_rows, tile_columns, band_rows, band_images, block, blocks, panels, steps, parts, cycles
    )  # fmt: skip
