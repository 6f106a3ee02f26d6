"""The gradient of a convolution's weights in registers: for each pair of channels and each tap, a sum over positions.

Output channels lie along the vectors: a band's numbers, an input channel under a tap, are broadcast and multiplied with
the pixels of dy as they are. Of few output channels, which would leave most of a vector empty, the two change places: a
row of taps lies along the vectors, all its channels one after the other, and the pixels of dy are broadcast. Of few of
both, for stride 1, positions lie along the vectors: bands of x and of dy are transposed, and lanes are added up at the
end.

Sums are those of ``vector/sums.py``: of runs in registers, of some runs in the dtype, and then in float64.

roofline: 2 n k oh ow taps operations at the rate of the tile; x and dy pass through memory once for each part of the
sums that does not fit the second cache.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ...geometry import Conv2dGeometry, round_up
from ..runtime.allocator import empty
from ..runtime.kernel import Scratch, kernel
from ..runtime.microkernel import Microkernel
from ..vector.blocks import fill_zero
from ..vector.simd import VECTOR_BYTES, flattened, lane_sum, lanes_of
from ..vector.sums import RUN_IN_ORDER, SUM_IN_ORDER, add_parts, move_sums
from ..vector.tiles import (
    ADD,
    DOT_COLUMNS,
    DOT_ROWS,
    DOT_TILE,
    TRANSPOSITION,
    multiply_dot,
    multiply_gathered,
    transpose,
)
from .bands import extent, lay_band, lay_positions, laying
from .direct_weight_plan import plan_of

__all__ = ["correlate_weights", "cycles", "workspace"]

# Sums of all parts that are added up at a time, in the first cache.
AT_A_TIME = 1 << 10


class _ByChannels(NamedTuple):
    """What :func:`_sum_by_channels` is told; the rows and columns are those of a band of x."""

    laying: Microkernel
    tile: Microkernel
    height: int
    width: int
    groups: int
    by_inputs: int
    panels: int
    panel_size: int
    blocks: int
    block: int
    steps: int
    band_images: int
    band_rows: int
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
    in_place: int


class _ByPositions(NamedTuple):
    """What :func:`_sum_by_positions` is told, likewise."""

    laying: Microkernel
    tile: Microkernel
    transposition: Microkernel
    groups: int
    steps: int
    band_rows: int
    bands: int
    in_rows: int
    in_columns: int
    top: int
    left: int


@kernel
def _sum_by_channels(chunk, wanted, dy, x, sums, zeros, totals, dy_at, table, work, p):
    """A chunk is a block of input channels of one group, summed over ``p.steps`` bands of x, some rows of some images.

    sums[part, group, block, panel, tap, output]; taps are (i, j, c), and ``totals`` those of one chunk in float64, if
    it has more than SUM_IN_ORDER positions. ``p.by_inputs`` the last two change places, and a panel is of one i.
    """
    if wanted.size > 0 and wanted[0] == 0:
        return
    at_block, rest = chunk % p.blocks, chunk // p.blocks
    group, part = rest % p.groups, rest // p.groups
    channels, outputs = x.shape[3] // p.groups, dy.shape[3] // p.groups
    first_channel = at_block * p.block
    here = min(p.block, channels - first_channel)
    oh, ow = dy.shape[1], dy.shape[2]
    taps = here * p.kw
    lines, panels_of_row = (outputs, p.panels // p.kh) if p.by_inputs else (taps * p.kh, p.panels)
    padded = (lines + p.height - 1) // p.height * p.height
    base = chunk * p.panels * p.panel_size

    columns, pitch = (x.shape[2], x.shape[3]) if p.in_place else (p.in_columns, here)
    line_at, sums_at, places = table[:padded], table[padded : 2 * padded], table[2 * padded :]
    for i in range(padded):
        line = min(i, lines - 1)
        tap, c = line // here, line % here
        row, column = min(tap // p.kw, p.kh - 1) * p.dh, tap % p.kw * p.dw
        line_at[i] = line if p.by_inputs else (row * columns + column) * pitch + c
        sums_at[i] = line * p.width
    dy_values, images = flattened(dy), flattened(x)
    totals[:] = 0
    # Positions that are in the sums and not yet in the totals.
    held = 0
    for step in range(
        part * p.steps, min((part + 1) * p.steps, (x.shape[0] + p.band_images - 1) // p.band_images * p.bands)
    ):
        first_image, band = step // p.bands * p.band_images, step % p.bands
        images_here = min(p.band_images, x.shape[0] - first_image)
        rows = min(p.band_rows, oh - band * p.band_rows)
        source, start = work, 0
        if p.in_place:
            row = x.shape[2] * x.shape[3]
            source, image_step = images, x.shape[1] * row
            start = first_image * image_step + (p.top + band * p.band_rows * p.sh) * row + p.left * pitch
            start += group * channels + first_channel
        else:
            row = p.in_columns * here
            image_step = p.in_rows * row
            lay_band(
                p.laying, x, first_image, images_here, group * channels + first_channel, here, here,
                p.top + band * p.band_rows * p.sh, p.in_rows, p.left, p.in_columns, work,
            )  # fmt: skip
        count = images_here * rows * ow
        lay_positions(places, images_here, rows, ow, image_step, p.sh * row, p.sw * pitch, count)
        at_dy = (first_image * oh + band * p.band_rows) * ow * dy.shape[3] + group * outputs
        before = held
        for panel in range(p.panels):
            held = before
            at, first_lane = panel * p.panel_size, panel % panels_of_row * p.width
            at_taps = start + panel // panels_of_row * p.dh * columns * pitch + first_lane
            for first in range(0, count, SUM_IN_ORDER):
                size = min(SUM_IN_ORDER, count - first)
                if held + size > SUM_IN_ORDER:
                    move_sums(sums, base + at, totals, at, lines * p.width)
                    held = 0
                todo = ADD if held > 0 else 0
                if not p.by_inputs:
                    multiply_gathered(
                        p.tile, p.height, source, start, line_at, padded, places, first, size, RUN_IN_ORDER, dy_values,
                        at_dy + first_lane, dy_at, first, zeros, 0, sums, base + at, sums_at, outputs - first_lane,
                        todo,
                    )  # fmt: skip
                elif first_lane < taps:
                    multiply_gathered(
                        p.tile, p.height, dy_values, at_dy, line_at, padded, dy_at, first, size, RUN_IN_ORDER, source,
                        at_taps, places, first, zeros, 0, sums, base + at, sums_at, taps - first_lane, todo,
                    )  # fmt: skip
                held += size
    if totals.size > 0:
        for panel in range(p.panels):
            for i in range(panel * p.panel_size, panel * p.panel_size + lines * p.width):
                sums[np.uintp(base + i)] += totals[np.uintp(i)]


@kernel
def _finish_by_outputs(
    chunk, wanted, sums, dweight, totals, transposition, width, groups, panels, blocks, block, window
):
    """A chunk is a panel of outputs and a block of channels: the parts are added up, and transposed."""
    if wanted.size > 0 and wanted[0] == 0:
        return
    panel, rest = chunk % panels, chunk // panels
    at_block, group = rest % blocks, rest // blocks
    outputs, channels = dweight.shape[0] // groups, dweight.shape[1]
    first_channel, first_output = at_block * block, panel * width
    here = min(block, channels - first_channel)
    panel_size = block * window * width
    at = ((group * blocks + at_block) * panels + panel) * panel_size
    add_parts(sums, at, here * window * width, groups * blocks * panels * panel_size, totals)
    # A matrix of each channel's taps or, where there is one, of the channels.
    matrices, rows = (1, here) if window == 1 else (here, window)
    for i in range(matrices):
        transpose(
            transposition, sums, at + i * width, width if window == 1 else here * width, rows,
            min(width, outputs - first_output), flattened(dweight),
            ((group * outputs + first_output) * channels + first_channel + i) * window, channels * window,
        )  # fmt: skip


@kernel
def _finish_by_inputs(chunk, wanted, sums, dweight, totals, width, groups, panels_of_row, blocks, block):
    """A chunk is a block of channels and an output: the parts are added up, and taps put in order."""
    if wanted.size > 0 and wanted[0] == 0:
        return
    kh, kw, channels = dweight.shape[2], dweight.shape[3], dweight.shape[1]
    outputs = dweight.shape[0] // groups
    at_block, k = chunk % blocks, chunk // blocks
    group, output = k // outputs, k % outputs
    first_channel = at_block * block
    here = min(block, channels - first_channel)
    row_size = panels_of_row * outputs * width
    size = kh * row_size
    flat = flattened(dweight)
    for i in range(kh):
        for panel in range(panels_of_row):
            at = (group * blocks + at_block) * size + i * row_size + (panel * outputs + output) * width
            add_parts(sums, at, width, groups * blocks * size, totals)
            for tap in range(panel * width, min((panel + 1) * width, here * kw)):
                target = ((k * channels + first_channel + tap % here) * kh + i) * kw + tap // here
                flat[np.uintp(target)] = sums[np.uintp(at + tap - panel * width)]


@kernel
def _sum_by_positions(chunk, wanted, dy, x, tap_at, output_at, x_steps, dy_steps, sums, totals, work, p):
    """A chunk is one group, summed over ``p.steps`` bands: sums[part, group, tap, output, lane]; taps are (c, i, j).

    ``tap_at`` and ``output_at`` are rounded up to whole tiles. Of the steps, those of whole vectors come first.
    """
    if wanted.size > 0 and wanted[0] == 0:
        return
    group, part = chunk % p.groups, chunk // p.groups
    channels, outputs = x.shape[3] // p.groups, dy.shape[3] // p.groups
    oh, ow, lanes = dy.shape[1], dy.shape[2], lanes_of(x.itemsize)
    plane, dy_plane = p.in_rows * p.in_columns, p.band_rows * ow
    source, laid = work[: channels * plane], work[channels * plane : 2 * channels * plane]
    dy_values, flat = work[2 * channels * plane :], flattened(dy)
    row = output_at.size * lanes
    size = tap_at.size * row
    base, whole, rest = chunk * size, ow // lanes, ow % lanes
    totals[:] = 0
    # Numbers that are in each of the sums and not yet in the totals.
    held = 0
    for step in range(part * p.steps, min((part + 1) * p.steps, x.shape[0] * p.bands)):
        image, band = step // p.bands, step % p.bands
        rows = min(p.band_rows, oh - band * p.band_rows)
        lay_band(
            p.laying, x, image, 1, group * channels, channels, channels, p.top + band * p.band_rows, p.in_rows, p.left,
            p.in_columns, laid if channels > 1 else source,
        )  # fmt: skip
        if channels > 1:
            transpose(p.transposition, laid, 0, channels, plane, channels, source, 0, plane)
        at_dy = (image * oh + band * p.band_rows) * ow * dy.shape[3] + group * outputs
        transpose(p.transposition, flat, at_dy, dy.shape[3], rows * ow, outputs, dy_values, 0, dy_plane)
        if held + rows * (whole + 1) > SUM_IN_ORDER:
            move_sums(sums, base, totals, 0, size)
            held = 0
        for i in range(0, tap_at.size, DOT_ROWS):
            for j in range(0, output_at.size, DOT_COLUMNS):
                at = base + i * row + j * lanes
                if whole > 0:
                    multiply_dot(
                        p.tile, source, 0, tap_at, i, x_steps, 0, dy_values, 0, output_at, j, dy_steps, 0, rows * whole,
                        RUN_IN_ORDER, lanes, sums, at, row, 1 if held > 0 else 0,
                    )  # fmt: skip
                if rest > 0:
                    multiply_dot(
                        p.tile, source, 0, tap_at, i, x_steps, p.band_rows * whole, dy_values, 0, output_at, j,
                        dy_steps, p.band_rows * whole, rows, RUN_IN_ORDER, rest, sums, at, row,
                        1 if held > 0 or whole > 0 else 0,
                    )  # fmt: skip
        held += rows * (whole + 1)
    if totals.size > 0:
        for i in range(np.uintp(size)):
            sums[np.uintp(base) + i] += totals[i]


@kernel
def _finish_by_positions(chunk, wanted, sums, dweight, groups, taps, row):
    """A chunk is an output channel: lanes are added up, and parts in float64."""
    if wanted.size > 0 and wanted[0] == 0:
        return
    outputs, window = dweight.shape[0] // groups, dweight.shape[1]
    group, output = chunk // outputs, chunk % outputs
    lanes = lanes_of(sums.itemsize)
    for tap in range(window):
        total = 0.0
        for at in range((group * taps + tap) * row + output * lanes, sums.size, groups * taps * row):
            total += lane_sum(sums, at)
        dweight[chunk, tap] = total


def correlate_weights(
    dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry, wanted: np.ndarray | None = None
) -> None:
    """``dweight`` (k, c / groups, kh, kw) becomes the gradient of the weights; dy and x are (n, h, w, c).

    With ``wanted`` only if the first number in it is not 0.
    """
    wanted = np.empty(0, np.int64) if wanted is None else wanted
    if not g.n:
        fill_zero(dweight)
        return
    plan = plan_of(g, x.itemsize)
    index = np.dtype(np.int64)
    sums = empty((g.groups * plan.sums,), x.dtype)
    in_rows, in_columns = extent(g, plan.band_rows)
    positions = plan.band_images * plan.band_rows * g.ow
    totals = Scratch(plan.chunk_size if plan.steps * positions > SUM_IN_ORDER else 0, np.dtype(np.float64))
    chunks = plan.parts * plan.blocks * g.groups
    if plan.by_positions:
        channels, outputs, lanes = g.c // g.groups, g.k // g.groups, VECTOR_BYTES // x.itemsize
        tap_at, output_at, *steps = _places(g, plan.band_rows, lanes)
        work = 2 * channels * in_rows * in_columns + outputs * positions
        _sum_by_positions(
            chunks, wanted, dy, x, tap_at, output_at, *steps, sums, totals, Scratch(work, x.dtype),
            _ByPositions(
                laying=laying, tile=DOT_TILE, transposition=TRANSPOSITION, groups=g.groups, steps=plan.steps,
                band_rows=plan.band_rows, bands=plan.bands, in_rows=in_rows, in_columns=in_columns, top=-g.pt,
                left=-g.pl,
            ),
        )  # fmt: skip
        _finish_by_positions(
            g.k, wanted, sums, dweight.reshape(g.k, g.taps), g.groups, tap_at.size, output_at.size * lanes
        )
        return
    lines = g.k // g.groups if plan.by_inputs else plan.block * g.kh * g.kw
    work = 0 if plan.in_place else plan.band_images * in_rows * in_columns * plan.block
    _sum_by_channels(
        chunks, wanted, dy, x, sums, np.zeros(plan.width, x.dtype), totals, np.arange(positions) * g.k,
        Scratch(positions + 2 * round_up(lines, plan.tile.rows), index), Scratch(work, x.dtype),
        _ByChannels(
            laying=laying, tile=plan.tile.microkernel, height=plan.tile.rows, width=plan.width, groups=g.groups,
            by_inputs=int(plan.by_inputs), panels=plan.panels, panel_size=plan.chunk_size // plan.panels,
            blocks=plan.blocks, block=plan.block, steps=plan.steps, band_images=plan.band_images,
            band_rows=plan.band_rows, bands=plan.bands, in_rows=in_rows, in_columns=in_columns, top=-g.pt, left=-g.pl,
            kh=g.kh, kw=g.kw, sh=g.sh, sw=g.sw, dh=g.dh, dw=g.dw, in_place=int(plan.in_place),
        ),
    )  # fmt: skip
    some = Scratch(AT_A_TIME, np.dtype(np.float64))
    if plan.by_inputs:
        _finish_by_inputs(
            g.k * plan.blocks, wanted, sums, dweight, some, plan.width, g.groups, plan.panels // g.kh, plan.blocks,
            plan.block,
        )  # fmt: skip
        return
    _finish_by_outputs(
        plan.panels * plan.blocks * g.groups, wanted, sums, dweight, some,
        TRANSPOSITION, plan.width, g.groups, plan.panels, plan.blocks, plan.block, g.kh * g.kw,
    )  # fmt: skip


def workspace(g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes of the sums of all parts."""
    return itemsize * g.groups * plan_of(g, itemsize).sums if g.n else 0


