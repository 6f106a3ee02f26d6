"""Correlation in registers: both passes of a convolution that yield images.

Outputs are on a grid; each is the sum over channels and taps of a weight times what lies at the output's place in a
band, plus the tap's offset. The band's numbers are broadcast, from wherever they lie, so that strides, dilations and
image widths cost nothing; the weights are packed once, output channels along the vectors, and finished sums go where
they belong. A band that has no padding is the image itself.

Of few output channels, which would leave most of a vector empty, positions lie along the vectors instead, for stride 1:
the band is transposed, the weights are broadcast as they are, and a row of B is a channel of the band, shifted by a
tap's offset. What lies between the end of a row of outputs and the beginning of the next is computed and left out, and
finished sums are transposed back.

roofline: 2 n k oh ow taps operations at the rate of the tile; x and y pass through memory once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ...geometry import round_up
from ..runtime import threads
from ..runtime.captured import fold_constant
from ..runtime.kernel import Scratch, kernel
from ..runtime.microkernel import Microkernel
from ..vector.activations import activate, activation_of
from ..vector.costs import DIRECT_DATA, DirectData
from ..vector.simd import VECTOR_BYTES, clear, flattened
from ..vector.tiles import ADD, RELU, TILES, TRANSPOSITION, WIDEST_STRADDLING, multiply_gathered, transpose
from .bands import lay_band, lay_positions, laying, unevenness
from .correlation import ENOUGH_IMAGES, Correlation, WeightStrides
from .operands import activate_pixels, bias_or_zeros, pack_weights, taps_of

__all__ = [
    "Candidate",
    "Problem",
    "candidates",
    "correlate",
    "cycles",
    "cycles_of",
    "is_in_place",
    "made",
    "plan_of",
    "workspace",
]

# Depth of a part of packed weights, which stays in L1 for all positions of a band.
DEPTH = 128
# What a band, and packed weights, have at most to stay in L2.
L2_ELEMENTS = 1 << 17
# How much longer all takes of a band that has more.
BEYOND_L2 = 1.5
MIN_POSITIONS, MAX_POSITIONS = 48, 384
MIN_CHUNKS = 8


class _ByChannels(NamedTuple):
    """What :func:`_correlate_channels` is told; the rows and columns are those of a band of x."""

    laying: Microkernel
    tile: Microkernel
    activating: Microkernel | int
    height: int
    width: int
    activation: int
    groups: int
    panels: int
    parts: int
    in_place: int
    band_images: int
    band_rows: int
    bands: int
    in_rows: int
    in_columns: int


class _ByPositions(NamedTuple):
    """What :func:`_correlate_positions` is told, likewise."""

    laying: Microkernel
    tile: Microkernel
    transposition: Microkernel
    activating: Microkernel | int
    height: int
    width: int
    activation: int
    groups: int
    group_stride: int
    band_rows: int
    bands: int
    in_rows: int
    in_columns: int


class Candidate(NamedTuple):
    """What a plan is chosen by."""

    by_positions: bool
    """Whether positions, and not output channels, lie along the vectors."""
    vectors: int
    """Of a tile."""
    rows: int
    """Of a band, and images."""
    images: int


class Problem(NamedTuple):
    """What a plan is made for: a correlation and how its weights lie, each of ``groups`` with so many channels."""

    c: Correlation
    w: WeightStrides
    n: int
    channels: int
    outputs: int
    pitch: int
    """Elements from one pixel of x to the next."""
    groups: int
    itemsize: int


class _Plan(NamedTuple):
    by_positions: bool
    in_place: bool
    vectors: int
    band_rows: int
    band_images: int
    bands: int
    in_rows: int
    in_columns: int
    steps: np.ndarray
    """Offset of (channel, tap) in the band."""
    weight_steps: np.ndarray
    """Offset of (channel, tap) in the weights."""
    output_at: np.ndarray
    """Offset of an output channel's weights; the last one again up to a whole tile."""
    positions: int
    """Outputs of a band, rounded up to tiles."""
    work: int
    """Elements of scratch."""
    cycles: float


