"""Register tiles: sums of products that stay in registers, and the loops over tiles.

Left to itself LLVM keeps a tile of accumulators in memory. Here they are values of a loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from ..runtime.kernel import inlined
from ..runtime.microkernel import (
    ELEMENTS,
    INTEGER,
    TABLE,
    WORD,
    EmittedMicrokernel,
    Microkernel,
    calling,
)
from .costs import TILE_RATES
from .simd import REGISTERS, VECTOR_BYTES, Vectors, lanes_of

__all__ = [
    "ADD",
    "DOT_COLUMNS",
    "DOT_ROWS",
    "DOT_TILE",
    "ELEMENTWISE_TILES",
    "LARGEST",
    "RELU",
    "ROUND",
    "TILES",
    "TRANSPOSITION",
    "WIDEST_STRADDLING",
    "Tile",
    "choose_tile",
    "dot_tile",
    "elementwise_tile_of",
    "gathering_tile",
    "multiply",
    "multiply_dot",
    "multiply_gathered",
    "tile_of",
    "tile_rows",
    "transpose",
    "transposition",
]


class Tile(NamedTuple):
    """A register tile of ``rows`` x ``vectors`` sums."""

    rows: int
    vectors: int
    microkernel: Microkernel
    rate: float
    """Multiply-adds a cycle, beside those of the best: a narrow one needs more broadcasts for each, a low one loads
    more of B.
    """

    def for_rows(self, rows: int, bytes_of_b: int) -> Microkernel:
        """The tile for ``rows`` rows and so much packed B, panel after panel: where few rows share a panel that comes
        from memory, one that asks for the next panel meanwhile.
        """
        rounds = -(-rows // self.rows)
        if rounds > MAX_STREAMED_ROUNDS or bytes_of_b < MIN_STREAMED_BYTES:
            return self.microkernel
        return _streaming_tile(self.rows, self.vectors, -(-self.vectors // rounds))


# One image's convolution of 512 channels of 3 x 3 took 0.83 of the time by it, one of 384 channels of 12 x 12 by
# Winograd's algorithm 0.72. What the second cache holds, or many rows share, takes a few hundredths longer.
MAX_STREAMED_ROUNDS, MIN_STREAMED_BYTES = 8, 1 << 16


def tile_rows(vectors: int, registers: int) -> int:
    """Rows of a tile of so many vectors: they leave registers for a row of B and a broadcast.

    Each has an address of its own, and more than nine would not stay in registers.
    """
    return min(9, (registers - vectors - 1) // vectors)


def _emit_tile(
    v: Vectors,
    rows: int,
    columns: int,
    depth: Any,
    run: Any,
    products: Callable[[Any, list[list[Any]]], list[list[Any]]],
    first_sums: list[Any],
    targets: list[list[Any]],
    masks: list[Any] | None,
    add: Any,
    floor: Any,
) -> None:
    """C (rows x columns vectors) = or, unless ``add`` is 0, += the sum over k < depth of what ``products`` adds for k.

    ``products`` takes k and the sums so far and gives the sums with k's products in them. All sums are values of the
    inner loop, which is over ``run`` products and begins with ``first_sums``, a vector a column, and then with zeros;
    the sums of the runs are added up in C, at ``targets``, the lanes of ``masks`` alone. At last what is not above
    ``floor`` becomes that, unless it is None.
    """
    builder = v.builder
    places = [(i, j) for i in range(rows) for j in range(columns)]
    names = ("tile.run", "tile.depth", "tile.end", "tile.new", "tile.old", "tile.next", "tile.done")
    of_run, loop, after, new, old, following, done = (builder.append_basic_block(name) for name in names)
    start = builder.basic_block
    builder.branch(of_run)

    builder.position_at_end(of_run)
    first, adding = builder.phi(WORD), builder.phi(WORD)
    initial = [builder.phi(v.type) for _ in range(columns)]
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
        sums[i][j].add_incoming(initial[j], of_run)
        sums[i][j].add_incoming(updated[i][j], loop)
    back = builder.cbranch(builder.icmp_signed("<", next_k, end), loop, after)
    back.set_metadata("llvm.loop", _not_unrolled(builder.module))

    def put(values: list[list[Any]]) -> None:
        for i, j in places:
            value = values[i][j]
            if floor is not None:
                value = builder.select(builder.fcmp_ordered(">=", lowest, value), lowest, value)
            if masks is None:
                v.store(value, targets[i][j])
            else:
                v.store_masked(value, targets[i][j], masks[j])
        builder.branch(following)

    builder.position_at_end(after)
    if floor is not None:
        is_last = builder.icmp_signed("==", end, depth)
        lowest = builder.select(is_last, v.broadcast(floor), v.broadcast(ir.Constant(v.type.element, -np.inf)))
    builder.cbranch(builder.icmp_signed("!=", adding, WORD(0)), old, new)
    builder.position_at_end(new)
    put(updated)
    # What was there is added last: a sum of many runs is one of their sums, not one from first to last product. All of
    # it is loaded before any is stored, because several rows may have one target.
    builder.position_at_end(old)
    put(
        [
            [
                builder.fadd(
                    v.load(targets[i][j]) if masks is None else v.load_masked(targets[i][j], masks[j]), updated[i][j]
                )
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )

    builder.position_at_end(following)
    first.add_incoming(WORD(0), start)
    first.add_incoming(end, following)
    adding.add_incoming(add, start)
    adding.add_incoming(WORD(1), following)
    for j, value in enumerate(first_sums):
        initial[j].add_incoming(value, start)
        initial[j].add_incoming(v.zero(), following)
    builder.cbranch(builder.icmp_signed("<", end, depth), of_run, done)
    builder.position_at_end(done)


def _not_unrolled(module: Any) -> Any:
    """Metadata of a loop that has all registers at work already: LLVM would unroll it and then run out of them."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    node = ir.MDValue(module, [rule], name=str(len(module.metadata)))
    # A loop's node tells itself apart from all others by being its own first operand.
    node.operands = (node, rule)
    return node


