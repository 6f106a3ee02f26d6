"""Losses and accuracy: neighbouring threads share a row of the logits, blocks' sums are added up in a second launch.

roofline: memory, and small: the logits are read three times, twice from the caches. Losses are worked out in float64.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from .block.reduce import CHUNK, THREADS, block_sum, lane_bits, lane_of, lanes_sum, row_blocks
from .runtime import device_array
from .runtime.kernel import block_kernel, mapping
from .runtime.target import cuda, device_function, exp, log, quotient

__all__ = [
    "count_correct",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "squared_error",
    "squared_error_backward",
]


@device_function
def _row_of(block, thread, g):
    """The row of a thread, its lane in it, and how many elements it has; 0 of them beyond the last row."""
    rows, classes, bits = g
    row, lane = lane_of(block, thread, bits)
    return row, lane, classes if row < rows else 0


@device_function
def _lanes_maximum(thread, lane, lanes, value, scratch):
    """The largest ``value`` of ``lanes`` neighbouring threads, NaN never being one."""
    scratch[thread] = value
    cuda.syncthreads()
    half = lanes >> 1
    while half > 0:
        if lane < half:
            other = scratch[thread + half]
            if other > scratch[thread]:
                scratch[thread] = other
        cuda.syncthreads()
        half >>= 1
    largest = scratch[thread - lane]
    cuda.syncthreads()
    return largest


@device_function
def _softmax_row(p, x, first, count, thread, lane, lanes, scratch):
    """p = softmax of the row that begins at ``first``; its largest x and the sum of exp(x - largest)."""
    largest = -math.inf
    j = lane
    while j < count:
        value = np.float64(x[first + j])
        if value > largest:
            largest = value
        j += lanes
    largest = _lanes_maximum(thread, lane, lanes, largest, scratch)
    total = 0.0
    j = lane
    while j < count:
        total += exp(np.float64(x[first + j]) - largest)
        j += lanes
    total = lanes_sum(thread, lane, lanes, total, scratch)
    j = lane
    while j < count:
        p[first + j] = exp(np.float64(x[first + j]) - largest) / total
        j += lanes
    return largest, total


@block_kernel(THREADS)
def _softmax_rows(block, thread, p, x, g):
    scratch = cuda.shared.array(THREADS, np.float64)
    classes, lanes = g[1], 1 << g[2]
    row, lane, count = _row_of(block, thread, g)
    _softmax_row(p, x, row * classes, count, thread, lane, lanes, scratch)


@block_kernel(THREADS)
def _cross_entropy_rows(block, thread, partial, p, logits, labels, smoothing, g):
    """``partial`` comes first so that ``smoothing`` is float64."""
    scratch = cuda.shared.array(THREADS, np.float64)
    classes, lanes = g[1], 1 << g[2]
    row, lane, count = _row_of(block, thread, g)
    first = row * classes
    largest, total = _softmax_row(p, logits, first, count, thread, lane, lanes, scratch)
    logarithm = log(total) if count else 0.0
    loss = 0.0
    # Without smoothing a class of probability 0 costs nothing; 0 times its logarithm would be NaN.
    if smoothing > 0.0:
        j = lane
        while j < count:
            loss += logarithm - (np.float64(logits[first + j]) - largest)
            j += lanes
        loss *= smoothing / np.float64(classes)
    if count and lane == 0:
        label = labels[row]
        if label >= 0 and label < classes:
            loss += (1.0 - smoothing) * (logarithm - (np.float64(logits[first + label]) - largest))
        else:
            loss = math.nan
    loss = block_sum(thread, loss, scratch)
    if thread == 0:
        partial[block] = loss


@mapping
def _cross_entropy_gradient(i, p, labels, classes, on, off, scale):
    """``on`` and ``off`` are the smoothed label's values at the class and elsewhere."""
    row = quotient(i, classes)
    return scale * (p[i] - (on if i - row * classes == labels[row] else off))


@block_kernel(THREADS)
def _squared_error_chunks(block, thread, partial, prediction, target, count):
    sums = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(block * CHUNK + thread, min((block + 1) * CHUNK, count), THREADS):
        difference = np.float64(prediction[i]) - np.float64(target[i])
        total += difference * difference
    total = block_sum(thread, total, sums)
    if thread == 0:
        partial[block] = total