@kernel
def _correlate_channels(chunk, x, packed, steps, packed_at, bias, y, table, work, g, p):
    """A chunk is a band of one group of outputs, and a part of its panels of output channels."""
    part, rest = chunk % p.parts, chunk // p.parts
    band, rest = rest % p.bands, rest // p.bands
    group, first_image = rest % p.groups, rest // p.groups * p.band_images
    images, rows_here = min(p.band_images, x.shape[0] - first_image), min(p.band_rows, g.rows - band * p.band_rows)
    channels, outputs, depth = x.shape[3] // p.groups, y.shape[3] // p.groups, steps.size
    count = images * rows_here * g.columns
    padded = (count + p.height - 1) // p.height * p.height
    places, targets = table[:padded], table[padded : 2 * padded]
    if p.in_place:
        row = x.shape[2] * x.shape[3]
        source = flattened(x)
        start = (
            (first_image * x.shape[1] + g.top + band * p.band_rows * g.sh) * row
            + g.left * x.shape[3]
            + group * channels
        )
        lay_positions(places, images, rows_here, g.columns, x.shape[1] * row, g.sh * row, g.sw * x.shape[3], padded)
    else:
        source, start = work, 0
        lay_band(
            p.laying, x, first_image, images, group * channels, channels, channels, g.top + band * p.band_rows * g.sh,
            p.in_rows, g.left, p.in_columns, work,
        )  # fmt: skip
        row = p.in_columns * channels
        lay_positions(places, images, rows_here, g.columns, p.in_rows * row, g.sh * row, g.sw * channels, padded)
    flat, row = flattened(y), y.shape[2] * y.shape[3]
    lay_positions(
        targets, images, rows_here, g.columns, y.shape[1] * row, g.row_step * row, g.column_step * y.shape[3], padded
    )
    first_row = first_image * y.shape[1] + g.at_row + band * p.band_rows * g.row_step
    at = (first_row * y.shape[2] + g.at_column) * y.shape[3] + group * outputs
    first_panel, end_panel = p.panels * part // p.parts, p.panels * (part + 1) // p.parts
    for panel in range(first_panel, end_panel):
        at_packed = (group * p.panels + panel) * depth * p.width
        for first in range(0, depth, DEPTH):
            todo = (ADD if first > 0 else 0) + (RELU if p.activation == 1 and first + DEPTH >= depth else 0)
            multiply_gathered(
                p.tile, p.height, source, start, places, padded, steps, first, min(DEPTH, depth - first), DEPTH, packed,
                at_packed + first * p.width, packed_at, 0, bias, group * outputs + panel * p.width, flat,
                at + panel * p.width, targets, outputs - panel * p.width, todo,
            )  # fmt: skip
    if p.activation > 1:
        here = min(end_panel * p.width, outputs) - first_panel * p.width
        activate_pixels(p.activating, flat, at + first_panel * p.width, targets, count, here, p.activation)


