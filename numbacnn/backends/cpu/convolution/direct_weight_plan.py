"""How the gradient of a convolution's weights is summed: what lies along the vectors, in which blocks and parts.

Whatever may decide the order of a sum is chosen from sizes alone.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

from ...geometry import Conv2dGeometry, round_up
from ..vector.costs import DIRECT_WEIGHT, DirectWeight
from ..vector.simd import VECTOR_BYTES
from ..vector.tiles import DOT_COLUMNS, DOT_ROWS, TILES, WIDEST_STRADDLING, Tile, choose_tile
from .bands import extent, unevenness

__all__ = ["Kind", "Plan", "kinds", "made", "plan_of"]

Kind = Literal["outputs", "inputs", "positions"]

MAX_POSITIONS = 64
SUM_ELEMENTS = 1 << 16
# Chunks there should be: parts, of as many positions as make up for adding their sums, and blocks of channels.
MIN_CHUNKS, PART_POSITIONS, MIN_CHANNELS = 8, 2048, 16
# Of bands of x and dy that are transposed: they stay in the first cache.
BAND_ELEMENTS = 6 << 10


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
    """Vectors of multiply-adds of a position where a row of taps lies along the vectors; channels of a block; tile."""
    channels, outputs = g.c // g.groups, g.k // g.groups
    least = -(-channels * outputs * g.kh * g.kw // SUM_ELEMENTS)
    choices = []
    for blocks in range(least, max(least, min(MIN_CHUNKS, channels)) + 1):
        block = -(-channels // blocks)
        uneven = unevenness((parts * -(-channels // block) * g.groups, 1))
        for tile in TILES[:WIDEST_STRADDLING]:
            of_block = g.kh * _of_tile(tile, g.kw * block, outputs, lanes)
            choices.append((of_block * -(-channels // block) * uneven, block, tile))
    return min(choices, key=lambda choice: choice[0])


@functools.lru_cache(maxsize=1024)
def plan_of(g: Conv2dGeometry, itemsize: int) -> Plan:
    """The plan of fewest cycles."""
    return min((made(g, itemsize, kind) for kind in kinds(g, itemsize)), key=lambda plan: plan.cycles)


def kinds(g: Conv2dGeometry, itemsize: int) -> list[Kind]:
    """What may lie along the vectors."""
    lanes = VECTOR_BYTES // itemsize
    found: list[Kind] = ["outputs"]
    if g.dw == 1 or g.kw == 1:
        found.append("inputs")
    if g.sh == g.sw == 1 and _dot_sums(g) * lanes <= SUM_ELEMENTS:
        found.append("positions")
    return found


def _dot_sums(g: Conv2dGeometry) -> int:
    return round_up(g.taps, DOT_ROWS) * round_up(g.k // g.groups, DOT_COLUMNS)


def made(g: Conv2dGeometry, itemsize: int, kind: Kind, costs: DirectWeight = DIRECT_WEIGHT) -> Plan:
    """The plan of that kind; its cycles are a sum of ``costs``, each times a number."""
    lanes = VECTOR_BYTES // itemsize
    channels, outputs, window = g.c // g.groups, g.k // g.groups, g.kh * g.kw
    parts = max(1, min(MIN_CHUNKS, g.n * g.oh * g.ow // PART_POSITIONS))
    tile = choose_tile(outputs, itemsize, WIDEST_STRADDLING if g.k % lanes or outputs % lanes else len(TILES))
    by_positions, by_inputs, sums, most = kind == "positions", kind == "inputs", _dot_sums(g), MAX_POSITIONS
    if by_positions:
        of_position = costs.dotting * sums * -(-g.ow // lanes) / g.ow + costs.transposing * (channels + outputs)
        most = max(g.ow, BAND_ELEMENTS // (outputs + channels))
    elif by_inputs:
        vectors, block, tile = _by_inputs(g, parts, lanes)
        of_position = costs.straddling * vectors
    else:
        of_position = costs.multiplying * _of_tile(tile, outputs, g.taps, lanes)
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
    cycles = g.groups * (g.n * g.oh * g.ow * of_position + costs.finishing * of_sums)
    return Plan(
        by_positions, by_inputs, in_place, tile, width, panels, block, blocks, chunk_size, -(-steps // steps_of_part),
        steps_of_part, band_rows, band_images, bands, cycles,
    )  # fmt: skip
