"""Sums down the columns of a matrix of pixels, and the mean and variance of each column.

A block of rows is summed in the dtype of the array, in registers, and blocks in float64. Rows of few columns are taken
several at a time, as one wide row, so that they fill vectors: ``times`` rows, each with sums of its own. Sums of
several kinds are made side by side, so that a number is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from ..runtime.kernel import inlined
from ..runtime.microkernel import (
    ELEMENTS,
    INTEGER,
    WORD,
    EmittedMicrokernel,
    Microkernel,
    calling,
)
from .simd import VECTOR_BYTES, Vectors, for_each_group
from .sums import is_finite

__all__ = [
    "CUT_PRODUCTS", "GRADIENTS", "MOMENTS", "PRODUCTS", "VALUES", "add_block", "add_gradients", "add_values",
    "find_moments", "fold", "merge_moments", "row_sums",
]  # fmt: skip

# Wide rows of a block: few enough for the dtype, and for the first cache.
ROWS = 64
# Vectors of columns that are summed side by side: an addition takes four cycles.
SIDE_BY_SIDE = 4
# Bytes: processors look ahead by themselves within a page only, which is not enough where little is done with a number.
AHEAD = 1 << 14
OF_ROWS = (ELEMENTS, INTEGER, ELEMENTS, INTEGER, ELEMENTS, ELEMENTS, INTEGER, INTEGER, INTEGER, INTEGER)


def row_sums(
    name: str,
    terms: Callable[..., Any],
    emit_terms: Callable[..., Any],
    ahead: tuple[int, int] = (0, 0),
    size: int = VECTOR_BYTES,
) -> Microkernel:
    """sums[k * apart + j] = or, if ``add``, += the sum of ``terms(a[i, j], b[i, j], center[j])[k]`` over i < ``rows``.

    j goes up to ``columns``, and ``emit_terms`` gives the terms of vectors. Rows of a and b are ``a_row`` and
    ``b_row`` apart. What is so many bytes ``ahead`` in a, and in b, is brought into the second cache, if not 0.
    """

    def definition(
        a, at, a_row, b, b_at, b_row, center, center_at, sums, sums_at, apart, rows, columns, add
    ):  # fmt: skip
        lanes = np.arange(columns)
        own = center[center_at + lanes]
        kinds = range(len(terms(own, own, own)))
        totals = [sums[sums_at + k * apart + lanes] if add else np.zeros(columns, sums.dtype) for k in kinds]
        for i in range(rows):
            values = terms(a[at + i * a_row + lanes], b[b_at + i * b_row + lanes], own)
            totals = [total + value for total, value in zip(totals, values, strict=True)]
        for k in kinds:
            sums[sums_at + k * apart + lanes] = totals[k]

    def emit(
        builder: Any, element: Any, a: Any, a_row: Any, b: Any, b_row: Any, center: Any, sums: Any, apart: Any,
        rows: Any, columns: Any, add: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        is_new = builder.icmp_signed("==", add, WORD(0))
        kinds = len(emit_terms(builder, v.zero(), v.zero(), v.zero()))

        def of_group(column: Any, masks: list[Any]) -> None:
            vectors = len(masks)
            places = [builder.add(column, WORD(i * v.lanes)) for i in range(vectors)]
            targets = [
                builder.gep(sums, [builder.add(place, builder.mul(apart, WORD(k)))])
                for k in range(kinds)
                for place in places
            ]

            def loaded(pointers: list[Any]) -> list[Any]:
                return [v.load_masked(one, masks[i % vectors]) for i, one in enumerate(pointers)]

            def of_row(pointer: Any) -> list[Any]:
                return loaded([builder.gep(pointer, [place]) for place in places])

            centers = of_row(center)
            first = [builder.select(is_new, v.zero(), value) for value in loaded(targets)]

            def step(row: Any, kept: list[Any]) -> list[Any]:
                rows_of = [builder.gep(x, [builder.mul(row, length)]) for x, length in ((a, a_row), (b, b_row))]
                for row_of, distance in zip(rows_of, ahead, strict=True):
                    for place in places if distance else []:
                        v.prefetch(builder.gep(row_of, [builder.add(place, WORD(distance // v.bytes))]))
                of_a, of_b = map(of_row, rows_of)
                values = [emit_terms(builder, *each) for each in zip(of_a, of_b, centers, strict=True)]
                return [builder.fadd(kept[k * vectors + i], values[i][k]) for k in range(kinds) for i in range(vectors)]

            for i, total in enumerate(v.repeated(rows, first, step)):
                v.store_masked(total, targets[i], masks[i % vectors])

        for_each_group(v, columns, SIDE_BY_SIDE, of_group)

    return EmittedMicrokernel(f"sums_of_{name}", OF_ROWS, emit, definition)


sum_rows = calling(OF_ROWS)
"""sum_rows(microkernel, ...): what :func:`row_sums` says, with the arguments of its definition."""


def _moments(builder: Any, a: Any, b: Any, center: Any) -> list[Any]:
    difference = builder.fsub(a, center)
    return [difference, builder.fmul(difference, difference)]


def _cut_product(builder: Any, a: Any, b: Any, center: Any) -> list[Any]:
    zero = ir.Constant(a.type, [0.0] * a.type.count)
    return [builder.select(builder.fcmp_ordered(">", b, zero), zero, builder.fmul(a, b))]


VALUES = row_sums("values", lambda a, b, center: (a,), lambda builder, a, b, center: [a])
MOMENTS = row_sums("moments", lambda a, b, center: (a - center, (a - center) ** 2), _moments, (AHEAD, 0))
PRODUCTS = row_sums("products", lambda a, b, center: (a * b,), lambda builder, a, b, center: [builder.fmul(a, b)])
GRADIENTS = row_sums(
    "gradients",
    lambda a, b, center: (a, a * (b - center)),
    lambda builder, a, b, center: [a, builder.fmul(a, builder.fsub(b, center))],
    (AHEAD, AHEAD),
)
CUT_PRODUCTS = row_sums("cut_products", lambda a, b, center: (np.where(b > 0, 0, a * b),), _cut_product)
"""Products of gradients and what was cut because it is not above 0."""


@inlined
def sum_block(microkernel, a, at, a_row, b, b_at, b_row, center, sums, rows, columns, times):
    """sums[t * columns + j] of the rows t, t + times, ...: alike whether or not rows have more than their columns.

    Sums of another kind are those of a wide row further on.
    """
    wide, left, apart = rows // times, rows % times, times * columns
    if a_row == columns and b_row == columns:
        sum_rows(
            microkernel, a, at, apart, b, b_at, apart, center, 0, sums, 0, apart, wide, apart, 0
        )  # fmt: skip
        if left > 0:
            sum_rows(
                microkernel, a, at + wide * apart, 0, b, b_at + wide * apart, 0, center, 0, sums, 0, apart, 1,
                columns * left, 1,
            )  # fmt: skip
    else:
        for t in range(times):
            sum_rows(
                microkernel, a, at + t * a_row, a_row * times, b, b_at + t * b_row, b_row * times, center, t * columns,
                sums, t * columns, apart, wide + (1 if t < left else 0), columns, 0,
            )  # fmt: skip


@inlined
def add_block(microkernel, a, at, a_row, b, b_at, b_row, center, sums, totals, rows, columns, times):
    """totals += the sums of at most ROWS wide rows, of all kinds."""
    sum_block(microkernel, a, at, a_row, b, b_at, b_row, center, sums, rows, columns, times)
    for j in range(np.uintp(totals.size)):
        totals[j] += sums[j]


@inlined
def fold(totals, first, columns, times):
    """The sums of the rows side by side are added up to totals[first : first + columns]; whether these are finite."""
    finite = True
    for j in range(first, first + columns):
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
    if not fold(totals, 0, columns, times):
        totals[:] = 0
        for i in range(rows):
            for j in range(columns):
                totals[j] += x[at + i * row + j]


@inlined
def add_gradients(microkernel, dy, at, x, x_at, row, center, sums, totals, rows, columns, times):
    """As add_values, of dy, and in the second half of ``totals`` of dy (x - center); rows of x are ``row`` apart."""
    totals[:] = 0
    half = totals.size // 2
    for start in range(0, rows, ROWS * times):
        here, of_dy, of_x = min(ROWS * times, rows - start), at + start * columns, x_at + start * row
        add_block(microkernel, dy, of_dy, columns, x, of_x, row, center, sums, totals, here, columns, times)
    is_finite_sum, is_finite_product = fold(totals, 0, columns, times), fold(totals, half, columns, times)
    if not (is_finite_sum and is_finite_product):
        totals[:] = 0
        for i in range(rows):
            for j in range(columns):
                gradient = np.float64(dy[at + i * columns + j])
                totals[j] += gradient
                totals[half + j] += gradient * (np.float64(x[x_at + i * row + j]) - np.float64(center[j]))


@inlined
def merge_moments(count, means, squares, first, other_count, other_means, other_squares, other_first, columns):
    """Means, and sums of squares about them, of ``count`` numbers become those of all, by Chan's formula."""
    weight = other_count / max(count + other_count, 1)
    for j in range(np.uintp(columns)):
        distance = other_means[np.uintp(other_first) + j] - means[np.uintp(first) + j]
        means[np.uintp(first) + j] += distance * weight
        squares[np.uintp(first) + j] += other_squares[np.uintp(other_first) + j] + distance * distance * count * weight


