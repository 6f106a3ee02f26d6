"""Images of another size: a chunk is a few rows of the result.

Images are taken as they lie, channels last or plane by plane, as (images, h, w, size) with ``size`` neighbours that go
together: the channels of a pixel, or one. Gradients gather: a row of pixels first adds up the rows of dy that read it,
weighted, and then, along that sum, what reads each pixel.

roofline: memory, one read of x and one write of y. The four reads of a point between pixels, and that several rows
of dy are added up, are a matter of L1 and L2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..geometry import Resampling
from ..shared import resampling
from ..shared.rearranging import nested_loops, rearranged_shape
from .runtime.allocator import empty
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .vector import layout
from .vector.blocks import BLOCK
from .vector.layout import channels_last, contiguous, images, neighbours, of_neighbours
from .vector.simd import copy_run, flattened

__all__ = ["pad2d", "pad2d_backward", "rearrange", "resample2d", "resample2d_backward"]

Pads = tuple[int, int, int, int]

# More terms than these are added up in float64.
SHORT_SUM = 16
# Numbers whose places are looked up in a table, which the first cache has beside them.
LONG_RUN = 1 << 11


class _Run(NamedTuple):
    """Points ``first`` .. ``end`` of a row are neighbours in x, too, from pixel ``source`` on."""

    first: int
    end: int
    source: int
    rows: int


@inlined
def fill(target, start, end, value):
    for i in range(np.uintp(start), np.uintp(end)):
        target[i] = value


@inlined
def take_pixels(source, at, target, start, columns, first, end, size, value):
    """Points ``first`` .. ``end`` of the row of ``target`` that begins at ``start``, of the row of ``source`` at
    ``at``.
    """
    for column in range(first, end):
        pixel, place = columns[column], start + column * size
        if pixel < 0:
            fill(target, place, place + size, value)
        elif size == 1:
            target[np.uintp(place)] = source[np.uintp(at + pixel)]
        else:
            copy_run(target, place, source, at + pixel * size, size)


@kernel
def _take_rows(chunk, x, y, rows, columns, value, p):
    """A chunk is ``p.rows`` rows of y: a copy of rows and pixels of x, ``value`` where a table says -1."""
    h, w, size, oh, ow = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    source, target = flattened(x), flattened(y)
    for line in range(chunk * p.rows, min((chunk + 1) * p.rows, y.shape[0] * oh)):
        row, start = rows[line % oh], line * ow * size
        if row < 0:
            fill(target, start, start + ow * size, value)
        else:
            at = ((line // oh) * h + row) * w * size
            take_pixels(source, at, target, start, columns, 0, p.first, size, value)
            copy_run(target, start + p.first * size, source, at + p.source * size, (p.end - p.first) * size)
            take_pixels(source, at, target, start, columns, p.end, ow, size, value)


@inlined
def between(a, b, weight):
    """``weight`` of the way from a to b; what weighs nothing does not count, even if it is infinite."""
    real = type(a)
    return (real(1) - weight) * a + weight * b if weight > real(0) else a


@kernel
def _blend_rows(chunk, x, y, above, below, down, left, right, across, rows):
    """A chunk is ``rows`` rows of y, whose points are each between four pixels."""
    h, w, size, oh, ow = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    source, target = flattened(x), flattened(y)
    for line in range(chunk * rows, min((chunk + 1) * rows, y.shape[0] * oh)):
        row, first = line % oh, line // oh * h
        upper, lower, v = (first + above[row]) * w * size, (first + below[row]) * w * size, down[row]
        for column in range(ow):
            u, at = across[column], np.uintp((line * ow + column) * size)
            a, b = np.uintp(upper + left[column] * size), np.uintp(upper + right[column] * size)
            c, d = np.uintp(lower + left[column] * size), np.uintp(lower + right[column] * size)
            for i in range(np.uintp(size)):
                one, other = between(source[a + i], source[c + i], v), between(source[b + i], source[d + i], v)
                target[at + i] = between(one, other, u)


@kernel
def _gather_rows(
    chunk, dy, dx, row_starts, row_outputs, row_weights, column_starts, column_outputs, column_weights, total, pixel,
    rows,
):  # fmt: skip
    """A chunk is ``rows`` rows of dx. ``total`` is a row of dy and ``pixel`` a pixel, both wide enough for the sums."""
    h, w, size, oh = dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1]
    length = dy.shape[2] * size
    values, result = flattened(dy), flattened(dx)
    real, wide = dx.dtype.type, total.dtype.type
    for line in range(chunk * rows, min((chunk + 1) * rows, dx.shape[0] * h)):
        row, first = line % h, line // h * oh
        begin, end = row_starts[row], row_starts[row + 1]
        if begin == end:
            fill(result, line * w * size, (line + 1) * w * size, real(0))
            continue
        for k in range(begin, end):
            at, weight = np.uintp((first + row_outputs[k]) * length), row_weights[k]
            if k == begin:
                for i in range(np.uintp(length)):
                    total[i] = weight * wide(values[at + i])
            else:
                for i in range(np.uintp(length)):
                    total[i] += weight * wide(values[at + i])
        for column in range(w):
            begin, end = column_starts[column], column_starts[column + 1]
            at = np.uintp((line * w + column) * size)
            if end - begin == 1:
                start, weight = np.uintp(column_outputs[begin] * size), column_weights[begin]
                for i in range(np.uintp(size)):
                    result[at + i] = real(weight * total[start + i])
                continue
            fill(pixel, 0, size, wide(0))
            for k in range(begin, end):
                start, weight = np.uintp(column_outputs[k] * size), column_weights[k]
                for i in range(np.uintp(size)):
                    pixel[i] += weight * total[start + i]
            for i in range(np.uintp(size)):
                result[at + i] = real(pixel[i])


class _Loops(NamedTuple):
    """The lengths of six nested loops over y, and how far apart what they read of x is; the outer three are ``lines``
    lines, of which a chunk is ``rows``.
    """

    lines: int
    rows: int
    length1: int
    length2: int
    length3: int
    length4: int
    length5: int
    step0: int
    step1: int
    step2: int
    step3: int
    step4: int
    step5: int


@kernel
def _rearrange_lines(chunk, x, y, p):
    for line in range(chunk * p.rows, min((chunk + 1) * p.rows, p.lines)):
        rest = line // p.length2
        start = line % p.length2 * p.step2 + rest % p.length1 * p.step1 + rest // p.length1 * p.step0
        at = line * p.length3 * p.length4 * p.length5
        for i in range(p.length3):
            for j in range(p.length4):
                source = start + i * p.step3 + j * p.step4
                if p.step5 == 1:
                    copy_run(y, at, x, source, p.length5)
                else:
                    for k in range(np.uintp(p.length5)):
                        y[np.uintp(at) + k] = x[np.uintp(source) + k * np.uintp(p.step5)]
                at += p.length5


@kernel
def _gather_lines(chunk, x, y, offsets, p):
    """As :func:`_rearrange_lines`, where the inner loops are short: ``offsets`` says what a run of y reads of x."""
    size = np.uintp(offsets.size)
    runs = p.length3 * p.length4 * p.length5 // offsets.size
    for line in range(chunk * p.rows, min((chunk + 1) * p.rows, p.lines)):
        rest = line // p.length2
        start = line % p.length2 * p.step2 + rest % p.length1 * p.step1 + rest // p.length1 * p.step0
        for i in range(runs):
            source, at = np.uintp(start + i * p.step3), np.uintp(line * runs + i) * size
            for k in range(size):
                y[at + k] = x[source + np.uintp(offsets[k])]


@cached_launches
def pad2d(x: np.ndarray, pads: Pads, mode: str, value: float) -> np.ndarray:
    return _padded(x, pads, mode, value)


@cached_launches
def pad2d_backward(dy: np.ndarray, x_shape: Sequence[int], pads: Pads, mode: str) -> np.ndarray:
    top, bottom, left, right = pads
    if mode == "constant":
        return _padded(dy, (-top, -bottom, -left, -right), mode, 0.0)
    h, w = x_shape[2:]
    row_taps = resampling.padded_taps(h, top, bottom, mode)
    column_taps = resampling.padded_taps(w, left, right, mode)
    return _gathered(dy, resampling.readers(h, row_taps), resampling.readers(w, column_taps))


@cached_launches
def resample2d(x: np.ndarray, rows: Resampling, columns: Resampling) -> np.ndarray:
    if rows.mode == "nearest":
        above = resampling.nearest_sources(rows.size, rows.outputs, rows.scale)
        left = resampling.nearest_sources(columns.size, columns.outputs, columns.scale)
        return _taken(x, above, left, 0.0, 0, columns.outputs if columns.outputs == columns.size else 0, 0)
    pixels, of = neighbours(x)
    y = empty((pixels.shape[0], rows.outputs, columns.outputs, pixels.shape[3]), x.dtype)
    some = _rows_of_chunk(y)
    tables = (*_linear(rows, x.dtype), *_linear(columns, x.dtype))
    _blend_rows(-(-y.shape[0] * rows.outputs // some), pixels, y, *tables, some)
    return of_neighbours(y, of)


@cached_launches
def resample2d_backward(dy: np.ndarray, rows: Resampling, columns: Resampling) -> np.ndarray:
    return _gathered(
        dy,
        resampling.readers(rows.size, resampling.resampled_taps(*rows)),
        resampling.readers(columns.size, resampling.resampled_taps(*columns)),
    )


@cached_launches
def rearrange(x: np.ndarray, split: Sequence[Sequence[int]], joined: Sequence[Sequence[int]]) -> np.ndarray:
    y = layout.empty(rearranged_shape(split, joined), x.dtype)
    source = channels_last(x) if x.ndim == 4 else contiguous(x)
    lengths, steps = nested_loops(split, joined, _in_memory(x.ndim), _in_memory(y.ndim))
    lines = lengths[0] * lengths[1] * lengths[2]
    rows = max(1, BLOCK * lines // max(y.size, 1))
    plan, chunks = _Loops(lines, rows, *lengths[1:], *steps), -(-lines // rows) if y.size else 0
    flat_x, flat_y = source.reshape(x.size), _flat_images(y)
    if steps[5] != 1 and lengths[4] * lengths[5] <= LONG_RUN:
        first = 3 if math.prod(lengths[3:]) <= LONG_RUN else 4
        if first == 3:
            plan = plan._replace(step3=0)
        _gather_lines(chunks, flat_x, flat_y, _offsets(lengths[first:], steps[first:]), plan)
    else:
        _rearrange_lines(chunks, flat_x, flat_y, plan)
    return y


@functools.lru_cache(maxsize=64)
def _offsets(lengths: tuple[int, ...], steps: tuple[int, ...]) -> np.ndarray:
    """How far apart what nested loops read is from what they read first, one after the other; kernels only read it."""
    places = np.zeros(1, np.int64)
    for length, step in zip(lengths, steps, strict=True):
        places = (places[:, None] + step * np.arange(length)).reshape(-1)
    return places.astype(np.int32)


def _in_memory(axes: int) -> tuple[int, ...]:
    """The axes as they lie, the outermost first."""
    return (0, 2, 3, 1) if axes == 4 else tuple(range(axes))


def _flat_images(y: np.ndarray) -> np.ndarray:
    """The numbers of ``y``, which was made here, in the order of memory."""
    return (y.transpose(_in_memory(y.ndim))).reshape(y.size)


def _padded(x: np.ndarray, pads: Pads, mode: str, value: float) -> np.ndarray:
    top, bottom, left, right = pads
    h, w = x.shape[2:]
    rows = resampling.padded_sources(h, top, bottom, mode)
    columns = resampling.padded_sources(w, left, right, mode)
    return _taken(x, rows, columns, value, max(left, 0), len(columns) - max(right, 0), max(-left, 0))


def _taken(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, value: float, first: int, end: int, source: int
) -> np.ndarray:
    """The rows and columns of these numbers; columns ``first`` .. ``end`` are neighbours, from ``source`` on."""
    pixels, of = neighbours(x)
    y = empty((pixels.shape[0], len(rows), len(columns), pixels.shape[3]), x.dtype)
    some = _rows_of_chunk(y)
    run = _Run(first, end, source, some)
    _take_rows(-(-y.shape[0] * len(rows) // some), pixels, y, rows, columns, float(value), run)
    return of_neighbours(y, of)


def _gathered(dy: np.ndarray, rows: resampling.Readers, columns: resampling.Readers) -> np.ndarray:
    pixels = channels_last(dy)
    n, _, ow, c = pixels.shape
    h, w = len(rows.starts) - 1, len(columns.starts) - 1
    dx = empty((n, h, w, c), dy.dtype)
    wide = np.dtype(np.float64) if max(rows.most, columns.most) > SHORT_SUM else dy.dtype
    some = _rows_of_chunk(dx)
    tables = [table for each in (rows, columns) for table in (each.starts, each.outputs, each.weights.astype(wide))]
    _gather_rows(-(-n * h // some), pixels, dx, *tables, Scratch(max(ow * c, 1), wide), Scratch(max(c, 1), wide), some)
    return images(dx)


def _linear(axis: Resampling, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    before, after, weight = resampling.linear_sources(axis.size, axis.outputs, axis.align_corners, axis.scale)
    return before, after, weight.astype(dtype)


def _rows_of_chunk(y: np.ndarray) -> int:
    return max(1, BLOCK // max(y.shape[2] * y.shape[3], 1))
