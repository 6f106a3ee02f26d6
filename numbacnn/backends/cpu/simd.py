"""Explicit vectors: a small vocabulary of LLVM instructions, and the register tiles that are made of it.

Left to itself LLVM keeps a tile of accumulators in memory and, on AVX-512 machines, uses half the vector width. Here
the accumulators are values of a loop, so they stay in registers, and the width is chosen from the host's features.

Each instruction has a definition in plain Python beside it, which is also what runs when the compiler is off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .jit import function

__all__ = [
    "DOT_COLUMNS",
    "DOT_ROWS",
    "LARGEST",
    "REGISTERS",
    "TILES",
    "VECTOR_BYTES",
    "Tile",
    "Vectors",
    "copy_run",
    "dot_tile",
    "gathering_tile",
    "lane_sum",
    "lane_sums",
    "lanes_of",
    "multiply_dot",
    "run_copies",
    "tile_rows",
    "transpose_block",
    "transposition",
]

WORD = ir.IntType(64)
INDEX = ir.IntType(32)


def _host_features() -> dict[str, bool]:
    return dict(llvmlite.binding.get_host_cpu_features())


def _vector_bytes(features: dict[str, bool]) -> int:
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def _registers(features: dict[str, bool]) -> int:
    return 32 if features.get("avx512f") or features.get("neon") else 16


VECTOR_BYTES = _vector_bytes(_host_features())
REGISTERS = _registers(_host_features())


def tile_rows(vectors: int, registers: int) -> int:
    """Rows of a tile of so many vectors: they leave registers for a row of B and a broadcast, and are at most 8."""
    return min(8, (registers - vectors - 1) // vectors)


class Vectors:
    """Vectors of one floating type in a function that is being built.

    Args:
        builder: of the function.
        element: float or double.
        size: bytes of a vector.
    """

    def __init__(self, builder: Any, element: Any, size: int) -> None:
        bits = 32 if isinstance(element, ir.FloatType) else 64
        self.builder = builder
        self.bytes = bits // 8
        self.lanes = size // self.bytes
        self.type = ir.VectorType(element, self.lanes)
        self._suffix = f"v{self.lanes}f{bits}"

    def zero(self) -> Any:
        """Zeros in all lanes."""
        return ir.Constant(self.type, [0.0] * self.lanes)

    def load(self, pointer: Any) -> Any:
        """``lanes`` neighbours, from any address of an element."""
        return self.builder.load(self._cast(pointer), align=self.bytes)

    def store(self, value: Any, pointer: Any) -> None:
        """The reverse of :meth:`load`."""
        self.builder.store(value, self._cast(pointer), align=self.bytes)

    def mask(self, count: Any) -> Any:
        """What :meth:`load_masked` and :meth:`store_masked` take for the first ``count`` lanes."""
        numbers = ir.Constant(ir.VectorType(WORD, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self._repeat(numbers.type, count))

    def load_masked(self, pointer: Any, mask: Any) -> Any:
        """The neighbours whose lanes the mask has, 0 in the other lanes, whose memory is not touched."""
        load = self._declare("masked.load", self.type, [self.type.as_pointer(), INDEX, self._mask_type, self.type])
        return self.builder.call(load, [self._cast(pointer), INDEX(self.bytes), mask, self.zero()])

    def store_masked(self, value: Any, pointer: Any, mask: Any) -> None:
        """The reverse of :meth:`load_masked`."""
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

    def sum(self, value: Any) -> Any:
        """The lanes of a vector added up, halves first."""
        width = self.lanes
        while width > 1:
            width //= 2
            upper = self.builder.shuffle_vector(
                value, value, self._lane_numbers([(i + width) % self.lanes for i in range(self.lanes)])
            )
            value = self.builder.fadd(value, upper)
        return self.builder.extract_element(value, INDEX(0))

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


def _emit_tile(
    v: Vectors,
    rows: int,
    columns: int,
    depth: Any,
    products: Callable[[Any, list[list[Any]]], list[list[Any]]],
    target: Callable[[int, int], Any],
    add: Any,
) -> None:
    """C (rows x columns vectors) = or, unless ``add`` is 0, += the sum over k < depth of what ``products`` adds for k.

    ``products`` takes k and the sums so far and gives the sums with k's products in them; ``target`` gives the address
    of a vector of C. All sums are values of the loop.
    """
    builder = v.builder
    targets = [[target(i, j) for j in range(columns)] for i in range(rows)]
    old, loop, after = (builder.append_basic_block(name) for name in ("tile.old", "tile.depth", "tile.end"))
    start = builder.basic_block
    builder.cbranch(builder.icmp_signed("!=", add, WORD(0)), old, loop)
    builder.position_at_end(old)
    before = [[v.load(pointer) for pointer in row] for row in targets]
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(WORD)
    sums = [[builder.phi(v.type) for _ in range(columns)] for _ in range(rows)]
    updated = products(k, sums)
    following = builder.add(k, WORD(1))
    for block, count in ((start, WORD(0)), (old, WORD(0)), (loop, following)):
        k.add_incoming(count, block)
    for i in range(rows):
        for j in range(columns):
            sums[i][j].add_incoming(v.zero(), start)
            sums[i][j].add_incoming(before[i][j], old)
            sums[i][j].add_incoming(updated[i][j], loop)
    back = builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    back.set_metadata("llvm.loop", _not_unrolled(builder.module))

    builder.position_at_end(after)
    for i in range(rows):
        for j in range(columns):
            v.store(updated[i][j], targets[i][j])


def _not_unrolled(module: Any) -> Any:
    """Metadata of a loop that has all registers at work already: LLVM would unroll it and then run out of them."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    node = ir.MDValue(module, [rule], name=str(len(module.metadata)))
    # A loop's node tells itself apart from all others by being its own first operand.
    node.operands = (node, rule)
    return node


