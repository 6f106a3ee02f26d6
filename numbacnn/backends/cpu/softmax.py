"""Exponentials that add up to 1 along an axis, and their logarithms: x is taken as (outer, classes, inner).

Of rows, inner being 1, a chunk has some, and vectors are of neighbouring classes; so it is with the channels of images,
which are neighbours. Elsewhere a chunk is COLUMNS neighbours of one outer index, which go through the classes together.

roofline: memory, one read per argument and one write, as far as the exponential keeps up, some 20 operations an
element. What is read again is in the first or second cache: a row, or COLUMNS numbers of each class. Sums are float64.
"""

from __future__ import annotations

import math

import numpy as np

from .runtime.allocator import empty_like
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .vector.blocks import BLOCK
from .vector.layout import flat, like
from .vector.simd import flattened
from .vector.transcendental import exp, strict

__all__ = ["softmax", "softmax_backward"]

COLUMNS = 256
# Numbers that are compared side by side: the largest of all is then found in vectors.
ABREAST = 32


@inlined
def largest_of(x, at, count, maxima):
    """The largest of x[at : at + count], NaN never being one; ``maxima`` has ABREAST numbers."""
    whole = count // ABREAST * ABREAST
    for i in range(np.uintp(ABREAST)):
        maxima[i] = -np.inf
    for start in range(at, at + whole, ABREAST):
        for i in range(np.uintp(ABREAST)):
            value = x[np.uintp(start) + i]
            maxima[i] = value if value > maxima[i] else maxima[i]
    for half in (16, 8, 4, 2, 1):
        for i in range(np.uintp(half)):
            other = maxima[i + np.uintp(half)]
            maxima[i] = other if other > maxima[i] else maxima[i]
    largest = maxima[0]
    for i in range(np.uintp(at + whole), np.uintp(at + count)):
        largest = x[i] if x[i] > largest else largest
    return largest


@strict
def log_share(x, largest, logarithm):
    """(x - largest) - logarithm, in this order, as a sum of the last two may be as large as x and the result small."""
    return np.float64(x) - np.float64(largest) - logarithm


@kernel
def _softmax_rows(chunk, x, y, maxima, rows, logarithm):
    values, result, classes = flattened(x), flattened(y), np.uintp(x.shape[1])
    for row in range(chunk * rows, min((chunk + 1) * rows, x.shape[0])):
        at, total = np.uintp(row * x.shape[1]), 0.0
        largest = largest_of(values, row * x.shape[1], x.shape[1], maxima)
        if logarithm:
            for j in range(classes):
                total += np.float64(exp(values[at + j] - largest))
            total = np.log(total)
            for j in range(classes):
                result[at + j] = log_share(values[at + j], largest, total)
        else:
            for j in range(classes):
                exponential = exp(values[at + j] - largest)
                total += np.float64(exponential)
                result[at + j] = exponential
            divisor = x.dtype.type(total)
            for j in range(classes):
                result[at + j] /= divisor


@kernel
def _softmax_columns(chunk, x, y, maxima, totals, parts, logarithm):
    values, result, zero = flattened(x), flattened(y), x.dtype.type(0)
    classes, inner, first = x.shape[1], x.shape[2], chunk % parts * COLUMNS
    start, here = chunk // parts * classes * inner + first, np.uintp(min(COLUMNS, inner - first))
    for i in range(here):
        maxima[i], totals[i] = -np.inf, 0.0
    for k in range(classes):
        at = np.uintp(start + k * inner)
        for i in range(here):
            value = values[at + i]
            maxima[i] = value if value > maxima[i] else maxima[i]
    for k in range(classes):
        at = np.uintp(start + k * inner)
        for i in range(here):
            exponential = exp(values[at + i] - maxima[i])
            totals[i] += np.float64(exponential)
            result[at + i] = zero if logarithm else exponential
    if logarithm:
        for i in range(here):
            totals[i] = np.log(totals[i])
    for k in range(classes):
        at = np.uintp(start + k * inner)
        if logarithm:
            for i in range(here):
                result[at + i] = log_share(values[at + i], maxima[i], totals[i])
        else:
            for i in range(here):
                result[at + i] /= x.dtype.type(totals[i])


