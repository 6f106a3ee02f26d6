"""Activations beyond those of elementwise.py: the functions of shared/pointwise.py, and PReLU.

A chunk is a run of BLOCK elements, which PReLU takes as rows of channels, a slope to each column.

roofline: memory, one read per argument and one write. What bounds a core that has the memory for itself is in
vector/pointwise.py.
"""

from __future__ import annotations

import numpy as np

from ..shared.pointwise import two_of
from .elementwise import Shares, finish_sums
from .runtime.allocator import empty_like
from .runtime.kernel import Scratch, kernel
from .runtime.launch_cache import cached_launches
from .vector.blocks import BLOCK, blocks
from .vector.column_sums import RowShares, wide_rows
from .vector.layout import flat, images, like, of_pixels, pixels
from .vector.pointwise import GRADIENTS, VALUES
from .vector.row_maps import CUT, map_all, map_block, repeat
from .vector.row_sums import CUT_PRODUCTS, ROWS, add_block, fold
from .vector.simd import flattened

__all__ = ["pointwise", "pointwise_backward", "prelu", "prelu_backward"]


@kernel
def _prelu_rows(chunk, x, weight, y, wide, p):
    """A chunk is ``p.part`` rows."""
    columns, first, values = x.shape[1], chunk * p.part, flattened(x)
    for j in range(columns):
        wide[j] = weight[j]
    repeat(wide, columns, p.times)
    map_all(
        p.microkernel, values, first * columns, columns, values, first * columns, columns, flattened(y),
        first * columns, wide, 0, min(p.part, x.shape[0] - first), columns, p.times,
    )  # fmt: skip


@kernel
def _prelu_backward_rows(chunk, dy, x, weight, dx, partials, wide, sums, totals, mapping, p):
    """dx, and partials[chunk, channel] of dweight, in float64: a chunk is ``p.part`` rows.

    A block of rows is read again from the first cache. dy and x are read once, dx is written, and there are some five
    operations an element.
    """
    columns, first = x.shape[1], chunk * p.part
    rows = min(p.part, x.shape[0] - first)
    for j in range(columns):
        wide[j] = weight[j]
    repeat(wide, columns, p.times)
    totals[:] = 0
    gradients, values, result = flattened(dy), flattened(x), flattened(dx)
    for row in range(0, rows, ROWS * p.times):
        here, at = min(ROWS * p.times, rows - row), (first + row) * columns
        add_block(
            p.microkernel, gradients, at, columns, values, at, columns, sums, sums, totals, here, columns, p.times
        )  # fmt: skip
        map_block(
            mapping, gradients, at, columns, values, at, columns, result, at, wide, 0, here, columns, p.times
        )  # fmt: skip
    fold(totals, 0, columns, p.times)
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
    y, times = empty_like(of_x), wide_rows(weight.size)
    part = max(1, BLOCK // max(weight.size * times, 1)) * times
    chunks = -(-of_x.shape[0] // part)
    _prelu_rows(chunks, of_x, weight, y, Scratch(times * weight.size, x.dtype), Shares(CUT, chunks, part, times))
    return _of_slopes(y, x, weight)


@cached_launches
def prelu_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    of_dy, of_x = _rows_of_slopes(like(dy, x), weight), _rows_of_slopes(x, weight)
    columns = of_x.shape[1]
    dx, dweight, rows = empty_like(of_x), empty_like(weight), RowShares(of_x, columns)
    partials = rows.partials(columns)
    _prelu_backward_rows(
        rows.chunks, of_dy, of_x, weight, dx, partials, rows.scratch(), rows.scratch(), rows.totals(), CUT,
        Shares(CUT_PRODUCTS, rows.chunks, rows.part, rows.times),
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
