"""Direct convolution in registers: output channels lie along the vectors, every tap of the image is a broadcast.

One sum serves all three passes: C[i] = sum over k of S[row_at[i] + step[k]] B[k], where S is a band of padded images in
the core's cache, ``row_at`` and ``step`` are tables of places in it, and B has vectors of channels.

- forward: i is a position of the output, k a tap (c, i, j), B the weights, taps by output channels;
- input gradient: the same on dy with turned weights, once for each phase of the stride, so that no product is with a
  zero that a stride put there;
- weight gradient: i is a tap, k a position, B is dy, positions by output channels.

What is scattered is read one number at a time from wherever it lies, so strides, dilations and image widths cost
nothing and no column is ever laid out; what is read as vectors is packed once. Depth goes in steps of DEPTH, whose part
of B stays in L1 for all positions of a band; the tiles of sums wait in L1 or L2 between steps. Finished sums are
transposed in registers, get their activation, and are stored row by row.

roofline: 2 n k oh ow taps operations at the rate of the tile; x and y pass through memory once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..geometry import Conv2dGeometry
from .elementwise import activate
from .jit import function, kernel
from .rows import copy_strided
from .simd import VECTOR_BYTES, lanes_of
from .tiles import ROWS, choose_vectors, multiply_gathered, transpose

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

DEPTH = 96
FEWEST_POSITIONS, MOST_POSITIONS = 48, 192
FEWEST_CHUNKS = 8
BAND_ELEMENTS = 1 << 17


class Band(NamedTuple):
    """Output positions that are computed together: rows of one image, or several whole images."""

    rows: int
    images: int


@function
def lay_band(x, image, images, first_channel, channels, top, rows, left, width, band):
    """band[image, c, row, column] = x[.., top + row, left + column], zero outside of the image."""
    h, w = x.shape[2], x.shape[3]
    begin, end = min(max(0, -left), width), max(0, min(width, w - left))
    at = 0
    for n in range(image, image + images):
        for c in range(first_channel, first_channel + channels):
            plane = x[n, c].reshape(-1)
            for row in range(top, top + rows):
                if row < 0 or row >= h or end <= begin:
                    band[at : at + width] = 0
                else:
                    band[at : at + begin] = 0
                    copy_strided(band, at + begin, plane, row * w + left + begin, 1, end - begin)
                    band[at + end : at + width] = 0
                at += width


@function
def lay_positions(places, images, rows, columns, image_step, row_step, column_step, padded):
    """places[(image, row, column)] = where that output's window begins; the last one again up to ``padded``."""
    at = 0
    for image in range(images):
        for row in range(rows):
            for column in range(columns):
                places[at] = image * image_step + row * row_step + column * column_step
                at += 1
    for i in range(at, padded):
        places[i] = places[at - 1]


