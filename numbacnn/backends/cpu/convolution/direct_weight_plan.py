"""How the gradient of a convolution's weights is summed: what lies along the vectors, in which blocks and parts.

Whatever may decide the order of a sum is chosen from sizes alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ...geometry import Conv2dGeometry, round_up
from ..vector.simd import VECTOR_BYTES
from ..vector.tiles import DOT_COLUMNS, DOT_ROWS, TILES, WIDEST_STRADDLING, Tile, choose_tile
from .bands import extent, unevenness

__all__ = ["Plan", "plan_of"]

MAX_POSITIONS = 64
SUM_ELEMENTS = 1 << 16
# Chunks there should be: parts, of as many positions as make up for adding their sums, and blocks of channels.
MIN_CHUNKS, PART_POSITIONS, MIN_CHANNELS = 8, 2048, 16
# Of bands of x and dy that are transposed: they stay in the first cache.
BAND_ELEMENTS = 6 << 10
# The cost model's constants, in cycles: a vector of multiply-adds of the forward pass is 1.
MULTIPLYING, STRADDLING = 1.3, 1.35  # a vector of multiply-adds, and how much longer where vectors begin anywhere
DOT_RATE = 0.6  # multiply-adds a cycle of the tile of positions, beside those of the largest tile
TRANSPOSING = 0.6  # a number
FINISHING = 90.0  # a vector of sums of a part, on its way to memory and back


class Plan(NamedTuple):
    by_positions: bool
    by_inputs: bool
    in_place: bool
    tile: Tile
    width: int
    panels: int
    block: int
    blocks: int
    chunk_size: int
    """Sums of a chunk."""
    parts: int
    steps: int
    band_rows: int
    band_images: int
    bands: int
    cycles: float

    @property
    def sums(self) -> int:
        """Elements, for each group."""
        return self.parts * self.blocks * self.chunk_size


def _of_tile(tile: Tile, columns: int, rows: int, lanes: int) -> float:
    """Vectors of multiply-adds of so many columns and rows of sums, by whole tiles."""
    return round_up(-(-columns // lanes), tile.vectors) * round_up(rows, tile.rows) / tile.rate


def _by_inputs(g: Conv2dGeometry, parts: int, lanes: int) -> tuple[float, int, Tile]:
    """Vectors of multiply-adds of a position, where a row of taps lies along the vectors; channels of a block; tile."""
    channels, outputs = g.c // g.groups, g.k // g.groups
    least = -(-channels * outputs * g.kh * g.kw // SUM_ELEMENTS)
    choices = []
    for blocks in range(least, max(least, min(MIN_CHUNKS, channels)) + 1):
        block = -(-channels // blocks)
        uneven = unevenness((parts * -(-channels // block) * g.groups, 1))
        for tile in TILES[:WIDEST_STRADDLING]:
            of_block = g.kh * _of_tile(tile, g.kw * block, outputs, lanes)
            choices.append((STRADDLING * of_block * -(-channels // block) * uneven, block, tile))
    return min(choices, key=lambda choice: choice[0])


@functools.lru_cache(maxsize=1024)
def plan_of(g: Conv2dGeometry, itemsize: int) -> Plan:
    lanes = VECTOR_BYTES // itemsize
    channels, outputs, window = g.c // g.groups, g.k // g.groups, g.kh * g.kw
    parts = max(1, min(MIN_CHUNKS, g.n * g.oh * g.ow // PART_POSITIONS))
    tile = choose_tile(outputs, itemsize, WIDEST_STRADDLING if g.k % lanes or outputs % lanes else len(TILES))
    multiplied = _of_tile(tile, outputs, g.taps, lanes)
    of_inputs, block, across = _by_inputs(g, parts, lanes)
    by_inputs = (g.dw == 1 or g.kw == 1) and of_inputs < multiplied
    if by_inputs:
        tile, multiplied = across, of_inputs
    sums = round_up(g.taps, DOT_ROWS) * round_up(outputs, DOT_COLUMNS)
    transposing = sums * -(-g.ow // lanes) / g.ow / DOT_RATE + TRANSPOSING * (channels + outputs)
    by_positions = transposing < multiplied and g.sh == g.sw == 1 and sums * lanes <= SUM_ELEMENTS
    most = MAX_POSITIONS
    if by_positions:
        by_inputs, multiplied = False, transposing
        most = max(g.ow, BAND_ELEMENTS // (outputs + channels))
    band_rows = max(1, min(g.oh, most // g.ow))
    band_rows = -(-g.oh // -(-g.oh // band_rows))
    band_images = 1 if by_positions else max(1, min(g.n, MAX_POSITIONS // (g.oh * g.ow)))
    bands = -(-g.oh // band_rows)
    steps = -(-g.n // band_images) * bands
    width = tile.vectors * lanes
    if by_positions:
        panels, block, chunk_size = 1, channels, sums * lanes
    elif by_inputs:
        panels = g.kh * -(-g.kw * block // width)
        chunk_size = panels * width * outputs
    else:
        panels = -(-outputs // width)
        most = max(1, SUM_ELEMENTS // (window * panels * width))
        most = min(most, max(MIN_CHANNELS, -(-channels * parts * g.groups // MIN_CHUNKS)))
        block = -(-channels // -(-channels // min(channels, most)))
        chunk_size = panels * block * window * width
    blocks = -(-channels // block)
    parts = min(parts, steps, -(-MIN_CHUNKS // (blocks * g.groups)))
    steps_of_part = -(-steps // parts)
    in_rows, in_columns = extent(g, g.oh)
    in_place = g.pt == g.pl == 0 and in_rows <= g.h and in_columns <= g.w
    in_place = in_place and (not by_inputs or g.kw == 1 or block == g.c)
    of_sums = parts * blocks * chunk_size / lanes
    cycles = g.groups * (MULTIPLYING * g.n * g.oh * g.ow * multiplied + FINISHING * of_sums)
    return Plan(
        by_positions, by_inputs, in_place, tile, width, panels, block, blocks, chunk_size, -(-steps // steps_of_part),
        steps_of_part, band_rows, band_images, bands, cycles,
    )  # fmt: skip
