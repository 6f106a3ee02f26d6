"""Functions of each element of a matrix of pixels and of some numbers of its column, which stay in registers.

The columns are taken a few vectors at a time, the last of them masked, and all rows of a block are done with these.
A loop along the rows would read the numbers of the columns anew for each row, and while stores wait for memory, reads
wait for stores at the same place of another page. Rows of few columns are taken several at a time, as one wide row.

operations: one to five for each element; nothing is read twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..runtime.kernel import inlined
from ..runtime.microkernel import ELEMENTS, INTEGER, WORD, EmittedMicrokernel, Microkernel, calling
from .simd import REGISTERS, VECTOR_BYTES, Vectors, for_each_group

__all__ = ["CUT", "GRADIENT", "NORMALIZED", "SCALED", "map_all", "map_block", "repeat", "row_map"]

# Elements of a block: the first cache holds them and what comes of them.
BLOCK = 1 << 11
# Vectors of columns that are done side by side, if their numbers are all in registers.
SIDE_BY_SIDE = 4
OF_ROWS = (ELEMENTS, INTEGER, ELEMENTS, INTEGER, ELEMENTS, INTEGER, ELEMENTS, INTEGER, INTEGER, INTEGER)


def row_map(
    name: str, numbers: int, term: Callable[..., Any], emit_term: Callable[..., Any], is_far: bool = False
) -> Microkernel:
    """y[i, j] = ``term(a[i, j], b[i, j], *of_columns[:, j])`` for i < ``rows`` and j < ``columns``.

    ``emit_term`` is the term of vectors, ``numbers`` how many each column has, ``apart`` elements after each other.
    Where y ``is_far``, and a and b at hand, the memory makes ready meanwhile what the next block of :func:`map_all`
    writes, which is the one before in memory: it has nothing else to do.
    """

    def definition(
        a, at, a_row, b, b_at, b_row, y, y_at, y_row, of_columns, of_columns_at, apart, rows, columns
    ):  # fmt: skip
        lanes = np.arange(columns)
        own = [of_columns[of_columns_at + k * apart + lanes] for k in range(numbers)]
        for i in range(rows):
            y[y_at + i * y_row + lanes] = term(a[at + i * a_row + lanes], b[b_at + i * b_row + lanes], *own)

    def emit(
        builder: Any, element: Any, a: Any, a_row: Any, b: Any, b_row: Any, y: Any, y_row: Any, of_columns: Any,
        apart: Any, rows: Any, columns: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, VECTOR_BYTES)
        some = SIDE_BY_SIDE if REGISTERS >= 32 else max(1, (REGISTERS - 4) // max(numbers, 1))

        def of_group(column: Any, masks: list[Any]) -> None:
            places = [builder.add(column, WORD(i * v.lanes)) for i in range(some)]

            def loaded(pointer: Any) -> list[Any]:
                return [
                    v.load_masked(builder.gep(pointer, [place]), mask)
                    for place, mask in zip(places, masks, strict=True)
                ]

            own = [loaded(builder.gep(of_columns, [builder.mul(apart, WORD(k))])) for k in range(numbers)]

            def step(row: Any, kept: list[Any]) -> list[Any]:
                of_a = loaded(builder.gep(a, [builder.mul(row, a_row)]))
                of_b = loaded(builder.gep(b, [builder.mul(row, b_row)]))
                target = builder.gep(y, [builder.mul(row, y_row)])
                for place in places if is_far else []:
                    v.prefetch(builder.gep(target, [builder.sub(place, WORD(BLOCK))]))
                for i, place in enumerate(places):
                    value = emit_term(v, of_a[i], of_b[i], *(number[i] for number in own))
                    v.store_masked(value, builder.gep(target, [place]), masks[i])
                return kept

            v.repeated(rows, [], step)

        for_each_group(v, columns, some, of_group)

    return EmittedMicrokernel(f"map_of_{name}", OF_ROWS, emit, definition)


map_rows = calling(OF_ROWS)
"""map_rows(microkernel, ...): what :func:`row_map` says, with the arguments of its definition."""


def _normalized(v: Vectors, a: Any, b: Any, mean: Any, scale: Any, bias: Any) -> Any:
    return v.fma(v.builder.fsub(a, mean), scale, bias)


def _gradient(v: Vectors, dy: Any, x: Any, scale: Any, mean: Any, shift: Any, slope: Any) -> Any:
    shifted = v.fma(v.builder.fsub(x, mean), slope, shift)
    return v.builder.fsub(v.builder.fmul(scale, dy), shifted)


def _cut(v: Vectors, a: Any, b: Any, slope: Any) -> Any:
    """``a`` times the slope where ``b`` is not above 0."""
    return v.builder.select(v.builder.fcmp_ordered(">", b, v.zero()), a, v.builder.fmul(slope, a))


NORMALIZED = row_map("normalized", 3, lambda a, b, mean, scale, bias: (a - mean) * scale + bias, _normalized, True)
GRADIENT = row_map(
    "gradient",
    4,
    lambda dy, x, scale, mean, shift, slope: scale * dy - ((x - mean) * slope + shift),
    _gradient,
    True,
)
SCALED = row_map("scaled", 1, lambda a, b, scale: scale * a, lambda v, a, b, scale: v.builder.fmul(scale, a))
CUT = row_map("cut", 1, lambda a, b, slope: np.where(b > 0, a, slope * a), _cut)


@inlined
def map_block(microkernel, a, at, a_row, b, b_at, b_row, y, y_at, of_columns, apart, rows, columns, times):
    """The rows of a block; ``of_columns`` repeat ``times`` times, and rows of y are ``columns`` apart."""
    if a_row == columns and b_row == columns and times > 1:
        wide, width = rows // times, times * columns
        map_rows(
            microkernel, a, at, width, b, b_at, width, y, y_at, width, of_columns, 0, apart, wide, width
        )  # fmt: skip
        done, left = wide * width, rows % times * columns
        map_rows(
            microkernel, a, at + done, 0, b, b_at + done, 0, y, y_at + done, 0, of_columns, 0, apart, 1, left
        )  # fmt: skip
    else:
        map_rows(
            microkernel, a, at, a_row, b, b_at, b_row, y, y_at, columns, of_columns, 0, apart, rows, columns
        )  # fmt: skip


@inlined
def map_all(microkernel, a, at, a_row, b, b_at, b_row, y, y_at, of_columns, apart, rows, columns, times):
    """As :func:`map_block`, in blocks that the first cache holds.

    The last comes first: whoever has read all rows before has the last ones in the second cache.
    """
    some = max(1, BLOCK // max(times * columns, 1)) * times
    for block in range(-(-rows // some)):
        start = (-(-rows // some) - 1 - block) * some
        map_block(
            microkernel, a, at + start * a_row, a_row, b, b_at + start * b_row, b_row, y, y_at + start * columns,
            of_columns, apart, min(some, rows - start), columns, times,
        )  # fmt: skip


@inlined
def repeat(x, columns, times):
    """x[t * columns + j] = x[j] for t < ``times``."""
    for t in range(1, times):
        for j in range(columns):
            x[t * columns + j] = x[j]