@mapping
def _scaled_difference(i, a, b, scale):
    return scale * (a[i] - b[i])


@device_function
def _comes_before(value, place, other, other_place):
    """Whether a number is the maximum rather than another: NaN is above all others, the first of equals counts."""
    if value != value:
        return other == other or place < other_place
    return value > other or (value == other and place < other_place)


@block_kernel(THREADS)
def _correct_rows(block, thread, partial, logits, labels, g):
    """``partial`` counts in float64, which is exact."""
    sums = cuda.shared.array(THREADS, np.float64)
    values = cuda.shared.array(THREADS, np.float64)
    places = cuda.shared.array(THREADS, np.int64)
    classes, lanes = g[1], 1 << g[2]
    row, lane, count = _row_of(block, thread, g)
    largest, place = -math.inf, classes
    j = lane
    while j < count:
        value = np.float64(logits[row * classes + j])
        if _comes_before(value, j, largest, place):
            largest, place = value, j
        j += lanes
    values[thread], places[thread] = largest, place
    cuda.syncthreads()
    half = lanes >> 1
    while half > 0:
        if lane < half:
            other = thread + half
            if _comes_before(values[other], places[other], values[thread], places[thread]):
                values[thread], places[thread] = values[other], places[other]
        cuda.syncthreads()
        half >>= 1
    correct = 0.0
    if count and lane == 0 and places[thread] == labels[row]:
        correct = 1.0
    correct = block_sum(thread, correct, sums)
    if thread == 0:
        partial[block] = correct


@block_kernel(THREADS)
def _finish(block, thread, result, partial, count, scale):
    """In one block: result = scale * the sum of partial."""
    sums = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(thread, count, THREADS):
        total += partial[i]
    total = block_sum(thread, total, sums)
    if thread == 0:
        result[0] = scale * total


def softmax(x: Array) -> Array:
    p = device_array.new(x.shape, x.dtype)
    blocks, sizes = _rows(x)
    _softmax_rows(blocks, p, x, sizes)
    return p


def softmax_cross_entropy(
    logits: Array, labels: Array, label_smoothing: float, scale: float = 1.0
) -> tuple[Array, Array]:
    p = device_array.new(logits.shape, logits.dtype)
    blocks, sizes = _rows(logits)
    partial = device_array.new((blocks,), np.float64)
    _cross_entropy_rows(blocks, partial, p, logits, labels, float(label_smoothing), sizes)
    return _total(partial, np.float64, scale), p


def softmax_cross_entropy_backward(probabilities: Array, labels: Array, label_smoothing: float, scale: float) -> Array:
    dlogits = device_array.new(probabilities.shape, probabilities.dtype)
    classes = probabilities.shape[1]
    off = label_smoothing / max(classes, 1)
    on = 1 - label_smoothing + off
    _cross_entropy_gradient(dlogits.size, dlogits, probabilities, labels, classes, float(on), float(off), float(scale))
    return dlogits


def squared_error(prediction: Array, target: Array, scale: float = 1.0) -> Array:
    partial = device_array.new((-(-prediction.size // CHUNK),), np.float64)
    _squared_error_chunks(partial.size, partial, prediction, target, prediction.size)
    return _total(partial, np.float64, scale)


def squared_error_backward(prediction: Array, target: Array, scale: float) -> Array:
    difference = device_array.new(prediction.shape, prediction.dtype)
    _scaled_difference(difference.size, difference, prediction, target, float(2 * scale))
    return difference


def count_correct(logits: Array, labels: Array) -> Array:
    blocks, sizes = _rows(logits)
    partial = device_array.new((blocks,), np.float64)
    _correct_rows(blocks, partial, logits, labels, sizes)
    return _total(partial, np.int64, 1.0)


def _rows(x: Array) -> tuple[int, tuple[int, int, int]]:
    """How many blocks the rows of x take, and what :func:`_row_of` needs."""
    n, classes = x.shape
    bits = lane_bits(classes)
    return row_blocks(n, bits), (n, classes, bits)


def _total(partial: Array, dtype: type, scale: float) -> Array:
    result = device_array.new((), dtype)
    _finish(1, result, partial, partial.size, float(scale))
    return result
