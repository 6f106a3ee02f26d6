"""Register tiles: sums of products that stay in registers, and the loops over tiles.

Left to itself LLVM keeps a tile of accumulators in memory. Here they are values of a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import function
from .routines import (
    ELEMENTS,
    INTEGER,
    TABLE,
    WORD,
    EmittedRoutine,
    Routine,
    call_definition,
    emit_call,
    parameter_types,
)
from .simd import REGISTERS, VECTOR_BYTES, Vectors, chosen, lanes_of

__all__ = [
    "DOT_COLUMNS",
    "DOT_ROWS",
    "DOT_TILE",
    "LARGEST",
    "TILES",
    "TRANSPOSITION",
    "Tile",
    "choose_tile",
    "dot_tile",
    "gathering_tile",
    "multiply",
    "multiply_dot",
    "multiply_gathered",
    "tile_rows",
    "transpose",
    "transposition",
]


class Tile(NamedTuple):
    """A register tile of ``rows`` x ``vectors`` sums."""

    rows: int
    vectors: int
    routine: Routine
    rate: float
    """Multiply-adds a cycle, beside those of the largest: a narrow one needs more broadcasts for each."""


def tile_rows(vectors: int, registers: int) -> int:
    """Rows of a tile of so many vectors: they leave registers for a row of B and a broadcast, and are at most 8."""
    return min(8, (registers - vectors - 1) // vectors)


def _emit_tile(
    v: Vectors,
    rows: int,
    columns: int,
    depth: Any,
    run: Any,
    products: Callable[[Any, list[list[Any]]], list[list[Any]]],
    c: Any,
    c_row: Any,
    add: Any,
) -> None:
    """C (rows x columns vectors) = or, unless ``add`` is 0, += the sum over k < depth of what ``products`` adds for k.

    ``products`` takes k and the sums so far and gives the sums with k's products in them. All sums are values of the
    inner loop, which is over ``run`` products; the sums of the runs are added up in C. Rows of C are ``c_row`` elements
    apart.
    """
    builder = v.builder
    targets = [
        [builder.gep(c, [builder.add(builder.mul(c_row, WORD(i)), WORD(j * v.lanes))]) for j in range(columns)]
        for i in range(rows)
    ]
    places = [(i, j) for i in range(rows) for j in range(columns)]
    names = ("tile.run", "tile.depth", "tile.end", "tile.new", "tile.old", "tile.next", "tile.done")
    of_run, loop, after, new, old, following, done = (builder.append_basic_block(name) for name in names)
    start = builder.basic_block
    builder.branch(of_run)

    builder.position_at_end(of_run)
    first, adding = builder.phi(WORD), builder.phi(WORD)
    behind = builder.add(first, run)
    end = builder.select(builder.icmp_signed("<", behind, depth), behind, depth)
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(WORD)
    sums = [[builder.phi(v.type) for _ in range(columns)] for _ in range(rows)]
    updated = products(k, sums)
    next_k = builder.add(k, WORD(1))
    k.add_incoming(first, of_run)
    k.add_incoming(next_k, loop)
    for i, j in places:
        sums[i][j].add_incoming(v.zero(), of_run)
        sums[i][j].add_incoming(updated[i][j], loop)
    back = builder.cbranch(builder.icmp_signed("<", next_k, end), loop, after)
    back.set_metadata("llvm.loop", _not_unrolled(builder.module))

    # What was there is added last: a sum of many runs is one of their sums, not one from first to last product.
    builder.position_at_end(after)
    builder.cbranch(builder.icmp_signed("!=", adding, WORD(0)), old, new)
    builder.position_at_end(new)
    for i, j in places:
        v.store(updated[i][j], targets[i][j])
    builder.branch(following)
    builder.position_at_end(old)
    for i, j in places:
        v.store(builder.fadd(v.load(targets[i][j]), updated[i][j]), targets[i][j])
    builder.branch(following)

    builder.position_at_end(following)
    first.add_incoming(WORD(0), start)
    first.add_incoming(end, following)
    adding.add_incoming(add, start)
    adding.add_incoming(WORD(1), following)
    builder.cbranch(builder.icmp_signed("<", end, depth), of_run, done)
    builder.position_at_end(done)


def _not_unrolled(module: Any) -> Any:
    """Metadata of a loop that has all registers at work already: LLVM would unroll it and then run out of them."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    node = ir.MDValue(module, [rule], name=str(len(module.metadata)))
    # A loop's node tells itself apart from all others by being its own first operand.
    node.operands = (node, rule)
    return node


