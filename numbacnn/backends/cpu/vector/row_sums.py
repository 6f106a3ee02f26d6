"""Sums down the columns of a matrix of pixels, and the mean and variance of each column.

A block of rows is summed in the dtype of the array, in registers, and blocks in float64. Rows of few columns are taken
several at a time, as one wide row, so that they fill vectors: ``times`` rows, each with sums of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import cgutils

from ..runtime.kernel import inlined
from ..runtime.microkernel import (
    ELEMENTS,
    INTEGER,
    WORD,
    EmittedMicrokernel,
    Microkernel,
    calling,
)
from .simd import VECTOR_BYTES, Vectors
from .sums import is_finite

__all__ = [
    "DIFFERENCES", "PRODUCTS", "SQUARES", "VALUES", "add_gradients", "add_values", "find_moments", "merge_moments",
    "row_sums",
]  # fmt: skip

# Wide rows of a block: few enough for the dtype, and for the first cache, which has them when they are read again.
ROWS = 32
# Vectors of columns that are summed side by side: an addition takes four cycles.
SIDE_BY_SIDE = 4
OF_ROWS = (ELEMENTS, INTEGER, ELEMENTS, INTEGER, ELEMENTS, ELEMENTS, INTEGER, INTEGER, INTEGER)


def row_sums(
    name: str, term: Callable[..., Any], emit_term: Callable[..., Any], size: int = VECTOR_BYTES
) -> Microkernel:
    """sums[j] = or, if ``add``, += the sum of ``term(a[i, j], b[i, j], center[j])`` over i < ``rows``, j < ``columns``.

    ``emit_term`` is the term of vectors. Rows of a and b are ``a_row`` and ``b_row`` apart.
    """

    def definition(
        a, at, a_row, b, b_at, b_row, center, center_at, sums, sums_at, rows, columns, add
    ):  # fmt: skip
        lanes = np.arange(columns)
        total = sums[sums_at + lanes] if add else np.zeros(columns, sums.dtype)
        for i in range(rows):
            total = total + term(a[at + i * a_row + lanes], b[b_at + i * b_row + lanes], center[center_at + lanes])
        sums[sums_at + lanes] = total

    def emit(
        builder: Any, element: Any, a: Any, a_row: Any, b: Any, b_row: Any, center: Any, sums: Any, rows: Any,
        columns: Any, add: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        is_new = builder.icmp_signed("==", add, WORD(0))

        def of_group(column: Any) -> None:
            places = [builder.add(column, WORD(i * v.lanes)) for i in range(SIDE_BY_SIDE)]
            masks = [v.mask(builder.sub(columns, place)) for place in places]

            def loaded(pointer: Any) -> list[Any]:
                return [
                    v.load_masked(builder.gep(pointer, [place]), mask)
                    for place, mask in zip(places, masks, strict=True)
                ]

            centers = loaded(center)
            first = [builder.select(is_new, v.zero(), value) for value in loaded(sums)]

            def step(row: Any, kept: list[Any]) -> list[Any]:
                of_a = loaded(builder.gep(a, [builder.mul(row, a_row)]))
                of_b = loaded(builder.gep(b, [builder.mul(row, b_row)]))
                terms = [emit_term(builder, *each) for each in zip(of_a, of_b, centers, strict=True)]
                return [builder.fadd(total, value) for total, value in zip(kept, terms, strict=True)]

            totals = v.repeated(rows, first, step)
            for total, place, mask in zip(totals, places, masks, strict=True):
                v.store_masked(total, builder.gep(sums, [place]), mask)

        with cgutils.for_range_slice(builder, WORD(0), columns, WORD(SIDE_BY_SIDE * v.lanes), WORD) as (column, _):
            of_group(column)

    return EmittedMicrokernel(f"sums_of_{name}", OF_ROWS, emit, definition)


sum_rows = calling(OF_ROWS)
"""sum_rows(microkernel, ...): what :func:`row_sums` says, with the arguments of its definition."""


def _square(builder: Any, a: Any, b: Any, center: Any) -> Any:
    difference = builder.fsub(a, center)
    return builder.fmul(difference, difference)


VALUES = row_sums("values", lambda a, b, center: a, lambda builder, a, b, center: a)
DIFFERENCES = row_sums(
    "differences", lambda a, b, center: a - center, lambda builder, a, b, center: builder.fsub(a, center)
)
SQUARES = row_sums("squares", lambda a, b, center: (a - center) ** 2, _square)
PRODUCTS = row_sums(
    "products",
    lambda a, b, center: a * (b - center),
    lambda builder, a, b, center: builder.fmul(a, builder.fsub(b, center)),
)


@inlined
def sum_block(microkernel, a, at, a_row, b, b_at, b_row, center, sums, rows, columns, times):
    """sums[t * columns + j] of the rows t, t + times, ...: alike whether or not rows have more than their columns."""
    wide, left = rows // times, rows % times
    if a_row == columns and b_row == columns:
        sum_rows(
            microkernel, a, at, a_row * times, b, b_at, b_row * times, center, 0, sums, 0, wide, columns * times, 0
        )  # fmt: skip
        sum_rows(
            microkernel, a, at + wide * times * a_row, 0, b, b_at + wide * times * b_row, 0, center, 0, sums, 0, 1,
            columns * left, 1,
        )  # fmt: skip
    else:
        for t in range(times):
            sum_rows(
                microkernel, a, at + t * a_row, a_row * times, b, b_at + t * b_row, b_row * times, center, t * columns,
                sums, t * columns, wide + (1 if t < left else 0), columns, 0,
            )  # fmt: skip


@inlined
def add_block(microkernel, a, at, a_row, b, b_at, b_row, center, sums, totals, rows, columns, times):
    """totals += the sums of at most ROWS wide rows."""
    sum_block(microkernel, a, at, a_row, b, b_at, b_row, center, sums, rows, columns, times)
    for j in range(np.uintp(times * columns)):
        totals[j] += sums[j]


@inlined
def fold(totals, columns, times):
    """The sums of the rows side by side are added up to totals[:columns]; whether these are finite."""
    finite = True
    for j in range(columns):
        for t in range(1, times):
            totals[j] += totals[t * columns + j]
        finite = finite and is_finite(totals[j])
    return finite


@inlined
def add_values(microkernel, x, at, row, sums, totals, rows, columns, times):
    """totals[:columns], in float64, become the sums of ``rows`` rows."""
    totals[:] = 0
    for start in range(0, rows, ROWS * times):
        here, to = min(ROWS * times, rows - start), at + start * row
        add_block(microkernel, x, to, row, x, to, row, sums, sums, totals, here, columns, times)
    # A block's sum may be too large for the dtype where that of all is not.
    if not fold(totals, columns, times):
        totals[:] = 0
        for i in range(rows):
            for j in range(columns):
                totals[j] += x[at + i * row + j]


@inlined
def add_gradients(of_values, of_products, dy, at, x, x_at, row, center, sums, totals, products, rows, columns, times):
    """As add_values, of dy, and ``products`` likewise of dy (x - center); rows of x are ``row`` apart."""
    totals[:] = 0
    products[:] = 0
    for start in range(0, rows, ROWS * times):
        here, of_dy, of_x = min(ROWS * times, rows - start), at + start * columns, x_at + start * row
        add_block(of_values, dy, of_dy, columns, dy, of_dy, columns, center, sums, totals, here, columns, times)
        add_block(of_products, dy, of_dy, columns, x, of_x, row, center, sums, products, here, columns, times)
    is_finite_sum, is_finite_product = fold(totals, columns, times), fold(products, columns, times)
    if not (is_finite_sum and is_finite_product):
        totals[:] = 0
        products[:] = 0
        for i in range(rows):
            for j in range(columns):
                gradient = np.float64(dy[at + i * columns + j])
                totals[j] += gradient
                products[j] += gradient * (np.float64(x[x_at + i * row + j]) - np.float64(center[j]))


@inlined
def merge_moments(count, means, squares, first, other_count, other_means, other_squares, other_first, columns):
    """Means, and sums of squares about them, of ``count`` numbers become those of all, by Chan's formula."""
    weight = other_count / max(count + other_count, 1)
    for j in range(np.uintp(columns)):
        distance = other_means[np.uintp(other_first) + j] - means[np.uintp(first) + j]
        means[np.uintp(first) + j] += distance * weight
        squares[np.uintp(first) + j] += other_squares[np.uintp(other_first) + j] + distance * distance * count * weight


