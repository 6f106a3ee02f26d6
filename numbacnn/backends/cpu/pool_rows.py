"""Routines of pooling: neighbouring outputs of a row, whose windows lie inside of the image, a vector at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .routines import (
    ELEMENTS,
    INTEGER,
    PLACES,
    TABLE,
    WORD,
    EmittedRoutine,
    Routine,
    call_definition,
    emit_call,
    parameter_types,
)
from .simd import VECTOR_BYTES, Vectors, chosen

__all__ = [
    "AVG_ROWS",
    "MAX_INSIDE",
    "MAX_ROWS",
    "SPREAD_ROW",
    "STEPS",
    "avg_row",
    "max_inside",
    "max_row",
    "maxima",
    "maxima_inside",
    "means",
    "spread",
    "spread_pairs",
]

PLACE = ir.IntType(32)
MAXIMA = (ELEMENTS, TABLE, TABLE, INTEGER, ELEMENTS, PLACES, INTEGER, INTEGER)


def maxima(step: int, with_places: bool = True, size: int = VECTOR_BYTES) -> Routine:
    """y[i] = the largest of x[start + i step + offset[t]], t < taps, and places[i] = ``place`` + i step + shift[t].

    For i < count; t is that of the largest. NaN is larger than all numbers; of equals the first is taken. Unless
    ``with_places``, neither ``shift`` is read nor ``places`` written.
    """

    def definition(
        x, start, offset, offset_first, shift, shift_first, taps, y, y_start, places, places_start, place, count
    ):
        offsets = offset[offset_first : offset_first + taps]
        windows = x[start + np.arange(count)[:, None] * step + offsets]
        largest = windows.argmax(axis=1)
        y[y_start : y_start + count] = windows[np.arange(count), largest]
        if with_places:
            shifts = shift[shift_first : shift_first + taps]
            places[places_start : places_start + count] = place + np.arange(count) * step + shifts[largest]

    def emit(
        builder: Any, element: Any, x: Any, offset: Any, shift: Any, taps: Any, y: Any, places: Any, place: Any,
        count: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        p = Vectors(builder, PLACE, v.lanes * 4)
        in_order = ir.Constant(p.type, [lane * step for lane in range(v.lanes)])

        def window(at: Any, here: Any, t: Any) -> list[Any]:
            moved = builder.load(builder.gep(offset, [t]))
            values = v.load_strided(builder.gep(x, [builder.add(builder.mul(at, WORD(step)), moved)]), step, here)
            if not with_places:
                return [values]
            return [values, p.broadcast(builder.trunc(builder.load(builder.gep(shift, [t])), PLACE))]

        def body(at: Any, here: Any) -> None:
            first = window(at, here, WORD(0))
            before = builder.basic_block
            loop, after = (builder.append_basic_block(name) for name in ("taps", "taps.end"))
            builder.cbranch(builder.icmp_signed(">", taps, WORD(1)), loop, after)
            builder.position_at_end(loop)
            # The largest so far and, with places, where it is.
            t, so_far = builder.phi(WORD), [builder.phi(value.type) for value in first]
            tap, largest = window(at, here, t), so_far[0]
            larger = _is_larger(builder, tap[0], largest)
            updated = [builder.select(larger, new, old) for new, old in zip(tap, so_far, strict=True)]
            following = builder.add(t, WORD(1))
            for phi, start, again in zip([t, *so_far], [WORD(1), *first], [following, *updated], strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(again, loop)
            builder.cbranch(builder.icmp_signed("<", following, taps), loop, after)
            builder.position_at_end(after)
            found = [builder.phi(value.type) for value in first]
            for phi, only, last in zip(found, first, updated, strict=True):
                phi.add_incoming(only, before)
                phi.add_incoming(last, loop)
            mask = v.mask(here)
            v.store_masked(found[0], builder.gep(y, [at]), mask)
            if with_places:
                begin = builder.trunc(builder.add(place, builder.mul(at, WORD(step))), PLACE)
                where = builder.add(builder.add(found[1], in_order), p.broadcast(begin))
                p.store_masked(where, builder.gep(places, [at]), mask)

        _in_vectors(v, count, body)

    name = f"maxima_{step}_with_places" if with_places else f"maxima_{step}"
    return EmittedRoutine(name, MAXIMA, emit, definition)


def _is_larger(builder: Any, new: Any, largest: Any) -> Any:
    """Whether ``new`` is above what was the largest so far; NaN is above all numbers."""
    return builder.and_(builder.fcmp_unordered(">", new, largest), builder.fcmp_ordered("ord", largest, largest))


INSIDE = (ELEMENTS, TABLE, TABLE, INTEGER, ELEMENTS, INTEGER)


def maxima_inside(step: int, size: int = VECTOR_BYTES) -> Routine:
    """y[i] = the largest of x[start + i step + offset[t]] over the t < taps that are inside, for i < count.

    Bit i mod l of inside[i // l taps + t] says whether it is, of vectors of l lanes. NaN is larger than all numbers,
    and where nothing is inside the largest is minus infinity. What is not inside is not touched if ``step`` is 1; else
    there has to be something.
    """

    def definition(x, start, offset, offset_first, inside, inside_first, taps, y, y_start, count):
        lanes, i = size // x.itemsize, np.arange(count)
        largest = np.full(count, -np.inf, x.dtype)
        for t in range(taps):
            at = start + i * step + offset[offset_first + t]
            there = inside[inside_first + i // lanes * taps + t] >> i % lanes & 1 == 1
            tap = np.where(there, x[np.clip(at, 0, x.size - 1)], -np.inf)
            largest = np.where((tap > largest) | np.isnan(tap) & ~np.isnan(largest), tap, largest)
        y[y_start : y_start + count] = largest

    def emit(builder: Any, element: Any, x: Any, offset: Any, inside: Any, taps: Any, y: Any, count: Any) -> None:
        v = Vectors(builder, element, size)
        nothing = ir.Constant(v.type, [float("-inf")] * v.lanes)

        def tap(at: Any, here: Any, t: Any) -> Any:
            word = builder.add(builder.mul(builder.udiv(at, WORD(v.lanes)), taps), t)
            there = v.mask_of_bits(builder.load(builder.gep(inside, [word])))
            pointer = builder.gep(x, [builder.add(builder.mul(at, WORD(step)), builder.load(builder.gep(offset, [t])))])
            if step == 1:
                return v.load_masked(pointer, builder.and_(there, v.mask(here)), nothing)
            return builder.select(there, v.load_strided(pointer, step, here), nothing)

        def body(at: Any, here: Any) -> None:
            def update(t: Any, largest: Any) -> Any:
                new = tap(at, here, t)
                return builder.select(_is_larger(builder, new, largest), new, largest)

            v.store_masked(_fold(builder, taps, nothing, update), builder.gep(y, [at]), v.mask(here))

        _in_vectors(v, count, body)

    return EmittedRoutine(f"maxima_inside_{step}", INSIDE, emit, definition)


MEANS = (ELEMENTS, TABLE, INTEGER, ELEMENTS, INTEGER, INTEGER)


def means(step: int, size: int = VECTOR_BYTES) -> Routine:
    """y[i] = the sum of x[start + i step + offset[t]], t < taps, over ``divisor``, for i < count."""

    def definition(x, start, offset, offset_first, taps, y, y_start, divisor, count):
        windows = x[start + np.arange(count)[:, None] * step + offset[offset_first : offset_first + taps]]
        y[y_start : y_start + count] = windows.sum(axis=1) / x.dtype.type(divisor)

    def emit(builder: Any, element: Any, x: Any, offset: Any, taps: Any, y: Any, divisor: Any, count: Any) -> None:
        v = Vectors(builder, element, size)

        def body(at: Any, here: Any) -> None:
            def update(t: Any, total: Any) -> Any:
                moved = builder.add(builder.mul(at, WORD(step)), builder.load(builder.gep(offset, [t])))
                return builder.fadd(total, v.load_strided(builder.gep(x, [moved]), step, here))

            mean = builder.fdiv(_fold(builder, taps, v.zero(), update), v.broadcast(builder.sitofp(divisor, element)))
            v.store_masked(mean, builder.gep(y, [at]), v.mask(here))

        _in_vectors(v, count, body)

    return EmittedRoutine(f"means_{step}", MEANS, emit, definition)


PAIRS = (ELEMENTS, ELEMENTS, INTEGER, INTEGER)


def spread_pairs(size: int = VECTOR_BYTES) -> Routine:
    """x[start + 2 i] = x[start + 2 i + 1] = y[i] / ``divisor``, for i < count."""

    def definition(y, y_start, x, start, divisor, count):
        x[start : start + 2 * count] = np.repeat(y[y_start : y_start + count] / y.dtype.type(divisor), 2)

    def emit(builder: Any, element: Any, y: Any, x: Any, divisor: Any, count: Any) -> None:
        v = Vectors(builder, element, size)

        def body(at: Any, here: Any) -> None:
            share = v.load_masked(builder.gep(y, [at]), v.mask(here))
            share = builder.fdiv(share, v.broadcast(builder.sitofp(divisor, element)))
            for half, values in enumerate(v.doubled(share)):
                target = builder.gep(x, [builder.add(builder.mul(at, WORD(2)), WORD(half * v.lanes))])
                v.store_masked(values, target, v.mask(builder.sub(builder.mul(here, WORD(2)), WORD(half * v.lanes))))

        _in_vectors(v, count, body)

    return EmittedRoutine("spread_pairs", PAIRS, emit, definition)


def _fold(builder: Any, taps: Any, start: Any, update: Callable[[Any, Any], Any]) -> Any:
    """``update`` of each t < taps and what the one before it gave, ``start`` at first; there is at least one."""
    before = builder.basic_block
    loop, after = (builder.append_basic_block(name) for name in ("taps", "taps.end"))
    builder.branch(loop)
    builder.position_at_end(loop)
    t, so_far = builder.phi(WORD), builder.phi(start.type)
    updated, following = update(t, so_far), builder.add(t, WORD(1))
    for phi, first, again in ((t, WORD(0), following), (so_far, start, updated)):
        phi.add_incoming(first, before)
        phi.add_incoming(again, builder.basic_block)
    builder.cbranch(builder.icmp_signed("<", following, taps), loop, after)
    builder.position_at_end(after)
    return updated


def _in_vectors(v: Vectors, count: Any, body: Callable[[Any, Any], None]) -> None:
    """``body`` for each vector of ``count`` elements: the first element, and how many there are from it on."""
    with cgutils.for_range_slice(v.builder, WORD(0), count, WORD(v.lanes), WORD) as (at, _):
        body(at, v.builder.sub(count, at))


@intrinsic
def _call_maxima(
    typing_context: Any, routine: Any, x: Any, start: Any, offset: Any, offset_first: Any, shift: Any,
    shift_first: Any, taps: Any, y: Any, y_start: Any, places: Any, places_start: Any, place: Any, count: Any,
) -> Any:  # fmt: skip
    arguments = (
        routine, x, start, offset, offset_first, shift, shift_first, taps, y, y_start, places, places_start, place,
        count,
    )  # fmt: skip
    return types.void(*parameter_types(arguments)), emit_call(MAXIMA)


@intrinsic
def _call_inside(
    typing_context: Any, routine: Any, x: Any, start: Any, offset: Any, offset_first: Any, inside: Any,
    inside_first: Any, taps: Any, y: Any, y_start: Any, count: Any,
) -> Any:  # fmt: skip
    arguments = (routine, x, start, offset, offset_first, inside, inside_first, taps, y, y_start, count)
    return types.void(*parameter_types(arguments)), emit_call(INSIDE)


@intrinsic
def _call_means(
    typing_context: Any, routine: Any, x: Any, start: Any, offset: Any, offset_first: Any, taps: Any, y: Any,
    y_start: Any, divisor: Any, count: Any,
) -> Any:  # fmt: skip
    arguments = (routine, x, start, offset, offset_first, taps, y, y_start, divisor, count)
    return types.void(*parameter_types(arguments)), emit_call(MEANS)


@intrinsic
def _call_pairs(
    typing_context: Any, routine: Any, y: Any, y_start: Any, x: Any, start: Any, divisor: Any, count: Any
) -> Any:
    return types.void(*parameter_types((routine, y, y_start, x, start, divisor, count))), emit_call(PAIRS)


max_row = chosen(call_definition, _call_maxima)
"""max_row(routine, ...): what :func:`maxima` says, with the arguments of its definition; likewise:"""
max_inside = chosen(call_definition, _call_inside)
avg_row = chosen(call_definition, _call_means)
spread = chosen(call_definition, _call_pairs)

STEPS = (1, 2)
MAX_ROWS = {(step, with_places): maxima(step, with_places) for step in STEPS for with_places in (False, True)}
MAX_INSIDE = {step: maxima_inside(step) for step in STEPS}
AVG_ROWS = {step: means(step) for step in STEPS}
"""The routines by their step."""
SPREAD_ROW = spread_pairs()
