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
from numba.core import cgutils
from numba.extending import intrinsic

from ..runtime.microkernel import WORD
from .simd import VECTOR_BYTES, Vectors, compiled_or_plain, pointers

__all__ = ["SHORT", "add_run", "distances_of_run", "gradients_of_run", "largest_of_run", "scale_run", "shift_run",
           "squares_of_run"]  # fmt: skip

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


def _mapped(v: Vectors, target: Any, source: Any, count: Any, change: Callable[[Any], Any]) -> None:
    builder = v.builder
    whole = builder.and_(count, WORD(-v.lanes))
    with cgutils.for_range_slice(builder, WORD(0), whole, WORD(v.lanes), WORD) as (i, _):
        v.store(change(v.load(builder.gep(source, [i]))), builder.gep(target, [i]))
    with builder.if_then(builder.icmp_signed("<", whole, count)):
        mask = v.mask(builder.sub(count, whole))
        v.store_masked(change(v.load_masked(builder.gep(source, [whole]), mask)), builder.gep(target, [whole]), mask)


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
            _mapped(v, pointer(0, target, at), pointer(2, source, start), count, lambda value: change(value, other))
            return context.get_dummy_value()

        word = types.int64
        return types.void(target, word, source, word, word, target.dtype), codegen

    return compiled


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
