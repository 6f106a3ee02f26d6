"""ReLU, sigmoid, tanh, dropout, and what the combinators do with whole arrays: a thread per element, four at a time.

roofline: memory, one read per argument and one write.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..contract import Array
from ..shared import philox
from . import memory
from .block.pointwise import accumulate, activate, sum_of
from .block.reduce import THREADS as REDUCING
from .block.reduce import lane_bits, lane_of, lanes_sum, row_blocks
from .runtime import device_array
from .runtime.kernel import Kernel, block_kernel, kernel, loading_kernel, mapping
from .runtime.target import (
    cuda,
    device_function,
    divided,
    divisor,
    quotient,
    scalar,
    vector_load,
    vector_store,
    word,
)

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

load_four, store_four = vector_load(4), vector_store(4)
philox4x32 = device_function(philox.philox4x32)


@mapping
def _relu(i, x):
    return activate(1, x[i], x)


@mapping
def _relu_backward(i, dy, y):
    gradient = dy[i]
    return scalar(dy, 0) if y[i] <= scalar(y, 0) else gradient


@mapping
def _repeated(i, x, sizes, steps, axes):
    rest, place = i, 0
    for axis in range(axes - 1, -1, -1):
        outer = quotient(rest, sizes[axis])
        place += (rest - outer * sizes[axis]) * steps[axis]
        rest = outer
    return x[place]


def _element(i, y, x):
    return x[i]


@loading_kernel(_element)
def _sigmoid(i, value, y, x):
    y[i] = activate(2, value, x)


@mapping
def _sigmoid_backward(i, dy, y):
    return dy[i] * y[i] * (scalar(y, 1) - y[i])


@mapping
def _tanh(i, x):
    return activate(3, x[i], x)


@mapping
def _tanh_backward(i, dy, y):
    return dy[i] * (scalar(y, 1) - y[i] * y[i])


@device_function
def _drawn(i, offset, seed_low, seed_high):
    """The words of elements 4i .. 4i + 3: shared/philox.py."""
    number, drawn = np.uint64(i), np.uint64(offset[0])
    return philox4x32(
        number & philox.WORD_MASK,
        number >> philox.WORD_BITS,
        drawn & philox.WORD_MASK,
        drawn >> philox.WORD_BITS,
        np.uint64(seed_low),
        np.uint64(seed_high),
    )


@device_function
def _kept(drawn, limit, value, scale, zero):
    return zero if drawn < limit else value * scale


@kernel
def _dropout(i, y, x, offset, count, scale, threshold, seed_low, seed_high):
    """Four elements, whose loads come first, to be under way while words are drawn."""
    zero, limit = scalar(x, 0), np.uint64(threshold)
    if 4 * i + 3 < count:
        x0, x1, x2, x3 = load_four(x, 4 * i)
        w0, w1, w2, w3 = _drawn(i, offset, seed_low, seed_high)
        results = (
            _kept(w0, limit, x0, scale, zero),
            _kept(w1, limit, x1, scale, zero),
            _kept(w2, limit, x2, scale, zero),
            _kept(w3, limit, x3, scale, zero),
        )
        store_four(y, 4 * i, results)
    else:
        w0, w1, w2, _ = _drawn(i, offset, seed_low, seed_high)
        y[4 * i] = _kept(w0, limit, x[4 * i], scale, zero)
        if 4 * i + 1 < count:
            y[4 * i + 1] = _kept(w1, limit, x[4 * i + 1], scale, zero)
        if 4 * i + 2 < count:
            y[4 * i + 2] = _kept(w2, limit, x[4 * i + 2], scale, zero)


@mapping
def _product(i, x, y):
    return x[i] * y[i]


@mapping
def _channel_product(i, x, factors, by_length):
    return x[i] * factors[divided(i, by_length)]


@block_kernel(REDUCING)
def _row_products(block, thread, total, a, b, g):
    """Neighbouring threads share a row; its sum is float64."""
    sums = cuda.shared.array(REDUCING, np.float64)
    rows, length, bits = g
    row, lane = lane_of(block, thread, bits)
    lanes, value = 1 << bits, 0.0
    j, end = lane, length if row < rows else 0
    while j < end:
        value += np.float64(a[row * length + j]) * np.float64(b[row * length + j])
        j += lanes
    value = lanes_sum(thread, lane, lanes, value, sums)
    if lane == 0 and row < rows:
        total[row] = value


@mapping
def _incremented(i, counter):
    return counter[i] + 1


@device_function
def _column_place(i, g):
    """Where element ``i`` of a matrix with few columns is in the one that they are columns of."""
    columns, by_columns, all_columns, first = g
    row = divided(i, by_columns)
    return word(row * all_columns + first + i - row * columns)


def _column(i, whole, part, g):
    return part[i]


def _column_sum(i, whole, part, g):
    return whole[_column_place(i, g)] + part[i]


@loading_kernel(_column)
def _put_columns(i, value, whole, part, g):
    whole[_column_place(i, g)] = value


@loading_kernel(_column_sum)
def _add_columns(i, value, whole, part, g):
    whole[_column_place(i, g)] = value


@mapping
def _take_columns(i, whole, g):
    return whole[_column_place(i, g)]


def _map(apply: Kernel, *arrays: Array) -> Array:
    result = device_array.new(arrays[0].shape, arrays[0].dtype)
    apply(result.size, result, *arrays)
    return result


def relu(x: Array) -> Array:
    return _map(_relu, x)


def relu_backward(dy: Array, y: Array) -> Array:
    return _map(_relu_backward, dy, y)


def sigmoid(x: Array) -> Array:
    y = device_array.new(x.shape, x.dtype)
    _sigmoid(x.size, y, x)
    return y


def sigmoid_backward(dy: Array, y: Array) -> Array:
    return _map(_sigmoid_backward, dy, y)


def tanh(x: Array) -> Array:
    return _map(_tanh, x)


def tanh_backward(dy: Array, y: Array) -> Array:
    return _map(_tanh_backward, dy, y)


def dropout(x: Array, p: float, seed: int, offset: Array) -> Array:
    y = device_array.new(x.shape, x.dtype)
    scale = 1 / (1 - p) if p < 1 else 0.0
    threshold, seed_low, seed_high = (int(word) for word in (philox.drop_threshold(p), *philox.split_words(seed)))
    x = device_array.aligned(x)
    _dropout(-(-x.size // 4), y, x, offset, x.size, float(scale), threshold, seed_low, seed_high)
    return y


def expand(x: Array, shape: Sequence[int]) -> Array:
    y = device_array.new(shape, x.dtype)
    sizes = (1,) * (len(y.shape) - len(x.shape)) + tuple(x.shape)
    steps = [math.prod(sizes[axis + 1 :]) if size > 1 else 0 for axis, size in enumerate(sizes)]
    # One axis at least, for there are no tuples of no integers in a kernel.
    _repeated(y.size, y, x, (1, *y.shape), (0, *steps), 1 + len(sizes))
    return y


def add(arrays: Sequence[Array]) -> Array:
    if len(arrays) == 1:
        return memory.copy(arrays[0])
    total = _map(sum_of, arrays[0], arrays[1])
    for array in arrays[2:]:
        accumulate(total, array)
    return total


def multiply(x: Array, y: Array) -> Array:
    if x.shape == y.shape:
        return _map(_product, x, y)
    product = device_array.new(x.shape, x.dtype)
    _channel_product(product.size, product, x, y, divisor(max(math.prod(x.shape[2:]), 1)))
    return product


def sum_of_products(a: Array, b: Array) -> Array:
    total = device_array.new((*a.shape[:2], 1, 1), a.dtype)
    length = math.prod(a.shape[2:])
    bits = lane_bits(length)
    _row_products(row_blocks(total.size, bits), total, a, b, (total.size, length, bits))
    return total


def take_channels(x: Array, first: int, count: int) -> Array:
    part = device_array.new((x.shape[0], count, *x.shape[2:]), x.dtype)
    _take_columns(part.size, part, x, _columns(x, part, first))
    return part


def put_channels(target: Array, value: Array, first: int) -> None:
    _put_columns(value.size, target, value, _columns(target, value, first))


def add_channels(target: Array, value: Array) -> None:
    _add_columns(value.size, target, value, _columns(target, value, 0))


def fill_zero(target: Array) -> None:
    device_array.clear(target)


def increment(counter: Array) -> None:
    _incremented(1, counter, counter)


def _columns(whole: Array, part: Array, first: int) -> tuple[int, ...]:
    """For :func:`_column_place`: a row is a sample, and ``first`` the channel of ``whole`` that ``part`` begins at."""
    columns = math.prod(part.shape[1:])
    return columns, divisor(max(columns, 1)), math.prod(whole.shape[1:]), first * math.prod(whole.shape[2:])
