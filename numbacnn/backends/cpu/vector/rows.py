"""Short runs of numbers in vectors, the last of them masked: what the rows of a matrix need that are no whole vectors.

Left to itself LLVM takes what is beyond the last whole vector one number at a time, and asks for each row anew whether
arrays overlap. A run's sum is one of at most SHORT numbers: who adds up more does so in float64.

operations: one or two for each number that is read, from the first cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..runtime.microkernel import WORD
from .simd import VECTOR_BYTES, Vectors, compiled_or_plain, for_each_group, pointers

__all__ = ["SHORT", "add_run", "differentiate_run", "distances_of_run", "gradients_of_run", "largest_of_run",
           "normalize_run", "scale_run", "shift_run", "squares_of_run"]  # fmt: skip

SHORT = 4 * VECTOR_BYTES
"""No lane adds up more than 16 numbers in float32, and 32 in float64."""


Vector = Any
Joined = Callable[[list[Vector], list[Vector]], list[Vector]]
"""(what is joined so far, the vectors of each source) -> what is joined with these."""


def _reduced(v: Vectors, sources: list[Any], others: list[Any], count: Any, first: list[Vector], join: Joined) -> Any:
    """All vectors of runs joined, ``others`` being in the lanes that the last ones have none for."""
    builder = v.builder
    rest = builder.and_(count, WORD(-v.lanes))

    def step(i: Any, joined: list[Vector]) -> list[Vector]:
        at = builder.mul(i, WORD(v.lanes))
        return join(joined, [v.load(builder.gep(source, [at])) for source in sources])

    joined = v.repeated(builder.sdiv(count, WORD(v.lanes)), first, step)
    mask = v.mask(builder.sub(count, rest))
    last = [
        v.load_masked(builder.gep(source, [rest]), mask, other) for source, other in zip(sources, others, strict=True)
    ]
    return join(joined, last)


def _mapped(v: Vectors, target: Any, sources: list[Any], count: Any, change: Callable[..., Vector]) -> None:
    builder = v.builder

    def of_group(first: Any, masks: list[Any]) -> None:
        values = [v.load_masked(builder.gep(source, [first]), masks[0]) for source in sources]
        v.store_masked(change(*values), builder.gep(target, [first]), masks[0])

    for_each_group(v, count, 1, of_group)


def _vectors(context: Any, builder: Any, signature: Any) -> Vectors:
    return Vectors(builder, context.get_value_type(signature.args[0].dtype), VECTOR_BYTES)


def _largest(source, start, count):
    values = source[start : start + count]
    return source.dtype.type(np.max(values[values == values], initial=-np.inf))


@intrinsic
def _largest_compiled(typing_context: Any, source: Any, start: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, count = arguments
        v = _vectors(context, builder, signature)
        none = ir.Constant(v.type, [-np.inf] * v.lanes)

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        at = pointers(context, builder, signature)(0, source, start)
        (best,) = _reduced(v, [at], [none], count, [none], lambda a, b: [larger(a[0], b[0])])
        return v.halved(best, larger)

    return source.dtype(source, types.int64, types.int64), codegen


def _added(source, start, count):
    return source[start : start + count].sum(dtype=source.dtype)


@intrinsic
def _added_compiled(typing_context: Any, source: Any, start: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, count = arguments
        v = _vectors(context, builder, signature)
        at = pointers(context, builder, signature)(0, source, start)
        (total,) = _reduced(v, [at], [v.zero()], count, [v.zero()], lambda a, b: [builder.fadd(a[0], b[0])])
        return v.sum(total)

    return source.dtype(source, types.int64, types.int64), codegen


def _distances(source, start, count, center):
    return (source[start : start + count] - center).sum(dtype=source.dtype)


def _squares(source, start, count, center):
    return ((source[start : start + count] - center) ** 2).sum(dtype=source.dtype)


def _about(is_squared: bool) -> Any:
    @intrinsic
    def compiled(typing_context: Any, source: Any, start: Any, count: Any, center: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, start, count, center = arguments
            v = _vectors(context, builder, signature)
            at, middle = pointers(context, builder, signature)(0, source, start), v.broadcast(center)

            def join(totals: list[Vector], values: list[Vector]) -> list[Vector]:
                # Kernels may be reassociated, and sums of distances would become distances of sums.
                (distance,) = v.fenced([builder.fsub(values[0], middle)])
                return [v.fma(distance, distance, totals[0]) if is_squared else builder.fadd(totals[0], distance)]

            (total,) = _reduced(v, [at], [middle], count, [v.zero()], join)
            return v.sum(total)

        return source.dtype(source, types.int64, types.int64, source.dtype), codegen

    return compiled


def _gradients(dy, x, start, weight, at, count, center):
    of_dy = dy[start : start + count] * weight[at : at + count]
    distances = x[start : start + count] - center
    return of_dy.sum(dtype=dy.dtype), (of_dy * distances).sum(dtype=dy.dtype)


@intrinsic
def _gradients_compiled(
    typing_context: Any, dy: Any, x: Any, start: Any, weight: Any, at: Any, count: Any, center: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dy, x, start, weight, at, count, center = arguments
        v = _vectors(context, builder, signature)
        pointer, middle = pointers(context, builder, signature), v.broadcast(center)
        sources = [pointer(0, dy, start), pointer(1, x, start), pointer(3, weight, at)]

        def join(totals: list[Vector], values: list[Vector]) -> list[Vector]:
            gradient = builder.fmul(values[0], values[2])
            return [builder.fadd(totals[0], gradient), v.fma(gradient, builder.fsub(values[1], middle), totals[1])]

        totals = _reduced(v, sources, [v.zero(), middle, v.zero()], count, [v.zero()] * 2, join)
        return context.make_tuple(builder, signature.return_type, [v.sum(total) for total in totals])

    word = types.int64
    return types.UniTuple(dy.dtype, 2)(dy, x, word, weight, word, word, dy.dtype), codegen


def _shifted(target, at, source, start, count, by):
    target[at : at + count] = source[start : start + count] - by


def _scaled(target, at, source, start, count, by):
    target[at : at + count] = source[start : start + count] * by


def _compiled_map(operation: str) -> Any:
    @intrinsic
    def compiled(typing_context: Any, target: Any, at: Any, source: Any, start: Any, count: Any, by: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            target, at, source, start, count, by = arguments
            v = _vectors(context, builder, signature)
            pointer, other = pointers(context, builder, signature), v.broadcast(by)
            change = getattr(builder, operation)
            _mapped(v, pointer(0, target, at), [pointer(2, source, start)], count, lambda value: change(value, other))
            return context.get_dummy_value()

        word = types.int64
        return types.void(target, word, source, word, word, target.dtype), codegen

    return compiled


def _normalized(target, source, at, weight, bias, own, count, center, inverse):
    values, columns = source[at : at + count], slice(own, own + count)
    target[at : at + count] = (values - center) * (weight[columns] * inverse) + bias[columns]


@intrinsic
def _normalized_compiled(
    typing_context: Any, target: Any, source: Any, at: Any, weight: Any, bias: Any, own: Any, count: Any, center: Any,
    inverse: Any,
) -> Any:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source, at, weight, bias, own, count, *numbers = arguments
        v = _vectors(context, builder, signature)
        pointer = pointers(context, builder, signature)
        middle, scale = (v.broadcast(number) for number in numbers)

        def change(x: Vector, weight: Vector, bias: Vector) -> Vector:
            return v.fma(builder.fsub(x, middle), builder.fmul(weight, scale), bias)

        sources = [pointer(1, source, at), pointer(3, weight, own), pointer(4, bias, own)]
        _mapped(v, pointer(0, target, at), sources, count, change)
        return context.get_dummy_value()

    word, real = types.int64, target.dtype
    return types.void(target, source, word, weight, bias, word, word, real, real), codegen


def _differentiated(target, dy, x, at, weight, own, count, center, inverse, mean_dy, slope):
    here = slice(at, at + count)
    target[here] = inverse * (weight[own : own + count] * dy[here] - mean_dy - (x[here] - center) * slope)


@intrinsic
def _differentiated_compiled(
    typing_context: Any, target: Any, dy: Any, x: Any, at: Any, weight: Any, own: Any, count: Any, center: Any,
    inverse: Any, mean_dy: Any, slope: Any,
) -> Any:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, dy, x, at, weight, own, count, *numbers = arguments
        v = _vectors(context, builder, signature)
        pointer = pointers(context, builder, signature)
        middle, scale, mean, factor = (v.broadcast(number) for number in numbers)

        def change(dy: Vector, x: Vector, weight: Vector) -> Vector:
            shifted = v.fma(builder.fsub(x, middle), factor, mean)
            return builder.fmul(scale, builder.fsub(builder.fmul(weight, dy), shifted))

        _mapped(
            v, pointer(0, target, at), [pointer(1, dy, at), pointer(2, x, at), pointer(4, weight, own)], count, change
        )
        return context.get_dummy_value()

    word, real = types.int64, target.dtype
    return types.void(target, dy, x, word, weight, word, word, real, real, real, real), codegen


largest_of_run = compiled_or_plain(_largest, _largest_compiled)
"""largest_of_run(x, start, count): the largest of x[start : start + count], NaN never being one."""
add_run = compiled_or_plain(_added, _added_compiled)
"""add_run(x, start, count): the sum of x[start : start + count], no more than SHORT numbers, in their dtype."""
distances_of_run = compiled_or_plain(_distances, _about(is_squared=False))
"""distances_of_run(x, start, count, center): the sum of x - center over such a run."""
squares_of_run = compiled_or_plain(_squares, _about(is_squared=True))
"""squares_of_run(x, start, count, center): the sum of (x - center)^2 over such a run."""
gradients_of_run = compiled_or_plain(_gradients, _gradients_compiled)
"""gradients_of_run(dy, x, start, weight, at, count, center): over such a run, the weight's from ``at`` on, the sums of
weight dy and of weight dy (x - center).
"""
shift_run = compiled_or_plain(_shifted, _compiled_map("fsub"))
"""shift_run(y, at, x, start, count, by): y[at + i] = x[start + i] - by for i < count; y may be x."""
scale_run = compiled_or_plain(_scaled, _compiled_map("fmul"))
"""scale_run(y, at, x, start, count, by): y[at + i] = by x[start + i] for i < count; y may be x."""
normalize_run = compiled_or_plain(_normalized, _normalized_compiled)
"""normalize_run(y, x, at, weight, bias, own, count, center, inverse): y[at + i] = (x[at + i] - center) inverse
weight[own + i] + bias[own + i] for i < count.
"""
differentiate_run = compiled_or_plain(_differentiated, _differentiated_compiled)
"""differentiate_run(dx, dy, x, at, weight, own, count, center, inverse, mean_dy, slope): dx[at + i] = inverse
(weight[own + i] dy[at + i] - mean_dy - (x[at + i] - center) slope) for i < count.
"""