GATHERING = (ELEMENTS, TABLE, TABLE, INTEGER, INTEGER, ELEMENTS, TABLE, ELEMENTS, INTEGER, INTEGER)


def gathering_tile(rows: int, columns: int, size: int = VECTOR_BYTES) -> Routine:
    """C[i] (+)= sum over k < depth of source[row_at[i] + step[k]] B[k], for ``columns`` vectors of ``size`` bytes.

    B[k] are the neighbours that begin at b[b_start + b_at[k]]. What is multiplied thus lies anywhere: a tap of a
    window, a position of an image, an element of a matrix. ``row_at``, ``step`` and ``b_at`` are int64 and begin at
    ``row_first``, ``step_first`` and ``b_first``; rows of C are ``c_row`` apart; ``depth`` is at least 1. ``run``
    products are summed in registers, and the sums of the runs in C.
    """

    def definition(
        source, start, row_at, row_first, step, step_first, depth, run, b, b_start, b_at, b_first, c, c_start, c_row,
        add,
    ):  # fmt: skip
        width = columns * size // c.itemsize
        for k in range(0, depth, run):
            steps = np.arange(k, min(k + run, depth))
            index = start + row_at[row_first : row_first + rows, None] + step[step_first + steps]
            product = source[index] @ b[b_start + b_at[b_first + steps, None] + np.arange(width)]
            _put(c, c_start, c_row, product, add or k)

    def emit(
        builder: Any, element: Any, source: Any, row_at: Any, step: Any, depth: Any, run: Any, b: Any, b_at: Any,
        c: Any, c_row: Any, add: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        starts = _moved(builder, source, row_at, rows)

        def products(k: Any, sums: list[list[Any]]) -> list[list[Any]]:
            moved = builder.load(builder.gep(step, [k]))
            row_of_b = builder.gep(b, [builder.load(builder.gep(b_at, [k]))])
            vectors = [v.load(builder.gep(row_of_b, [WORD(j * v.lanes)])) for j in range(columns)]
            updated = []
            for start, row in zip(starts, sums, strict=True):
                factor = v.broadcast(builder.load(builder.gep(start, [moved])))
                updated.append([v.fma(factor, b, total) for b, total in zip(vectors, row, strict=True)])
            return updated

        _emit_tile(v, rows, columns, depth, run, products, c, c_row, add)

    return EmittedRoutine(f"gathering_tile_{rows}_{columns}", GATHERING, emit, definition)


DOT = (ELEMENTS, TABLE, TABLE, ELEMENTS, TABLE, TABLE, INTEGER, INTEGER, INTEGER, ELEMENTS, INTEGER, INTEGER)


def dot_tile(rows: int, columns: int, size: int = VECTOR_BYTES) -> Routine:
    """C[i, j] (+)= sum over k < depth of A[i, k] B[j, k], for vectors of ``size`` bytes, lane by lane.

    A[i, k] are the neighbours that begin at a[a_start + a_at[i] + a_step[k]], and B[j, k] likewise; only the first
    ``count`` lanes of either are read, and the others are 0. Tables are int64 and begin where the argument after them
    says. C has ``c_row`` elements from row to row, and a vector for each j, whose lanes ``lane_sum`` adds up. ``depth``
    is at least 1. ``run`` vectors of products are summed in registers, and the sums of the runs in C.
    """

    def definition(
        a, a_start, a_at, a_first, a_step, a_step_first, b, b_start, b_at, b_first, b_step, b_step_first, depth, run,
        count, c, c_start, c_row, add,
    ):  # fmt: skip
        lanes = size // c.itemsize
        read = np.arange(min(lanes, count))
        for k in range(0, depth, run):
            steps = np.arange(k, min(k + run, depth))
            of_a = a_start + a_at[a_first : a_first + rows, None] + a_step[a_step_first + steps]
            of_b = b_start + b_at[b_first : b_first + columns, None] + b_step[b_step_first + steps]
            product = np.zeros((rows, columns, lanes), c.dtype)
            product[:, :, : read.size] = np.einsum(
                "ikl,jkl->ijl", a[of_a[:, :, None] + read], b[of_b[:, :, None] + read]
            )
            _put(c, c_start, c_row, product.reshape(rows, -1), add or k)

    def emit(
        builder: Any, element: Any, a: Any, a_at: Any, a_step: Any, b: Any, b_at: Any, b_step: Any, depth: Any,
        run: Any, count: Any, c: Any, c_row: Any, add: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        mask = v.mask(count)
        rows_of_a, rows_of_b = _moved(builder, a, a_at, rows), _moved(builder, b, b_at, columns)

        def products(k: Any, sums: list[list[Any]]) -> list[list[Any]]:
            moved_a, moved_b = (builder.load(builder.gep(steps, [k])) for steps in (a_step, b_step))
            row_of_b = [v.load_masked(builder.gep(start, [moved_b]), mask) for start in rows_of_b]
            updated = []
            for start, row in zip(rows_of_a, sums, strict=True):
                factor = v.load_masked(builder.gep(start, [moved_a]), mask)
                updated.append([v.fma(factor, b, total) for b, total in zip(row_of_b, row, strict=True)])
            return updated

        _emit_tile(v, rows, columns, depth, run, products, c, c_row, add)

    return EmittedRoutine(f"dot_tile_{rows}_{columns}", DOT, emit, definition)


TURNING = (ELEMENTS, INTEGER, ELEMENTS, INTEGER)


def transposition(size: int = VECTOR_BYTES) -> Routine:
    """target[j, i] = source[i, j] for as many rows and columns as a vector of ``size`` bytes has lanes.

    Both are flat, their rows ``source_row`` and ``target_row`` apart.
    """

    def definition(source, source_start, source_row, target, target_start, target_row):
        lanes = size // source.itemsize
        block = source[source_start + np.arange(lanes)[:, None] * source_row + np.arange(lanes)]
        target[target_start + np.arange(lanes)[:, None] * target_row + np.arange(lanes)] = block.T

    def emit(builder: Any, element: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> None:
        v = Vectors(builder, element, size)
        rows = [v.load(builder.gep(source, [builder.mul(source_row, WORD(i))])) for i in range(v.lanes)]
        for j, column in enumerate(v.transposed(rows)):
            v.store(column, builder.gep(target, [builder.mul(target_row, WORD(j))]))

    return EmittedRoutine("transposition", TURNING, emit, definition)


def _put(c: np.ndarray, start: int, row_size: int, product: np.ndarray, add: int) -> None:
    """Rows of C, flat and ``row_size`` apart, become those of ``product`` or, unless ``add`` is 0, their sums."""
    for i, values in enumerate(product):
        row = c[start + i * row_size : start + i * row_size + values.size]
        row[:] = row + values if add else values


def _moved(builder: Any, base: Any, table: Any, count: int) -> list[Any]:
    """The addresses base + table[i], i < count."""
    return [builder.gep(base, [builder.load(builder.gep(table, [WORD(i)]))]) for i in range(count)]


@intrinsic
def _call_gathering(
    typing_context: Any, tile: Any, source: Any, start: Any, row_at: Any, row_first: Any, step: Any, step_first: Any,
    depth: Any, run: Any, b: Any, b_start: Any, b_at: Any, b_first: Any, c: Any, c_start: Any, c_row: Any, add: Any,
) -> Any:  # fmt: skip
    arguments = (
        tile, source, start, row_at, row_first, step, step_first, depth, run, b, b_start, b_at, b_first, c, c_start,
        c_row, add,
    )  # fmt: skip
    return types.void(*parameter_types(arguments)), emit_call(GATHERING)


@intrinsic
def _call_dot(
    typing_context: Any, tile: Any, a: Any, a_start: Any, a_at: Any, a_first: Any, a_step: Any, a_step_first: Any,
    b: Any, b_start: Any, b_at: Any, b_first: Any, b_step: Any, b_step_first: Any, depth: Any, run: Any, count: Any,
    c: Any, c_start: Any, c_row: Any, add: Any,
) -> Any:  # fmt: skip
    arguments = (
        tile, a, a_start, a_at, a_first, a_step, a_step_first, b, b_start, b_at, b_first, b_step, b_step_first, depth,
        run, count, c, c_start, c_row, add,
    )  # fmt: skip
    return types.void(*parameter_types(arguments)), emit_call(DOT)


@intrinsic
def _call_transposition(
    typing_context: Any, turn: Any, source: Any, source_start: Any, source_row: Any, target: Any, target_start: Any,
    target_row: Any,
) -> Any:  # fmt: skip
    arguments = (turn, source, source_start, source_row, target, target_start, target_row)
    return types.void(*parameter_types(arguments)), emit_call(TURNING)


multiply = chosen(call_definition, _call_gathering)
"""multiply(tile, ...): what :func:`gathering_tile` says, with the arguments of its definition."""
multiply_dot = chosen(call_definition, _call_dot)
"""multiply_dot(tile, ...): what :func:`dot_tile` says, with the arguments of its definition."""
transpose_block = chosen(call_definition, _call_transposition)

RATES = (0.8, 0.93, 1.0, 1.0)
TILES = tuple(
    Tile(rows, vectors, gathering_tile(rows, vectors), rate)
    for vectors, rate in enumerate(RATES if REGISTERS == 32 else RATES[:2], 1)
    for rows in [tile_rows(vectors, REGISTERS)]
)
"""The gathering tiles of 1, 2, ... vectors."""
LARGEST = max(TILES, key=lambda tile: tile.rows * tile.vectors)
"""The tile with the most work for each number that it loads."""
DOT_ROWS, DOT_COLUMNS = (4, 6) if REGISTERS == 32 else (3, 3)
DOT_TILE, TRANSPOSITION = dot_tile(DOT_ROWS, DOT_COLUMNS), transposition()


def choose_tile(outputs: int, itemsize: int) -> Tile:
    """The tile that ``outputs`` sums side by side are computed by in the shortest time."""
    needed = -(-outputs // (VECTOR_BYTES // itemsize))
    return min(TILES, key=lambda tile: (-(-needed // tile.vectors) * tile.vectors / tile.rate, tile.vectors))


@function
def multiply_gathered(
    tile, height, source, row_at, rows, step, first, depth, run, b, b_start, b_at, b_first, c, c_start, c_row, add,
):  # fmt: skip
    """C[i] (+)= sum over k < depth of source[row_at[i] + step[first + k]] B[k] for i < ``rows``, in runs of ``run``.

    C and B are as wide as ``tile``, B[k] begins at b[b_start + b_at[b_first + k]]. Rows are computed ``height`` at a
    time, as many as the tile has: ``row_at`` and C have some for all of the last tile.
    """
    for row in range(0, rows, height):
        at = c_start + row * c_row
        multiply(tile, source, 0, row_at, row, step, first, depth, run, b, b_start, b_at, b_first, c, at, c_row, add)


@function
def transpose(turn, source, source_start, source_row, rows, columns, target, target_start, target_row):
    """target[j, i] = source[i, j] for i < ``rows``, j < ``columns``; both flat, rows that far apart.

    ``turn`` is TRANSPOSITION.
    """
    lanes = lanes_of(source.itemsize)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            at_source = source_start + i * source_row + j
            at_target = target_start + j * target_row + i
            if i + lanes <= rows and j + lanes <= columns:
                transpose_block(turn, source, at_source, source_row, target, at_target, target_row)
            else:
                for row in range(min(lanes, rows - i)):
                    for column in range(min(lanes, columns - j)):
                        target[at_target + column * target_row + row] = source[at_source + row * source_row + column]