@kernel
def _correlate_positions(chunk, x, weight, output_at, weight_steps, steps, bias, y, table, work, g, p):
    """A chunk is a band of one group of outputs of one image; see above."""
    band, rest = chunk % p.bands, chunk // p.bands
    group, image = rest % p.groups, rest // p.groups
    rows_here = min(p.band_rows, g.rows - band * p.band_rows)
    channels, outputs = x.shape[3] // p.groups, y.shape[3] // p.groups
    plane = p.in_rows * p.in_columns
    sums_row = ((rows_here - 1) * p.in_columns + g.columns + p.width - 1) // p.width * p.width

    # The last tile reads less than its width beyond the end.
    size = channels * plane
    source, laid = work[: size + p.width], work[size + p.width :]
    lay_band(
        p.laying, x, image, 1, group * channels, channels, channels, g.top + band * p.band_rows, p.in_rows, g.left,
        p.in_columns, laid if channels > 1 else source,
    )  # fmt: skip
    if channels > 1:
        transpose(p.transposition, laid, 0, channels, plane, channels, source, 0, plane)
    clear(source, size, size + p.width)
    sums, starts = laid[: output_at.size * sums_row], laid[output_at.size * sums_row :]
    for i in range(output_at.size):
        table[i] = i * sums_row
    for i in range(p.width):
        starts[i] = 0
    for position in range(0, sums_row, p.width):
        multiply_gathered(
            p.tile, p.height, weight, group * p.group_stride, output_at, output_at.size, weight_steps, 0,
            weight_steps.size, weight_steps.size, source, position, steps, 0, starts, 0, sums, position, table, p.width,
            0,
        )  # fmt: skip
    for i in range(outputs if bias.size > 0 else 0):
        more = bias[group * outputs + i]
        for position in range(i * sums_row, (i + 1) * sums_row):
            sums[np.uintp(position)] += more
    activate(p.activating, sums, 0, outputs * sums_row, p.activation)
    flat, row = flattened(y), y.shape[2] * y.shape[3]
    for r in range(rows_here):
        to = (image * y.shape[1] + g.at_row + (band * p.band_rows + r) * g.row_step) * row + g.at_column * y.shape[3]
        transpose(
            p.transposition, sums, r * p.in_columns, sums_row, outputs, g.columns, flat, to + group * outputs,
            g.column_step * y.shape[3],
        )  # fmt: skip


