"""Max and average pooling: a chunk is some rows of outputs of some channels, or backwards an image of some channels.

A window's taps that lie within the image are a table, the same for all pixels of a row but some at its ends.

roofline: one read of x and one write of y from memory (plus an int32 per output for the places of the maxima);
the kh kw operations an output are done in L1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..geometry import Pool2dGeometry
from ..shared import windows
from .runtime.allocator import empty
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .runtime.microkernel import Microkernel
from .vector.layout import channels_last, images
from .vector.pool_pixels import (
    MAXIMA,
    MAXIMA_AND_PLACES,
    MEANS,
    NARROW,
    NARROW_MEANS,
    SPREAD,
    SPREAD_ADDING,
    find_maxima,
    visit,
)
from .vector.simd import clear, flattened

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d", "max_pool2d_backward", "max_pool2d_with_indices"]

MIN_CHUNKS, MIN_CHANNELS, ROWS = 8, 32, 16

output_range = inlined(windows.output_range)


@inlined
def taps_within(start, kernel, dilation, size):
    """The taps ``first <= i < end`` with ``start + i * dilation`` in ``0 .. size - 1``."""
    return output_range(start, dilation, size, kernel)


@inlined
def lay_taps(table, top, bottom, first, end, kw, dh, dw, w, channels):
    """Of the taps of rows top .. bottom and columns first .. end: where they are beside the window's corner, in numbers
    and, further on in the table, in pixels. Returns how many there are.
    """
    taps, half = 0, table.size // 2
    for i in range(top, bottom):
        for j in range(first, end):
            table[half + taps] = i * dh * w + j * dw
            table[taps] = table[half + taps] * channels
            taps += 1
    return taps


class _Plan(NamedTuple):
    """A chunk is ``rows`` rows of one of the ``blocks`` of channels.

    Pixels ``inner`` .. ``inner_end`` of a row have windows as wide as they are.
    """

    microkernel: Microkernel
    rows: int
    block: int
    blocks: int
    kh: int
    kw: int
    sh: int
    sw: int
    pt: int
    pl: int
    dh: int
    dw: int
    inner: int
    inner_end: int


@kernel
def _max_rows(chunk, x, y, indices, table, p):
    """``indices`` may be empty."""
    h, w, channels, oh, ow = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    first_channel, first_row = chunk % p.blocks * p.block, chunk // p.blocks * p.rows
    here = min(p.block, channels - first_channel)
    image, largest, places = flattened(x), flattened(y), flattened(indices)
    for row in range(first_row, min(first_row + p.rows, y.shape[0] * oh)):
        n, top = row // oh, row % oh * p.sh - p.pt
        i_first, i_end = taps_within(top, p.kh, p.dh, h)
        column = 0
        while column < ow:
            pixels = p.inner_end - column if column == p.inner and p.inner_end > p.inner else 1
            left = column * p.sw - p.pl
            j_first, j_end = taps_within(left, p.kw, p.dw, w)
            taps = lay_taps(table, i_first, i_end, j_first, j_end, p.kw, p.dh, p.dw, w, channels)
            at = (row * ow + column) * channels + first_channel
            if taps > 0:
                start = ((n * h + top) * w + left) * channels + first_channel
                find_maxima(
                    p.microkernel, image, start, table, 0, table, table.size // 2, taps, largest, at, places,
                    at if indices.size > 0 else 0, here, pixels, p.sw * channels, channels, top * w + left, p.sw,
                )  # fmt: skip
            else:
                for pixel in range(pixels):
                    for i in range(at + pixel * channels, at + pixel * channels + here):
                        largest[i] = -np.inf
                        if indices.size > 0:
                            places[i] = -1
            column += pixels


@inlined
def clear_channels(image, first_pixel, end_pixel, channels, first, end):
    """Channels ``first`` .. ``end`` of those pixels become 0: together, where they are all there are."""
    if end - first == channels:
        clear(image, first_pixel * channels, end_pixel * channels)
    else:
        for p in range(first_pixel, end_pixel):
            clear(image, p * channels + first, p * channels + end)


@kernel
def _max_backward_images(chunk, dy, indices, dx, block, blocks):
    first, n = chunk % blocks * block, chunk // blocks
    channels, outputs, size = dx.shape[3], dy.shape[1] * dy.shape[2], dx.shape[1] * dx.shape[2]
    end = min(first + block, channels)
    image, dy_values, places = flattened(dx), flattened(dy), flattened(indices)
    clear_channels(image, n * size, (n + 1) * size, channels, first, end)
    for p in range(n * outputs, (n + 1) * outputs):
        at = np.uintp(p * channels)
        for c in range(np.uintp(first), np.uintp(end)):
            place = np.int64(places[at + c])
            if place >= 0:
                image[np.uintp((n * size + place) * channels) + c] += dy_values[at + c]


@kernel
def _walk_rows(chunk, image, outputs, table, counting_row, counting_column, clearing, p):
    """Means of the windows or, with such a microkernel, shares of dy; ``clearing``, images are first set to 0."""
    first_channel, first_row = chunk % p.blocks * p.block, chunk // p.blocks * p.rows
    h, w, channels, oh, ow = image.shape[1], image.shape[2], image.shape[3], outputs.shape[1], outputs.shape[2]
    here = min(p.block, channels - first_channel)
    values, of_windows = flattened(image), flattened(outputs)
    if clearing:
        n = first_row // oh
        clear_channels(values, n * h * w, (n + 1) * h * w, channels, first_channel, first_channel + here)
    for row in range(first_row, min(first_row + p.rows, outputs.shape[0] * oh)):
        n, top = row // oh, row % oh * p.sh - p.pt
        i_first, i_end = taps_within(top, p.kh, 1, h)
        column = 0
        while column < ow:
            # Windows that lie inside and count the same.
            pixels = p.inner_end - column if column == p.inner and p.inner_end > p.inner else 1
            left = column * p.sw - p.pl
            j_first, j_end = taps_within(left, p.kw, 1, w)
            taps = lay_taps(table, i_first, i_end, j_first, j_end, p.kw, 1, 1, w, channels)
            visit(
                p.microkernel, values, ((n * h + top) * w + left) * channels + first_channel, table, 0, taps,
                of_windows, (row * ow + column) * channels + first_channel, here, pixels, p.sw * channels, channels,
                counting_row[row % oh] * counting_column[column],
            )  # fmt: skip
            column += pixels


@cached_launches
def max_pool2d(x: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
    return _find_maxima(x, geometry, np.empty((0, 0, 0, 0), np.int32))


@cached_launches
def max_pool2d_with_indices(x: np.ndarray, geometry: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
    indices = empty(_shape(geometry), np.int32)
    return _find_maxima(x, geometry, indices), images(indices)


def _find_maxima(x: np.ndarray, g: Pool2dGeometry, indices: np.ndarray) -> np.ndarray:
    """Where ``indices`` is empty nobody wants them."""
    y = empty(_shape(g), x.dtype)
    block, blocks = _blocks(g, g.n * g.oh)
    rows = _rows(g)
    _max_rows(
        -(-g.n * g.oh // rows) * blocks, channels_last(x), y, indices, _table(g),
        _plan(g, MAXIMA_AND_PLACES if indices.size else MAXIMA, rows, block, blocks),
    )  # fmt: skip
    return images(y)


@cached_launches
def max_pool2d_backward(dy: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
    g = geometry
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    block, blocks = _blocks(g, g.n)
    _max_backward_images(g.n * blocks, channels_last(dy), channels_last(indices), dx, block, blocks)
    return images(dx)


@cached_launches
def avg_pool2d(x: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool) -> np.ndarray:
    g = geometry
    y = empty(_shape(g), x.dtype)
    block, blocks = _blocks(g, g.n * g.oh)
    rows = _rows(g)
    _walk_rows(
        -(-g.n * g.oh // rows) * blocks, channels_last(x), y, _table(g), *_window_sizes(g, count_include_pad), 0,
        _plan(g, NARROW_MEANS if block * x.itemsize <= NARROW else MEANS, rows, block, blocks),
    )  # fmt: skip
    return images(y)


@cached_launches
def avg_pool2d_backward(dy: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool) -> np.ndarray:
    g = geometry
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    block, blocks = _blocks(g, g.n)
    apart = g.sh >= g.kh and g.sw >= g.kw
    # Of windows that stand side by side and cover all, each place is written once, and nothing is to be cleared.
    side_by_side = (g.sh, g.sw, g.pt, g.pl) == (g.kh, g.kw, 0, 0)
    covered = side_by_side and g.oh * g.kh >= g.h and g.ow * g.kw >= g.w
    _walk_rows(
        g.n * blocks, dx, channels_last(dy), _table(g), *_window_sizes(g, count_include_pad), int(not covered),
        _plan(g, SPREAD if apart else SPREAD_ADDING, g.oh, block, blocks),
    )  # fmt: skip
    return images(dx)


def _shape(g: Pool2dGeometry) -> tuple[int, int, int, int]:
    return g.n, g.oh, g.ow, g.c


def _table(g: Pool2dGeometry) -> Scratch:
    return Scratch(2 * g.kh * g.kw, np.dtype(np.int64))


def _rows(g: Pool2dGeometry) -> int:
    """Rows of a chunk, which make up for beginning it."""
    return max(1, min(ROWS, g.n * g.oh // MIN_CHUNKS))


def _blocks(g: Pool2dGeometry, pieces: int) -> tuple[int, int]:
    """Channels of a chunk, and into how many it cuts them: enough for all threads, where there are few ``pieces``."""
    blocks = min(-(-MIN_CHUNKS // max(pieces, 1)), max(1, g.c // MIN_CHANNELS))
    block = -(-g.c // blocks)
    return block, -(-g.c // max(block, 1))


def _plan(g: Pool2dGeometry, microkernel: Microkernel, rows: int, block: int, blocks: int) -> _Plan:
    return _Plan(
        microkernel, rows, block, blocks, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw, *_inner(g)
    )  # fmt: skip


def _inner(g: Pool2dGeometry) -> tuple[int, int]:
    """The columns of y whose windows lie inside of the image."""
    first = min(-(-g.pl // g.sw), g.ow)
    end = min((g.w - 1 + g.pl - (g.kw - 1) * g.dw) // g.sw + 1, g.ow)
    return first, max(first, end)


def _window_sizes(g: Pool2dGeometry, count_include_pad: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows (oh,) and columns (ow,) that count in each window: of the padded image, or of the image alone."""
    around = (g.pt, g.pb, g.pl, g.pr) if count_include_pad else (0, 0, 0, 0)
    rows = [windows.taps_inside(row * g.sh - g.pt, g.kh, -around[0], g.h + around[1]) for row in range(g.oh)]
    columns = [windows.taps_inside(column * g.sw - g.pl, g.kw, -around[2], g.w + around[3]) for column in range(g.ow)]
    return np.array(rows), np.array(columns)
