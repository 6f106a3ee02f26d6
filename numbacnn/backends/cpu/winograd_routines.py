"""Winograd's transforms as routines: of one tile, for all channels, which lie along the vectors.

A tile of F(m x m, 3 x 3) has (m + 2)^2 elements of x, as many products a pair of channels, and m^2 outputs. Matrices
and names are Lavin and Gray's ("Fast algorithms for convolutional neural networks", 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .routines import ELEMENTS, INTEGER, WORD, EmittedRoutine, Routine, call_definition, emit_call, parameter_types
from .simd import VECTOR_BYTES, Vectors, chosen

__all__ = ["TRANSFORMS", "Transforms", "transform", "transformation"]

_B_2 = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
_G_2 = [["1", "0", "0"], ["1/2", "1/2", "1/2"], ["1/2", "-1/2", "1/2"], ["0", "0", "1"]]
_A_2 = [[1, 1, 1, 0], [0, 1, -1, -1]]
_B_4 = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G_4 = [
    ["1/4", "0", "0"],
    ["-1/6", "-1/6", "-1/6"],
    ["-1/6", "1/6", "-1/6"],
    ["1/24", "1/12", "1/6"],
    ["1/24", "-1/12", "1/6"],
    ["0", "0", "1"],
]
_A_4 = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

PARAMETERS = (ELEMENTS, INTEGER, INTEGER, ELEMENTS, INTEGER, INTEGER, INTEGER)


def transformation(name: str, matrix: Sequence[Sequence[Any]], size: int = VECTOR_BYTES) -> Routine:
    """target[i, j] = sum over k and n of matrix[i, k] source[k, n] matrix[j, n], for ``vectors`` vectors each.

    Element (k, n) of the source begins k ``source_row`` + n ``source_column`` after ``source_start``, and likewise in
    the target.
    """
    exact = [[Fraction(value) for value in row] for row in matrix]
    rows, columns = len(exact), len(exact[0])

    def definition(
        source, source_start, source_row, source_column, target, target_start, target_row, target_column, vectors
    ):
        width = vectors * size // source.itemsize
        factors = np.array(exact, np.float64).astype(source.dtype)
        k, n = np.arange(columns)[:, None, None], np.arange(columns)[None, :, None]
        tile = source[source_start + k * source_row + n * source_column + np.arange(width)]
        i, j = np.arange(rows)[:, None, None], np.arange(rows)[None, :, None]
        target[target_start + i * target_row + j * target_column + np.arange(width)] = np.einsum(
            "ik,klw,jl->ijw", factors, tile, factors
        )

    def emit(
        builder: Any, element: Any, source: Any, source_row: Any, source_column: Any, target: Any, target_row: Any,
        target_column: Any, vectors: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        end = builder.mul(vectors, WORD(v.lanes))
        with cgutils.for_range_slice(builder, WORD(0), end, WORD(v.lanes), WORD) as (at, _):

            def place(base: Any, i: int, row: Any, j: int, column: Any) -> Any:
                moved = builder.add(builder.mul(row, WORD(i)), builder.mul(column, WORD(j)))
                return builder.gep(base, [builder.add(at, moved)])

            tile = [
                [v.load(place(source, k, source_row, n, source_column)) for k in range(columns)] for n in range(columns)
            ]
            half = [_product(v, exact, column) for column in tile]  # a column of the tile at a time
            for i in range(rows):
                for j, value in enumerate(_product(v, exact, [column[i] for column in half])):
                    v.store(value, place(target, i, target_row, j, target_column))

    return EmittedRoutine(name, PARAMETERS, emit, definition)


def _product(v: Vectors, matrix: Sequence[Sequence[Fraction]], values: Sequence[Any]) -> list[Any]:
    """A matrix times a column of vectors. Rows come in pairs whose even parts are alike and odd parts are opposite: a
    part is added up once.
    """
    parts: dict[tuple[Fraction, ...], Any] = {}

    def part(row: Sequence[Fraction], parity: int) -> tuple[Any, bool]:
        factors = [factor if k % 2 == parity else Fraction(0) for k, factor in enumerate(row)]
        first = next((factor for factor in factors if factor), None)
        if first is None:
            return None, False
        negative = first < 0
        key = tuple(-factor if negative else factor for factor in factors)
        if key not in parts:
            parts[key] = _sum(v, key, values)
        return parts[key], negative

    results = []
    for row in matrix:
        (even, even_negative), (odd, odd_negative) = part(row, 0), part(row, 1)
        if even is None or odd is None:
            only, negative = (odd, odd_negative) if even is None else (even, even_negative)
            results.append(v.builder.fneg(only) if negative else only)
        elif even_negative and odd_negative:
            results.append(v.builder.fneg(v.builder.fadd(even, odd)))
        elif even_negative:
            results.append(v.builder.fsub(odd, even))
        else:
            results.append((v.builder.fsub if odd_negative else v.builder.fadd)(even, odd))
    return results


def _sum(v: Vectors, factors: Sequence[Fraction], values: Sequence[Any]) -> Any:
    total = None
    for factor, value in sorted(
        ((factor, value) for factor, value in zip(factors, values, strict=True) if factor),
        key=lambda pair: abs(pair[0]) != 1,
    ):
        if total is None:
            scaled = v.builder.fmul(v.broadcast(ir.Constant(v.type.element, float(factor))), value)
            total = value if factor == 1 else v.builder.fneg(value) if factor == -1 else scaled
        elif abs(factor) == 1:
            total = (v.builder.fadd if factor == 1 else v.builder.fsub)(total, value)
        else:
            total = v.fma(v.broadcast(ir.Constant(v.type.element, float(factor))), value, total)
    return total


class Transforms(NamedTuple):
    """F(``outputs`` x ``outputs``, 3 x 3)."""

    outputs: int
    of_x: Routine
    of_weights: Routine
    of_products: Routine

    @property
    def size(self) -> int:
        """Rows and columns of a tile of x."""
        return self.outputs + 2


TRANSFORMS = {
    2: Transforms(
        2,
        transformation("winograd_x_2", _B_2),
        transformation("winograd_weights_2", _G_2),
        transformation("winograd_y_2", _A_2),
    ),
    4: Transforms(
        4,
        transformation("winograd_x_4", _B_4),
        transformation("winograd_weights_4", _G_4),
        transformation("winograd_y_4", _A_4),
    ),
}


@intrinsic
def _call_transformation(
    typing_context: Any, routine: Any, source: Any, source_start: Any, source_row: Any, source_column: Any, target: Any,
    target_start: Any, target_row: Any, target_column: Any, vectors: Any,
) -> Any:  # fmt: skip
    arguments = (
        routine, source, source_start, source_row, source_column, target, target_start, target_row, target_column,
        vectors,
    )  # fmt: skip
    return types.void(*parameter_types(arguments)), emit_call(PARAMETERS)


transform = chosen(call_definition, _call_transformation)
"""transform(routine, ...): what :func:`transformation` says, with the arguments of its definition."""
