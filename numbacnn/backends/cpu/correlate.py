"""Correlation in registers: both passes of a convolution that yield images.

Outputs are on a grid; each is the sum over channels and taps of a weight times what lies at the output's place in a
band, plus the tap's offset. Either kind of thing may lie along the vectors:

- output channels do: the band's numbers are broadcast, from wherever they lie, so that strides and image widths cost
  nothing; the weights are packed once, and finished sums are transposed in registers;
- positions do, for stride 1: the weights are broadcast as they are, and a row of B is the band itself, shifted by a
  tap's offset. What lies between the end of a row of outputs and the beginning of the next is computed and left out.

The plan takes the cheaper one by a count of cycles: the former where rows are short, the latter where there are few
outputs or rows fill vectors.

roofline: 2 n k oh ow taps operations at the rate of the tile; x and y pass through memory once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from . import threads
from .bands import lay_band, lay_positions, round_up
from .correlations import Correlation, Weights
from .elementwise import activate, activation_of
from .graph import prepared
from .jit import Scratch, function, kernel
from .memory import empty
from .simd import VECTOR_BYTES, copy_run, lanes_of
from .tiles import TILES, TRANSPOSITION, multiply_gathered, transpose

__all__ = ["correlate", "cycles", "pack_weights", "store_rows", "workspace"]

# Depth of a part of packed weights, which stays in L1 for all positions of a band.
DEPTH = 96
FEWEST_POSITIONS, MOST_POSITIONS = 48, 384
BAND_ELEMENTS = 1 << 17
# Of sums that wait for their activation and are stored together.
SUM_ELEMENTS = 1 << 14
FEWEST_CHUNKS = 8
# Cycles, beside one for a vector of multiply-adds: of laying an element of a band, of finishing a vector of sums that
# has to be transposed, and one that has not, of packing a weight.
LAYING, TURNING, STORING, PACKING = 0.15, 8.0, 3.0, 0.5


class _Plan(NamedTuple):
    turned: bool
    """Whether positions, and not output channels, lie along the vectors."""
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


@function
def store_rows(sums, sums_row, pitch, images, first_image, outputs, first_output, y, rows, columns, at_row, at_column,
    row_step, column_step):  # fmt: skip
    """Of each output channel's row of sums, rows of ``columns`` that begin ``pitch`` apart go to their places in y."""
    flat, plane, width = y.reshape(-1), y.shape[2] * y.shape[3], y.shape[3]
    for j in range(outputs):
        at = j * sums_row
        for image in range(first_image, first_image + images):
            to = (image * y.shape[1] + first_output + j) * plane + at_row * width + at_column
            if column_step == 1 and row_step == 1 and pitch == columns and columns == width:
                copy_run(flat, to, sums, at, rows * columns)
                at += rows * columns
            else:
                for _ in range(rows):
                    if column_step == 1:
                        copy_run(flat, to, sums, at, columns)
                    else:
                        for column in range(columns):
                            flat[np.uintp(to + column * column_step)] = sums[np.uintp(at + column)]
                    to += row_step * width
                    at += pitch


