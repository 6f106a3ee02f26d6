"""What threads do with numbers along an axis of x, seen as (outer, classes, inner): its rows.

Neighbouring threads share a row whose classes are neighbours, inner being 1. Of other rows each has a thread of its
own, so that neighbouring threads read neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..runtime.target import cuda, device_function, exp, quotient
from .reduce import lane_bits, lane_of, lanes_sum, row_blocks

__all__ = ["first_of", "row_of", "rows_along", "softmax_row"]


@device_function
def first_of(row, classes, inner):
    """Where the first class of a row is; the others follow, ``inner`` apart."""
    image = quotient(row, inner)
    return image * classes * inner + row - image * inner


@device_function
def row_of(block, thread, g):
    """The row of a thread, where its first class is, the thread's lane in it, and how many classes it has.

    Beyond the last row that is 0, and the first class is some row's.
    """
    rows, classes, bits, inner = g
    row, lane = lane_of(block, thread, bits)
    is_row = row < rows
    return row, first_of(row if is_row else 0, classes, inner), lane, classes if is_row else 0


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
def softmax_row(p, x, first, step, count, thread, lane, lanes, scratch):
    """p = softmax of the row that begins at ``first``; its largest x and the sum of exp(x - largest)."""
    largest = -math.inf
    j = lane
    while j < count:
        value = np.float64(x[first + j * step])
        if value > largest:
            largest = value
        j += lanes
    largest = _lanes_maximum(thread, lane, lanes, largest, scratch)
    total = 0.0
    j = lane
    while j < count:
        total += exp(np.float64(x[first + j * step]) - largest)
        j += lanes
    total = lanes_sum(thread, lane, lanes, total, scratch)
    j = lane
    while j < count:
        p[first + j * step] = exp(np.float64(x[first + j * step]) - largest) / total
        j += lanes
    return largest, total


def rows_along(shape: Sequence[int], axis: int) -> tuple[int, tuple[int, int, int, int]]:
    """How many blocks the rows along an axis take, and what :func:`row_of` needs."""
    inner, classes = math.prod(shape[axis + 1 :]), shape[axis]
    rows, bits = math.prod(shape[:axis]) * inner, lane_bits(classes) if inner == 1 else 0
    return row_blocks(rows, bits), (rows, classes, bits, inner)
