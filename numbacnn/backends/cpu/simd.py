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
    "LARGEST",
    "REGISTERS",
    "TILES",
    "VECTOR_BYTES",
    "Tile",
    "Vectors",
    "gathering_tile",
    "lanes_of",
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

    def load_first(self, pointer: Any, count: Any) -> Any:
        """The first ``count`` neighbours, 0 in the other lanes, whose memory is not touched."""
        load = self._declare("masked.load", self.type, [self.type.as_pointer(), INDEX, self._mask_type, self.type])
        return self.builder.call(load, [self._cast(pointer), INDEX(self.bytes), self._mask(count), self.zero()])

    def store_first(self, value: Any, pointer: Any, count: Any) -> None:
        """The reverse of :meth:`load_first`."""
        store = self._declare(
            "masked.store", ir.VoidType(), [self.type, self.type.as_pointer(), INDEX, self._mask_type]
        )
        self.builder.call(store, [value, self._cast(pointer), INDEX(self.bytes), self._mask(count)])

    def broadcast(self, scalar: Any) -> Any:
        """One number in all lanes."""
        undefined = ir.Constant(self.type, ir.Undefined)
        lane = self.builder.insert_element(undefined, scalar, INDEX(0))
        return self.builder.shuffle_vector(lane, undefined, self._lane_numbers([0] * self.lanes))

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

    def _cast(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, self.type.as_pointer())

    def _lane_numbers(self, numbers: Sequence[int]) -> Any:
        return ir.Constant(ir.VectorType(INDEX, self.lanes), list(numbers))

    @property
    def _mask_type(self) -> Any:
        return ir.VectorType(ir.IntType(1), self.lanes)

    def _mask(self, count: Any) -> Any:
        mask = ir.Constant(self._mask_type, ir.Undefined)
        for lane in range(self.lanes):
            mask = self.builder.insert_element(mask, self.builder.icmp_signed("<", WORD(lane), count), INDEX(lane))
        return mask

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
    factor: Callable[[int, Any], Any],
    row_of_b: Callable[[Any], Any],
    target: Callable[[int, int], Any],
    add: Any,
) -> None:
    """C (rows x columns vectors) = or, unless ``add`` is 0, += the sum over k < depth of A[i, k] B[k].

    ``factor`` loads A[i, k], ``row_of_b`` and ``target`` give the addresses of B[k] and of a vector of C. The loop has
    rows x columns multiply-adds, rows broadcasts and columns loads; all sums are values of the loop.
    """
    builder = v.builder
    targets = [[target(i, j) for j in range(columns)] for i in range(rows)]
    old, loop, after = (builder.append_basic_block(name) for name in ("tile.old", "tile.depth", "tile.end"))
    start = builder.basic_block
    builder.cbranch(builder.icmp_signed("!=", add, WORD(0)), old, loop)
    builder.position_at_end(old)
    sums = [[v.load(pointer) for pointer in row] for row in targets]
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(WORD)
    phis = [[builder.phi(v.type) for _ in range(columns)] for _ in range(rows)]
    b = row_of_b(k)
    row = [v.load(builder.gep(b, [WORD(j * v.lanes)])) for j in range(columns)]
    updated = []
    for i in range(rows):
        a = v.broadcast(factor(i, k))
        updated.append([v.fma(a, row[j], phis[i][j]) for j in range(columns)])
    following = builder.add(k, WORD(1))
    for block, count in ((start, WORD(0)), (old, WORD(0)), (loop, following)):
        k.add_incoming(count, block)
    for i in range(rows):
        for j in range(columns):
            phis[i][j].add_incoming(v.zero(), start)
            phis[i][j].add_incoming(sums[i][j], old)
            phis[i][j].add_incoming(updated[i][j], loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

    builder.position_at_end(after)
    for i in range(rows):
        for j in range(columns):
            v.store(updated[i][j], targets[i][j])


class Tile(NamedTuple):
    """A register tile: its rows, its vectors in a row, and the function that computes it, compiled or plain Python."""

    rows: int
    vectors: int
    multiply: Any


def gathering_tile(rows: int, columns: int, size: int) -> tuple[Callable[..., None], Any]:
    """C[i] (+)= sum over k < depth of source[row_at[i] + step[k]] B[k], for ``columns`` vectors of ``size`` bytes.

    What is multiplied lies anywhere: a tap of a window, a position of an image, an element of a matrix. ``row_at`` and
    ``step`` are int64 and begin at ``row_first`` and ``step_first``; B and C are flat, their rows ``b_row`` and
    ``c_row`` apart; ``depth`` is at least 1. The plain Python definition, and the compiled one.
    """

    def definition(
        source, row_at, row_first, step, step_first, depth, b, b_start, b_row, c, c_start, c_row, add
    ):  # the arguments of the compiled one
        width = columns * size // c.itemsize
        index = row_at[row_first : row_first + rows, None] + step[step_first : step_first + depth]
        product = source[index] @ b[b_start + np.arange(depth)[:, None] * b_row + np.arange(width)]
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
        b_row: Any,
        c: Any,
        c_start: Any,
        c_row: Any,
        add: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, row_at, row_first, step, step_first, depth, b, b_start, b_row, c, c_start, c_row, add = arguments
            v = Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            pointer = _pointers(context, builder, signature)
            base, rows_at = pointer(0, source, WORD(0)), pointer(1, row_at, row_first)
            steps, at_b, at_c = pointer(3, step, step_first), pointer(6, b, b_start), pointer(9, c, c_start)
            starts = [builder.gep(base, [builder.load(builder.gep(rows_at, [WORD(i)]))]) for i in range(rows)]
            moved: dict[Any, Any] = {}

            def factor(i: int, k: Any) -> Any:
                if k not in moved:
                    moved[k] = builder.load(builder.gep(steps, [k]))
                return builder.load(builder.gep(starts[i], [moved[k]]))

            _emit_tile(
                v,
                rows,
                columns,
                depth,
                factor,
                lambda k: builder.gep(at_b, [builder.mul(k, b_row)]),
                lambda i, j: builder.gep(at_c, [builder.add(builder.mul(c_row, WORD(i)), WORD(j * v.lanes))]),
                add,
            )
            return context.get_dummy_value()

        word = types.int64
        return types.void(source, row_at, word, step, word, word, b, word, word, c, word, word, word), codegen

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

transpose_block = _chosen(transposition(VECTOR_BYTES))