@kernel
def _softmax_backward_rows(chunk, dy, y, dx, rows, logarithm):
    gradients, values, result = flattened(dy), flattened(y), flattened(dx)
    classes = np.uintp(y.shape[1])
    for row in range(chunk * rows, min((chunk + 1) * rows, y.shape[0])):
        at, total = np.uintp(row * y.shape[1]), 0.0
        if logarithm:
            for j in range(classes):
                total += np.float64(gradients[at + j])
            factor = y.dtype.type(total)
            for j in range(classes):
                result[at + j] = gradients[at + j] - exp(values[at + j]) * factor
        else:
            for j in range(classes):
                total += np.float64(gradients[at + j]) * np.float64(values[at + j])
            mean = y.dtype.type(total)
            for j in range(classes):
                result[at + j] = values[at + j] * (gradients[at + j] - mean)


@kernel
def _softmax_backward_columns(chunk, dy, y, dx, totals, parts, logarithm):
    gradients, values, result = flattened(dy), flattened(y), flattened(dx)
    classes, inner, first = y.shape[1], y.shape[2], chunk % parts * COLUMNS
    start, here = chunk // parts * classes * inner + first, np.uintp(min(COLUMNS, inner - first))
    for i in range(here):
        totals[i] = 0.0
    for k in range(classes):
        at = np.uintp(start + k * inner)
        if logarithm:
            for i in range(here):
                totals[i] += np.float64(gradients[at + i])
        else:
            for i in range(here):
                totals[i] += np.float64(gradients[at + i]) * np.float64(values[at + i])
    for k in range(classes):
        at = np.uintp(start + k * inner)
        if logarithm:
            for i in range(here):
                result[at + i] = gradients[at + i] - exp(values[at + i]) * y.dtype.type(totals[i])
        else:
            for i in range(here):
                result[at + i] = values[at + i] * (gradients[at + i] - y.dtype.type(totals[i]))


@cached_launches
def softmax(x: np.ndarray, axis: int, logarithm: bool = False) -> np.ndarray:
    y = empty_like(x)
    outer, classes, inner = _sizes(x, axis)
    if inner == 1:
        rows = max(1, BLOCK // max(classes, 1))
        _softmax_rows(
            -(-outer // rows), flat(x).reshape(outer, classes), flat(y).reshape(outer, classes),
            Scratch(ABREAST, x.dtype), rows, int(logarithm),
        )  # fmt: skip
    else:
        shape, parts = (outer, classes, inner), -(-inner // COLUMNS)
        _softmax_columns(
            outer * parts, flat(x).reshape(shape), flat(y).reshape(shape), Scratch(COLUMNS, x.dtype),
            Scratch(COLUMNS, np.dtype(np.float64)), parts, int(logarithm),
        )  # fmt: skip
    return y


@cached_launches
def softmax_backward(dy: np.ndarray, y: np.ndarray, axis: int, logarithm: bool = False) -> np.ndarray:
    dx = empty_like(y)
    outer, classes, inner = _sizes(y, axis)
    if inner == 1:
        rows = max(1, BLOCK // max(classes, 1))
        of_rows = [flat(array).reshape(outer, classes) for array in (like(dy, y), y, dx)]
        _softmax_backward_rows(-(-outer // rows), *of_rows, rows, int(logarithm))
    else:
        parts = -(-inner // COLUMNS)
        arrays = [flat(array).reshape(outer, classes, inner) for array in (like(dy, y), y, dx)]
        totals = Scratch(COLUMNS, np.dtype(np.float64))
        _softmax_backward_columns(outer * parts, *arrays, totals, parts, int(logarithm))
    return dx


def _sizes(x: np.ndarray, axis: int) -> tuple[int, int, int]:
    """(outer, classes, inner) of x as it lies in memory."""
    if not x.flags.c_contiguous:
        x, axis = x.transpose(0, 2, 3, 1), (0, 3, 1, 2)[axis]
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
