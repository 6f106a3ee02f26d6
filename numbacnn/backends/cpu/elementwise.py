"""ReLU, sigmoid, tanh, dropout, and what the combinators do with whole arrays: a chunk is a run of BLOCK elements.

roofline: memory, one read per argument and one write. A block of a few arguments stays in L1 and L2.
Tanh is bound by its polynomial. Dropout makes words with some 2.5 instructions an element, as long as the memory takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..shared import philox
from .memory import copy
from .runtime.allocator import empty, empty_like
from .runtime.captured import recorded
from .runtime.kernel import Scratch, kernel
from .runtime.launch_cache import cached_launches
from .runtime.microkernel import Microkernel
from .vector import layout
from .vector.blocks import AHEAD, BLOCK, PART, block, blocks, fill_zero, part, parts
from .vector.column_sums import RowShares, total_of, wide_rows
from .vector.dropping import ALIGNED_POSITIONS, DECIDED, DROPPED, PICKED, POSITIONS, decide, drop, pick
from .vector.layout import contiguous, flat, images, like, pixels
from .vector.row_maps import SCALED, map_all, repeat
from .vector.row_sums import PRODUCTS, ROWS, add_block, fold
from .vector.simd import copy_run, flattened, prefetch_run
from .vector.transcendental import exp
from .vector.transcendental import tanh as hyperbolic_tangent

__all__ = [
    "accumulate",
    "add",
    "add_channels",
    "dropout",
    "expand",
    "fill_zero",
    "increment",
    "multiply",
    "put_channels",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "sum_of_products",
    "take_channels",
    "tanh",
    "tanh_backward",
]


@kernel
def _relu(chunk, x, y):
    zero = x.dtype.type(0)
    for i in block(chunk, x.size):
        y[i] = zero if x[i] <= zero else x[i]


@kernel
def _relu_backward(chunk, dy, y, dx):
    zero = dy.dtype.type(0)
    for i in block(chunk, y.size):
        dx[i] = zero if y[i] <= zero else dy[i]


@kernel
def _sigmoid(chunk, x, y):
    one = x.dtype.type(1)
    for first in parts(chunk, x.size):
        prefetch_run(x, first + AHEAD, PART)
        for i in part(first, x.size):
            y[i] = one / (one + exp(-x[i]))


@kernel
def _sigmoid_backward(chunk, dy, y, dx):
    one = dy.dtype.type(1)
    for i in block(chunk, y.size):
        dx[i] = dy[i] * y[i] * (one - y[i])


@kernel
def _tanh(chunk, x, y):
    for first in parts(chunk, x.size):
        prefetch_run(x, first + AHEAD, PART)
        for i in part(first, x.size):
            y[i] = hyperbolic_tangent(x[i])


@kernel
def _tanh_backward(chunk, dy, y, dx):
    one = dy.dtype.type(1)
    for i in block(chunk, y.size):
        dx[i] = dy[i] * (one - y[i] * y[i])


@kernel
def _dropout(chunk, x, y, numbers, scale, microkernel, threshold, seed_low, seed_high, offset_low, offset_high):
    """Four elements to a Philox block; see shared/philox.py for which word is whose."""
    first, numbers[0] = chunk * BLOCK, scale
    drop(
        microkernel, x, first, y, first, numbers, 0, min(BLOCK, x.size - first), first // 4, threshold, offset_low,
        offset_high, seed_low, seed_high,
    )  # fmt: skip


class DroppedPixels(NamedTuple):
    """How the pixels of an image are shared out: ``parts`` of ``part``, of which ``some`` are decided at a time."""

    deciding: Microkernel
    picking: Microkernel
    parts: int
    part: int
    some: int


@kernel
def _dropout_pixels(chunk, x, y, numbers, bits, scale, p, threshold, seed_low, seed_high, offset_low, offset_high):
    """A chunk is ``p.part`` pixels of an image of x (n, h w, c), of which ``p.some`` have a bit each in ``bits``."""
    values, result, positions, columns = flattened(x), flattened(y), x.shape[1], x.shape[2]
    image, first, numbers[0] = chunk // p.parts, chunk % p.parts * p.part, scale
    for start in range(first, min(first + p.part, positions), p.some):
        at = (image * positions + start) * columns
        # What is read two turns later is on its way while words are made, and what is written in this one.
        ahead = at + 2 * p.some * columns
        decide(
            p.deciding, values, ahead, result, at, bits, 0, columns, image * columns * positions + start, positions,
            threshold, offset_low, offset_high, seed_low, seed_high,
        )  # fmt: skip
        rows = min(p.some, min(first + p.part, positions) - start)
        pick(p.picking, values, at, result, at, numbers, 0, bits, 0, rows, columns)


@kernel
def _add(chunk, a, b, total):
    for i in block(chunk, total.size):
        total[i] = a[i] + b[i]


@kernel
def _add_scaled(chunk, target, value, scale):
    for i in block(chunk, target.size):
        target[i] += scale * value[i]


@kernel
def _multiply(chunk, x, y, product):
    for i in block(chunk, product.size):
        product[i] = x[i] * y[i]


class Shares(NamedTuple):
    """How the pixels of an image are shared out: ``parts`` of ``part``, of which ``times`` are a wide row."""

    microkernel: Microkernel
    parts: int
    part: int
    times: int


@kernel
def _multiply_channels(chunk, x, factors, product, wide, p):
    """A chunk is ``p.part`` pixels of one image, x (n, h w, c), whose factors are in ``wide``.

    One operation to two words of memory.
    """
    image, first, columns = chunk // p.parts, chunk % p.parts * p.part, x.shape[2]
    for j in range(columns):
        wide[j] = factors[image * columns + j]
    repeat(wide, columns, p.times)
    values, start = flattened(x), (image * x.shape[1] + first) * columns
    map_all(
        p.microkernel, values, start, columns, values, start, columns, flattened(product), start, wide, 0,
        min(p.part, x.shape[1] - first), columns, p.times,
    )  # fmt: skip


@kernel
def _sum_products(chunk, a, b, partials, sums, totals, p):
    """partials[image, part, channel], in float64: a chunk is ``p.part`` pixels of one image.

    Two operations to two words of memory; the sums of a block of pixels are in registers, see vector/row_sums.py.
    """
    image, first, columns = chunk // p.parts, chunk % p.parts * p.part, a.shape[2]
    start, rows = (image * a.shape[1] + first) * columns, min(p.part, a.shape[1] - first)
    totals[:] = 0
    of_a, of_b = flattened(a), flattened(b)
    for row in range(0, rows, ROWS * p.times):
        here, at = min(ROWS * p.times, rows - row), start + row * columns
        add_block(p.microkernel, of_a, at, columns, of_b, at, columns, sums, sums, totals, here, columns, p.times)
    fold(totals, 0, columns, p.times)
    for j in range(columns):
        partials[chunk * columns + j] = totals[j]


@kernel
def finish_sums(chunk, sums, partials, parts, columns):
    """A chunk is an image, of which each channel has ``parts`` sums."""
    at = chunk * parts * columns
    for j in range(columns):
        sums[chunk * columns + j] = total_of(partials[at : at + parts * columns], columns, j)


@kernel
def _copy_columns(chunk, source, target, source_first, target_first, columns, rows):
    """A chunk is ``rows`` rows of two matrices."""
    values, copies = flattened(source), flattened(target)
    for row in range(chunk * rows, min((chunk + 1) * rows, source.shape[0])):
        copy_run(
            copies, row * target.shape[1] + target_first, values, row * source.shape[1] + source_first, columns
        )  # fmt: skip


@kernel
def _add_columns(chunk, target, source, rows):
    """A chunk is ``rows`` rows of two matrices, of which ``target`` has more columns."""
    totals, values = flattened(target), flattened(source)
    for row in range(chunk * rows, min((chunk + 1) * rows, source.shape[0])):
        at, start = np.uintp(row * target.shape[1]), np.uintp(row * source.shape[1])
        for i in range(np.uintp(source.shape[1])):
            totals[at + i] += values[start + i]


def _map(apply, *arrays: np.ndarray) -> np.ndarray:
    """The last array tells how the result lies."""
    result = empty_like(arrays[-1])
    apply(blocks(result), *(flat(like(array, result)) for array in arrays), flat(result))
    return result


@cached_launches
def relu(x: np.ndarray) -> np.ndarray:
    return _map(_relu, x)


@cached_launches
def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _map(_relu_backward, dy, y)


@cached_launches
def sigmoid(x: np.ndarray) -> np.ndarray:
    return _map(_sigmoid, x)


@cached_launches
def sigmoid_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _map(_sigmoid_backward, dy, y)


@cached_launches
def tanh(x: np.ndarray) -> np.ndarray:
    return _map(_tanh, x)


@cached_launches
def tanh_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _map(_tanh_backward, dy, y)


def dropout(x: np.ndarray, p: float, seed: int, offset: np.ndarray) -> np.ndarray:
    y = empty_like(x)
    _drop_into(y, x, p, seed, offset)
    return y


@recorded
def _drop_into(y: np.ndarray, x: np.ndarray, p: float, seed: int, offset: np.ndarray) -> None:
    """Masks are told by the place in (n, c, h, w)."""
    scale, threshold = 1 / (1 - p) if p < 1 else 0.0, int(philox.drop_threshold(p))
    if threshold == 0:
        flat(y)[...] = flat(x)
        return
    key = map(int, (*philox.split_words(seed), *philox.split_words(int(offset))))
    numbers = Scratch(1, x.dtype)
    if x.flags.c_contiguous:
        _dropout(blocks(x), x.reshape(-1), y.reshape(-1), numbers, scale, DROPPED, threshold, *key)
        return
    of_x, of_y = (array.transpose(0, 2, 3, 1) for array in (x, y))
    n, h, w, c = of_x.shape
    some = ALIGNED_POSITIONS if h * w % 4 == 0 else POSITIONS
    part = max(1, BLOCK // (some * c)) * some
    parts = -(-h * w // part)
    pixels = DroppedPixels(DECIDED, PICKED, parts, part, some)
    _dropout_pixels(
        n * parts, of_x.reshape(n, h * w, c), of_y.reshape(n, h * w, c), numbers, Scratch(c, np.dtype(np.int32)), scale,
        pixels, threshold, *key,
    )  # fmt: skip


def expand(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    y = layout.empty(tuple(shape), x.dtype)
    _repeat_into(y, x)
    return y


@recorded
def _repeat_into(y: np.ndarray, x: np.ndarray) -> None:
    y[...] = x


def add(arrays: Sequence[np.ndarray]) -> np.ndarray:
    if len(arrays) == 1:
        return copy(arrays[0])
    total = _sum_of_two(arrays[0], arrays[1])
    for array in arrays[2:]:
        accumulate(total, array)
    return total


@cached_launches
def _sum_of_two(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _map(_add, a, b)


@cached_launches
def multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.shape == y.shape:
        return _map(_multiply, x, y)
    of_x = _images_of_pixels(x)
    n, positions, c = of_x.shape
    product = empty_like(of_x)
    times = wide_rows(c)
    part = max(1, BLOCK // max(c * times, 1)) * times
    parts = -(-positions // part)
    _multiply_channels(
        n * parts, of_x, flat(y), product, Scratch(times * c, x.dtype), Shares(SCALED, parts, part, times)
    )  # fmt: skip
    return images(product.reshape(n, *x.shape[2:], c))


@cached_launches
def sum_of_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    of_a, of_b = _images_of_pixels(a), _images_of_pixels(b)
    n, positions, c = of_a.shape
    rows = RowShares(of_a.reshape(n * positions, c)[:positions], c)
    partials, sums = empty((n * rows.chunks * c,), np.float64), empty((n, c), a.dtype)
    _sum_products(
        n * rows.chunks, of_a, of_b, partials, rows.scratch(), rows.totals(),
        Shares(PRODUCTS, rows.chunks, rows.part, rows.times),
    )  # fmt: skip
    finish_sums(n, sums.reshape(n * c), partials, rows.chunks, c)
    return sums.reshape(n, c, 1, 1)


def _images_of_pixels(x: np.ndarray) -> np.ndarray:
    """(n, h w, c)"""
    return pixels(x).reshape(x.shape[0], math.prod(x.shape[2:]), x.shape[1])


def take_channels(x: np.ndarray, first: int, count: int) -> np.ndarray:
    part = layout.empty((x.shape[0], count, *x.shape[2:]), x.dtype)
    of_part, of_x, size = _matrices(part, x)
    some = _rows_of_chunk(of_part)
    _copy_columns(-(-len(of_x) // some), of_x, of_part, first * size, 0, count * size, some)
    return part


def put_channels(target: np.ndarray, value: np.ndarray, first: int) -> None:
    of_target, of_value, size = _matrices(target, value)
    some = _rows_of_chunk(of_value)
    _copy_columns(-(-len(of_value) // some), of_value, of_target, 0, first * size, of_value.shape[1], some)


def add_channels(target: np.ndarray, value: np.ndarray) -> None:
    of_target, of_value, _ = _matrices(target, value)
    some = _rows_of_chunk(of_value)
    _add_columns(-(-len(of_value) // some), of_target, of_value, some)


def _rows_of_chunk(x: np.ndarray) -> int:
    return max(1, BLOCK // max(x.shape[1], 1))


def _matrices(target: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Both as matrices of which some columns are channels, a view of ``target``, and the columns of a channel."""
    if target.ndim == 4 and not target.flags.c_contiguous:
        return pixels(target), pixels(value), 1
    size = math.prod(target.shape[2:])
    rows = target.reshape(target.shape[0], target.shape[1] * size)
    return rows, contiguous(value).reshape(value.shape[0], value.shape[1] * size), size


def accumulate(target: np.ndarray, value: np.ndarray, scale: float = 1.0) -> None:
    total, value = flat(target), flat(like(value, target))
    if scale == 1:
        _add(blocks(target), total, value, total)
    else:
        _add_scaled(blocks(target), total, value, float(scale))


@recorded
def increment(counter: np.ndarray) -> None:
    counter += 1
