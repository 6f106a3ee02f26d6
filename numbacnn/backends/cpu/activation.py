"""Activations beyond those of elementwise.py: the functions of shared/pointwise.py, and PReLU.

A chunk is a run of BLOCK elements, which PReLU takes as rows of channels, a slope to each column.

roofline: memory, one read per argument and one write. What bounds a core that has the memory for itself is in
vector/pointwise.py.
"""

from __future__ import annotations

import numpy as np

from ..shared.pointwise import two_of
from .elementwise import Shares, finish_sums, repeated
from .runtime.allocator import empty_like
from .runtime.kernel import Scratch, kernel
from .runtime.launch_cache import cached_launches
from .vector.blocks import BLOCK, blocks
from .vector.column_sums import RowShares
from .vector.layout import flat, images, like, of_pixels, pixels
from .vector.pointwise import GRADIENTS, VALUES
from .vector.row_sums import ROWS, add_block, fold
from .vector.row_sums import VALUES as VALUE_SUMS
from .vector.simd import flattened

__all__ = ["pointwise", "pointwise_backward", "prelu", "prelu_backward"]


@kernel
def _prelu_rows(chunk, x, weight, y, wide, part):
    """A chunk is ``part`` rows, and the slopes are in ``wide`` as the factors of elementwise._multiply_channels."""
    columns, zero = x.shape[1], x.dtype.type(0)
    for j in range(wide.size):
        wide[j] = weight[j % columns]
    values, result = flattened(x), flattened(y)
    start, end = chunk * part * columns, min((chunk + 1) * part, x.shape[0]) * columns
    for at in range(start, end, max(wide.size, 1)):
        place = np.uintp(at)
        for j in range(np.uintp(min(wide.size, end - at))):
            value = values[place + j]
            result[place + j] = value if value > zero else wide[j] * value


@kernel
def _prelu_backward_rows(chunk, dy, x, weight, dx, partials, wide, terms, totals, microkernel, p):
    """dx, and partials[chunk, channel] of dweight, in float64: a chunk is ``p.part`` rows.

    The terms of a block of rows are summed while they are in the first cache; see vector/row_sums.py. dy and x are read
    once, dx is written, and there are some five operations an element.
    """
    columns, first, zero = x.shape[1], chunk * p.part, x.dtype.type(0)
    rows, width = min(p.part, x.shape[0] - first), p.times * columns
    slopes, sums = wide[:width], wide[width:]
    for j in range(width):
        slopes[j] = weight[j % columns]
    totals[:] = 0
    gradients, values, result = flattened(dy), flattened(x), flattened(dx)
    for row in range(0, rows, ROWS * p.times):
        here = min(ROWS * p.times, rows - row)
        for at in range(0, here * columns, max(width, 1)):
            place, of_terms = np.uintp((first + row) * columns + at), np.uintp(at)
            for j in range(np.uintp(min(width, here * columns - at))):
                value, gradient = values[place + j], gradients[place + j]
                result[place + j] = gradient if value > zero else slopes[j] * gradient
                terms[of_terms + j] = zero if value > zero else gradient * value
        add_block(microkernel, terms, 0, columns, terms, 0, columns, sums, sums, totals, here, columns, p.times)
    fold(totals, columns, p.times)
    for j in range(columns):
        partials[chunk * columns + j] = totals[j]


@cached_launches
def pointwise(x: np.ndarray, kind: str, parameters: tuple[float, ...]) -> np.ndarray:
    y = empty_like(x)
    VALUES[kind](blocks(y), flat(x), flat(y), *two_of(parameters))
    return y


@cached_launches
def pointwise_backward(dy: np.ndarray, x: np.ndarray, kind: str, parameters: tuple[float, ...]) -> np.ndarray:
    dx = empty_like(x)
    GRADIENTS[kind](blocks(dx), flat(like(dy, dx)), flat(x), flat(dx), *two_of(parameters))
    return dx


@cached_launches
def prelu(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    of_x = _rows_of_slopes(x, weight)
    y, part = empty_like(of_x), max(1, BLOCK // max(weight.size, 1))
    _prelu_rows(-(-of_x.shape[0] // part), of_x, weight, y, repeated(weight, part), part)
    return _of_slopes(y, x, weight)


@cached_launches
def prelu_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    of_dy, of_x = _rows_of_slopes(like(dy, x), weight), _rows_of_slopes(x, weight)
    columns = of_x.shape[1]
    dx, dweight, rows = empty_like(of_x), empty_like(weight), RowShares(of_x, columns)
    partials = rows.partials(columns)
    _prelu_backward_rows(
        rows.chunks, of_dy, of_x, weight, dx, partials, rows.scratch(2), Scratch(ROWS * rows.width, x.dtype),
        rows.totals(), VALUE_SUMS, Shares(rows.chunks, rows.part, rows.times),
    )  # fmt: skip
    finish_sums(1, dweight, partials, rows.chunks, columns)
    return _of_slopes(dx, x, weight), dweight


def _rows_of_slopes(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x as a matrix with a column for each slope."""
    return flat(x).reshape(x.size, 1) if weight.size == 1 else pixels(x)


def _of_slopes(y: np.ndarray, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The reverse of :func:`_rows_of_slopes`: y in the shape of x."""
    if weight.size != 1:
        return of_pixels(y, x)
    return y.reshape(x.shape) if x.flags.c_contiguous else images(y.reshape(x.transpose(0, 2, 3, 1).shape))
