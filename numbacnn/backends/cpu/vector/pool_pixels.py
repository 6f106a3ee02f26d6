"""Pooling of one pixel after the other by microkernels: channels lie along the vectors, a window's taps are a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..runtime.microkernel import (
    ELEMENTS,
    INTEGER,
    PLACES,
    TABLE,
    WORD,
    EmittedMicrokernel,
    Microkernel,
    calling,
)
from .simd import VECTOR_BYTES, Vectors

__all__ = [
    "MAXIMA",
    "MAXIMA_AND_PLACES",
    "MEANS",
    "NARROW",
    "NARROW_MEANS",
    "SPREAD",
    "SPREAD_ADDING",
    "find_maxima",
    "visit",
]

OF_MAXIMA = (ELEMENTS, TABLE, TABLE, INTEGER, ELEMENTS, PLACES, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER)
OF_MEANS = (ELEMENTS, TABLE, INTEGER, ELEMENTS, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER)


# Vectors of channels that are averaged side by side: one after the other would take a part of each pixel from memory,
# and come back for the rest when a large window is through.
SIDE_BY_SIDE = 4


def _over_pixels(v: Vectors, pixels: Any, channels: Any, body: Callable[[Any, Any, Any], None]) -> None:
    """``body(pixel, channel, mask)`` for each vector of channels of each pixel."""
    with cgutils.for_range_slice(v.builder, WORD(0), pixels, WORD(1), WORD) as (pixel, _):
        _over_channels(v, WORD(0), channels, lambda channel, mask: body(pixel, channel, mask))


def _over_channels(v: Vectors, first: Any, channels: Any, body: Callable[[Any, Any], None]) -> None:
    """``body(channel, mask)`` for each vector of channels from ``first`` on."""
    with cgutils.for_range_slice(v.builder, first, channels, WORD(v.lanes), WORD) as (channel, _):
        body(channel, v.mask(v.builder.sub(channels, channel)))


def maxima(with_places: bool, size: int = VECTOR_BYTES) -> Microkernel:
    """y[p, c] = the largest of x[p x_step + offsets[t] + c] over t < ``taps``, at least 1, for p < ``pixels``.

    The first NaN is the largest. If ``with_places``, indices[p, c] is ``place`` + p ``place_step`` + places[t] of the
    first t that has it. Pixels of y and of the indices are ``y_step`` apart.
    """

    def definition(
        x, start, offsets, offset_first, places, place_first, taps, y, y_start, indices, index_start, channels, pixels,
        x_step, y_step, place, place_step,
    ):  # fmt: skip
        for p in range(pixels):
            for c in range(channels):
                found, value = 0, x[start + p * x_step + offsets[offset_first] + c]
                for t in range(1, taps):
                    candidate = x[start + p * x_step + offsets[offset_first + t] + c]
                    if candidate > value or (candidate != candidate and value == value):
                        found, value = t, candidate
                y[y_start + p * y_step + c] = value
                if with_places:
                    indices[index_start + p * y_step + c] = place + p * place_step + places[place_first + found]

    def emit(
        builder: Any, element: Any, x: Any, offsets: Any, places: Any, taps: Any, y: Any, indices: Any, channels: Any,
        pixels: Any, x_step: Any, y_step: Any, place: Any, place_step: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        index = Vectors(builder, ir.IntType(32), 4 * v.lanes)

        def of_vector(pixel: Any, channel: Any, mask: Any) -> None:
            source = builder.gep(x, [builder.add(builder.mul(pixel, x_step), channel)])
            target = builder.add(builder.mul(pixel, y_step), channel)
            base = builder.add(place, builder.mul(pixel, place_step))

            def candidate(tap: Any) -> list[Any]:
                value = v.load_masked(builder.gep(source, [builder.load(builder.gep(offsets, [tap]))]), mask)
                if not with_places:
                    return [value]
                at = builder.add(base, builder.load(builder.gep(places, [tap])))
                return [value, index.broadcast(builder.trunc(at, ir.IntType(32)))]

            def step(tap: Any, kept: list[Any]) -> list[Any]:
                new = candidate(tap)
                is_larger = builder.fcmp_unordered("<", kept[0], new[0])
                larger = builder.and_(is_larger, builder.fcmp_ordered("ord", kept[0], kept[0]))
                return [builder.select(larger, a, b) for a, b in zip(new, kept, strict=True)]

            found = v.repeated(
                builder.sub(taps, WORD(1)), candidate(WORD(0)), lambda i, kept: step(builder.add(i, WORD(1)), kept)
            )
            v.store_masked(found[0], builder.gep(y, [target]), mask)
            if with_places:
                index.store_masked(found[1], builder.gep(indices, [target]), mask)

        _over_pixels(v, pixels, channels, of_vector)

    return EmittedMicrokernel(f"maxima_{int(with_places)}", OF_MAXIMA, emit, definition)


def means(size: int = VECTOR_BYTES) -> Microkernel:
    """y[p, c] = the float64 sum of x[p x_step + offsets[t] + c] over t < ``taps`` by ``divisor``, p < ``pixels``."""

    def definition(
        x, start, offsets, offset_first, taps, y, y_start, channels, pixels, x_step, y_step, divisor
    ):  # fmt: skip
        for p in range(pixels):
            for c in range(channels):
                total = 0.0
                for t in range(taps):
                    total += float(x[start + p * x_step + offsets[offset_first + t] + c])
                y[y_start + p * y_step + c] = total / divisor

    def emit(
        builder: Any, element: Any, x: Any, offsets: Any, taps: Any, y: Any, channels: Any, pixels: Any, x_step: Any,
        y_step: Any, divisor: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        double = ir.VectorType(ir.DoubleType(), v.lanes)
        wide = Vectors(builder, ir.DoubleType(), 8 * v.lanes)
        one = ir.Constant(ir.DoubleType(), 1.0)
        share = wide.broadcast(builder.fdiv(one, builder.sitofp(divisor, ir.DoubleType())))

        def widened(value: Any) -> Any:
            return value if value.type == double else builder.fpext(value, double)

        def of_vectors(pixel: Any, channel: Any, masks: list[Any]) -> None:
            places = [builder.add(channel, WORD(i * v.lanes)) for i in range(len(masks))]
            at_x, at_y = builder.mul(pixel, x_step), builder.mul(pixel, y_step)
            sources = [builder.gep(x, [builder.add(at_x, place)]) for place in places]

            def step(tap: Any, kept: list[Any]) -> list[Any]:
                offset = builder.load(builder.gep(offsets, [tap]))
                values = [
                    v.load_masked(builder.gep(source, [offset]), mask)
                    for source, mask in zip(sources, masks, strict=True)
                ]
                return [builder.fadd(total, widened(value)) for total, value in zip(kept, values, strict=True)]

            totals = v.repeated(taps, [wide.zero()] * len(masks), step)
            for total, place, mask in zip(totals, places, masks, strict=True):
                mean = builder.fmul(total, share)
                mean = mean if v.type == double else builder.fptrunc(mean, v.type)
                v.store_masked(mean, builder.gep(y, [builder.add(at_y, place)]), mask)

        whole = builder.and_(channels, WORD(-SIDE_BY_SIDE * v.lanes))
        everything = v.mask(WORD(v.lanes))
        with cgutils.for_range_slice(builder, WORD(0), pixels, WORD(1), WORD) as (pixel, _):
            with cgutils.for_range_slice(builder, WORD(0), whole, WORD(SIDE_BY_SIDE * v.lanes), WORD) as (channel, _):
                of_vectors(pixel, channel, [everything] * SIDE_BY_SIDE)
            _over_channels(v, whole, channels, lambda channel, mask: of_vectors(pixel, channel, [mask]))

    return EmittedMicrokernel(f"means_{size}", OF_MEANS, emit, definition)


def spreading(adding: bool, size: int = VECTOR_BYTES) -> Microkernel:
    """dx[p x_step + offsets[t] + c] = or, ``adding``, += dy[p, c] / ``divisor``, for t < ``taps``, p < ``pixels``."""

    def definition(
        dx, start, offsets, offset_first, taps, dy, dy_start, channels, pixels, x_step, y_step, divisor
    ):  # fmt: skip
        for p in range(pixels):
            share = dy[dy_start + p * y_step : dy_start + p * y_step + channels] * (dy.dtype.type(1) / divisor)
            for t in range(taps):
                at = start + p * x_step + offsets[offset_first + t]
                dx[at : at + channels] = dx[at : at + channels] + share if adding else share

    def emit(
        builder: Any, element: Any, dx: Any, offsets: Any, taps: Any, dy: Any, channels: Any, pixels: Any, x_step: Any,
        y_step: Any, divisor: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        part = v.broadcast(builder.fdiv(ir.Constant(element, 1.0), builder.sitofp(divisor, element)))

        def of_vector(pixel: Any, channel: Any, mask: Any) -> None:
            at = builder.add(builder.mul(pixel, y_step), channel)
            share = builder.fmul(v.load_masked(builder.gep(dy, [at]), mask), part)
            target = builder.gep(dx, [builder.add(builder.mul(pixel, x_step), channel)])

            def step(tap: Any, kept: list[Any]) -> list[Any]:
                place = builder.gep(target, [builder.load(builder.gep(offsets, [tap]))])
                v.store_masked(builder.fadd(v.load_masked(place, mask), share) if adding else share, place, mask)
                return []

            v.repeated(taps, [], step)

        _over_pixels(v, pixels, channels, of_vector)

    return EmittedMicrokernel(f"spreading_{int(adding)}", OF_MEANS, emit, definition)


MAXIMA, MAXIMA_AND_PLACES = maxima(False), maxima(True)
# Vectors of few channels are half as wide: of means, which are computed in float64, they take half the time.
NARROW = VECTOR_BYTES // 2
MEANS, NARROW_MEANS = means(), means(NARROW)
SPREAD, SPREAD_ADDING = spreading(False), spreading(True)

find_maxima = calling(OF_MAXIMA)
"""find_maxima(microkernel, ...): what :func:`maxima` says, with the arguments of its definition."""
visit = calling(OF_MEANS)
"""visit(microkernel, ...): what :func:`means` or :func:`spreading` says, likewise."""
