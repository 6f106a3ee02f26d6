"""Sums of windows that slide along a run of memory, in registers.

operations: an addition for each neighbour of an element, whose operand the first cache has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.microkernel import ELEMENTS, INTEGER, WORD, EmittedMicrokernel, calling
from .simd import VECTOR_BYTES, Vectors, for_each_group

__all__ = ["WINDOW_SUMS", "sum_windows"]

# Vectors that are summed side by side: an addition takes four cycles.
SIDE_BY_SIDE = 4
OF_WINDOWS = (ELEMENTS, INTEGER, ELEMENTS, INTEGER, INTEGER, INTEGER, INTEGER)


def _sums(x, at, x_row, sums, sums_at, rows, columns, neighbours, apart):
    """sums[sums_at + i columns + j], of ``neighbours`` elements from x[at + i x_row + j] on that are ``apart``."""
    for i in range(rows):
        windows = np.zeros(columns, sums.dtype)
        for neighbour in range(neighbours):
            first = at + i * x_row + neighbour * apart
            windows += x[first : first + columns]
        sums[sums_at + i * columns : sums_at + (i + 1) * columns] = windows


def _emit_sums(
    builder: Any, element: Any, x: Any, x_row: Any, sums: Any, rows: Any, columns: Any, neighbours: Any, apart: Any
) -> None:
    v = Vectors(builder, element, VECTOR_BYTES)

    def of_row(i: Any, kept: list[Any]) -> list[Any]:
        source, target = builder.gep(x, [builder.mul(i, x_row)]), builder.gep(sums, [builder.mul(i, columns)])

        def of_group(first: Any, masks: list[Any]) -> None:
            places = [builder.add(first, WORD(k * v.lanes)) for k in range(SIDE_BY_SIDE)]

            def step(neighbour: Any, totals: list[Any]) -> list[Any]:
                shifted = builder.gep(source, [builder.mul(neighbour, apart)])
                return [
                    builder.fadd(total, v.load_masked(builder.gep(shifted, [place]), mask))
                    for total, place, mask in zip(totals, places, masks, strict=True)
                ]

            totals = v.repeated(neighbours, [v.zero()] * SIDE_BY_SIDE, step)
            for total, place, mask in zip(totals, places, masks, strict=True):
                v.store_masked(total, builder.gep(target, [place]), mask)

        for_each_group(v, columns, SIDE_BY_SIDE, of_group)
        return kept

    v.repeated(rows, [], of_row)


WINDOW_SUMS = EmittedMicrokernel("window_sums", OF_WINDOWS, _emit_sums, _sums)
sum_windows = calling(OF_WINDOWS)
"""sum_windows(microkernel, ...): what the definition of WINDOW_SUMS says, with its arguments."""
