"""The gradient of a convolution's weights in registers: for each tap and output channel, a sum over all positions.

Either output channels or positions lie along the vectors:

- channels: a tap's numbers are broadcast from a band of x, dy is turned on its side, positions by output channels;
- positions, for a column step of 1: rows of a band of x, shifted by a tap, times rows of dy as they are, lane by lane;
  the lanes are added up at the end. For few output channels, which would leave most of a vector empty.

Positions are summed in ``parts``, so that there is work for many threads in layers with few weights; the parts are then
added in an order of their own, whatever the number of threads. Within a part, sums are short ones of short ones, and
long ones go on in float64 (``sums.py``).

roofline: 2 n k oh ow taps operations at the rate of the tile; x and dy pass through memory once.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from ..geometry import Conv2dGeometry
from .bands import lay_band, lay_positions, round_up
from .jit import Scratch, kernel
from .memory import empty
from .simd import VECTOR_BYTES, lane_sum, lanes_of
from .sums import RUN_IN_ORDER, SUM_IN_ORDER, move_sums
from .tiles import (
    DOT_COLUMNS,
    DOT_ROWS,
    DOT_TILE,
    TRANSPOSITION,
    Tile,
    choose_tile,
    multiply_dot,
    multiply_gathered,
    transpose,
)

__all__ = ["correlate_weights", "workspace"]

MOST_POSITIONS = 192
SUM_ELEMENTS = 1 << 17
# Sums of all parts together.
PARTIAL_ELEMENTS = 1 << 23
FEWEST_CHUNKS = 16
# More sums than so many are not often added to totals, which with them would not fit the second cache: there are more
# parts instead, each with few enough positions.
MOVED_ELEMENTS = 1 << 15
# Sums of all parts that are added up at a time, in the first cache.
AT_A_TIME = 1 << 10


@kernel
def _sum_by_channels(
    chunk, dy, x, row_taps, column_taps, sums, totals, packed_at, table, work, tile, turn, height, width, groups,
    panels, blocks, block, steps, band_images, band_rows, bands, in_rows, in_columns, top, left, sh, sw,
):  # fmt: skip
    """A chunk is a block of input channels of one group, summed over ``steps`` bands of x, some rows of some images.

    sums[part, group, block, panel, tap, output]; taps are (c, i, j), rounded up to whole tiles. ``totals``
    are those of one chunk in float64, if it has more than SUM_IN_ORDER positions.
    """
    at_block, rest = chunk % blocks, chunk // blocks
    group, part = rest % groups, rest // groups
    channels, outputs = x.shape[1] // groups, dy.shape[1] // groups
    first_channel = at_block * block
    here = min(block, channels - first_channel)
    oh, ow = dy.shape[2], dy.shape[3]
    window = row_taps.size * column_taps.size
    taps = here * window
    padded = (taps + height - 1) // height * height
    panel_size = (block * window + height - 1) // height * height * width
    base = chunk * panels * panel_size

    tap_at, places = table[:padded], table[padded:]
    at = 0
    for c in range(here):
        for i in range(row_taps.size):
            for j in range(column_taps.size):
                tap_at[at] = (c * in_rows + row_taps[i]) * in_columns + column_taps[j]
                at += 1
    for i in range(taps, padded):
        tap_at[i] = tap_at[taps - 1]
    size = band_images * here * in_rows * in_columns
    source, turned = work[:size], work[size:]
    flat, plane = dy.reshape(-1), oh * ow
    totals[:] = 0
    # Positions that are in the sums and not yet in the totals.
    held = 0
    for step in range(part * steps, min((part + 1) * steps, (x.shape[0] + band_images - 1) // band_images * bands)):
        first_image, band = step // bands * band_images, step % bands
        images_here = min(band_images, x.shape[0] - first_image)
        rows = min(band_rows, oh - band * band_rows)
        lay_band(
            x, first_image, images_here, group * channels + first_channel, here, top + band * band_rows * sh,
            in_rows, left, in_columns, source,
        )  # fmt: skip
        count = images_here * rows * ow
        lay_positions(places, images_here, rows, ow, here * in_rows * in_columns, sh * in_columns, sw, count)
        before = held
        for panel in range(panels):
            wide = min(width, outputs - panel * width)
            for image in range(images_here):
                start = ((first_image + image) * dy.shape[1] + group * outputs + panel * width) * plane
                at = image * rows * ow * width
                transpose(turn, flat, start + band * band_rows * ow, plane, wide, rows * ow, turned, at, width)
            if wide < width:
                for i in range(count):
                    turned[i * width + wide : (i + 1) * width] = 0
            held = before
            at = panel * panel_size
            for first in range(0, count, SUM_IN_ORDER):
                size = min(SUM_IN_ORDER, count - first)
                if held + size > SUM_IN_ORDER:
                    move_sums(sums, base + at, totals, at, 1, padded * width, 0)
                    held = 0
                multiply_gathered(
                    tile, height, source, tap_at, padded, places, first, size, RUN_IN_ORDER, turned, 0, packed_at,
                    first, sums, base + at, width, 1 if held > 0 else 0,
                )  # fmt: skip
                held += size
    if totals.size > 0:
        for panel in range(panels):
            for i in range(panel * panel_size, panel * panel_size + padded * width):
                sums[np.uintp(base + i)] += totals[np.uintp(i)]


@kernel
def _finish_by_channels(chunk, sums, dweight, totals, turn, height, width, groups, panels, blocks, block, window):
    """A chunk is a panel of outputs and a block of channels: the parts are added in float64, and transposed."""
    panel, rest = chunk % panels, chunk // panels
    at_block, group = rest % blocks, rest // blocks
    outputs, channels = dweight.shape[0] // groups, dweight.shape[1]
    first_channel, first_output = at_block * block, panel * width
    taps = min(block, channels - first_channel) * window
    panel_size = (block * window + height - 1) // height * height * width
    part_size = groups * blocks * panels * panel_size
    at = ((group * blocks + at_block) * panels + panel) * panel_size
    parts = sums.size // part_size
    for first in range(at, at + taps * width if parts > 1 else at, totals.size):
        size = min(totals.size, at + taps * width - first)
        totals[:size] = 0
        for part in range(parts):
            move_sums(sums, first + part * part_size, totals, 0, 1, size, 0)
        for i in range(np.uintp(size)):
            sums[np.uintp(first) + i] = totals[i]
    transpose(
        turn, sums, at, width, taps, min(width, outputs - first_output), dweight.reshape(-1),
        ((group * outputs + first_output) * channels + first_channel) * window, channels * window,
    )  # fmt: skip


@kernel
def _sum_by_positions(
    chunk, dy, x, tap_at, dy_at, sums, totals, table, source, tile, groups, images, in_rows, in_columns, top, left, sh
):
    """A chunk is one group, summed over ``images`` images: sums[part, group, tap, output, lane].

    Taps and outputs are rounded up to whole tiles, in ``tap_at`` and ``dy_at``, which say where each begins. ``totals``
    are those of one chunk in float64, if a lane may have more than SUM_IN_ORDER positions.
    """
    group, part = chunk % groups, chunk // groups
    channels, outputs = x.shape[1] // groups, dy.shape[1] // groups
    oh, ow, lanes = dy.shape[2], dy.shape[3], lanes_of(x.itemsize)
    row_size = dy_at.size * lanes
    base = chunk * tap_at.size * row_size
    whole = ow // lanes
    steps, dy_steps = table[: oh * (whole + 1)], table[oh * (whole + 1) :]
    at = 0
    for row in range(oh):
        for piece in range(whole):
            steps[at], dy_steps[at] = row * sh * in_columns + piece * lanes, row * ow + piece * lanes
            at += 1
    for row in range(oh):
        steps[at + row] = row * sh * in_columns + whole * lanes
        dy_steps[at + row] = row * ow + whole * lanes
    flat = dy.reshape(-1)
    totals[:] = 0
    # Positions that are in each lane's sum and not yet in the totals.
    held = 0
    for image in range(part * images, min((part + 1) * images, x.shape[0])):
        lay_band(x, image, 1, group * channels, channels, top, in_rows, left, in_columns, source)
        first = (image * dy.shape[1] + group * outputs) * oh * ow
        before = held
        for i in range(0, tap_at.size, DOT_ROWS):
            for j in range(0, dy_at.size, DOT_COLUMNS):
                to, held = i * row_size + j * lanes, before
                # Whole vectors of all rows, then what is left of each row.
                for rest in range(2 if ow > whole * lanes else 1):
                    end, count = (at + oh, ow - whole * lanes) if rest > 0 else (at, lanes)
                    for step in range(at if rest > 0 else 0, end, SUM_IN_ORDER):
                        size = min(SUM_IN_ORDER, end - step)
                        if held + size > SUM_IN_ORDER:
                            move_sums(sums, base + to, totals, to, DOT_ROWS, DOT_COLUMNS * lanes, row_size)
                            held = 0
                        multiply_dot(
                            tile, source, 0, tap_at, i, steps, step, flat, first, dy_at, j, dy_steps, step, size,
                            RUN_IN_ORDER, count, sums, base + to, row_size, 1 if held > 0 else 0,
                        )  # fmt: skip
                        held += size
    for i in range(totals.size):
        sums[np.uintp(base + i)] += totals[np.uintp(i)]


@kernel
def _finish_by_positions(chunk, sums, dweight, groups, row_size, group_size):
    """A chunk is an output channel: lanes are added up in each part, then the parts in their order."""
    outputs, taps = dweight.shape[0] // groups, dweight.shape[1] * dweight.shape[2] * dweight.shape[3]
    group, output = chunk // outputs, chunk % outputs
    flat = dweight.reshape(-1)
    for tap in range(taps):
        total = 0.0
        for at in range(group * group_size, sums.size, groups * group_size):
            total += lane_sum(sums, at + tap * row_size + output * lanes_of(dweight.itemsize))
        flat[chunk * taps + tap] = total


class _ChannelPlan(NamedTuple):
    tile: Tile
    width: int
    panels: int
    panel_size: int
    block: int
    blocks: int
    parts: int
    steps: int
    band_rows: int
    band_images: int
    bands: int

    @property
    def sums(self) -> int:
        """Elements."""
        return self.parts * self.blocks * self.panels * self.panel_size


class _PositionPlan(NamedTuple):
    tap_at: np.ndarray
    dy_at: np.ndarray
    row_size: int
    images: int
    parts: int

    @property
    def sums(self) -> int:
        """Elements, for each group."""
        return self.parts * self.tap_at.size * self.row_size


def correlate_weights(dy: np.ndarray, x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    """The gradient (k, c / groups, kh, kw) of the weights."""
    if not g.n:
        return np.zeros(g.weight_shape, x.dtype)
    plan = _plan(g, x.itemsize)
    index, lanes = np.dtype(np.int64), VECTOR_BYTES // x.itemsize
    sums, dweight = empty((g.groups * plan.sums,), x.dtype), empty(g.weight_shape, x.dtype)
    if isinstance(plan, _PositionPlan):
        _sum_by_positions(
            plan.parts * g.groups, dy, x, plan.tap_at, plan.dy_at, sums,
            _totals(plan.images * g.oh * (g.ow // lanes + 1), plan.tap_at.size * plan.row_size),
            Scratch(2 * g.oh * (g.ow + 1), index), Scratch(g.c // g.groups * math.prod(_extent(g, g.oh)), x.dtype),
            DOT_TILE, g.groups, plan.images, *_extent(g, g.oh), -g.pt, -g.pl, g.sh,
        )  # fmt: skip
        _finish_by_positions(g.k, sums, dweight, g.groups, plan.row_size, plan.tap_at.size * plan.row_size)
        return dweight
    tile = (plan.tile.routine, TRANSPOSITION, plan.tile.rows, plan.width)
    positions = np.arange(plan.band_images * plan.band_rows * g.ow)
    work = plan.band_images * plan.block * math.prod(_extent(g, plan.band_rows)) + positions.size * plan.width
    _sum_by_channels(
        plan.parts * plan.blocks * g.groups, dy, x, np.arange(g.kh) * g.dh, np.arange(g.kw) * g.dw, sums,
        _totals(plan.steps * positions.size, plan.panels * plan.panel_size), positions * plan.width,
        Scratch(positions.size + plan.panel_size // plan.width, index), Scratch(work, x.dtype),
        *tile, g.groups, plan.panels, plan.blocks, plan.block, plan.steps, plan.band_images, plan.band_rows,
        plan.bands, *_extent(g, plan.band_rows), -g.pt, -g.pl, g.sh, g.sw,
    )  # fmt: skip
    _finish_by_channels(
        plan.panels * plan.blocks * g.groups, sums, dweight, Scratch(AT_A_TIME, np.dtype(np.float64)), *tile[1:],
        g.groups, plan.panels, plan.blocks, plan.block, g.kh * g.kw,
    )  # fmt: skip
    return dweight


def _totals(positions: int, size: int) -> Scratch:
    """A chunk's sums in float64, for sums of so many positions."""
    return Scratch(size if positions > SUM_IN_ORDER else 0, np.dtype(np.float64))


