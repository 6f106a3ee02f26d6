"""The sums of the columns of a matrix of pixels, and how its rows are shared out among chunks."""

from __future__ import annotations

import numpy as np

from ..runtime.allocator import empty
from ..runtime.kernel import Scratch, inlined, kernel
from .row_sums import VALUES, add_values
from .simd import flattened

__all__ = ["RowShares", "column_sums", "total_of", "wide_rows"]

# Elements of a wide row, of a chunk at least, and chunks at most.
WIDE, CHUNK_ELEMENTS, MAX_CHUNKS = 64, 1 << 13, 16


@inlined
def total_of(partials, columns, j):
    """The sum of the chunks' sums of a column."""
    total = 0.0
    for at in range(j, partials.size, columns):
        total += partials[at]
    return total


@kernel
def _sum_values(chunk, x, partials, sums, totals, microkernel, columns, part, times):
    """partials[chunk, column], in float64."""
    first = chunk * part
    flat, row = flattened(x), x.shape[1]
    rows = min(part, x.shape[0] - first)
    add_values(microkernel, flat, first * row, row, sums, totals, rows, columns, times)
    for j in range(columns):
        partials[chunk * columns + j] = totals[j]


@kernel
def _finish_sums(chunk, partials, sums):
    for j in range(sums.size):
        sums[j] = total_of(partials, sums.size, j)


def wide_rows(columns: int) -> int:
    """Rows that are taken as one wide row: those that fill the vectors that are summed side by side."""
    return max(1, WIDE // max(columns, 1))


class RowShares:
    """How the rows of a matrix are shared out: a matter of sizes alone.

    Args:
        x: pixels, a row each.
        columns: how many channels of them count.
    """

    def __init__(self, x: np.ndarray, columns: int) -> None:
        rows = x.shape[0]
        self.times = wide_rows(columns)
        least = -(-CHUNK_ELEMENTS // max(columns, 1))
        part = max(-(-rows // MAX_CHUNKS), least)
        self.part = -(-part // self.times) * self.times
        self.chunks = max(1, -(-rows // self.part))
        self.width = self.times * columns
        self._dtype = x.dtype

    def scratch(self, arrays: int = 1) -> Scratch:
        """Of ``arrays`` wide rows."""
        return Scratch(arrays * self.width, self._dtype)

    def totals(self, arrays: int = 1) -> Scratch:
        """Of wide rows in float64."""
        return Scratch(arrays * self.width, np.dtype(np.float64))

    def partials(self, columns: int) -> np.ndarray:
        return empty((self.chunks * columns,), np.float64)


def column_sums(x: np.ndarray) -> np.ndarray:
    """The sums of the columns of a matrix."""
    columns = x.shape[1]
    rows = RowShares(x, columns)
    partials, sums = rows.partials(columns), empty((columns,), x.dtype)
    _sum_values(rows.chunks, x, partials, rows.scratch(), rows.totals(), VALUES, columns, rows.part, rows.times)
    _finish_sums(1, partials, sums)
    return sums
