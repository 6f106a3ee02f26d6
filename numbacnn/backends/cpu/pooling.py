"""Max and average pooling: a chunk is some rows of outputs of some channels, or backwards an image of some channels.

Of each row and column of windows a table has where its taps begin within the image, and how many they are; a window's
taps are another, the same for all pixels of a row but some at its ends where windows slide.

roofline: one read of x and one write of y from memory (plus an int32 per output for the places of the maxima);
the kh kw operations an output are done in L1.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..contract import AnyPool2dGeometry
from ..geometry import AdaptivePool2dGeometry, Pool2dGeometry
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

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
]

MIN_CHUNKS, MIN_CHANNELS, ROWS = 8, 32, 16

# Of a row of the tables of windows: the first position within the image, how many taps there are, how many count.
FIRST, TAPS, COUNTING, ENTRIES = 0, 1, 2, 3


@inlined
def lay_taps(table, rows, columns, dh, dw, w, channels):
    """Of ``rows`` x ``columns`` taps: where they are beside the first one, in numbers and, further on in the table, in
    pixels. Returns how many there are.
    """
    taps, half = 0, table.size // 2
    for i in range(rows):
        for j in range(columns):
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
    sw: int
    dh: int
    dw: int
    inner: int
    inner_end: int


@kernel
def _max_rows(chunk, x, y, indices, table, down, across, p):
    """``indices`` may be empty."""
    h, w, channels, oh, ow = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    first_channel, first_row = chunk % p.blocks * p.block, chunk // p.blocks * p.rows
    here = min(p.block, channels - first_channel)
    image, largest, places = flattened(x), flattened(y), flattened(indices)
    for row in range(first_row, min(first_row + p.rows, y.shape[0] * oh)):
        n, top = row // oh, down[row % oh, FIRST]
        column = 0
        while column < ow:
            pixels = p.inner_end - column if column == p.inner and p.inner_end > p.inner else 1
            left = across[column, FIRST]
            taps = lay_taps(table, down[row % oh, TAPS], across[column, TAPS], p.dh, p.dw, w, channels)
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
def _walk_rows(chunk, image, outputs, table, down, across, clearing, p):
    """Means of the windows or, with such a microkernel, shares of dy; ``clearing``, images are first set to 0."""
    first_channel, first_row = chunk % p.blocks * p.block, chunk // p.blocks * p.rows
    h, w, channels, oh, ow = image.shape[1], image.shape[2], image.shape[3], outputs.shape[1], outputs.shape[2]
    here = min(p.block, channels - first_channel)
    values, of_windows = flattened(image), flattened(outputs)
    if clearing:
        n = first_row // oh
        clear_channels(values, n * h * w, (n + 1) * h * w, channels, first_channel, first_channel + here)
    for row in range(first_row, min(first_row + p.rows, outputs.shape[0] * oh)):
        n, top = row // oh, down[row % oh, FIRST]
        column = 0
        while column < ow:
            # Windows that lie inside and count the same.
            pixels = p.inner_end - column if column == p.inner and p.inner_end > p.inner else 1
            left = across[column, FIRST]
            taps = lay_taps(table, down[row % oh, TAPS], across[column, TAPS], 1, 1, w, channels)
            visit(
                p.microkernel, values, ((n * h + top) * w + left) * channels + first_channel, table, 0, taps,
                of_windows, (row * ow + column) * channels + first_channel, here, pixels, p.sw * channels, channels,
                down[row % oh, COUNTING] * across[column, COUNTING],
            )  # fmt: skip
            column += pixels


@cached_launches
def max_pool2d(x: np.ndarray, geometry: AnyPool2dGeometry) -> np.ndarray:
    return _find_maxima(x, geometry, np.empty((0, 0, 0, 0), np.int32))


@cached_launches
def max_pool2d_with_indices(x: np.ndarray, geometry: AnyPool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
    indices = empty(_shape(geometry), np.int32)
    return _find_maxima(x, geometry, indices), images(indices)


def _find_maxima(x: np.ndarray, g: AnyPool2dGeometry, indices: np.ndarray) -> np.ndarray:
    """Where ``indices`` is empty nobody wants them."""
    y = empty(_shape(g), x.dtype)
    block, blocks = _blocks(g, g.n * g.oh)
    rows = _rows(g)
    down, across = _windows(g)
    _max_rows(
        -(-g.n * g.oh // rows) * blocks, channels_last(x), y, indices, _table(down, across), down, across,
        _plan(g, MAXIMA_AND_PLACES if indices.size else MAXIMA, rows, block, blocks),
    )  # fmt: skip
    return images(y)


@cached_launches
def max_pool2d_backward(dy: np.ndarray, indices: np.ndarray, geometry: AnyPool2dGeometry) -> np.ndarray:
    g = geometry
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    block, blocks = _blocks(g, g.n)
    _max_backward_images(g.n * blocks, channels_last(dy), channels_last(indices), dx, block, blocks)
    return images(dx)


@cached_launches
def avg_pool2d(
    x: np.ndarray, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
) -> np.ndarray:
    g = geometry
    y = empty(_shape(g), x.dtype)
    block, blocks = _blocks(g, g.n * g.oh)
    rows = _rows(g)
    down, across = _windows(g, count_include_pad, divisor)
    _walk_rows(
        -(-g.n * g.oh // rows) * blocks, channels_last(x), y, _table(down, across), down, across, 0,
        _plan(g, NARROW_MEANS if block * x.itemsize <= NARROW else MEANS, rows, block, blocks),
    )  # fmt: skip
    return images(y)


@cached_launches
def avg_pool2d_backward(
    dy: np.ndarray, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
) -> np.ndarray:
    g = geometry
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    block, blocks = _blocks(g, g.n)
    apart, covered = _spread(g)
    down, across = _windows(g, count_include_pad, divisor)
    _walk_rows(
        g.n * blocks, dx, channels_last(dy), _table(down, across), down, across, int(not covered),
        _plan(g, SPREAD if apart else SPREAD_ADDING, g.oh, block, blocks),
    )  # fmt: skip
    return images(dx)


def _spread(g: AnyPool2dGeometry) -> tuple[bool, bool]:
    """Whether no two windows share an element, and whether, besides, all elements are in one.

    Of windows that stand side by side and cover all, each place is written once, and nothing is to be cleared.
    """
    if isinstance(g, AdaptivePool2dGeometry):
        return False, False
    side_by_side = (g.sh, g.sw, g.pt, g.pl) == (g.kh, g.kw, 0, 0)
    return g.sh >= g.kh and g.sw >= g.kw, side_by_side and g.oh * g.kh >= g.h and g.ow * g.kw >= g.w


def _shape(g: AnyPool2dGeometry) -> tuple[int, int, int, int]:
    return g.n, g.oh, g.ow, g.c


def _table(down: np.ndarray, across: np.ndarray) -> Scratch:
    """For the taps of the largest window."""
    return Scratch(2 * int(down[:, TAPS].max(initial=0) * across[:, TAPS].max(initial=0)), np.dtype(np.int64))


def _rows(g: AnyPool2dGeometry) -> int:
    """Rows of a chunk, which make up for beginning it."""
    return max(1, min(ROWS, g.n * g.oh // MIN_CHUNKS))


def _blocks(g: AnyPool2dGeometry, pieces: int) -> tuple[int, int]:
    """Channels of a chunk, and into how many it cuts them: enough for all threads, where there are few ``pieces``."""
    blocks = min(-(-MIN_CHUNKS // max(pieces, 1)), max(1, g.c // MIN_CHANNELS))
    block = -(-g.c // blocks)
    return block, -(-g.c // max(block, 1))


def _plan(g: AnyPool2dGeometry, microkernel: Microkernel, rows: int, block: int, blocks: int) -> _Plan:
    if isinstance(g, AdaptivePool2dGeometry):
        return _Plan(microkernel, rows, block, blocks, 1, 1, 1, 0, 0)
    return _Plan(microkernel, rows, block, blocks, g.sw, g.dh, g.dw, *_inner(g))


def _inner(g: Pool2dGeometry) -> tuple[int, int]:
    """The columns of y whose windows lie inside of the image."""
    first = min(-(-g.pl // g.sw), g.ow)
    end = min((g.w - 1 + g.pl - (g.kw - 1) * g.dw) // g.sw + 1, g.ow)
    return first, max(first, end)


@functools.lru_cache(maxsize=256)
def _windows(
    g: AnyPool2dGeometry, count_include_pad: bool = False, divisor: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The tables (oh, ENTRIES) and (ow, ENTRIES) of the rows and columns of windows, which are only read.

    What counts, for the mean to be divided by, is what lies in the padded image, or in the image alone; with
    ``divisor`` the product is that.
    """
    if isinstance(g, AdaptivePool2dGeometry):
        down, across = _adaptive_axis(g.oh, g.h), _adaptive_axis(g.ow, g.w)
    else:
        (top, bottom), (left, right) = ((g.pt, g.pb), (g.pl, g.pr)) if count_include_pad else ((0, 0), (0, 0))
        down = _sliding_axis(g.oh, g.h, g.kh, g.sh, g.dh, g.pt, -top, g.h + bottom)
        across = _sliding_axis(g.ow, g.w, g.kw, g.sw, g.dw, g.pl, -left, g.w + right)
    if divisor is not None:
        down[:, COUNTING], across[:, COUNTING] = divisor, 1
    return down, across


def _adaptive_axis(outputs: int, size: int) -> np.ndarray:
    axis = np.empty((outputs, ENTRIES), np.int64)
    for o in range(outputs):
        first, end = windows.adaptive_window(o, outputs, size)
        axis[o] = first, end - first, end - first
    return axis


def _sliding_axis(
    outputs: int, size: int, kernel: int, stride: int, dilation: int, before: int, low: int, high: int
) -> np.ndarray:
    """Positions in ``low .. high - 1`` count."""
    axis = np.empty((outputs, ENTRIES), np.int64)
    for o in range(outputs):
        start = o * stride - before
        first, end = windows.output_range(start, dilation, size, kernel)
        axis[o] = start + first * dilation, end - first, windows.taps_inside(start, kernel, low, high)
    return axis
