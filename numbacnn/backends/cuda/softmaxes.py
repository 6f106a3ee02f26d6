"""Exponentials that add up to 1 along an axis, and their logarithms; block/softmax.py has which thread does what.

roofline: memory: x is read three times, twice from the caches, and written once. Sums are float64.
"""

from __future__ import annotations

import numpy as np

from ..contract import Array
from .block.reduce import THREADS, lanes_sum
from .block.softmax import row_of, rows_along, softmax_row
from .runtime import device_array
from .runtime.kernel import block_kernel
from .runtime.target import cuda, exp, log

__all__ = ["softmax", "softmax_backward"]


@block_kernel(THREADS)
def _softmax_rows(block, thread, y, x, g, logarithm):
    scratch = cuda.shared.array(THREADS, np.float64)
    lanes, step = 1 << g[2], g[3]
    _, first, lane, count = row_of(block, thread, g)
    largest, total = softmax_row(y, x, first, step, count, thread, lane, lanes, scratch)
    if logarithm and count:
        logarithm_of_total = log(total)
        j = lane
        while j < count:
            y[first + j * step] = np.float64(x[first + j * step]) - largest - logarithm_of_total
            j += lanes


@block_kernel(THREADS)
def _softmax_backward_rows(block, thread, dx, dy, y, g, logarithm):
    scratch = cuda.shared.array(THREADS, np.float64)
    lanes, step = 1 << g[2], g[3]
    _, first, lane, count = row_of(block, thread, g)
    total = 0.0
    j = lane
    while j < count:
        place = first + j * step
        total += np.float64(dy[place]) * (1.0 if logarithm else np.float64(y[place]))
        j += lanes
    total = lanes_sum(thread, lane, lanes, total, scratch)
    j = lane
    while j < count:
        place = first + j * step
        gradient, value = np.float64(dy[place]), np.float64(y[place])
        dx[place] = gradient - exp(value) * total if logarithm else value * (gradient - total)
        j += lanes


def softmax(x: Array, axis: int, logarithm: bool = False) -> Array:
    y = device_array.new(x.shape, x.dtype)
    blocks, sizes = rows_along(x.shape, axis)
    _softmax_rows(blocks, y, x, sizes, int(logarithm))
    return y


def softmax_backward(dy: Array, y: Array, axis: int, logarithm: bool = False) -> Array:
    dx = device_array.new(y.shape, y.dtype)
    blocks, sizes = rows_along(y.shape, axis)
    _softmax_backward_rows(blocks, dx, dy, y, sizes, int(logarithm))
    return dx