GATHERING = (
    ELEMENTS, TABLE, TABLE, INTEGER, INTEGER, ELEMENTS, TABLE, ELEMENTS, ELEMENTS, TABLE, INTEGER, INTEGER,
)  # fmt: skip
ADD, RELU, ROUND = 1, 2, 4
"""What a tile is told to do, added up: to add to what C holds, which else begins with the bias; to apply ReLU. ROUND is
added as often as there were calls with the same B before.
"""


def gathering_tile(
    rows: int, columns: int, size: int = VECTOR_BYTES, elementwise: bool = False, ahead: int = 0
) -> Microkernel:
    """C[i] = bias + sum over k < depth of source[row_at[i] + step[k]] B[k], for ``columns`` vectors of ``size`` bytes.

    B[k] are the neighbours that begin at b[b_start + b_at[k]], C[i] those from c[c_start + c_at[i]] on; of both, and
    of the bias, only the first ``count`` lanes are read or written. What is multiplied thus lies anywhere: a tap of a
    window, a position of an image, an element of a matrix. With ``elementwise`` it is not one number for all lanes but
    the neighbours that begin there, a number for each lane.

    Tables are int64 and begin at ``row_first``, ``step_first``, ``b_first`` and ``c_first``; ``depth`` is at least 1.
    ``run`` products are summed in registers, and the sums of the runs in C. ``todo`` is 0 or a sum of ADD, RELU and
    ROUNDs. Rows with the same ``row_at`` may have the same ``c_at``.

    With ``ahead``, for B whose rows follow each other, as many vectors of what lies behind B are brought into the
    second cache with each k, those next to each other in the next round.
    """

    def definition(
        source, start, row_at, row_first, step, step_first, depth, run, b, b_start, b_at, b_first, bias, bias_start,
        c, c_start, c_at, c_first, count, todo,
    ):  # fmt: skip
        lanes = np.arange(min(columns * size // c.itemsize, count))
        target = c_start + c_at[c_first : c_first + rows, None] + lanes
        sums = c[target] if todo & ADD else np.broadcast_to(bias[bias_start + lanes], target.shape)
        for k in range(0, depth, run):
            steps = np.arange(k, min(k + run, depth))
            index = start + row_at[row_first : row_first + rows, None] + step[step_first + steps]
            of_b = b[b_start + b_at[b_first + steps, None] + lanes]
            if elementwise:
                sums = sums + np.einsum("ikl,kl->il", source[index[:, :, None] + lanes], of_b)
            else:
                sums = sums + source[index] @ of_b
        c[target] = np.where(sums <= 0, 0, sums) if todo & RELU else sums

    def emit(
        builder: Any, element: Any, source: Any, row_at: Any, step: Any, depth: Any, run: Any, b: Any, b_at: Any,
        bias: Any, c: Any, c_at: Any, count: Any, todo: Any,
    ) -> None:  # fmt: skip
        v = Vectors(builder, element, size)
        starts, lines = _moved(builder, source, row_at, rows), _moved(builder, c, c_at, rows)
        targets = [[builder.gep(line, [WORD(j * v.lanes)]) for j in range(columns)] for line in lines]
        add = builder.and_(todo, WORD(ADD))
        begins = builder.icmp_signed("==", add, WORD(0))
        of_round = builder.mul(builder.ashr(todo, WORD(ROUND.bit_length() - 1)), WORD(ahead * v.lanes))
        behind = builder.add(builder.mul(depth, WORD(columns * v.lanes)), of_round)
        is_relu = builder.icmp_signed("!=", builder.and_(todo, WORD(RELU)), WORD(0))
        floor = builder.select(is_relu, ir.Constant(element, 0.0), ir.Constant(element, -np.inf))

        def tile(masks: list[Any] | None) -> None:
            def neighbours(pointer: Any) -> list[Any]:
                places = [builder.gep(pointer, [WORD(j * v.lanes)]) for j in range(columns)]
                if masks is None:
                    return [v.load(place) for place in places]
                return [v.load_masked(place, mask) for place, mask in zip(places, masks, strict=True)]

            def products(k: Any, sums: list[list[Any]]) -> list[list[Any]]:
                moved = builder.load(builder.gep(step, [k]))
                row_of_b = builder.gep(b, [builder.load(builder.gep(b_at, [k]))])
                vectors = neighbours(row_of_b)
                for j in range(ahead):
                    v.prefetch(builder.gep(row_of_b, [builder.add(behind, WORD(j * v.lanes))]))
                updated = []
                for start, row in zip(starts, sums, strict=True):
                    place = builder.gep(start, [moved])
                    factors = neighbours(place) if elementwise else [v.broadcast(builder.load(place))] * columns
                    of_row = [v.fma(a, b, total) for a, b, total in zip(factors, vectors, row, strict=True)]
                    updated.append(v.fenced(of_row))
                return updated

            first_sums = [builder.select(begins, value, v.zero()) for value in neighbours(bias)]
            _emit_tile(v, rows, columns, depth, run, products, first_sums, targets, masks, add, floor)

        # A masked load takes the place of a multiplication.
        with builder.if_else(builder.icmp_signed(">=", count, WORD(columns * v.lanes))) as (whole, partial):
            with whole:
                tile(None)
            with partial:
                tile([v.mask(builder.sub(count, WORD(j * v.lanes))) for j in range(columns)])

    kind = "elementwise" if elementwise else f"streaming_{ahead}" if ahead else "gathering"
    return EmittedMicrokernel(f"{kind}_tile_{rows}_{columns}", GATHERING, emit, definition)


DOT = (ELEMENTS, TABLE, TABLE, ELEMENTS, TABLE, TABLE, INTEGER, INTEGER, INTEGER, ELEMENTS, INTEGER, INTEGER)


def dot_tile(rows: int, columns: int, size: int = VECTOR_BYTES) -> Microkernel:
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

        targets = [
            [builder.gep(c, [builder.add(builder.mul(c_row, WORD(i)), WORD(j * v.lanes))]) for j in range(columns)]
            for i in range(rows)
        ]
        _emit_tile(v, rows, columns, depth, run, products, [v.zero()] * columns, targets, None, add, None)

    return EmittedMicrokernel(f"dot_tile_{rows}_{columns}", DOT, emit, definition)


TRANSPOSING = (ELEMENTS, INTEGER, INTEGER, INTEGER, ELEMENTS, INTEGER)


def transposition(size: int = VECTOR_BYTES) -> Microkernel:
    """target[j, i] = source[i, j] for i < ``rows``, j < ``columns``: at most as many as a vector has lanes, at least 1.

    Both are flat, their rows ``source_row`` and ``target_row`` apart.
    """

    def definition(source, source_start, source_row, rows, columns, target, target_start, target_row):
        block = source[source_start + np.arange(rows)[:, None] * source_row + np.arange(columns)]
        target[target_start + np.arange(columns)[:, None] * target_row + np.arange(rows)] = block.T

    def emit(
        builder: Any, element: Any, source: Any, source_row: Any, rows: Any, columns: Any, target: Any, target_row: Any
    ) -> None:
        v = Vectors(builder, element, size)
        of_rows, of_columns = v.mask(rows), v.mask(columns)
        last = builder.sub(rows, WORD(1))
        block = []
        for i in range(v.lanes):
            row = builder.select(builder.icmp_signed("<", WORD(i), rows), WORD(i), last)
            block.append(v.load_masked(builder.gep(source, [builder.mul(source_row, row)]), of_columns))
        transposed = v.transposed(block)
        done = builder.append_basic_block("transposition.done")
        for j, column in enumerate(transposed):
            v.store_masked(column, builder.gep(target, [builder.mul(target_row, WORD(j))]), of_rows)
            if j + 1 < v.lanes:
                more = builder.append_basic_block("transposition.more")
                builder.cbranch(builder.icmp_signed("<", WORD(j + 1), columns), more, done)
                builder.position_at_end(more)
        builder.branch(done)
        builder.position_at_end(done)

    return EmittedMicrokernel("transposition", TRANSPOSING, emit, definition)


def _put(c: np.ndarray, start: int, row_size: int, product: np.ndarray, add: int) -> None:
    """Rows of C, flat and ``row_size`` apart, become those of ``product`` or, unless ``add`` is 0, their sums."""
    for i, values in enumerate(product):
        row = c[start + i * row_size : start + i * row_size + values.size]
        row[:] = row + values if add else values


def _moved(builder: Any, base: Any, table: Any, count: int) -> list[Any]:
    """The addresses base + table[i], i < count."""
    return [builder.gep(base, [builder.load(builder.gep(table, [WORD(i)]))]) for i in range(count)]


multiply = calling(GATHERING)
"""multiply(tile, ...): what :func:`gathering_tile` says, with the arguments of its definition."""
multiply_dot = calling(DOT)
"""multiply_dot(tile, ...): what :func:`dot_tile` says, with the arguments of its definition."""
transpose_block = calling(TRANSPOSING)

TILES = tuple(
    Tile(rows, vectors, gathering_tile(rows, vectors), rate)
    for vectors, rate in enumerate(TILE_RATES if REGISTERS == 32 else TILE_RATES[:2], 1)
    for rows in [tile_rows(vectors, REGISTERS)]
)
"""The gathering tiles of 1, 2, ... vectors."""
WIDEST_STRADDLING = 4
"""Vectors of a tile that may load B from where no cache line begins: wider ones load it too often."""
LARGEST = max(TILES, key=lambda tile: tile.rows * tile.vectors)
"""The tile with the most work for each number that it loads."""
DOT_ROWS, DOT_COLUMNS = (4, 6) if REGISTERS == 32 else (3, 3)
DOT_TILE, TRANSPOSITION = dot_tile(DOT_ROWS, DOT_COLUMNS), transposition()
ELEMENTWISE_TILES = tuple(
    Tile(rows, vectors, gathering_tile(rows, vectors, elementwise=True), rate)
    for vectors, rate in enumerate(TILE_RATES[: 4 if REGISTERS == 32 else 2], 1)
    for rows in [min(12, (REGISTERS - 2 * vectors - 2) // vectors)]
)
"""Those of 1, 2, ... vectors that multiply lane by lane: each row takes as many registers for what is multiplied."""


@functools.cache
def _streaming_tile(rows: int, vectors: int, ahead: int) -> Microkernel:
    return gathering_tile(rows, vectors, ahead=ahead)


@functools.cache
def tile_of(rows: int, vectors: int) -> Tile:
    """One of fewer rows than :data:`TILES` has for so many vectors."""
    return Tile(rows, vectors, gathering_tile(rows, vectors), TILES[vectors - 1].rate)


@functools.cache
def elementwise_tile_of(rows: int, vectors: int) -> Tile:
    """One of fewer rows than :data:`ELEMENTWISE_TILES` has for so many vectors."""
    microkernel = gathering_tile(rows, vectors, elementwise=True)
    return Tile(rows, vectors, microkernel, ELEMENTWISE_TILES[vectors - 1].rate)


def choose_tile(outputs: int, itemsize: int, widest: int = len(TILES)) -> Tile:
    """The tile, of ``widest`` vectors at most, that computes ``outputs`` sums side by side in the shortest time."""
    needed = -(-outputs // (VECTOR_BYTES // itemsize))
    return min(TILES[:widest], key=lambda tile: (-(-needed // tile.vectors) * tile.vectors / tile.rate, tile.vectors))


@inlined
def multiply_gathered(
    tile, height, source, start, row_at, rows, step, first, depth, run, b, b_start, b_at, b_first, bias, bias_start,
    c, c_start, c_at, count, todo,
):  # fmt: skip
    """C[i] = bias + sum over k < depth of source[start + row_at[i] + step[first + k]] B[k] for i < ``rows``.

    What :func:`gathering_tile` says, ``height`` rows at a time, as many as the tile has: ``row_at`` and ``c_at`` have
    some for all of the last tile, which may be those of the last row.
    """
    for row in range(0, rows, height):
        multiply(
            tile, source, start, row_at, row, step, first, depth, run, b, b_start, b_at, b_first, bias, bias_start, c,
            c_start, c_at, row, count, todo,
        )  # fmt: skip
        todo += ROUND


@inlined
def transpose(transposition, source, source_start, source_row, rows, columns, target, target_start, target_row):
    """target[j, i] = source[i, j] for i < ``rows``, j < ``columns``; both flat, rows that far apart.

    ``transposition`` is TRANSPOSITION.
    """
    lanes = lanes_of(source.itemsize)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            transpose_block(
                transposition, source, source_start + i * source_row + j, source_row, min(lanes, rows - i),
                min(lanes, columns - j), target, target_start + j * target_row + i, target_row,
            )  # fmt: skip
