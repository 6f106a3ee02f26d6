"""Dropout: Philox's words and what they decide, of neighbours in the order of the words and of channels last.

Words are made in 64-bit lanes, of which four make a block of 4 ``lanes`` elements. In the order of the words they stay
in registers up to the store: while some wait for a product, the memory is read for others. Where the channels of a
pixel are neighbours, neighbours in the order of the words are pixels of a channel: what is decided of POSITIONS of them
is a number of as many bits, one for each channel, of which each pixel takes its bit.

operations: some 75 instructions for 4 ``lanes`` elements, 19 of them products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from ...shared import philox
from ..runtime.microkernel import ELEMENTS, INTEGER, PLACES, WORD, EmittedMicrokernel, calling
from .simd import LINE_BYTES, VECTOR_BYTES, Vectors, for_each_group

__all__ = ["ALIGNED_POSITIONS", "DECIDED", "DROPPED", "PICKED", "POSITIONS", "decide", "drop", "pick"]

HALF = ir.IntType(32)
OF_DROPPED = (ELEMENTS, ELEMENTS, ELEMENTS, *[INTEGER] * 7)
OF_DECIDED = (ELEMENTS, ELEMENTS, PLACES, *[INTEGER] * 8)
OF_PICKED = (ELEMENTS, ELEMENTS, ELEMENTS, PLACES, INTEGER, INTEGER)
LANES = VECTOR_BYTES // 8
POSITIONS = 4 * LANES - 4
"""Pixels of a channel of which words of LANES blocks decide, wherever in a block the first of them is."""
ALIGNED_POSITIONS = 4 * LANES
# Vectors of channels side by side.
SIDE_BY_SIDE = 4


class _Words:
    """32-bit words in 64-bit lanes as `philox.philox4x32` takes them, or one for all lanes, found before the loop.

    What becomes of them is written to ``inside``, or ``before`` it, where the loop changes nothing. Upper halves of
    lanes may hold anything.
    """

    # NumPy's numbers leave the operation to the other side then.
    __array_ufunc__ = None

    def __init__(self, value: Any, before: Vectors, inside: Vectors) -> None:
        self._value, self._before, self._inside = value, before, inside

    def _of(self, value: Any) -> _Words:
        return _Words(value, self._before, self._inside)

    def _in_all_lanes(self, value: Any) -> Any:
        if isinstance(value.type, ir.VectorType):
            return value
        if isinstance(value, ir.Constant):
            return ir.Constant(self._inside.type, [value.constant] * self._inside.lanes)
        return self._before.broadcast(value)

    def _joined(self, name: str, other: Any) -> _Words:
        values = self._value, other._value if isinstance(other, _Words) else WORD(int(other))
        if not any(isinstance(value.type, ir.VectorType) for value in values):
            return self._of(getattr(self._before.builder, name)(*values))
        return self._of(getattr(self._inside.builder, name)(*map(self._in_all_lanes, values)))

    def __add__(self, other: Any) -> _Words:
        return self._joined("add", other)

    def __xor__(self, other: Any) -> _Words:
        return self._joined("xor", other)

    def __and__(self, other: Any) -> _Words:
        return self._joined("and_", other)

    def __rshift__(self, bits: Any) -> _Words:
        """By 32, which of vectors is written as moving halves: products and shifts would wait for the same unit."""
        if not isinstance(self._value.type, ir.VectorType):
            return self._joined("lshr", bits)
        halves, builder = ir.VectorType(HALF, 2 * self._inside.lanes), self._inside.builder
        order = ir.Constant(halves, [2 * (i // 2) + 1 for i in range(2 * self._inside.lanes)])
        value = builder.bitcast(self._value, halves)
        return self._of(builder.bitcast(builder.shuffle_vector(value, value, order), self._inside.type))

    def __rmul__(self, other: Any) -> _Words:
        # Told that the upper halves are zero, LLVM multiplies the lower ones, which is one instruction.
        return (self & philox.WORD_MASK)._joined("mul", other)

    def beside(self, upper: _Words) -> Any:
        """Each of the words, and of ``upper`` after it."""
        shifted = self._inside.builder.shl(upper._value, self._in_all_lanes(WORD(32)))
        return self._inside.builder.or_((self & philox.WORD_MASK)._value, shifted)


class _Decisions:
    """What is dropped of the 4 LANES elements whose words begin with a block, in loops behind this place.

    Args:
        builder: of the function; goes on behind what no loop changes.
        threshold, words: offset and seed, as the microkernels get them.
    """

    def __init__(self, builder: Any, threshold: Any, words: Any) -> None:
        self._vectors = Vectors(builder, WORD, VECTOR_BYTES)
        before, behind = ir.IRBuilder(builder.block), builder.append_basic_block()
        before.position_before(builder.branch(behind))
        builder.position_at_end(behind)
        self._before, self._words = Vectors(before, WORD, VECTOR_BYTES), words
        of_drawn = Vectors(before, HALF, 8 * VECTOR_BYTES // 4)
        # A threshold of all words is no word itself, and what is below it is not above the number before.
        self._limit = of_drawn.broadcast(before.trunc(before.sub(threshold, WORD(1)), HALF))
        self.numbers = ir.Constant(self._vectors.type, list(range(LANES)))

    def of(self, counters: Any) -> Any:
        """A lane of true for each element whose word is below the threshold, of vectors of numbers of blocks."""
        counted = _Words(counters, self._before, self._vectors)
        keys = [_Words(word, self._before, self._vectors) for word in self._words]
        w0, w1, w2, w3 = philox.philox4x32(counted & philox.WORD_MASK, counted >> philox.WORD_BITS, *keys)
        order = [place for lane in range(LANES) for place in (lane, LANES + lane)]
        builder = self._vectors.builder
        drawn = builder.shuffle_vector(
            w0.beside(w1), w2.beside(w3), ir.Constant(ir.VectorType(HALF, 2 * LANES), order)
        )  # fmt: skip
        return builder.icmp_unsigned("<=", builder.bitcast(drawn, self._limit.type), self._limit)

    def starting(self, block: Any) -> Any:
        """The numbers of LANES blocks from this one on."""
        return self._vectors.builder.add(self._vectors.broadcast(block), self.numbers)


def _words_from(first: int, count: int, words: tuple[int, ...]) -> np.ndarray:
    """Those of elements ``first`` and after."""
    blocks = np.arange(first // 4, -(-(first + count) // 4), dtype=np.uint64)
    drawn = philox.philox4x32(blocks & philox.WORD_MASK, blocks >> philox.WORD_BITS, *map(np.uint64, words))
    return np.stack(drawn, axis=1).reshape(-1)[first % 4 : first % 4 + count]


def _dropped(x, at, y, y_at, scale, scale_at, count, first, threshold, c2, c3, k0, k1):
    """y[y_at + i] = scale[scale_at] x[at + i], or 0 where the word of element 4 ``first`` + i is below ``threshold``,
    for i < ``count``; the threshold is 1 or more, and the other words are those of `philox.philox4x32`.
    """
    is_kept = _words_from(4 * first, count, (c2, c3, k0, k1)) >= np.uint64(threshold)
    values = x[at : at + count]
    y[y_at : y_at + count] = np.where(is_kept, values * scale[scale_at], values.dtype.type(0))


def _emit_dropped(
    builder: Any, element: Any, x: Any, y: Any, scale: Any, count: Any, first: Any, threshold: Any, *words: Any
) -> None:
    some = 4 * LANES
    decisions = _Decisions(builder, threshold, words)
    v = Vectors(builder, element, some * (4 if isinstance(element, ir.FloatType) else 8))
    factor, size = v.broadcast(builder.load(scale)), ir.Constant(decisions.numbers.type, [LANES] * LANES)
    whole, left = builder.udiv(count, WORD(some)), builder.urem(count, WORD(some))

    def step_of(x: Any, y: Any, mask: Any) -> Callable[[Any, list[Any]], list[Any]]:
        def step(i: Any, kept: list[Any]) -> list[Any]:
            (counters,) = kept
            at = builder.mul(i, WORD(some))
            scaled = builder.fmul(v.load_masked(builder.gep(x, [at]), mask), factor)
            v.store_masked(builder.select(decisions.of(counters), v.zero(), scaled), builder.gep(y, [at]), mask)
            return [builder.add(counters, size)]

        return step

    counters = v.repeated(whole, [decisions.starting(first)], step_of(x, y, None))
    done = builder.mul(whole, WORD(some))
    rest = builder.zext(builder.icmp_signed(">", left, WORD(0)), WORD)
    v.repeated(rest, counters, step_of(builder.gep(x, [done]), builder.gep(y, [done]), v.mask(left)))


def _decided(x, at, y, y_at, bits, bits_at, channels, first, apart, threshold, c2, c3, k0, k1):
    """Bit i of bits[bits_at + j], whether the word of element ``first`` + j ``apart`` + i is below ``threshold``.

    For j < ``channels`` and i < POSITIONS, and i < ALIGNED_POSITIONS where the first is the first of a block. As many
    elements of x from ``at`` on and of y from ``y_at`` on, which need not be there, are brought into the second cache
    meanwhile.
    """
    for j in range(channels):
        start = first + j * apart
        count = POSITIONS if start % 4 else ALIGNED_POSITIONS
        below = _words_from(start, count, (c2, c3, k0, k1)) < np.uint64(threshold)
        number = sum(int(is_below) << i for i, is_below in enumerate(below))
        bits[bits_at + j] = np.array(number, np.uint32).view(np.int32)


def _emit_decided(
    builder: Any,
    element: Any,
    x: Any,
    y: Any,
    bits: Any,
    channels: Any,
    first: Any,
    apart: Any,
    threshold: Any,
    *words: Any,
) -> None:
    decisions, v = _Decisions(builder, threshold, words), Vectors(builder, element, VECTOR_BYTES)

    def step(j: Any, kept: list[Any]) -> list[Any]:
        start = builder.add(first, builder.mul(j, apart))
        below = decisions.of(decisions.starting(builder.lshr(start, WORD(2))))
        number = builder.bitcast(below, ir.IntType(4 * LANES))
        number = number if number.type == HALF else builder.zext(number, HALF)
        skipped = builder.trunc(builder.and_(start, WORD(3)), HALF)
        for line in range(0, 4 * LANES, LINE_BYTES // v.bytes):
            place = builder.add(builder.mul(j, WORD(4 * LANES)), WORD(line))
            v.prefetch(builder.gep(x, [place]))
            v.prefetch(builder.gep(y, [place]))
        builder.store(builder.lshr(number, skipped), builder.gep(bits, [j]))
        return kept

    Vectors(builder, WORD, VECTOR_BYTES).repeated(channels, [], step)


def _picked(x, at, y, y_at, scale, scale_at, bits, bits_at, rows, columns):
    """y = scale x, or 0 where bit i of bits[bits_at + j] is set, for row i and column j; rows lie side by side."""
    of_columns = bits[bits_at : bits_at + columns].view(np.uint32)
    for i in range(rows):
        values = x[at + i * columns : at + (i + 1) * columns]
        is_dropped = of_columns >> np.uint32(i) & np.uint32(1)
        y[y_at + i * columns : y_at + (i + 1) * columns] = np.where(
            is_dropped, values.dtype.type(0), values * scale[scale_at]
        )  # fmt: skip


def _emit_picked(
    builder: Any, element: Any, x: Any, y: Any, scale: Any, bits: Any, rows: Any, columns: Any
) -> None:  # fmt: skip
    v = Vectors(builder, element, VECTOR_BYTES)
    of_bits = Vectors(builder, HALF, 4 * v.lanes)
    factor = v.broadcast(builder.load(scale))

    def of_group(column: Any, masks: list[Any]) -> None:
        places = [builder.add(column, WORD(i * v.lanes)) for i in range(SIDE_BY_SIDE)]
        own = [of_bits.load_masked(builder.gep(bits, [place]), mask) for place, mask in zip(places, masks, strict=True)]

        def step(i: Any, kept: list[Any]) -> list[Any]:
            row = builder.mul(i, columns)
            bit = of_bits.broadcast(builder.shl(HALF(1), builder.trunc(i, HALF)))
            for place, mask, number in zip(places, masks, own, strict=True):
                at = builder.add(row, place)
                scaled = builder.fmul(v.load_masked(builder.gep(x, [at]), mask), factor)
                is_kept = builder.icmp_unsigned("==", builder.and_(number, bit), of_bits.zero())
                v.store_masked(builder.select(is_kept, scaled, v.zero()), builder.gep(y, [at]), mask)
            return kept

        v.repeated(rows, [], step)

    for_each_group(v, columns, SIDE_BY_SIDE, of_group)


DROPPED = EmittedMicrokernel("dropped", OF_DROPPED, _emit_dropped, _dropped)
DECIDED = EmittedMicrokernel("decided", OF_DECIDED, _emit_decided, _decided)
PICKED = EmittedMicrokernel("picked", OF_PICKED, _emit_picked, _picked)
drop, decide, pick = calling(OF_DROPPED), calling(OF_DECIDED), calling(OF_PICKED)
"""drop(microkernel, ...), decide and pick: what the definitions of DROPPED, DECIDED and PICKED say, with their
arguments.
"""
