"""Explicit vectors: a small vocabulary of LLVM's instructions, from which microkernels and short loops are built.

Left to itself LLVM finishes short rows one element at a time, and holds sums in as many registers as it sees fit. Here
the last vector of a row is masked.

Each loop has a definition in plain Python beside it, which is also what runs when the compiler is off.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from ..runtime.kernel import inlined
from ..runtime.machine_code import VECTOR_BYTES
from ..runtime.microkernel import WORD

__all__ = [
    "REGISTERS",
    "VECTOR_BYTES",
    "Vectors",
    "clear",
    "compiled_or_plain",
    "copy_run",
    "flattened",
    "for_each_group",
    "lane_sum",
    "lane_sums",
    "lanes_of",
    "pointers",
    "prefetch_run",
    "run_copies",
]

INDEX = ir.IntType(32)
LINE_BYTES = 64


def _host_features() -> dict[str, bool]:
    return dict(llvmlite.binding.get_host_cpu_features())


def _registers(features: dict[str, bool]) -> int:
    return 32 if features.get("avx512f") or features.get("neon") else 16


# The letter of LLVM's constraints for a register of vectors.
VECTOR_REGISTER = "w" if platform.machine() in ("aarch64", "arm64") else "v"
REGISTERS = _registers(_host_features())


class Vectors:
    """Vectors of one type in a function that is being built.

    Args:
        builder: of the function.
        element: float, double or an integer.
        size: bytes of a vector.
    """

    def __init__(self, builder: Any, element: Any, size: int) -> None:
        integer = isinstance(element, ir.IntType)
        bits = element.width if integer else 32 if isinstance(element, ir.FloatType) else 64
        self.builder = builder
        self.bytes = bits // 8
        self.lanes = size // self.bytes
        self.type = ir.VectorType(element, self.lanes)
        self._zero = 0 if integer else 0.0
        self._suffix = f"v{self.lanes}{'i' if integer else 'f'}{bits}"

    def zero(self) -> Any:
        """Zeros in all lanes."""
        return ir.Constant(self.type, [self._zero] * self.lanes)

    def filled(self, number: float) -> Any:
        """A number that is known now in all lanes."""
        return ir.Constant(self.type, [number] * self.lanes)

    def load(self, pointer: Any) -> Any:
        """``lanes`` neighbours, from any address of an element."""
        return self.builder.load(self._cast(pointer), align=self.bytes)

    def store(self, value: Any, pointer: Any) -> None:
        """The reverse of :meth:`load`."""
        self.builder.store(value, self._cast(pointer), align=self.bytes)

    def prefetch(self, pointer: Any) -> None:
        """Bring the line of this address, which need not be one that may be read, into the second cache."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INDEX, INDEX, INDEX])
        intrinsic = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(intrinsic, [self.builder.bitcast(pointer, byte), INDEX(0), INDEX(2), INDEX(1)])

    def mask(self, count: Any) -> Any:
        """What :meth:`load_masked` and :meth:`store_masked` take for the first ``count`` lanes."""
        numbers = ir.Constant(ir.VectorType(WORD, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self._repeat(numbers.type, count))

    def load_masked(self, pointer: Any, mask: Any, other: Any = None) -> Any:
        """The neighbours whose lanes the mask has, those of ``other`` or 0 in the other lanes, whose memory is not
        touched. Without a mask it is :meth:`load`.
        """
        if mask is None:
            return self.load(pointer)
        load = self._declare("masked.load", self.type, [self.type.as_pointer(), INDEX, self._mask_type, self.type])
        return self.builder.call(load, [self._cast(pointer), INDEX(self.bytes), mask, other or self.zero()])

    def store_masked(self, value: Any, pointer: Any, mask: Any) -> None:
        """The reverse of :meth:`load_masked`."""
        if mask is None:
            self.store(value, pointer)
            return
        store = self._declare(
            "masked.store", ir.VoidType(), [self.type, self.type.as_pointer(), INDEX, self._mask_type]
        )
        self.builder.call(store, [value, self._cast(pointer), INDEX(self.bytes), mask])

    def broadcast(self, scalar: Any) -> Any:
        """One number in all lanes."""
        return self._repeat(self.type, scalar)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once."""
        return self.builder.call(self._declare("fma", self.type, [self.type] * 3), [a, b, c])

    def fenced(self, values: list[Any]) -> list[Any]:
        """``values``, for which LLVM loads nothing that is used only after them.

        Its scheduler would load first and multiply last, and run out of registers. There is no instruction in it.
        """
        results = ir.LiteralStructType([self.type] * len(values))
        registers = [f"={VECTOR_REGISTER}"] * len(values) + [str(i) for i in range(len(values))]
        kind = ir.FunctionType(results if len(values) > 1 else self.type, [self.type] * len(values))
        done = self.builder.asm(kind, "", ",".join([*registers, "~{memory}"]), values, True)
        return [self.builder.extract_value(done, i) for i in range(len(values))] if len(values) > 1 else [done]

    @property
    def magnitude_type(self) -> Any:
        """Of :meth:`magnitude`: integers, as wide as the elements."""
        return ir.VectorType(ir.IntType(8 * self.bytes), self.lanes)

    def magnitude(self, value: Any) -> Any:
        """The bits of the absolute values: as integers they are in the order of the numbers, and NaN above infinity."""
        bits = ir.IntType(8 * self.bytes)
        return self.builder.and_(
            self.builder.bitcast(value, self.magnitude_type),
            self._repeat(self.magnitude_type, ir.Constant(bits, (1 << bits.width - 1) - 1)),
        )

    def magnitude_of(self, number: float) -> Any:
        """The :meth:`magnitude` of one number in all lanes."""
        kind = np.float32 if self.bytes == 4 else np.float64
        bits = int(np.array(abs(number), kind).view(f"i{self.bytes}"))
        return ir.Constant(self.magnitude_type, [bits] * self.lanes)

    def pick(self, a: Any, b: Any, larger: bool) -> Any:
        """Lane by lane, the larger or the smaller of two vectors of integers."""
        return self.builder.select(self.builder.icmp_signed(">" if larger else "<", a, b), a, b)

    def sum(self, value: Any) -> Any:
        """The lanes of a vector added up, halves first."""
        return self.halved(value, self.builder.fadd)

    def halved(self, value: Any, join: Callable[[Any, Any], Any]) -> Any:
        """The lanes of a vector joined to one number, halves first."""
        width = self.lanes
        while width > 1:
            width //= 2
            upper = self.builder.shuffle_vector(
                value, value, self._lane_numbers([(i + width) % self.lanes for i in range(self.lanes)])
            )
            value = join(value, upper)
        return self.builder.extract_element(value, INDEX(0))

    def joined(self, a: Any, b: Any, first: int) -> Any:
        """``lanes`` neighbours of those of ``a`` and then ``b``, from the number ``first`` on."""
        return self.builder.shuffle_vector(a, b, self._lane_numbers(list(range(first, first + self.lanes))))

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """``lanes`` vectors as rows of a matrix, and back its columns: log2(lanes) times rows are interleaved."""
        half, rows = self.lanes // 2, list(rows)
        low = self._lane_numbers([i // 2 + self.lanes * (i % 2) for i in range(self.lanes)])
        high = self._lane_numbers([half + i // 2 + self.lanes * (i % 2) for i in range(self.lanes)])
        for _ in range(self.lanes.bit_length() - 1):
            rows = [
                self.builder.shuffle_vector(rows[i // 2], rows[i // 2 + half], high if i % 2 else low)
                for i in range(self.lanes)
            ]
        return rows

    def repeated(self, times: Any, first: list[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """What ``step(i, values)`` makes of values, for i = 0, 1, ... below ``times``, which may be 0."""
        builder = self.builder
        start, check, loop, done = (builder.basic_block, *map(builder.append_basic_block, ("check", "loop", "done")))
        builder.branch(check)
        builder.position_at_end(check)
        i = builder.phi(WORD)
        kept = [builder.phi(value.type) for value in first]
        builder.cbranch(builder.icmp_signed("<", i, times), loop, done)
        builder.position_at_end(loop)
        updated = step(i, kept)
        for phi, value, new in zip([i, *kept], [WORD(0), *first], [builder.add(i, WORD(1)), *updated], strict=True):
            phi.add_incoming(value, start)
            phi.add_incoming(new, builder.basic_block)
        builder.branch(check)
        builder.position_at_end(done)
        return kept

    def _repeat(self, vector: Any, scalar: Any) -> Any:
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, INDEX(0))
        return self.builder.shuffle_vector(first, undefined, self._lane_numbers([0] * self.lanes))

    def _cast(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, self.type.as_pointer())

    def _lane_numbers(self, numbers: Sequence[int]) -> Any:
        return ir.Constant(ir.VectorType(INDEX, self.lanes), list(numbers))

    @property
    def _mask_type(self) -> Any:
        return ir.VectorType(ir.IntType(1), self.lanes)

    def _declare(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        suffix = f"{self._suffix}.p0{self._suffix}" if name.startswith("masked") else self._suffix
        return cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, arguments), f"llvm.{name}.{suffix}"
        )


def for_each_group(v: Vectors, count: Any, some: int, of_group: Callable[..., None]) -> None:
    """Of ``count`` neighbours ``of_group(first, masks)`` for ``some`` vectors at a time, a mask for each: None where
    all lanes count, and the masks of what is left for the last of them.
    """
    builder = v.builder
    whole = builder.and_(count, WORD(-v.lanes * some))
    with cgutils.for_range_slice(builder, WORD(0), whole, WORD(some * v.lanes), WORD) as (first, _):
        of_group(first, [None] * some)
    with builder.if_then(builder.icmp_signed("<", whole, count)):
        left = builder.sub(count, whole)
        of_group(whole, [v.mask(builder.sub(left, WORD(i * v.lanes))) for i in range(some)])


def lane_sums(size: int) -> tuple[Callable[..., Any], Any]:
    """The sum of the vector of ``size`` bytes that begins at source[start]. The plain Python definition, and the
    compiled one.
    """

    def definition(source, start):
        return source[start : start + size // source.itemsize].sum()

    @intrinsic
    def compiled(typing_context: Any, source: Any, start: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            return v.sum(v.load(pointers(context, builder, signature)(0, *arguments)))

        return source.dtype(source, types.int64), codegen

    return definition, compiled


def run_copies(size: int) -> tuple[Callable[..., None], Any]:
    """target[at + i] = source[start + i] for i < count, in vectors of ``size`` bytes: for runs too short for a call of
    memcpy. The plain Python definition, and the compiled one.
    """

    def definition(target, at, source, start, count):
        target[at : at + count] = source[start : start + count]

    @intrinsic
    def compiled(typing_context: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            target, at, source, start, count = arguments
            v = Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            pointer = pointers(context, builder, signature)
            at_target, at_source = pointer(0, target, at), pointer(2, source, start)
            whole = builder.and_(count, WORD(-v.lanes))
            with cgutils.for_range_slice(builder, WORD(0), whole, WORD(v.lanes), WORD) as (i, _):
                v.store(v.load(builder.gep(at_source, [i])), builder.gep(at_target, [i]))
            with builder.if_then(builder.icmp_signed("<", whole, count)):
                mask = v.mask(builder.sub(count, whole))
                v.store_masked(
                    v.load_masked(builder.gep(at_source, [whole]), mask), builder.gep(at_target, [whole]), mask
                )
            return context.get_dummy_value()

        word = types.int64
        return types.void(target, word, source, word, word), codegen

    return definition, compiled


def _flat(x):
    return x.reshape(-1)


@intrinsic
def _flat_compiled(typing_context: Any, x: Any) -> Any:
    """NumPy's reshape would first look whether it needs a copy, which takes the compiler ten milliseconds."""
    flat = x.copy(ndim=1)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = context.make_array(x)(context, builder, arguments[0])
        made = context.make_array(flat)(context, builder)
        populate_array(
            made, data=given.data, shape=[given.nitems], strides=[given.itemsize], itemsize=given.itemsize, meminfo=None
        )
        return made._getvalue()

    return flat(x), codegen


def pointers(context: Any, builder: Any, signature: Any) -> Callable[[int, Any, Any], Any]:
    """What gives the address of an element of an argument, in an intrinsic that is being built."""

    def pointer(argument: int, array: Any, start: Any) -> Any:
        """The address of element ``start`` of the array that is the given argument."""
        return builder.gep(context.make_array(signature.args[argument])(context, builder, array).data, [start])

    return pointer


def compiled_or_plain(plain: Any, compiled: Any) -> Any:
    """Of a definition and what is compiled from it, the one that kernels call."""
    return plain if config.DISABLE_JIT else compiled


@inlined
def lanes_of(itemsize):
    """Elements of ``itemsize`` bytes in a vector."""
    return VECTOR_BYTES // itemsize


def _prefetched(x, start, count):
    """There is nothing to be seen of it."""


@intrinsic
def _prefetched_compiled(typing_context: Any, x: Any, start: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, start, count = arguments
        v = Vectors(builder, context.get_value_type(signature.args[0].dtype), LINE_BYTES)
        at = pointers(context, builder, signature)(0, x, start)
        with cgutils.for_range_slice(builder, WORD(0), count, WORD(v.lanes), WORD) as (i, _):
            v.prefetch(builder.gep(at, [i]))
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64), codegen


flattened = compiled_or_plain(_flat, _flat_compiled)
"""flattened(x): the elements of a C-contiguous array one after the other."""
prefetch_run = compiled_or_plain(_prefetched, _prefetched_compiled)
"""prefetch_run(x, start, count): x[start : start + count] is brought into the second cache, as far as there is such.

It pays before some hundred operations on what the first cache has, and no more lines than a core can wait for, 16.
"""
lane_sum = compiled_or_plain(*lane_sums(VECTOR_BYTES))
copy_run = compiled_or_plain(*run_copies(VECTOR_BYTES))


@inlined
def clear(x, start, end):
    """x[start:end] = 0"""
    zero = x.dtype.type(0)
    for i in range(np.uintp(start), np.uintp(end)):
        x[i] = zero