@kernel
def _correlate_channels(
    chunk, x, packed, steps, packed_at, bias, y, places, work, tile, turn, activating, height, width, activation,
    groups, panels, parts, in_place, band_images, band_rows, bands, rows, columns, in_rows, in_columns, top, left, sh,
    sw, at_row, at_column, row_step, column_step,
):  # fmt: skip
    """A chunk is a band of one group of outputs, and a part of its panels of output channels.

    ``rows`` x ``columns`` outputs of each image are computed: output (r, c) begins at row r sh + top, column
    c sw + left of x and is stored at row at_row + r row_step, column at_column + c column_step of y. ``in_rows`` and
    ``in_columns`` are those of a band of x.
    """
    part, rest = chunk % parts, chunk // parts
    band, rest = rest % bands, rest // bands
    group, first_image = rest % groups, rest // groups * band_images
    images, rows_here = min(band_images, x.shape[0] - first_image), min(band_rows, rows - band * band_rows)
    channels, outputs, depth = x.shape[1] // groups, y.shape[1] // groups, steps.size
    lanes = lanes_of(y.itemsize)
    count = images * rows_here * columns
    padded = (count + height - 1) // height * height
    turned_row = (padded + lanes - 1) // lanes * lanes

    size = 0 if in_place else images * channels * in_rows * in_columns
    source, sums, turned = work[:size], work[size : size + turned_row * width], work[size + turned_row * width :]
    image_step = channels * in_rows * in_columns
    if in_place:
        source = x.reshape(-1)[
            (first_image * x.shape[1] + group * channels) * rows * columns + band * band_rows * columns :
        ]
        image_step = x.shape[1] * rows * columns
    else:
        lay_band(
            x, first_image, images, group * channels, channels, top + band * band_rows * sh, in_rows, left, in_columns,
            source,
        )  # fmt: skip
    lay_positions(places, images, rows_here, columns, image_step, sh * in_columns, sw, padded)
    for panel in range(panels * part // parts, panels * (part + 1) // parts):
        first_output = group * outputs + panel * width
        here = min(width, outputs - panel * width)
        if bias.size:
            for j in range(here):
                turned[j] = bias[first_output + j]
            turned[here:width] = 0
            for i in range(padded):
                for j in range(width):
                    sums[np.uintp(i * width + j)] = turned[np.uintp(j)]
        at_packed = (group * panels + panel) * depth * width
        for first in range(0, depth, DEPTH):
            adding = 1 if first > 0 or bias.size > 0 else 0
            multiply_gathered(
                tile, height, source, places, padded, steps, first, min(DEPTH, depth - first), DEPTH, packed,
                at_packed + first * width, packed_at, 0, sums, 0, width, adding,
            )  # fmt: skip
        transpose(turn, sums, 0, width, turned_row, width, turned, 0, turned_row)
        activate(activating, turned, 0, here * turned_row, activation)
        store_rows(
            turned, turned_row, columns, images, first_image, here, first_output, y, rows_here, columns,
            at_row + band * band_rows * row_step, at_column, row_step, column_step,
        )  # fmt: skip


@kernel
def _correlate_positions(
    chunk, x, weight, output_at, weight_steps, steps, bias, y, work, tile, activating, height, width, activation,
    groups, group_stride, parts, band_rows, bands, rows, columns, in_rows, in_columns, top, left, at_row, at_column,
    row_step, column_step,
):  # fmt: skip
    """A chunk is a band of one group of outputs of one image, and a part of its output channels; see above."""
    part, rest = chunk % parts, chunk // parts
    band, rest = rest % bands, rest // bands
    group, image = rest % groups, rest // groups
    rows_here = min(band_rows, rows - band * band_rows)
    channels, outputs = x.shape[1] // groups, y.shape[1] // groups
    tiles = output_at.size // height
    first, end = tiles * part // parts * height, tiles * (part + 1) // parts * height
    sums_row = ((rows_here - 1) * in_columns + columns + width - 1) // width * width

    # The last tile reads less than its width beyond the end.
    size = channels * in_rows * in_columns
    source, sums = work[: size + width], work[size + width :]
    lay_band(x, image, 1, group * channels, channels, top + band * band_rows, in_rows, left, in_columns, source)
    source[size : size + width] = 0
    most = max(height, SUM_ELEMENTS // sums_row // height * height)
    weights = weight[group * group_stride :]
    for block in range(first, end, most):
        block_end = min(block + most, end)
        if bias.size:
            for i in range(block, block_end):
                start = bias[group * outputs + min(i, outputs - 1)]
                for p in range((i - block) * sums_row, (i - block + 1) * sums_row):
                    sums[np.uintp(p)] = start
        for p in range(0, sums_row, width):
            multiply_gathered(
                tile, height, weights, output_at[block:block_end], block_end - block, weight_steps, 0,
                weight_steps.size, weight_steps.size, source, p, steps, 0, sums, p, sums_row,
                1 if bias.size > 0 else 0,
            )  # fmt: skip
        here = min(block_end, outputs) - block
        activate(activating, sums, 0, here * sums_row, activation)
        store_rows(
            sums, sums_row, in_columns, 1, image, here, group * outputs + block, y, rows_here, columns,
            at_row + band * band_rows * row_step, at_column, row_step, column_step,
        )  # fmt: skip


@kernel
def _pack_weights(chunk, weight, taps, packed, turn, width, panels, channels, group, output, channel, outputs):
    """A chunk is one panel of output channels: packed[(channel, tap), output] = weight[output, channel, taps[tap]].

    ``group``, ``output`` and ``channel`` are the distances of neighbours in ``weight``.
    """
    here = min(width, outputs - chunk % panels * width)
    start = chunk // panels * group + chunk % panels * width * output
    at = chunk * channels * taps.size * width
    if here < width:
        packed[at : at + channels * taps.size * width] = 0
    whole = channel == taps.size
    for t in range(taps.size):
        whole = whole and taps[t] == t
    if whole:
        transpose(turn, weight, start, output, here, channels * channel, packed, at, width)
    else:
        for c in range(channels):
            for t in range(taps.size):
                source = start + c * channel + taps[t]
                for j in range(here):
                    packed[np.uintp(at + j)] = weight[np.uintp(source + j * output)]
                at += width


def correlate(
    c: Correlation,
    x: np.ndarray,
    weight: np.ndarray,
    w: Weights,
    bias: np.ndarray,
    y: np.ndarray,
    groups: int,
    activation: int = 0,
) -> None:
    """The outputs of ``c`` on the grid of y that is theirs; ``bias`` may be empty."""
    n, channels, outputs = x.shape[0], x.shape[1] // groups, y.shape[1] // groups
    plan = _plan(c, w, n, channels, outputs, x.itemsize)
    grid = (
        plan.bands, c.rows, c.columns, plan.in_rows, plan.in_columns, c.row_taps[0][1], c.column_taps[0][1],
    )  # fmt: skip
    chunks = -(-n // plan.band_images) * groups * plan.bands
    most = -(-FEWEST_CHUNKS // max(chunks, 1))
    tile = TILES[plan.vectors - 1]
    width = tile.vectors * VECTOR_BYTES // x.itemsize
    if plan.turned:
        parts = min(plan.output_at.size // tile.rows, most)
        _correlate_positions(
            chunks * parts, x, weight.reshape(-1), plan.output_at, plan.weight_steps, plan.steps, bias, y,
            Scratch(plan.work, x.dtype), tile.routine, activation_of, tile.rows, width, activation, groups, w.group,
            parts, plan.band_rows, *grid, *c.first, *c.output_step,
        )  # fmt: skip
        return
    panels = -(-outputs // width)
    packed = prepared(weight, lambda: pack_weights(c, weight, w, width, channels, outputs, groups))
    parts = min(panels, most)
    _correlate_channels(
        chunks * parts, x, packed, plan.steps, np.arange(DEPTH) * width, bias, y,
        Scratch(plan.positions, np.dtype(np.int64)), Scratch(plan.work, x.dtype), tile.routine, TRANSPOSITION,
        activation_of, tile.rows, width, activation, groups, panels, parts, int(c.is_pointwise), plan.band_images,
        plan.band_rows, *grid,
        *c.step, *c.first, *c.output_step,
    )  # fmt: skip


def pack_weights(
    c: Correlation, weight: np.ndarray, w: Weights, width: int, channels: int, outputs: int, groups: int
) -> np.ndarray:
    """The weights as vectors of ``width`` output channels: (group, panel, channel, tap, output), flat."""
    taps = _taps(c, w)
    panels = -(-outputs // width)
    packed = empty((groups * panels * channels * taps.size * width,), weight.dtype)
    _pack_weights(
        groups * panels, weight.reshape(-1), taps, packed, TRANSPOSITION, width, panels, channels, w.group, w.output,
        w.channel, outputs,
    )  # fmt: skip
    return packed


@functools.lru_cache(maxsize=1024)
def _taps(c: Correlation, w: Weights) -> np.ndarray:
    """Offset of a tap in the weights."""
    return np.array([i * w.row + j for i, _ in c.row_taps for j, _ in c.column_taps])


def cycles(c: Correlation, w: Weights, n: int, channels: int, outputs: int, groups: int, itemsize: int) -> float:
    """About how many :func:`correlate` takes, of all threads together."""
    return groups * _plan(c, w, n, channels, outputs, itemsize).cycles


def workspace(c: Correlation, w: Weights, n: int, channels: int, outputs: int, groups: int, itemsize: int) -> int:
    """Bytes that :func:`correlate` uses beside its arguments: packed weights, and the work of each thread."""
    plan = _plan(c, w, n, channels, outputs, itemsize)
    packed = groups * plan.steps.size * round_up(outputs, plan.vectors * VECTOR_BYTES // itemsize)
    return itemsize * (threads.number() * plan.work + (0 if plan.turned else packed))


@functools.lru_cache(maxsize=1024)
def _plan(c: Correlation, w: Weights, n: int, channels: int, outputs: int, itemsize: int) -> _Plan:
    """The plan of fewest cycles."""
    plans = []
    for vectors in range(1, len(TILES) + 1):
        for rows, images in _bands(c, n):
            band = (vectors, rows, images)
            plans.append((_cycles_of_channels(c, n, channels, outputs, itemsize, *band), False, *band))
            if c.step == (1, 1) and images == 1:
                plans.append((_cycles_of_positions(c, n, channels, outputs, itemsize, *band), True, *band))
    cycles, turned, vectors, rows, images = min(plans)
    in_rows, in_columns = _band_shape(c, rows)
    top, left = c.row_taps[0][1], c.column_taps[0][1]
    places = np.array([(i - top) * in_columns + j - left for _, i in c.row_taps for _, j in c.column_taps])
    of_channel = np.arange(channels)[:, None]
    height, lanes = TILES[vectors - 1].rows, VECTOR_BYTES // itemsize
    width = vectors * lanes
    output_at = np.minimum(np.arange(round_up(outputs, height)), outputs - 1) * w.output
    positions = round_up(rows * images * c.columns, height)
    size = images * channels * in_rows * in_columns
    plane = in_rows * in_columns
    if turned:
        sums_row = round_up((rows - 1) * in_columns + c.columns, width)
        # Of the last band, whose rows are shorter, more may be in work at a time.
        work = size + width + min(output_at.size * sums_row, max(height * sums_row, SUM_ELEMENTS))
    else:
        if c.is_pointwise:
            size, plane = 0, c.rows * c.columns
        work = size + 2 * round_up(positions, lanes) * width
    return _Plan(
        turned, vectors, rows, images, -(-c.rows // rows), in_rows, in_columns,
        (of_channel * plane + places).reshape(-1), (of_channel * w.channel + _taps(c, w)).reshape(-1),
        output_at, positions, work, cycles,
    )  # fmt: skip


def _bands(c: Correlation, n: int) -> list[tuple[int, int]]:
    """Bands to choose from, (rows, images): rows of one image, or several whole ones where these are small."""
    whole = c.rows * c.columns
    found = [(rows, 1) for rows in range(1, c.rows + 1) if rows == 1 or rows * c.columns <= 2 * MOST_POSITIONS]
    if whole < FEWEST_POSITIONS * 2:
        found += [(c.rows, images) for images in range(2, min(n, MOST_POSITIONS // whole) + 1)]
    return found


def _band_shape(c: Correlation, rows: int) -> tuple[int, int]:
    height, width = c.extent
    return (rows - 1) * c.step[0] + height, (c.columns - 1) * c.step[1] + width


def _parts(total: int, part: int) -> list[tuple[int, int]]:
    """(number, size) of the parts of ``total``: those of ``part``, and the last."""
    return [(total // part, part), *([(1, total % part)] if total % part else [])]


def _cycles_of_channels(c, n, channels, outputs, itemsize, vectors, rows, images) -> float:
    lanes = VECTOR_BYTES // itemsize
    depth = channels * len(c.row_taps) * len(c.column_taps)
    needed = round_up(-(-outputs // lanes), vectors)
    in_rows, in_columns = _band_shape(c, rows)
    size = 0 if c.is_pointwise else channels * in_rows * in_columns * images
    total = PACKING * depth * outputs
    for bands, rows_here in _parts(c.rows, rows):
        for batches, images_here in _parts(n, images):
            sums = round_up(rows_here * images_here * c.columns, TILES[vectors - 1].rows)
            parts = -(-depth // DEPTH)
            total += (
                bands
                * batches
                * (
                    sums * needed * (depth / TILES[vectors - 1].rate + 2 * parts + TURNING)
                    + LAYING * size
                    # A part of the packed weights comes from L2 for each band.
                    + depth * needed * 2
                )
            )
    return total * (1 if size <= BAND_ELEMENTS else 1.5)


def _cycles_of_positions(c, n, channels, outputs, itemsize, vectors, rows, images) -> float:
    depth = channels * len(c.row_taps) * len(c.column_taps)
    in_rows, in_columns = _band_shape(c, rows)
    size = channels * in_rows * in_columns
    width = vectors * VECTOR_BYTES // itemsize
    total = 0.0
    for bands, rows_here in _parts(c.rows, rows):
        sums = round_up((rows_here - 1) * in_columns + c.columns, width) // width * vectors
        sums *= round_up(outputs, TILES[vectors - 1].rows)
        total += bands * (n // images) * (sums * (depth / TILES[vectors - 1].rate + STORING) + LAYING * size)
    return total * (1 if size <= BAND_ELEMENTS else 1.5)