class Tile(NamedTuple):
    """A register tile: its rows, its vectors in a row, and the function that computes it, compiled or plain Python."""

    rows: int
    vectors: int
    multiply: Any


def gathering_tile(rows: int, columns: int, size: int) -> tuple[Callable[..., None], Any]:
    """C[i] (+)= sum over k < depth of source[row_at[i] + step[k]] B[k], for ``columns`` vectors of ``size`` bytes.

    B[k] are the neighbours that begin at b[b_start + b_at[k]]. What is multiplied thus lies anywhere: a tap of a
    window, a position of an image, an element of a matrix. ``row_at``, ``step`` and ``b_at`` are int64 and begin at
    ``row_first``, ``step_first`` and ``b_first``; rows of C are ``c_row`` apart; ``depth`` is at least 1. The plain
    Python definition, and the compiled one.
    """

    def definition(
        source, row_at, row_first, step, step_first, depth, b, b_start, b_at, b_first, c, c_start, c_row, add
    ):
        width = columns * size // c.itemsize
        index = row_at[row_first : row_first + rows, None] + step[step_first : step_first + depth]
        product = source[index] @ b[b_start + b_at[b_first : b_first + depth, None] + np.arange(width)]
        for i in range(rows):
            row = c[c_start + i * c_row : c_start + i * c_row + width]
            row[:] = row + product[i] if add else product[i]

    @intrinsic
    def compiled(
        typing_context: Any,
        source: Any,
        row_at: Any,
        row_first: Any,
        step: Any,
        step_first: Any,
        depth: Any,
        b: Any,
        b_start: Any,
        b_at: Any,
        b_first: Any,
        c: Any,
        c_start: Any,
        c_row: Any,
        add: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, row_at, row_first, step, step_first, depth, b, b_start, b_at, b_first, c, c_start, c_row, add = (
                arguments
            )
            v = Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            pointer = _pointers(context, builder, signature)
            base, rows_at = pointer(0, source, WORD(0)), pointer(1, row_at, row_first)
            steps, at_b, at_c = pointer(3, step, step_first), pointer(6, b, b_start), pointer(10, c, c_start)
            rows_of_b = pointer(8, b_at, b_first)
            starts = [builder.gep(base, [builder.load(builder.gep(rows_at, [WORD(i)]))]) for i in range(rows)]

            def products(k: Any, sums: list[list[Any]]) -> list[list[Any]]:
                moved = builder.load(builder.gep(steps, [k]))
                row_of_b = builder.gep(at_b, [builder.load(builder.gep(rows_of_b, [k]))])
                vectors = [v.load(builder.gep(row_of_b, [WORD(j * v.lanes)])) for j in range(columns)]
                updated = []
                for start, row in zip(starts, sums, strict=True):
                    factor = v.broadcast(builder.load(builder.gep(start, [moved])))
                    updated.append([v.fma(factor, b, total) for b, total in zip(vectors, row, strict=True)])
                return updated

            _emit_tile(
                v,
                rows,
                columns,
                depth,
                products,
                lambda i, j: builder.gep(at_c, [builder.add(builder.mul(c_row, WORD(i)), WORD(j * v.lanes))]),
                add,
            )
            return context.get_dummy_value()

        word = types.int64
        return types.void(source, row_at, word, step, word, word, b, word, b_at, word, c, word, word, word), codegen

    return definition, compiled


def dot_tile(rows: int, columns: int, size: int) -> tuple[Callable[..., None], Any]:
    """C[i, j] (+)= sum over k < depth of A[i, k] B[j, k], for vectors of ``size`` bytes, lane by lane.

    A[i, k] are the neighbours that begin at a[a_at[i] + a_step[k]], B[j, k] those at b[b_at[j] + b_step[k]]; only the
    first ``count`` lanes of either are read, and the others are 0. Tables are int64 and begin at ``a_first``,
    ``b_first``, ``a_step_first`` and ``b_step_first``. C has ``c_row`` elements from row to row, and a vector for each
    j; :func:`lane_sums` adds up its lanes. ``depth`` is at least 1. The plain Python definition, and the compiled one.
    """

    def definition(
        a,
        a_at,
        a_first,
        a_step,
        a_step_first,
        b,
        b_at,
        b_first,
        b_step,
        b_step_first,
        depth,
        count,
        c,
        c_start,
        c_row,
        add,
    ):
        lanes = size // c.itemsize
        read = np.arange(min(lanes, count))
        of_a = a_at[a_first : a_first + rows, None] + a_step[a_step_first : a_step_first + depth]
        of_b = b_at[b_first : b_first + columns, None] + b_step[b_step_first : b_step_first + depth]
        product = np.zeros((rows, columns, lanes), c.dtype)
        product[:, :, : read.size] = np.einsum("ikl,jkl->ijl", a[of_a[:, :, None] + read], b[of_b[:, :, None] + read])
        for i in range(rows):
            row = c[c_start + i * c_row : c_start + i * c_row + columns * lanes]
            row[:] = row + product[i].ravel() if add else product[i].ravel()

    @intrinsic
    def compiled(
        typing_context: Any,
        a: Any,
        a_at: Any,
        a_first: Any,
        a_step: Any,
        a_step_first: Any,
        b: Any,
        b_at: Any,
        b_first: Any,
        b_step: Any,
        b_step_first: Any,
        depth: Any,
        count: Any,
        c: Any,
        c_start: Any,
        c_row: Any,
        add: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (a, a_at, a_first, a_step, a_step_first, b, b_at, b_first, b_step, b_step_first, depth, count, c, c_start,
             c_row, add) = arguments  # fmt: skip
            v = Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            pointer = _pointers(context, builder, signature)
            mask = v.mask(count)

            def starts(base: Any, table: Any, count: int) -> list[Any]:
                return [builder.gep(base, [builder.load(builder.gep(table, [WORD(i)]))]) for i in range(count)]

            rows_of_a = starts(pointer(0, a, WORD(0)), pointer(1, a_at, a_first), rows)
            rows_of_b = starts(pointer(5, b, WORD(0)), pointer(6, b_at, b_first), columns)
            steps_of_a, steps_of_b = pointer(3, a_step, a_step_first), pointer(8, b_step, b_step_first)
            at_c = pointer(12, c, c_start)

            def products(k: Any, sums: list[list[Any]]) -> list[list[Any]]:
                moved_a, moved_b = (builder.load(builder.gep(steps, [k])) for steps in (steps_of_a, steps_of_b))
                row_of_b = [v.load_masked(builder.gep(start, [moved_b]), mask) for start in rows_of_b]
                updated = []
                for start, row in zip(rows_of_a, sums, strict=True):
                    factor = v.load_masked(builder.gep(start, [moved_a]), mask)
                    updated.append([v.fma(factor, b, total) for b, total in zip(row_of_b, row, strict=True)])
                return updated

            _emit_tile(
                v,
                rows,
                columns,
                depth,
                products,
                lambda i, j: builder.gep(at_c, [builder.add(builder.mul(c_row, WORD(i)), WORD(j * v.lanes))]),
                add,
            )
            return context.get_dummy_value()

        word = types.int64
        return types.void(
            a, a_at, word, a_step, word, b, b_at, word, b_step, word, word, word, c, word, word, word
        ), codegen

    return definition, compiled


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
            return v.sum(v.load(_pointers(context, builder, signature)(0, *arguments)))

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
            pointer = _pointers(context, builder, signature)
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


def transposition(size: int) -> tuple[Callable[..., None], Any]:
    """target[j, i] = source[i, j] for as many rows and columns as a vector of ``size`` bytes has lanes.

    Both are flat, their rows ``source_row`` and ``target_row`` apart. The plain Python definition, and the compiled
    one.
    """

    def definition(source, source_start, source_row, target, target_start, target_row):
        lanes = size // source.itemsize
        block = source[source_start + np.arange(lanes)[:, None] * source_row + np.arange(lanes)]
        target[target_start + np.arange(lanes)[:, None] * target_row + np.arange(lanes)] = block.T

    @intrinsic
    def compiled(
        typing_context: Any,
        source: Any,
        source_start: Any,
        source_row: Any,
        target: Any,
        target_start: Any,
        target_row: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, source_start, source_row, target, target_start, target_row = arguments
            v = Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            pointer = _pointers(context, builder, signature)
            at_source, at_target = pointer(0, source, source_start), pointer(3, target, target_start)
            rows = [v.load(builder.gep(at_source, [builder.mul(source_row, WORD(i))])) for i in range(v.lanes)]
            for j, column in enumerate(v.transposed(rows)):
                v.store(column, builder.gep(at_target, [builder.mul(target_row, WORD(j))]))
            return context.get_dummy_value()

        word = types.int64
        return types.void(source, word, word, target, word, word), codegen

    return definition, compiled


def _pointers(context: Any, builder: Any, signature: Any) -> Callable[[int, Any, Any], Any]:
    def pointer(argument: int, array: Any, start: Any) -> Any:
        """The address of element ``start`` of the array that is the given argument."""
        return builder.gep(context.make_array(signature.args[argument])(context, builder, array).data, [start])

    return pointer


def _chosen(pair: tuple[Callable[..., None], Any]) -> Any:
    """Of a definition and what is compiled from it, the one that kernels call."""
    return pair[0] if config.DISABLE_JIT else pair[1]


@function(inline="always")
def lanes_of(itemsize):
    """Elements of ``itemsize`` bytes in a vector."""
    return VECTOR_BYTES // itemsize


TILES = tuple(
    Tile(rows, vectors, _chosen(gathering_tile(rows, vectors, VECTOR_BYTES)))
    for vectors in range(1, 5 if REGISTERS == 32 else 3)
    for rows in [tile_rows(vectors, REGISTERS)]
)
"""The gathering tiles of 1, 2, ... vectors."""

LARGEST = max(TILES, key=lambda tile: tile.rows * tile.vectors)
"""The tile with the most work for each number that it loads."""

DOT_ROWS, DOT_COLUMNS = (4, 6) if REGISTERS == 32 else (3, 3)
multiply_dot = _chosen(dot_tile(DOT_ROWS, DOT_COLUMNS, VECTOR_BYTES))
lane_sum = _chosen(lane_sums(VECTOR_BYTES))
copy_run = _chosen(run_copies(VECTOR_BYTES))
transpose_block = _chosen(transposition(VECTOR_BYTES))