def correlate(
    c: Correlation,
    x: np.ndarray,
    weight: np.ndarray,
    w: WeightStrides,
    bias: np.ndarray,
    y: np.ndarray,
    groups: int,
    activation: int = 0,
) -> None:
    """The outputs of ``c`` on the grid of y that is theirs; ``bias`` may be empty. x and y are (n, h, w, c)."""
    n, channels, outputs = x.shape[0], x.shape[3] // groups, y.shape[3] // groups
    plan = plan_of(Problem(c, w, n, channels, outputs, x.shape[3], groups, x.itemsize))
    chunks = -(-n // plan.band_images) * groups * plan.bands
    tile = TILES[plan.vectors - 1]
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    index = np.dtype(np.int64)
    if plan.by_positions:
        _correlate_positions(
            chunks, x, weight.reshape(-1), plan.output_at, plan.weight_steps, plan.steps, bias, y,
            Scratch(plan.output_at.size, index), Scratch(plan.work, x.dtype), c.grid,
            _ByPositions(
                laying=laying, tile=tile.microkernel, transposition=TRANSPOSITION, activating=activation_of(activation),
                height=tile.rows, width=width, activation=activation, groups=groups, group_stride=w.group,
                band_rows=plan.band_rows, bands=plan.bands, in_rows=plan.in_rows, in_columns=plan.in_columns,
            ),
        )  # fmt: skip
        return
    panels = -(-outputs // width)
    packed = fold_constant(weight, lambda: pack_weights(c, weight, w, width, channels, outputs, groups))
    parts = _parts_of_panels(panels, chunks)
    _correlate_channels(
        chunks * parts, x, packed, plan.steps, np.arange(DEPTH) * width, bias_or_zeros(bias, y.shape[3]), y,
        Scratch(2 * plan.positions, index), Scratch(plan.work, x.dtype), c.grid,
        _ByChannels(
            laying=laying, tile=tile.for_rows(plan.positions, packed.nbytes), activating=activation_of(activation),
            height=tile.rows, width=width, activation=activation, groups=groups, panels=panels, parts=parts,
            in_place=int(plan.in_place), band_images=plan.band_images, band_rows=plan.band_rows, bands=plan.bands,
            in_rows=plan.in_rows, in_columns=plan.in_columns,
        ),
    )  # fmt: skip


def cycles(c: Correlation, w: WeightStrides, n: int, channels: int, outputs: int, groups: int, itemsize: int) -> float:
    """About how many :func:`correlate` takes, of all threads together."""
    return plan_of(Problem(c, w, n, channels, outputs, channels * groups, groups, itemsize)).cycles


def workspace(c: Correlation, w: WeightStrides, n: int, channels: int, outputs: int, groups: int, itemsize: int) -> int:
    """Bytes that :func:`correlate` uses beside its arguments: packed weights, and the work of each thread."""
    plan = plan_of(Problem(c, w, n, channels, outputs, channels * groups, groups, itemsize))
    packed = groups * plan.steps.size * round_up(outputs, plan.vectors * VECTOR_BYTES // itemsize)
    return itemsize * (threads.number() * plan.work + (0 if plan.by_positions else packed))


@functools.lru_cache(maxsize=1024)
def plan_of(problem: Problem) -> _Plan:
    """The plan of fewest cycles."""
    found = candidates(problem)
    if problem.n > ENOUGH_IMAGES:
        orientation = plan_of(problem._replace(n=ENOUGH_IMAGES)).by_positions
        found = [candidate for candidate in found if candidate.by_positions == orientation]
    cycles, candidate = min((cycles_of(problem, candidate), candidate) for candidate in found)
    return made(problem, candidate, cycles)


def candidates(problem: Problem) -> list[Candidate]:
    """What there is to choose from."""
    needed = -(-problem.outputs // (VECTOR_BYTES // problem.itemsize))
    bands = _bands(problem.c, problem.n)
    found = [Candidate(False, vectors, *band) for band in bands for vectors in range(1, min(needed, len(TILES)) + 1)]
    if problem.c.step == (1, 1):
        widest = min(WIDEST_STRADDLING, len(TILES))
        found += [
            Candidate(True, vectors, rows, 1)
            for rows, images in bands
            if images == 1
            for vectors in range(1, widest + 1)
        ]
    return found


def cycles_of(problem: Problem, candidate: Candidate, costs: DirectData = DIRECT_DATA) -> float:
    """About how many :func:`correlate` takes; of ``costs`` it is a sum, each times a number."""
    (by_positions, vectors, rows, images), (c, n) = candidate, (problem.c, problem.n)
    chunks = [(i * j * problem.groups, r * m) for i, r in _parts(c.rows, rows) for j, m in _parts(n, images)]
    if by_positions:
        return problem.groups * _cycles_of_positions(problem, candidate, costs) * unevenness(*chunks)
    panels = -(-problem.outputs // (vectors * (VECTOR_BYTES // problem.itemsize)))
    parts = _parts_of_panels(panels, sum(number for number, _ in chunks))
    uneven = unevenness(*[(number * parts, size) for number, size in chunks])
    return problem.groups * _cycles_of_channels(problem, candidate, costs) * uneven


def made(problem: Problem, candidate: Candidate, cycles: float) -> _Plan:
    """The whole plan."""
    (c, w, _, channels, outputs, pitch, _, itemsize), (by_positions, vectors, rows, images) = problem, candidate
    in_rows, in_columns = _band_shape(c, rows)
    in_place = not by_positions and is_in_place(c)
    top, left = c.row_taps[0][1], c.column_taps[0][1]
    of_channel = np.arange(channels)[:, None]
    height, lanes = TILES[vectors - 1].rows, VECTOR_BYTES // itemsize
    width = vectors * lanes
    output_at = np.minimum(np.arange(round_up(outputs, height)), outputs - 1) * w.output
    positions = round_up(rows * images * c.columns, height)
    size = images * channels * in_rows * in_columns
    if by_positions:
        places = np.array([(i - top) * in_columns + j - left for _, i in c.row_taps for _, j in c.column_taps])
        steps = of_channel * (in_rows * in_columns) + places
        sums = output_at.size * round_up((rows - 1) * in_columns + c.columns, width)
        work = size + width + max(size if channels > 1 else 0, sums + width)
    else:
        row, column = (c.image[1] * pitch, pitch) if in_place else (in_columns * channels, channels)
        places = np.array([(i - top) * row + (j - left) * column for _, i in c.row_taps for _, j in c.column_taps])
        steps = places + of_channel
        work = 0 if in_place else size
    return _Plan(
        by_positions, in_place, vectors, rows, images, -(-c.rows // rows), in_rows, in_columns,
        np.ascontiguousarray(steps).reshape(-1), (of_channel * w.channel + taps_of(c, w)).reshape(-1), output_at,
        positions, work, cycles,
    )  # fmt: skip


def _parts_of_panels(panels: int, chunks: int) -> int:
    """Into how many parts the output channels of a band are cut, for enough chunks."""
    return min(panels, -(-MIN_CHUNKS // max(chunks, 1)))


def is_in_place(c: Correlation) -> bool:
    """Whether every window lies within the image."""
    inside = True
    for taps, count, step, size in zip((c.row_taps, c.column_taps), (c.rows, c.columns), c.step, c.image, strict=True):
        inside = inside and taps[0][1] >= 0 and (count - 1) * step + taps[-1][1] < size
    return inside


def _bands(c: Correlation, n: int) -> list[tuple[int, int]]:
    """Bands to choose from, (rows, images): rows of one image, or several whole ones where these are small."""
    whole = c.rows * c.columns
    found = [(rows, 1) for rows in range(1, c.rows + 1) if rows == 1 or rows * c.columns <= 2 * MAX_POSITIONS]
    if whole < MIN_POSITIONS * 2:
        found += [(c.rows, images) for images in range(2, min(n, MAX_POSITIONS // whole) + 1)]
    return found


def _band_shape(c: Correlation, rows: int) -> tuple[int, int]:
    height, width = c.extent
    return (rows - 1) * c.step[0] + height, (c.columns - 1) * c.step[1] + width


def _parts(total: int, part: int) -> list[tuple[int, int]]:
    """(number, size) of the parts of ``total``: those of ``part``, and the last."""
    return [(total // part, part), *([(1, total % part)] if total % part else [])]


def _cycles_of_channels(problem: Problem, candidate: Candidate, costs: DirectData) -> float:
    c, (_, vectors, rows, images) = problem.c, candidate
    lanes = VECTOR_BYTES // problem.itemsize
    depth = problem.channels * len(c.row_taps) * len(c.column_taps)
    panels = -(-problem.outputs // (vectors * lanes))
    in_place = is_in_place(c)
    tile = TILES[vectors - 1]
    weights = depth * panels * vectors
    moving = costs.from_l2 if weights * lanes <= L2_ELEMENTS else costs.from_far
    of_tile = costs.tile + costs.storing * tile.rows * vectors
    total = costs.packing * depth * problem.outputs
    for bands, rows_here in _parts(c.rows, rows):
        in_rows, in_columns = _band_shape(c, rows_here)
        for batches, images_here in _parts(problem.n, images):
            tiles = panels * -(-rows_here * images_here * c.columns // tile.rows)
            size = 0 if in_place else problem.channels * in_rows * in_columns * images_here
            multiplying = tile.rows * vectors * depth / tile.rate + of_tile * -(-depth // DEPTH)
            of_band = costs.chunk + tiles * multiplying + costs.laying * size + moving * weights
            total += bands * batches * of_band * (1 if size <= L2_ELEMENTS else BEYOND_L2)
    return total


def _cycles_of_positions(problem: Problem, candidate: Candidate, costs: DirectData) -> float:
    c, (_, vectors, rows, _) = problem.c, candidate
    lanes = VECTOR_BYTES // problem.itemsize
    depth = problem.channels * len(c.row_taps) * len(c.column_taps)
    tile = TILES[vectors - 1]
    laying = costs.transposing if problem.channels > 1 else costs.laying
    total = 0.0
    for bands, rows_here in _parts(c.rows, rows):
        in_rows, in_columns = _band_shape(c, rows_here)
        tiles = -(-((rows_here - 1) * in_columns + c.columns) // (vectors * lanes)) * -(-problem.outputs // tile.rows)
        blocks = rows_here * -(-problem.outputs // lanes) * -(-c.columns // lanes)
        multiplying = tile.rows * vectors * (depth / tile.rate + costs.storing_transposed) + costs.tile
        size = problem.channels * in_rows * in_columns
        of_band = costs.chunk + tiles * multiplying + laying * size + costs.transposing_back * blocks
        total += bands * problem.n * of_band * (1 if size <= L2_ELEMENTS else BEYOND_L2)
    return total