def cycles(g: Conv2dGeometry, itemsize: int) -> float:
    """About how many :func:`correlate_weights` takes, of all threads together."""
    return plan_of(g, itemsize).cycles if g.n else 0.0


@functools.lru_cache(maxsize=256)
def _places(g: Conv2dGeometry, band_rows: int, lanes: int) -> tuple[np.ndarray, ...]:
    """Where taps and output channels begin in a band, the last ones again up to whole tiles, and steps in both: of
    whole vectors, and then of the last one of each row.
    """
    (in_rows, in_columns), outputs = extent(g, band_rows), g.k // g.groups
    window = (np.arange(g.kh) * g.dh * in_columns)[:, None] + np.arange(g.kw) * g.dw
    taps = (np.arange(g.c // g.groups) * (in_rows * in_columns))[:, None] + window.reshape(-1)
    tap_at = taps.reshape(-1)[np.minimum(np.arange(round_up(g.taps, DOT_ROWS)), g.taps - 1)]
    output_at = np.minimum(np.arange(round_up(outputs, DOT_COLUMNS)), outputs - 1) * (band_rows * g.ow)
    rows, whole = np.arange(band_rows)[:, None], g.ow // lanes
    steps = (
        np.concatenate([(rows * row + np.arange(whole) * lanes).reshape(-1), (rows * row).reshape(-1) + whole * lanes])
        for row in (in_columns, g.ow)
    )
    return tap_at, output_at, *steps
