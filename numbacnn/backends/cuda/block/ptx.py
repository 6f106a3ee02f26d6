"""Instructions that Numba has no name for: tensor cores, asynchronous copies, 16 bytes at a time.

The only file with inline assembly. All take elements by memory and index, as kernels do elsewhere; in the simulator
``runtime/simulated_ptx.py`` has the same functions.

- ``mma_tf32(a0, ..., a3, b0, b1, c0, ..., c3)``: C + A B of 16 x 8 by 8 x 8, by all lanes of a warp together, each with
  its share of the elements (``fragments.py``), as (d0, ..., d3). Of the floats of A and B the lowest 13 bits are not
  looked at: ``round_tf32(x)`` rounds to the nearest of the others first, halves away from zero;
- ``mma_bf16(a0, ..., a3, b0, b1, c0, ..., c3)``: the same of 16 x 16 by 16 x 8, whose a and b are pairs of bf16 in a
  word; ``pack_bf16(low, high)`` makes one of two floats, rounded to the nearest, halves to even;
- ``load_matrices(shared, index)``: ``ldmatrix`` of four 8 x 4 matrices of words, whose rows each lane points at;
- ``copy_word`` and ``copy_four(shared, index, memory, source, is_inside)``: begin to copy 4 or 16 bytes to shared
  memory, zeros if not ``is_inside``, and then nothing is read; ``commit_copies()`` ends a group of those that this
  thread has begun, and ``wait_for_copies(n)()`` waits until no more than its n latest groups are under way;
- ``settled(x)``: a number of 32 bits as it is, which the compiler takes for one that it knows nothing of: else it
  makes a sum of 64 bits of two of 32;
- ``load_four(memory, index)``, ``store_four(memory, index, v0, ..., v3)``: 16 bytes of shared or global memory.

What moves 16 bytes needs them at a multiple of 16 bytes. Tensor cores and copies need compute capability 8.0.

Inline assembly reaches numba-cuda by way of llvmlite. Its successor, numba-cuda-mlir, takes no llvmlite; it has
``cuda.inline_ptx`` for the same texts and constraints, so that ``_assembly`` is what would be written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..runtime.target import SIMULATED

__all__ = [
    "commit_copies",
    "copy_four",
    "copy_word",
    "load_four",
    "load_matrices",
    "mma_bf16",
    "mma_tf32",
    "pack_bf16",
    "round_tf32",
    "settled",
    "store_four",
    "wait_for_copies",
]

if SIMULATED:
    from ..runtime.simulated_ptx import (
        commit_copies,
        copy_four,
        copy_word,
        load_four,
        load_matrices,
        mma_bf16,
        mma_tf32,
        pack_bf16,
        round_tf32,
        settled,
        store_four,
        wait_for_copies,
    )
else:
    from llvmlite import ir

    from ..runtime.target import intrinsic, types

    INDEX, WORD, FLOAT, NOTHING = ir.IntType(64), ir.IntType(32), ir.FloatType(), ir.VoidType()
    FOUR = ir.VectorType(FLOAT, 4)
    SHARED, GLOBAL = 3, 1
    ORDERED = "~{memory}"

    def _assembly(
        builder: ir.IRBuilder, text: str, constraints: str, result: ir.Type, operands: Sequence[ir.Value]
    ) -> ir.Value:
        """A call of the instruction, which stays where it is among others and under no condition of its own."""
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        call = builder.call(ir.InlineAsm(kind, text, constraints, side_effect=True), operands)
        call.attributes.add("convergent")
        return call

    def _place(
        context: Any, builder: ir.IRBuilder, kind: Any, memory: ir.Value, index_kind: Any, index: ir.Value
    ) -> Any:
        """Pointer to an element of memory, a raw pointer or an array."""
        if index.type != INDEX:
            index = builder.sext(index, INDEX) if index_kind.signed else builder.zext(index, INDEX)
        first = memory if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, memory).data
        return builder.gep(first, [index])

    def _address(builder: ir.IRBuilder, place: ir.Value, space: int) -> ir.Value:
        """A pointer's number in shared or global memory."""
        within = builder.addrspacecast(place, ir.PointerType(place.type.pointee, space), "addrspacecast")
        return builder.ptrtoint(within, WORD if space == SHARED else INDEX)

    def _tuple_of(context: Any, builder: ir.IRBuilder, kind: Any, values: Sequence[ir.Value]) -> ir.Value:
        return context.make_tuple(builder, kind, values)

    F4 = types.UniTuple(types.float32, 4)

    def _mma(text: str, operand: Any) -> Callable[..., Any]:
        @intrinsic
        def mma(typing, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
            def generate(context, builder, signature, arguments):
                words = [builder.bitcast(value, WORD) for value in arguments[:6]]
                result = _assembly(
                    builder,
                    text + " {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
                    "=f,=f,=f,=f,r,r,r,r,r,r,0,1,2,3",
                    ir.LiteralStructType([FLOAT] * 4),
                    [*words, *arguments[6:]],
                )
                return _tuple_of(context, builder, F4, [builder.extract_value(result, k) for k in range(4)])

            return F4(*[operand] * 6, *[types.float32] * 4), generate

        return mma

    mma_tf32 = _mma("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", types.float32)
    mma_bf16 = _mma("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", types.int32)

    @intrinsic
    def round_tf32(typing, x):
        def generate(context, builder, signature, arguments):
            bits = _assembly(builder, "cvt.rna.tf32.f32 $0, $1;", "=r,f", WORD, arguments)
            return builder.bitcast(bits, FLOAT)

        return types.float32(types.float32), generate

    @intrinsic
    def settled(typing, x):
        def generate(context, builder, signature, arguments):
            return builder.call(ir.InlineAsm(ir.FunctionType(WORD, [WORD]), "", "=r,0"), arguments)

        return types.int32(types.int32), generate

    @intrinsic
    def pack_bf16(typing, low, high):
        def generate(context, builder, signature, arguments):
            return _assembly(builder, "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", WORD, arguments)

        return types.int32(types.float32, types.float32), generate

    @intrinsic
    def load_matrices(typing, shared, index):
        def generate(context, builder, signature, arguments):
            place = _place(context, builder, shared, arguments[0], index, arguments[1])
            result = _assembly(
                builder,
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];",
                f"=r,=r,=r,=r,r,{ORDERED}",
                ir.LiteralStructType([WORD] * 4),
                [_address(builder, place, SHARED)],
            )
            words = [builder.bitcast(builder.extract_value(result, k), FLOAT) for k in range(4)]
            return _tuple_of(context, builder, F4, words)

        return F4(shared, index), generate

    def _copy(text: str, size: int) -> Callable[..., Any]:
        @intrinsic
        def copy(typing, shared, index, memory, source, is_inside):
            def generate(context, builder, signature, arguments):
                target = _place(context, builder, shared, arguments[0], index, arguments[1])
                place = _place(context, builder, memory, arguments[2], source, arguments[3])
                inside = context.cast(builder, arguments[4], is_inside, types.boolean)
                count = builder.select(inside, ir.Constant(WORD, size), ir.Constant(WORD, 0))
                operands = [_address(builder, target, SHARED), _address(builder, place, GLOBAL), count]
                _assembly(builder, f"{text} [$0], [$1], {size}, $2;", f"r,l,r,{ORDERED}", NOTHING, operands)
                return context.get_dummy_value()

            return types.void(shared, index, memory, source, is_inside), generate

        return copy

    copy_word = _copy("cp.async.ca.shared.global", 4)
    copy_four = _copy("cp.async.cg.shared.global", 16)

    def _plain(text: str) -> Callable[..., Any]:
        @intrinsic
        def instruction(typing):
            def generate(context, builder, signature, arguments):
                _assembly(builder, text, ORDERED, NOTHING, [])
                return context.get_dummy_value()

            return types.void(), generate

        return instruction

    commit_copies = _plain("cp.async.commit_group;")

    def wait_for_copies(groups: int) -> Callable[..., Any]:
        return _plain(f"cp.async.wait_group {groups};")

    @intrinsic
    def load_four(typing, memory, index):
        def generate(context, builder, signature, arguments):
            place = _place(context, builder, memory, arguments[0], index, arguments[1])
            loaded = builder.load(builder.bitcast(place, FOUR.as_pointer()), align=16)
            values = [builder.extract_element(loaded, ir.Constant(WORD, k)) for k in range(4)]
            return _tuple_of(context, builder, F4, values)

        return F4(memory, index), generate

    @intrinsic
    def store_four(typing, memory, index, v0, v1, v2, v3):
        def generate(context, builder, signature, arguments):
            place = _place(context, builder, memory, arguments[0], index, arguments[1])
            together = ir.Constant(FOUR, ir.Undefined)
            for k, value in enumerate(arguments[2:]):
                together = builder.insert_element(together, value, ir.Constant(WORD, k))
            builder.store(together, builder.bitcast(place, FOUR.as_pointer()), align=16)
            return context.get_dummy_value()

        return types.void(memory, index, *[types.float32] * 4), generate
