"""Local response normalisation of pixels whose channels are neighbours, in registers from the first number to the last.

A window's neighbours are in the vector before or behind: it is put together from two of them, where a load that begins
anywhere would be two loads. So nothing lies in between, and the memory is at work all the time.

operations: 30 to 40 for each element, half of them the power's; nothing is read twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from ..runtime.microkernel import ELEMENTS, INTEGER, WORD, EmittedMicrokernel, Microkernel, calling
from .simd import VECTOR_BYTES, Vectors
from .transcendental import BITS_OF_ROOTS, BITS_OF_ROOTS_64

__all__ = ["LARGEST", "MAX_REACH", "SMALLEST", "differentiate_rows", "gradients_of", "normalize_rows", "values_of"]

# What lies between has normal powers.
SMALLEST, LARGEST = 1e-30, 1e30
MAX_REACH = VECTOR_BYTES // 8
"""Neighbours on a side that the vector before has in every dtype."""
OF_VALUES = (ELEMENTS, ELEMENTS, ELEMENTS, ELEMENTS, INTEGER, INTEGER)
OF_GRADIENTS = (ELEMENTS, ELEMENTS, ELEMENTS, ELEMENTS, ELEMENTS, INTEGER, INTEGER)


def _windows(values: np.ndarray, before: int, after: int) -> np.ndarray:
    """Sums of the windows of each row."""
    padded = np.pad(values, ((0, 0), (before, after)))
    sums = np.zeros_like(values)
    for i in range(before + after + 1):
        sums += padded[:, i : i + values.shape[1]]
    return sums


def _is_unusual(scale: np.ndarray) -> bool:
    return not bool(np.all((scale > SMALLEST) & (scale < LARGEST)))


@functools.cache
def values_of(before: int, after: int, quarters: int) -> Microkernel:
    """y = x scale ** -(quarters / 4), where scale = k + factor times the sum of squares in a window.

    ``numbers`` are factor and k; the third becomes 0, or a number above it where a power is none of a normal number,
    and y is not to be used. Rows are from x[at] on in all arrays.
    """

    def definition(x, at, y, y_at, scale, scale_at, numbers, numbers_at, rows, columns):
        here = slice(at, at + rows * columns)
        of_rows = x[here].reshape(rows, columns)
        of_windows = numbers[1] + numbers[0] * _windows(of_rows * of_rows, before, after)
        scale[scale_at : scale_at + rows * columns] = of_windows.reshape(-1)
        numbers[2] = 1 if _is_unusual(of_windows) else 0
        y[y_at : y_at + rows * columns] = (of_rows * of_windows ** (-quarters / 4)).reshape(-1)

    def emit(builder: Any, element: Any, x: Any, y: Any, scale: Any, numbers: Any, rows: Any, columns: Any) -> None:
        v = Vectors(builder, element, VECTOR_BYTES)
        factor, k = (v.broadcast(builder.load(builder.gep(numbers, [WORD(i)]))) for i in range(2))

        def loaded(start: Any, mask: Any) -> list[Any]:
            value = v.load_masked(builder.gep(x, [start]), mask)
            return [builder.fmul(value, value), value]

        def finished(start: Any, mask: Any, of_window: Any, own: list[Any], unusual: Any) -> Any:
            value = v.fma(factor, of_window, k)
            v.store_masked(value, builder.gep(scale, [start]), mask)
            y_here = builder.fmul(own[0], _power(v, _inverse_fourth_root(v, value), quarters))
            v.store_masked(y_here, builder.gep(y, [start]), mask)
            return _noted(v, value, mask, unusual)

        unusual = _slid(v, rows, columns, before, after, loaded, finished)
        builder.store(v.sum(unusual), builder.gep(numbers, [WORD(2)]))

    return EmittedMicrokernel("response_values", OF_VALUES, emit, definition)


@functools.cache
def gradients_of(before: int, after: int, quarters: int) -> Microkernel:
    """dx = dy scale ** -b - factor x times the sum of dy x scale ** (-b - 1) in a window, b being quarters / 4.

    ``numbers`` as of :func:`values_of`, without k.
    """

    def definition(dy, at, x, x_at, scale, scale_at, dx, dx_at, numbers, numbers_at, rows, columns):
        here = slice(at, at + rows * columns)
        of_dy, of_x, of_scale = (array[here].reshape(rows, columns) for array in (dy, x, scale))
        numbers[2] = 1 if _is_unusual(of_scale) else 0
        gradient = of_dy * of_scale ** (-quarters / 4)
        of_windows = _windows(gradient * of_x / of_scale, before, after)
        dx[here] = (gradient - numbers[0] * of_x * of_windows).reshape(-1)

    def emit(
        builder: Any, element: Any, dy: Any, x: Any, scale: Any, dx: Any, numbers: Any, rows: Any, columns: Any
    ) -> None:
        v = Vectors(builder, element, VECTOR_BYTES)
        factor = v.broadcast(builder.load(numbers))

        def loaded(start: Any, mask: Any) -> list[Any]:
            of_dy, of_x, of_scale = (v.load_masked(builder.gep(array, [start]), mask) for array in (dy, x, scale))
            root = _inverse_fourth_root(v, of_scale)
            gradient = builder.fmul(of_dy, _power(v, root, quarters))
            square = builder.fmul(root, root)
            term = builder.fmul(builder.fmul(gradient, of_x), builder.fmul(square, square))
            # Lanes behind the row are zero in dy, but the root of what they have as a scale may be anything.
            return [builder.select(mask, term, v.zero()), gradient, of_x, of_scale]

        def finished(start: Any, mask: Any, of_window: Any, own: list[Any], unusual: Any) -> Any:
            gradient, of_x, of_scale = own
            shifted = builder.fmul(builder.fmul(factor, of_x), of_window)
            v.store_masked(builder.fsub(gradient, shifted), builder.gep(dx, [start]), mask)
            return _noted(v, of_scale, mask, unusual)

        unusual = _slid(v, rows, columns, before, after, loaded, finished)
        builder.store(v.sum(unusual), builder.gep(numbers, [WORD(2)]))

    return EmittedMicrokernel("response_gradients", OF_GRADIENTS, emit, definition)


normalize_rows = calling(OF_VALUES)
"""normalize_rows(microkernel, ...): what :func:`values_of` says, with the arguments of its definition."""
differentiate_rows = calling(OF_GRADIENTS)
"""differentiate_rows(microkernel, ...): what :func:`gradients_of` says, with the arguments of its definition."""


def _slid(
    v: Vectors,
    rows: Any,
    columns: Any,
    before: int,
    after: int,
    loaded: Callable[[Any, Any], list[Any]],
    finished: Callable[[Any, Any, Any, list[Any], Any], Any],
) -> Any:
    """The last total of those that ``finished(start, mask, sum of the window, own, total)`` makes, vector by vector.

    ``loaded(start, mask)`` gives what windows are summed of, zero outside of the mask, and what a vector needs of its
    own when the next one is known.
    """
    builder = v.builder
    vectors = builder.sdiv(builder.add(columns, WORD(v.lanes - 1)), WORD(v.lanes))

    def masked(row: Any, vector: Any) -> tuple[Any, Any]:
        first = builder.mul(vector, WORD(v.lanes))
        return builder.add(builder.mul(row, columns), first), v.mask(builder.sub(columns, first))

    def of_row(row: Any, totals: list[Any]) -> list[Any]:
        def step(vector: Any, kept: list[Any]) -> list[Any]:
            total, earlier, current, *own = kept
            later, *of_later = loaded(*masked(row, builder.add(vector, WORD(1))))
            of_window = current
            for i in range(1, before + 1):
                of_window = builder.fadd(of_window, v.joined(earlier, current, v.lanes - i))
            for i in range(1, after + 1):
                of_window = builder.fadd(of_window, v.joined(current, later, i))
            total = finished(*masked(row, vector), of_window, own, total)
            return [total, current, later, *of_later]

        return v.repeated(vectors, [*totals, v.zero(), *loaded(*masked(row, WORD(0)))], step)[:1]

    return v.repeated(rows, [v.zero()], of_row)[0]


def _noted(v: Vectors, value: Any, mask: Any, unusual: Any) -> Any:
    """Ones where a number outside of what is usual was met, or none."""
    builder = v.builder
    is_usual = builder.and_(
        builder.fcmp_ordered(">", value, v.filled(SMALLEST)), builder.fcmp_ordered("<", value, v.filled(LARGEST))
    )
    return builder.select(builder.or_(is_usual, builder.not_(mask)), unusual, v.filled(1.0))


def _power(v: Vectors, root: Any, quarters: int) -> Any:
    """root ** quarters, 0 to 3."""
    square = v.builder.fmul(root, root)
    return [v.filled(1.0), root, square, v.builder.fmul(root, square)][quarters]


def _inverse_fourth_root(v: Vectors, x: Any) -> Any:
    """``inverse_fourth_root`` of transcendental.py."""
    builder, one = v.builder, v.filled(1.0)
    integers = v.magnitude_type
    width = 8 * v.bytes
    bits = builder.ashr(builder.bitcast(x, integers), ir.Constant(integers, [2] * v.lanes))
    guess = ir.Constant(integers, [int(BITS_OF_ROOTS if width == 32 else BITS_OF_ROOTS_64)] * v.lanes)
    root = builder.bitcast(builder.sub(guess, bits), v.type)
    for is_last in (False, True):
        square = builder.fmul(root, root)
        rest = v.fma(builder.fneg(builder.fmul(x, square)), square, one)
        series = v.filled(1 / 4)
        if not (is_last and width == 32):
            series = v.fma(rest, v.fma(rest, v.filled(15 / 128), v.filled(5 / 32)), series)
        root = v.fma(root, builder.fmul(rest, series), root)
    return root