def workspace(g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes of the sums of all parts."""
    return itemsize * g.groups * _plan(g, itemsize).sums if g.n else 0


def _extent(g: Conv2dGeometry, rows: int) -> tuple[int, int]:
    """Rows and columns of padded x under so many output rows."""
    return (rows - 1) * g.sh + (g.kh - 1) * g.dh + 1, (g.ow - 1) * g.sw + (g.kw - 1) * g.dw + 1


@functools.lru_cache(maxsize=1024)
def _plan(g: Conv2dGeometry, itemsize: int) -> _ChannelPlan | _PositionPlan:
    lanes = VECTOR_BYTES // itemsize
    outputs, taps = g.k // g.groups, g.taps
    tile = choose_tile(outputs, itemsize)
    by_channels = round_up(-(-outputs // lanes), tile.vectors) * round_up(taps, tile.rows) * g.ow
    by_positions = round_up(outputs, DOT_COLUMNS) * round_up(taps, DOT_ROWS) * -(-g.ow // lanes)
    if g.sw == 1 and by_positions < by_channels / tile.rate and taps * outputs * lanes <= SUM_ELEMENTS:
        return _plan_positions(g, lanes)
    return _plan_channels(g, tile, tile.vectors * lanes)


def _plan_positions(g: Conv2dGeometry, lanes: int) -> _PositionPlan:
    in_rows, in_columns = _extent(g, g.oh)
    places = np.arange(g.kh)[:, None] * g.dh * in_columns + np.arange(g.kw) * g.dw
    tap_at = (np.arange(g.c // g.groups)[:, None] * (in_rows * in_columns) + places.reshape(-1)).reshape(-1)
    outputs = np.minimum(np.arange(round_up(g.k // g.groups, DOT_COLUMNS)), g.k // g.groups - 1)
    padded = tap_at[np.minimum(np.arange(round_up(tap_at.size, DOT_ROWS)), tap_at.size - 1)]
    images = -(-g.n // FEWEST_CHUNKS)
    return _PositionPlan(padded, outputs * (g.oh * g.ow), outputs.size * lanes, images, -(-g.n // images))


def _plan_channels(g: Conv2dGeometry, tile: Tile, width: int) -> _ChannelPlan:
    channels, window = g.c // g.groups, g.kh * g.kw
    panels = -(-(g.k // g.groups) // width)
    most = max(1, SUM_ELEMENTS // (window * panels * width))
    block = -(-channels // -(-channels // min(channels, most)))
    blocks = -(-channels // block)
    band_rows = max(1, min(g.oh, MOST_POSITIONS // g.ow))
    band_rows = -(-g.oh // -(-g.oh // band_rows))
    band_images = max(1, min(g.n, MOST_POSITIONS // (g.oh * g.ow)))
    panel_size = round_up(block * window, tile.rows) * width
    bands = -(-g.oh // band_rows)
    steps = -(-g.n // band_images) * bands
    parts = -(-FEWEST_CHUNKS // (blocks * g.groups))
    if panels * panel_size > MOVED_ELEMENTS:
        parts = max(parts, -(-steps // max(1, SUM_IN_ORDER // (band_images * band_rows * g.ow))))
    parts = min(parts, max(1, PARTIAL_ELEMENTS // (g.groups * blocks * panels * panel_size)))
    steps_of_part = -(-steps // parts)
    return _ChannelPlan(
        tile, width, panels, panel_size, block, blocks, -(-steps // steps_of_part), steps_of_part, band_rows,
        band_images, bands,
    )  # fmt: skip