@kernel
def _correlate_bands(
    chunk,
    x,
    packed,
    steps,
    bias,
    y,
    activation,
    vectors,
    groups,
    panels,
    parts,
    band_images,
    band_rows,
    bands,
    rows,
    columns,
    in_rows,
    in_columns,
    top,
    left,
    sh,
    sw,
    first_row,
    first_column,
    row_step,
    column_step,
):
    """A chunk is a band of one group of outputs, and a part of its panels of output channels.

    ``rows`` x ``columns`` outputs of each image are computed: output (r, c) begins at row r sh + top, column
    c sw + left of x and is stored at row first_row + r row_step, column first_column + c column_step of y.
    ``in_rows`` and ``in_columns`` are those of a band of x.
    """
    part, rest = chunk % parts, chunk // parts
    band, rest = rest % bands, rest // bands
    group, first_image = rest % groups, rest // groups * band_images
    images, rows_here = min(band_images, x.shape[0] - first_image), min(band_rows, rows - band * band_rows)
    channels, outputs, depth = x.shape[1] // groups, y.shape[1] // groups, steps.size
    lanes = lanes_of(y.itemsize)
    width, height = vectors * lanes, ROWS[vectors - 1]
    count = images * rows_here * columns
    padded = (count + height - 1) // height * height
    turned_row = (padded + lanes - 1) // lanes * lanes

    source = np.empty(images * channels * in_rows * in_columns, x.dtype)
    lay_band(
        x,
        first_image,
        images,
        group * channels,
        channels,
        top + band * band_rows * sh,
        in_rows,
        left,
        in_columns,
        source,
    )
    places = np.empty(padded, np.int64)
    lay_positions(places, images, rows_here, columns, channels * in_rows * in_columns, sh * in_columns, sw, padded)
    sums, turned = np.empty(turned_row * width, y.dtype), np.empty(width * turned_row, y.dtype)
    flat, plane = y.reshape(-1), y.shape[2] * y.shape[3]
    whole_rows = column_step == 1 and row_step == 1 and columns == y.shape[3]
    for panel in range(panels * part // parts, panels * (part + 1) // parts):
        first_output = panel * width
        here = min(width, outputs - first_output)
        if bias.size:
            for j in range(here):
                turned[j] = bias[group * outputs + first_output + j]
            turned[here:width] = 0
            for i in range(padded):
                for j in range(width):
                    sums[np.uintp(i * width + j)] = turned[np.uintp(j)]
        at_packed = (group * panels + panel) * depth * width
        for first in range(0, depth, DEPTH):
            adding = 1 if first > 0 or bias.size > 0 else 0
            multiply_gathered(
                vectors, source, places, padded, steps, first, min(DEPTH, depth - first),
                packed, at_packed + first * width, width, sums, 0, width, adding,
            )  # fmt: skip
        transpose(sums, 0, width, turned_row, width, turned, 0, turned_row)
        activate(turned, 0, here * turned_row, activation)
        for j in range(here):
            at_plane = (first_image * y.shape[1] + group * outputs + first_output + j) * plane
            at = j * turned_row
            for _ in range(images):
                if whole_rows:
                    run = rows_here * columns
                    copy_strided(flat, at_plane + (first_row + band * band_rows) * columns, turned, at, 1, run)
                    at += run
                else:
                    for row in range(rows_here):
                        to = at_plane + (first_row + (band * band_rows + row) * row_step) * y.shape[3] + first_column
                        for column in range(columns):
                            flat[np.uintp(to + column * column_step)] = turned[np.uintp(at + column)]
                        at += columns
                at_plane += y.shape[1] * plane


@kernel
def _pack_weights(
    chunk, weight, taps, packed, vectors, groups, panels, inner, outer_stride, output_stride, group_stride, outputs
):
    """A chunk is one panel of output channels: packed[(outer, tap), output] = weight[outer, output, taps[tap]].

    ``inner`` taps are taken of each outer channel.
    """
    width = vectors * lanes_of(weight.itemsize)
    group, panel = chunk // panels, chunk % panels
    here = min(width, outputs - panel * width)
    start = group * group_stride + panel * width * output_stride
    outer = packed.size // (groups * panels * width * inner)
    at = chunk * outer * inner * width
    for q in range(outer):
        for t in range(inner):
            source = start + q * outer_stride + taps[t]
            for j in range(here):
                packed[np.uintp(at + j)] = weight[np.uintp(source + j * output_stride)]
            packed[at + here : at + width] = 0
            at += width


@kernel
def _sum_weights(
    chunk, dy, x, row_taps, column_taps, sums, vectors, groups, panels, blocks, block, images, band_images, band_rows,
    bands, in_rows, in_columns, top, left, sh, sw,
):  # fmt: skip
    """A chunk is a block of input channels of one group, summed over ``images`` images.

    sums[part, group, block, panel, tap, output]; taps are (c, i, j), rounded up to whole tiles.
    """
    at_block, rest = chunk % blocks, chunk // blocks
    group, part = rest % groups, rest // groups
    channels, outputs = x.shape[1] // groups, dy.shape[1] // groups
    first_channel = at_block * block
    here = min(block, channels - first_channel)
    oh, ow = dy.shape[2], dy.shape[3]
    width, height = vectors * lanes_of(x.itemsize), ROWS[vectors - 1]
    window = row_taps.size * column_taps.size
    taps = here * window
    padded = (taps + height - 1) // height * height
    panel_size = (block * window + height - 1) // height * height * width
    base = chunk * panels * panel_size

    tap_at = np.empty(padded, np.int64)
    at = 0
    for c in range(here):
        for i in range(row_taps.size):
            for j in range(column_taps.size):
                tap_at[at] = (c * in_rows + row_taps[i]) * in_columns + column_taps[j]
                at += 1
    for i in range(taps, padded):
        tap_at[i] = tap_at[taps - 1]
    most = band_images * band_rows * ow
    source = np.empty(band_images * here * in_rows * in_columns, x.dtype)
    places, turned = np.empty(most, np.int64), np.empty(most * width, x.dtype)
    flat, plane = dy.reshape(-1), oh * ow
    adding = 0
    for first_image in range(part * images, min((part + 1) * images, x.shape[0]), band_images):
        images_here = min(band_images, min((part + 1) * images, x.shape[0]) - first_image)
        for band in range(bands):
            rows = min(band_rows, oh - band * band_rows)
            lay_band(
                x, first_image, images_here, group * channels + first_channel, here, top + band * band_rows * sh,
                in_rows, left, in_columns, source,
            )  # fmt: skip
            count = images_here * rows * ow
            lay_positions(places, images_here, rows, ow, here * in_rows * in_columns, sh * in_columns, sw, count)
            for panel in range(panels):
                wide = min(width, outputs - panel * width)
                for image in range(images_here):
                    start = ((first_image + image) * dy.shape[1] + group * outputs + panel * width) * plane
                    at = image * rows * ow * width
                    transpose(flat, start + band * band_rows * ow, plane, wide, rows * ow, turned, at, width)
                if wide < width:
                    for i in range(count):
                        turned[i * width + wide : (i + 1) * width] = 0
                multiply_gathered(
                    vectors, source, tap_at, padded, places, 0, count, turned, 0, width, sums,
                    base + panel * panel_size, width, adding,
                )  # fmt: skip
            adding = 1


@kernel
def _finish_weights(chunk, sums, dweight, vectors, groups, panels, blocks, block, window):
    """A chunk is a panel of outputs and a block of channels: the parts are added in their order, and transposed."""
    panel, rest = chunk % panels, chunk // panels
    at_block, group = rest % blocks, rest // blocks
    width, height = vectors * lanes_of(dweight.itemsize), ROWS[vectors - 1]
    outputs, channels = dweight.shape[0] // groups, dweight.shape[1]
    first_channel, first_output = at_block * block, panel * width
    taps = min(block, channels - first_channel) * window
    panel_size = (block * window + height - 1) // height * height * width
    part_size = groups * blocks * panels * panel_size
    at = ((group * blocks + at_block) * panels + panel) * panel_size
    for part in range(1, sums.size // part_size):
        for i in range(at, at + taps * width):
            sums[np.uintp(i)] += sums[np.uintp(i + part * part_size)]
    transpose(
        sums, at, width, taps, min(width, outputs - first_output), dweight.reshape(-1),
        ((group * outputs + first_output) * channels + first_channel) * window, channels * window,
    )  # fmt: skip


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    y = np.empty(g.y_shape, x.dtype)
    window = g.kh * g.kw
    strides = (window, g.taps, g.k // g.groups * g.taps)
    for correlation in _forward_correlations(g):
        _correlate(correlation, x, weight, bias, y, activation, g.groups, strides)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    correlations, whole = _backward_correlations(g)
    dx = np.empty(g.x_shape, dy.dtype) if whole else np.zeros(g.x_shape, dy.dtype)
    window, nothing = g.kh * g.kw, np.empty(0, dy.dtype)
    strides = (g.taps, window, g.k // g.groups * g.taps)
    for correlation in correlations:
        _correlate(correlation, dy, weight, nothing, dx, 0, g.groups, strides)
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    plan = _plan_weights(g, x.itemsize)
    sums = np.empty(plan.parts * plan.chunks * plan.panels * plan.panel_size, x.dtype)
    if not g.n:
        return np.zeros(g.weight_shape, x.dtype)
    _sum_weights(
        plan.parts * plan.chunks, dy, x, plan.row_taps, plan.column_taps, sums, plan.vectors, g.groups, plan.panels,
        plan.blocks, plan.block, plan.images, plan.band.images, plan.band.rows, plan.bands, plan.in_rows,
        plan.in_columns, -g.pt, -g.pl, g.sh, g.sw,
    )  # fmt: skip
    dweight = np.empty(g.weight_shape, x.dtype)
    _finish_weights(
        plan.panels * plan.chunks, sums, dweight, plan.vectors, g.groups, plan.panels, plan.blocks, plan.block,
        g.kh * g.kw,
    )  # fmt: skip
    return dweight


class Correlation(NamedTuple):
    """Outputs on a grid, each the sum over taps of what lies at its place in x plus an offset."""

    rows: int
    columns: int
    row_taps: tuple[tuple[int, int], ...]
    """(row of the kernel, row of x for output row 0), and likewise:"""
    column_taps: tuple[tuple[int, int], ...]
    step: tuple[int, int]
    """From one output to the next, in x."""
    first: tuple[int, int]
    output_step: tuple[int, int]
    kernel_columns: int


class _Plan(NamedTuple):
    band: Band
    bands: int
    in_rows: int
    in_columns: int
    steps: np.ndarray
    taps: np.ndarray
    vectors: int
    panels: int


def _correlate(c, x, weight, bias, y, activation, groups, strides) -> None:
    plan = _plan(c, x.shape[0], x.shape[1] // groups, y.shape[1] // groups, x.itemsize)
    outputs, width = y.shape[1] // groups, plan.vectors * VECTOR_BYTES // x.itemsize
    packed = np.empty(groups * plan.panels * plan.steps.size * width, x.dtype)
    _pack_weights(
        groups * plan.panels, weight.reshape(-1), plan.taps, packed, plan.vectors, groups, plan.panels, plan.taps.size,
        *strides, outputs,
    )  # fmt: skip
    chunks = -(-x.shape[0] // plan.band.images) * groups * plan.bands
    parts = min(plan.panels, -(-FEWEST_CHUNKS // max(chunks, 1)))
    _correlate_bands(
        chunks * parts, x, packed, plan.steps, bias, y, activation, plan.vectors, groups, plan.panels, parts,
        plan.band.images, plan.band.rows, plan.bands, c.rows, c.columns, plan.in_rows, plan.in_columns,
        c.row_taps[0][1], c.column_taps[0][1], *c.step, *c.first, *c.output_step,
    )  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _forward_correlations(g: Conv2dGeometry) -> tuple[Correlation, ...]:
    rows = tuple((i, i * g.dh - g.pt) for i in range(g.kh))
    columns = tuple((j, j * g.dw - g.pl) for j in range(g.kw))
    return (Correlation(g.oh, g.ow, rows, columns, (g.sh, g.sw), (0, 0), (1, 1), g.kw),)


@functools.lru_cache(maxsize=1024)
def _backward_correlations(g: Conv2dGeometry) -> tuple[tuple[Correlation, ...], bool]:
    """One for each phase of the stride that any tap reaches; and whether all are there."""
    found, whole = [], True
    for row in range(min(g.sh, g.h)):
        rows = _phase(row + g.pt, g.kh, g.dh, g.sh)
        for column in range(min(g.sw, g.w)):
            columns = _phase(column + g.pl, g.kw, g.dw, g.sw)
            size = (-(-(g.h - row) // g.sh), -(-(g.w - column) // g.sw))
            if rows and columns:
                found.append(Correlation(*size, rows, columns, (1, 1), (row, column), (g.sh, g.sw), g.kw))
            else:
                whole = False
    return tuple(found), whole


def _phase(start: int, kernel: int, dilation: int, stride: int) -> tuple[tuple[int, int], ...]:
    """(tap, where it is read for the first output), in ascending order of the latter."""
    taps = [(i, (start - i * dilation) // stride) for i in range(kernel) if (start - i * dilation) % stride == 0]
    return tuple(sorted(taps, key=lambda tap: tap[1]))


@functools.lru_cache(maxsize=1024)
def _plan(c: Correlation, n: int, channels: int, outputs: int, itemsize: int) -> _Plan:
    vectors = choose_vectors(outputs, itemsize)
    height = c.row_taps[-1][1] - c.row_taps[0][1] + 1
    in_columns = (c.columns - 1) * c.step[1] + c.column_taps[-1][1] - c.column_taps[0][1] + 1
    band = choose_band(c.rows, c.columns, n, ROWS[vectors - 1])
    in_rows = (band.rows - 1) * c.step[0] + height
    places = [
        (row - c.row_taps[0][1]) * in_columns + column - c.column_taps[0][1]
        for _, row in c.row_taps
        for _, column in c.column_taps
    ]
    steps = np.arange(channels)[:, None] * (in_rows * in_columns) + np.array(places, np.int64)
    taps = [i * c.kernel_columns + j for i, _ in c.row_taps for j, _ in c.column_taps]
    panels = -(-outputs // (vectors * VECTOR_BYTES // itemsize))
    return _Plan(
        band, -(-c.rows // band.rows), in_rows, in_columns, steps.reshape(-1), np.array(taps, np.int64), vectors, panels
    )


def choose_band(rows: int, columns: int, images: int, height: int) -> Band:
    """The band whose positions fill tiles of ``height`` rows best, of those of a size that suits the caches."""
    whole = rows * columns
    if whole < FEWEST_POSITIONS:
        candidates = [Band(rows, count) for count in range(1, max(1, min(images, MOST_POSITIONS // whole)) + 1)]
    else:
        candidates = [Band(count, 1) for count in range(1, rows + 1)]

    def cost(band: Band) -> tuple[int, int, int]:
        count = band.rows * band.images * columns
        split = rows if whole >= FEWEST_POSITIONS else max(images, 1)
        size = band.rows if whole >= FEWEST_POSITIONS else band.images
        last = (split - 1) % size + 1
        computed = (split - last) // size * _up(count, height) + _up(last * count // size, height)
        fits = FEWEST_POSITIONS <= count <= MOST_POSITIONS
        return (0 if fits else 1, computed if fits else abs(count - FEWEST_POSITIONS), count)

    return min(candidates, key=cost)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


class _WeightPlan(NamedTuple):
    vectors: int
    panels: int
    panel_size: int
    block: int
    blocks: int
    parts: int
    images: int
    band: Band
    bands: int
    in_rows: int
    in_columns: int
    row_taps: np.ndarray
    column_taps: np.ndarray
    chunks: int


SUM_ELEMENTS = 1 << 17
PARTIAL_ELEMENTS = 1 << 21
MOST_PARTS = 16


@functools.lru_cache(maxsize=1024)
def _plan_weights(g: Conv2dGeometry, itemsize: int) -> _WeightPlan:
    channels, outputs, window = g.c // g.groups, g.k // g.groups, g.kh * g.kw
    vectors = choose_vectors(outputs, itemsize)
    width, height = vectors * VECTOR_BYTES // itemsize, ROWS[vectors - 1]
    panels = -(-outputs // width)
    most = max(1, SUM_ELEMENTS // (window * panels * width))
    blocks = -(-channels // min(channels, most))
    block = -(-channels // blocks)
    blocks = -(-channels // block)
    band = choose_band(g.oh, g.ow, g.n, 1)
    panel_size = _up(block * window, height) * width
    batches = -(-max(g.n, 1) // band.images)
    whole = g.groups * blocks * panels * panel_size
    parts = max(1, min(batches, -(-MOST_PARTS // (blocks * g.groups)), PARTIAL_ELEMENTS // whole))
    images = -(-batches // parts) * band.images
    parts = -(-max(g.n, 1) // images)
    return _WeightPlan(
        vectors, panels, panel_size, block, blocks, parts, images, band, -(-g.oh // band.rows),
        (band.rows - 1) * g.sh + (g.kh - 1) * g.dh + 1, (g.ow - 1) * g.sw + (g.kw - 1) * g.dw + 1,
        np.arange(g.kh) * g.dh, np.arange(g.kw) * g.dw, blocks * g.groups,
    )  # fmt: skip


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if pass_ == "backward_weight":
        plan = _plan_weights(g, itemsize)
        return itemsize * plan.parts * plan.chunks * plan.panels * plan.panel_size
    return 0
