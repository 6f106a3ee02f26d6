"""Winograd's transforms as microkernels: of one tile, for all channels, which lie along the vectors; and magnitudes,
which tell where they may be used.

A tile of F(m x m, r x r) has (m + r - 1)^2 elements of x, as many products a pair of channels, and m^2 outputs. Names
are Lavin and Gray's ("Fast algorithms for convolutional neural networks", 2015), and so are the matrices, up to signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..runtime.microkernel import (
    ELEMENTS,
    INTEGER,
    WORD,
    EmittedMicrokernel,
    Microkernel,
    calling,
)
from ..vector.simd import VECTOR_BYTES, Vectors

__all__ = [
    "ACROSS", "LARGEST", "SMALLEST", "TRANSFORMS", "Transforms", "extreme", "extremes", "finish", "finishing",
    "largest_of_pixels", "pixel_extremes", "transform", "transformation",
]  # fmt: skip

Matrix = list[list[Fraction]]

# Small numbers whose products are small; x and -x are neighbours, for then sums can be shared.
POINTS = [Fraction(point) for point in ("0", "1", "-1", "2", "-2", "1/2", "-1/2")]


def matrices(outputs: int, taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """B^T, G and A^T of F(``outputs``, ``taps``): A^T ((G w) * (B^T x)) are the sums of x[i + k] w[k] over k.

    They are Toom and Cook's: w and what is to become y stand for polynomials, which are multiplied by their values at
    points and at infinity; a correlation is the transpose of that.
    """
    points = POINTS[: outputs + taps - 2]
    others = [[b for b in points if b != a] for a in points]
    of_x = [[*_with_roots(rest), Fraction(0)] for rest in others]
    of_x.append(_with_roots(points))
    scales = [Fraction(1) / math.prod(a - b for b in rest) for a, rest in zip(points, others, strict=True)]
    of_weights = [[scale * Fraction(a**k) for k in range(taps)] for a, scale in zip(points, scales, strict=True)]
    of_products = [[*(Fraction(a**i) for a in points), Fraction(i == outputs - 1)] for i in range(outputs)]
    return of_x, [*of_weights, [Fraction(k == taps - 1) for k in range(taps)]], of_products


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(-root * value for value in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


PARAMETERS = (ELEMENTS, INTEGER, INTEGER, ELEMENTS, INTEGER, INTEGER, INTEGER)


def transformation(name: str, matrix: Matrix, size: int = VECTOR_BYTES) -> Microkernel:
    """target[i, j] = sum over k and n of matrix[i, k] source[k, n] matrix[j, n], for ``vectors`` vectors each.

    Element (k, n) of the source begins k ``source_row`` + n ``source_column`` after ``source_start``, and likewise in
    the target.
    """
    rows, columns = len(matrix), len(matrix[0])

    def definition(
        source, source_start, source_row, source_column, target, target_start, target_row, target_column, vectors
    ):
        width = vectors * size // source.itemsize
        factors = np.array(matrix, np.float64).astype(source.dtype)
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
            for place, value in _transformed(v, matrix, source, source_row, source_column, at):
                v.store(value, builder.gep(target, [_offset(builder, at, place, target_row, target_column)]))

    return EmittedMicrokernel(name, PARAMETERS, emit, definition)


FINISHING = (ELEMENTS, INTEGER, INTEGER, ELEMENTS, ELEMENTS, INTEGER, INTEGER, INTEGER, INTEGER)


def finishing(name: str, matrix: Matrix, size: int = VECTOR_BYTES) -> Microkernel:
    """What :func:`transformation` writes, plus bias[c], for c < ``channels``, and not below 0 if ``relu`` is not 0.

    Of the source, whole vectors are read.
    """
    rows = len(matrix)
    transformed = transformation(name, matrix, size).definition

    def definition(
        source, source_start, source_row, source_column, bias, bias_start, target, target_start, target_row,
        target_column, channels, relu,
    ):  # fmt: skip
        lanes = size // source.itemsize
        vectors = -(-channels // lanes)
        sums = np.zeros((rows, rows, vectors * lanes), source.dtype)
        flat = sums.reshape(-1)
        width = vectors * lanes
        transformed(source, source_start, source_row, source_column, flat, 0, rows * width, width, vectors)
        values = sums[:, :, :channels] + bias[bias_start : bias_start + channels]
        i, j = np.arange(rows)[:, None, None], np.arange(rows)[None, :, None]
        target[target_start + i * target_row + j * target_column + np.arange(channels)] = (
            np.where(values <= 0, 0, values) if relu else values
        )

    def emit(
        builder: Any, element: Any, source: Any, source_row: Any, source_column: Any, bias: Any, target: Any,
        target_row: Any, target_column: Any, channels: Any, relu: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        is_relu = builder.icmp_signed("!=", relu, WORD(0))
        floor = v.broadcast(
            builder.select(is_relu, ir.Constant(element, 0.0), ir.Constant(element, -math.inf))
        )  # fmt: skip
        with cgutils.for_range_slice(builder, WORD(0), channels, WORD(v.lanes), WORD) as (at, _):
            mask = v.mask(builder.sub(channels, at))
            more = v.load_masked(builder.gep(bias, [at]), mask)
            for place, total in _transformed(v, matrix, source, source_row, source_column, at):
                value = builder.fadd(total, more)
                value = builder.select(builder.fcmp_ordered(">=", floor, value), floor, value)
                to = builder.gep(target, [_offset(builder, at, place, target_row, target_column)])
                v.store_masked(value, to, mask)

    return EmittedMicrokernel(name, FINISHING, emit, definition)


def _offset(builder: Any, at: Any, place: tuple[int, int], row: Any, column: Any) -> Any:
    moved = builder.add(builder.mul(row, WORD(place[0])), builder.mul(column, WORD(place[1])))
    return builder.add(at, moved)


def _transformed(
    v: Vectors, matrix: Matrix, source: Any, row: Any, column: Any, at: Any
) -> Iterator[tuple[tuple[int, int], Any]]:
    """Places and vectors of a transformed tile, whose channels begin at ``at``."""
    columns = range(len(matrix[0]))
    half = [
        _product(
            v, matrix, [v.load(v.builder.gep(source, [_offset(v.builder, at, (k, n), row, column)])) for k in columns]
        )
        for n in columns
    ]  # a column of the tile at a time
    for i in range(len(matrix)):
        for j, value in enumerate(_product(v, matrix, [of_column[i] for of_column in half])):
            yield (i, j), value


def _product(v: Vectors, matrix: Matrix, values: Sequence[Any]) -> list[Any]:
    """A matrix times a column of vectors. Rows come in pairs whose even parts are alike and odd parts are opposite: a
    part is added up once. Or columns do, which are alike in some rows and opposite in others.
    """
    matrix, values = _with_pairs(v, matrix, values)
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


def _with_pairs(v: Vectors, matrix: Matrix, values: Sequence[Any]) -> tuple[Matrix, list[Any]]:
    """The same product, of sums and differences of neighbouring values where their columns are a pair."""
    columns, left = [list(column) for column in zip(*matrix, strict=True)], list(values)
    k = 0
    while k + 1 < len(columns):
        a, b = columns[k : k + 2]
        if a != b and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True)):
            alike = [x == y for x, y in zip(a, b, strict=True)]
            columns[k] = [x if same else Fraction(0) for x, same in zip(a, alike, strict=True)]
            columns[k + 1] = [Fraction(0) if same else x for x, same in zip(a, alike, strict=True)]
            left[k : k + 2] = v.builder.fadd(*left[k : k + 2]), v.builder.fsub(*left[k : k + 2])
            k += 1
        k += 1
    return [list(row) for row in zip(*columns, strict=True)], left


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


OF_EXTREMES = (ELEMENTS, INTEGER, INTEGER, ELEMENTS, INTEGER)
# Of positions, side by side: so many loads are under way at the same time.
ABREAST = 4


def extremes(name: str, largest: bool, size: int = VECTOR_BYTES) -> Microkernel:
    """target[i] = the largest, or the smallest, of abs(source[i + t step]) over t < ``terms``, for i < ``count``.

    NaN counts as infinity. ``terms`` is at least 1. The last vector is read and written as a whole. ``target`` may be
    ``source``.
    """

    def definition(source, source_start, step, terms, target, target_start, count):
        values = np.abs(source[source_start + np.arange(terms)[:, None] * step + np.arange(count)])
        values[np.isnan(values)] = np.inf
        target[target_start : target_start + count] = values.max(axis=0) if largest else values.min(axis=0)

    def emit(builder: Any, element: Any, source: Any, step: Any, terms: Any, target: Any, count: Any) -> None:
        v = Vectors(builder, element, size)

        def positions(begin: Any, end: Any, vectors: int) -> None:
            with cgutils.for_range_slice(builder, begin, end, WORD(vectors * v.lanes), WORD) as (at, _):
                places = [builder.add(at, WORD(j * v.lanes)) for j in range(vectors)]
                start, loop, after = (builder.basic_block, *map(builder.append_basic_block, ("terms", "done")))
                builder.branch(loop)
                builder.position_at_end(loop)
                t = builder.phi(WORD)
                kept = [builder.phi(v.magnitude_type) for _ in places]
                term = builder.gep(source, [builder.mul(t, step)])
                updated = [
                    v.pick(value, v.magnitude(v.load(builder.gep(term, [place]))), largest)
                    for value, place in zip(kept, places, strict=True)
                ]
                following = builder.add(t, WORD(1))
                t.add_incoming(WORD(0), start)
                t.add_incoming(following, loop)
                for value, new in zip(kept, updated, strict=True):
                    value.add_incoming(v.magnitude_of(0.0 if largest else math.inf), start)
                    value.add_incoming(new, loop)
                builder.cbranch(builder.icmp_signed("<", following, terms), loop, after)
                builder.position_at_end(after)
                for value, place in zip(updated, places, strict=True):
                    least = v.pick(value, v.magnitude_of(math.inf), False)
                    v.store(builder.bitcast(least, v.type), builder.gep(target, [place]))

        many = builder.and_(count, WORD(-ABREAST * v.lanes))
        positions(WORD(0), many, ABREAST)
        positions(many, count, 1)

    return EmittedMicrokernel(name, OF_EXTREMES, emit, definition)


LARGEST, SMALLEST = extremes("largest_magnitudes", True), extremes("smallest_magnitudes", False)


OF_PIXELS = (ELEMENTS, INTEGER, INTEGER, ELEMENTS)


def pixel_extremes(size: int = VECTOR_BYTES) -> Microkernel:
    """target[i] = the largest of abs(source[i channels : (i + 1) channels]), for i < ``count``.

    ``channels`` are whole vectors, and there are pixels and room for ``count`` rounded up to those. NaN counts as
    infinity.
    """

    def definition(source, source_start, channels, count, target, target_start):
        values = np.abs(source[source_start : source_start + count * channels].reshape(count, channels)).max(axis=1)
        values[np.isnan(values)] = np.inf
        target[target_start : target_start + count] = values

    def emit(builder: Any, element: Any, source: Any, channels: Any, count: Any, target: Any) -> None:
        v = Vectors(builder, element, size)
        with cgutils.for_range_slice(builder, WORD(0), count, WORD(v.lanes), WORD) as (first, _):
            pixels = [builder.mul(builder.add(first, WORD(i)), channels) for i in range(v.lanes)]
            start, loop, after = (builder.basic_block, *map(builder.append_basic_block, ("channels", "done")))
            builder.branch(loop)
            builder.position_at_end(loop)
            c = builder.phi(WORD)
            kept = [builder.phi(v.magnitude_type) for _ in pixels]
            updated = [
                v.pick(value, v.magnitude(v.load(builder.gep(source, [builder.add(pixel, c)]))), True)
                for value, pixel in zip(kept, pixels, strict=True)
            ]
            following = builder.add(c, WORD(v.lanes))
            c.add_incoming(WORD(0), start)
            c.add_incoming(following, loop)
            for value, new in zip(kept, updated, strict=True):
                value.add_incoming(v.magnitude_of(0.0), start)
                value.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, channels), loop, after)
            builder.position_at_end(after)
            columns = v.transposed([builder.bitcast(value, v.type) for value in updated])
            lanes = [builder.bitcast(column, v.magnitude_type) for column in columns]
            while len(lanes) > 1:
                lanes = [v.pick(a, b, True) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
            least = v.pick(lanes[0], v.magnitude_of(math.inf), False)
            v.store(builder.bitcast(least, v.type), builder.gep(target, [first]))

    return EmittedMicrokernel("largest_of_pixels", OF_PIXELS, emit, definition)


ACROSS = pixel_extremes()


class Transforms(NamedTuple):
    """F(``outputs`` x ``outputs``, ``taps`` x ``taps``)."""

    outputs: int
    taps: int
    of_x: Microkernel
    of_weights: Microkernel
    of_products: Microkernel
    of_dy: Microkernel
    """The transpose of what is done to the products, and of what is done to the weights: for the gradient of these."""
    of_sums: Microkernel
    growth: float
    """No number on the way, for one channel, is more than so many times the largest of x times the largest weight."""

    @property
    def size(self) -> int:
        """Rows and columns of a tile of x."""
        return self.outputs + self.taps - 1


def _turned(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def _transforms(outputs: int, taps: int) -> Transforms:
    of_x, of_weights, of_products = matrices(outputs, taps)
    size = len(of_x)
    return Transforms(
        outputs,
        taps,
        transformation(f"winograd_x_{size}", of_x),
        transformation(f"winograd_weights_{outputs}_{taps}", of_weights),
        finishing(f"winograd_y_{outputs}_{size}", of_products),
        transformation(f"winograd_dy_{outputs}_{size}", _turned(of_products)),
        transformation(f"winograd_dweights_{taps}_{size}", _turned(of_weights)),
        math.prod(float(max(sum(map(abs, row)) for row in m)) ** 2 for m in (of_x, of_weights, of_products)),
    )


TRANSFORMS = [_transforms(2, 3), _transforms(4, 3), _transforms(4, 5)]


transform = calling(PARAMETERS)
"""transform(microkernel, ...): what :func:`transformation` says, with the arguments of its definition."""


finish = calling(FINISHING)
"""finish(microkernel, ...): what :func:`finishing` says, with the arguments of its definition."""


extreme = calling(OF_EXTREMES)
"""extreme(microkernel, ...): what :func:`extremes` says, with the arguments of its definition."""
largest_of_pixels = calling(OF_PIXELS)
"""largest_of_pixels(microkernel, ...): what :func:`pixel_extremes` says, with the arguments of its definition."""
