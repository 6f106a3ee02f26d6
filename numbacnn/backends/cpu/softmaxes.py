"""Exponentials that add up to 1 along an axis, and their logarithms: x is taken as (outer, classes, inner).

Of rows, inner being 1, a chunk has some, and vectors are of neighbouring classes; so it is with the channels of images,
which are neighbours. Elsewhere a chunk is COLUMNS neighbours of one outer index, which go through the classes together.

roofline: memory, one read per argument and one write, as far as the exponential keeps up, some 20 operations an
element. What is read again is in the first or second cache: a part of a chunk's rows, or COLUMNS numbers of each
class. Of rows of 64 it reaches 50 to 65 % of the memory's rate. A
few numbers are added up in their own dtype, and such sums in float64.
"""

from __future__ import annotations

import math

import numpy as np

from .runtime.allocator import empty_like
from .runtime.kernel import Scratch, kernel
from .runtime.launch_cache import cached_launches
from .vector.blocks import AHEAD, BLOCK, PART
from .vector.layout import flat, like
from .vector.rows import SHORT, add_run, largest_of_run, scale_run, shift_run
from .vector.simd import flattened, prefetch_run
from .vector.transcendental import exp, strict

__all__ = ["softmax", "softmax_backward"]

COLUMNS = 256
# Classes whose exponentials are added up in their own dtype before float64 takes the sum.
CLASSES = 16


@strict
def log_share(x, largest, logarithm):
    """(x - largest) - logarithm, in this order, as a sum of the last two may be as large as x and the result small.

    Neither of the two is above 0, so that rounding each costs the result no more than itself.
    """
    return x - largest - logarithm


@kernel
def _softmax_rows(chunk, x, y, exponentials, part, rows, logarithm):
    """A chunk is ``rows`` rows, and ``part`` of them go through all loops together.

    Exponentials are those of a whole part, one after the other, whatever the length of its rows; while they are made,
    the memory brings what comes later.
    """
    values, result, classes, real = flattened(x), flattened(y), x.shape[1], x.dtype.type
    size, some = part * classes, max(part * classes, 1)
    begin, stop = chunk * rows * classes, min((chunk + 1) * rows, x.shape[0]) * classes
    for first in range(begin, stop, some):
        end = min(first + size, stop)
        for at in range(first, end, max(classes, 1)):
            largest = largest_of_run(values, at, classes)
            shift_run(exponentials, at - first, values, at, classes, largest)
            if logarithm:
                shift_run(result, at, values, at, classes, largest)
        prefetch_run(values, first + AHEAD, end - first)
        for i in range(np.uintp(end - first)):
            exponentials[i] = exp(exponentials[i])
        for at in range(first, end, max(classes, 1)):
            total = 0.0
            for start in range(0, classes, SHORT):
                total += np.float64(add_run(exponentials, at - first + start, min(SHORT, classes - start)))
            if logarithm:
                # Neither of the two is above 0, so that rounding each costs their difference no more than itself.
                shift_run(result, at, result, at, classes, real(np.log(total)))
            else:
                scale_run(result, at, exponentials, at - first, classes, real(1 / total))


@kernel
def _softmax_columns(chunk, x, y, maxima, sums, totals, parts, logarithm):
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
    for some in range(0, classes, CLASSES):
        for i in range(here):
            sums[i] = zero
        for k in range(some, min(some + CLASSES, classes)):
            at = np.uintp(start + k * inner)
            for i in range(here):
                exponential = exp(values[at + i] - maxima[i])
                sums[i] += exponential
                result[at + i] = zero if logarithm else exponential
        for i in range(here):
            totals[i] += np.float64(sums[i])
    for i in range(here):
        sums[i] = np.log(totals[i]) if logarithm else 1 / totals[i]
    for k in range(classes):
        at = np.uintp(start + k * inner)
        if logarithm:
            for i in range(here):
                result[at + i] = log_share(values[at + i], maxima[i], sums[i])
        else:
            for i in range(here):
                result[at + i] *= sums[i]


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
        part = max(1, PART // max(classes, 1))
        rows = max(1, BLOCK // max(part * classes, 1)) * part
        _softmax_rows(
            -(-outer // rows), flat(x).reshape(outer, classes), flat(y).reshape(outer, classes),
            Scratch(part * classes, x.dtype), part, rows, int(logarithm),
        )  # fmt: skip
    else:
        shape, parts = (outer, classes, inner), -(-inner // COLUMNS)
        _softmax_columns(
            outer * parts, flat(x).reshape(shape), flat(y).reshape(shape), Scratch(COLUMNS, x.dtype),
            Scratch(COLUMNS, x.dtype), Scratch(COLUMNS, np.dtype(np.float64)), parts, int(logarithm),
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
