"""Explicit vectors: the register tile of the matrix product as one LLVM loop.

Left to itself LLVM keeps a tile of accumulators in memory and, on AVX-512 machines, uses half the vector width. Here
the accumulators are values of a loop, so they stay in registers, and the width is chosen from the host's features.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .jit import function

__all__ = ["TILE_ROWS", "multiply_tile", "tile_columns"]


def _host_features() -> dict[str, bool]:
    return dict(llvmlite.binding.get_host_cpu_features())


def _choose_tile() -> tuple[int, int]:
    """(rows, bytes of a vector) so that rows x 2 vectors, 2 loads and a broadcast fit the registers."""
    features = _host_features()
    if features.get("avx512f"):
        return 8, 64
    if features.get("avx2"):
        return 6, 32
    return (8, 16) if features.get("neon") else (4, 16)


TILE_ROWS, _VECTOR_BYTES = _choose_tile()
_VECTORS = 2


@function(inline="always")
def tile_columns(itemsize):
    """Columns of the tile for elements of ``itemsize`` bytes."""
    return _VECTORS * _VECTOR_BYTES // itemsize


def _define_multiply_tile(a, a_start, a_row, a_column, rows, b, b_start, b_row, depth, c, c_start, c_row, add):
    """C[i, j] (+)= sum over k < depth of A[i, k] B[k, j] for one tile of TILE_ROWS x tile_columns.

    All arrays are flat: A has any strides, the columns of B and C lie next to each other. A has only ``rows`` rows,
    1 to TILE_ROWS: the last one stands in for those that are missing, so C needs room for a whole tile. ``add`` = 0
    overwrites C.
    """
    columns = tile_columns(c.itemsize)
    index_a = np.minimum(np.arange(TILE_ROWS), rows - 1)[:, None] * a_row + np.arange(depth) * a_column
    index_b = np.arange(depth)[:, None] * b_row + np.arange(columns)
    product = a[a_start + index_a] @ b[b_start + index_b]
    for i in range(TILE_ROWS):
        row = c[c_start + i * c_row : c_start + i * c_row + columns]
        row[:] = row + product[i] if add else product[i]


@intrinsic
def _compiled_multiply_tile(
    typing_context: Any,
    a: Any,
    a_start: Any,
    a_row: Any,
    a_column: Any,
    rows: Any,
    b: Any,
    b_start: Any,
    b_row: Any,
    depth: Any,
    c: Any,
    c_start: Any,
    c_row: Any,
    add: Any,
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        array_a, a_start, a_row, a_column, rows, array_b, b_start, b_row, depth, array_c, c_start, c_row, add = (
            arguments
        )
        element = context.get_value_type(signature.args[0].dtype)
        lanes = _VECTOR_BYTES // (signature.args[0].dtype.bitwidth // 8)
        align = signature.args[0].dtype.bitwidth // 8
        vector = ir.VectorType(element, lanes)
        word = ir.IntType(64)

        def address(array_type: Any, value: Any, start: Any) -> Any:
            return builder.gep(context.make_array(array_type)(context, builder, value).data, [start])

        def load_vector(pointer: Any) -> Any:
            return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)

        def broadcast(scalar: Any) -> Any:
            undefined = ir.Constant(vector, ir.Undefined)
            lane = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(
                lane, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            )

        suffix = f"v{lanes}f{signature.args[0].dtype.bitwidth}"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.{suffix}"
        )
        pointer_a = address(signature.args[0], array_a, a_start)
        pointer_b = address(signature.args[5], array_b, b_start)
        pointer_c = address(signature.args[9], array_c, c_start)
        last = builder.sub(rows, word(1))
        rows_a = []
        for i in range(TILE_ROWS):
            row = builder.select(builder.icmp_signed("<", last, word(i)), last, word(i))
            rows_a.append(builder.gep(pointer_a, [builder.mul(row, a_row)]))

        before = builder.basic_block
        loop = builder.append_basic_block("depth")
        after = builder.append_basic_block("depth.end")
        zero = ir.Constant(vector, [0.0] * lanes)
        builder.cbranch(builder.icmp_signed(">", depth, word(0)), loop, after)
        builder.position_at_end(loop)
        k = builder.phi(word)
        k.add_incoming(word(0), before)
        sums = [[builder.phi(vector) for _ in range(_VECTORS)] for _ in range(TILE_ROWS)]
        column_a = builder.mul(k, a_column)
        base_b = builder.gep(pointer_b, [builder.mul(k, b_row)])
        row_b = [load_vector(builder.gep(base_b, [word(v * lanes)])) for v in range(_VECTORS)]
        updated = []
        for i in range(TILE_ROWS):
            factor = broadcast(builder.load(builder.gep(rows_a[i], [column_a])))
            updated.append([builder.call(fma, [factor, row_b[v], sums[i][v]]) for v in range(_VECTORS)])
        following = builder.add(k, word(1))
        k.add_incoming(following, loop)
        for i in range(TILE_ROWS):
            for v in range(_VECTORS):
                sums[i][v].add_incoming(zero, before)
                sums[i][v].add_incoming(updated[i][v], loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        totals = [[builder.phi(vector) for _ in range(_VECTORS)] for _ in range(TILE_ROWS)]
        for i in range(TILE_ROWS):
            for v in range(_VECTORS):
                totals[i][v].add_incoming(zero, before)
                totals[i][v].add_incoming(updated[i][v], loop)
        adding = builder.icmp_signed("!=", add, word(0))
        for i in range(TILE_ROWS):
            row_c = builder.gep(pointer_c, [builder.mul(c_row, word(i))])
            for v in range(_VECTORS):
                target = builder.gep(row_c, [word(v * lanes)])
                total = totals[i][v]
                with builder.if_else(adding) as (then, otherwise):
                    with then:
                        sum_ = builder.fadd(load_vector(target), total)
                        end_then = builder.basic_block
                    with otherwise:
                        end_otherwise = builder.basic_block
                result = builder.phi(vector)
                result.add_incoming(sum_, end_then)
                result.add_incoming(total, end_otherwise)
                builder.store(result, builder.bitcast(target, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    word = types.int64
    return types.void(a, word, word, word, word, b, word, word, word, c, word, word, word), codegen


multiply_tile = _define_multiply_tile if config.DISABLE_JIT else _compiled_multiply_tile