@inlined
def find_moments(of_differences, of_squares, x, at, row, center, sums, totals, rows, columns, times):
    """totals[:columns], the means of ``rows`` rows, and totals[half:], sums of squares about them.

    ``totals`` is as long as four wide rows: the second half of each half is for a block's. What a block sums are
    differences from its first row: these are as small as the numbers allow, and x passes through the first cache once.
    """
    size = times * columns
    half = totals.size // 2
    means, squares = totals[:half], totals[half:]
    totals[:] = 0
    for start in range(0, rows, ROWS * times):
        here = min(ROWS * times, rows - start)
        for t in range(min(times, here)):
            for j in range(np.uintp(columns)):
                center[np.uintp(t * columns) + j] = x[np.uintp(at + (start + t) * row) + j]
        for j in range(min(times, here) * columns, size):
            center[j] = 0
        first = at + start * row
        sum_block(of_differences, x, first, row, x, first, row, center, sums, here, columns, times)
        for t in range(times):
            count = max(here // times + (1 if t < here % times else 0), 1)
            for j in range(np.uintp(t * columns), np.uintp((t + 1) * columns)):
                means[np.uintp(size) + j] = sums[j] / np.float64(count)
        sum_block(of_squares, x, first, row, x, first, row, center, sums, here, columns, times)
        for t in range(times):
            count = here // times + (1 if t < here % times else 0)
            for j in range(np.uintp(t * columns), np.uintp((t + 1) * columns)):
                distance = means[np.uintp(size) + j]
                squares[np.uintp(size) + j] = sums[j] - distance * distance * count
                means[np.uintp(size) + j] = center[j] + distance
            merge_moments(
                start // times, means, squares, t * columns, count, means, squares, size + t * columns, columns
            )
    for t in range(1, times):
        first_rows = (rows // times) * t + min(t, rows % times)
        of_rest = rows // times + (1 if t < rows % times else 0)
        merge_moments(first_rows, means, squares, 0, of_rest, means, squares, t * columns, columns)
    finite = True
    for j in range(columns):
        finite = finite and is_finite(squares[j])
    # What a block adds up may be too large for the dtype where the result is not.
    if not finite:
        totals[:] = 0
        for i in range(rows):
            for j in range(columns):
                means[j] += np.float64(x[at + i * row + j]) / rows
        # A mean that the dtype has is equal to numbers that are all equal.
        for j in range(columns):
            center[j] = means[j]
            means[j] = center[j]
        for i in range(rows):
            for j in range(columns):
                distance = np.float64(x[at + i * row + j]) - means[j]
                squares[j] += distance * distance