@inlined
def merge_block(count, totals, center, sums, first, end, of_block):
    """:func:`merge_moments`, of totals[:size] and totals[size:] and of a block's sums of differences and squares."""
    size = center.size
    share, weight = 1.0 / max(of_block, 1), of_block / max(count + of_block, 1)
    growth = count * weight
    for j in range(np.uintp(first), np.uintp(end)):
        far = np.uintp(size) + j
        difference = np.float64(sums[j])
        to_mean = difference * share
        distance = np.float64(center[j]) + to_mean - totals[j]
        totals[j] += distance * weight
        totals[far] += np.float64(sums[far]) - to_mean * difference + distance * distance * growth


@inlined
def find_moments(microkernel, x, at, row, center, sums, totals, rows, columns, times):
    """totals[:columns], the means of ``rows`` rows, and totals[half:], sums of squares about them.

    What a block sums are differences from its first row: these are as small as the numbers allow, and equal numbers
    have no variance. ``center`` is as long as a wide row, ``sums`` and ``totals`` as two.
    """
    half = times * columns
    means, squares = totals[:half], totals[half:]
    totals[:] = 0
    for start in range(0, rows, ROWS * times):
        here, first = min(ROWS * times, rows - start), at + start * row
        for t in range(min(times, here)):
            for j in range(np.uintp(columns)):
                center[np.uintp(t * columns) + j] = x[np.uintp(first + t * row) + j]
        for j in range(min(times, here) * columns, half):
            center[j] = 0
        sum_block(microkernel, x, first, row, x, first, row, center, sums, here, columns, times)
        # The first of the rows side by side may have one more.
        left = here % times * columns
        merge_block(start // times, totals, center, sums, 0, left, here // times + 1)
        merge_block(start // times, totals, center, sums, left, half, here // times)
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
