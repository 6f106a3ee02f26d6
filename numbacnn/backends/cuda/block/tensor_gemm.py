"""The tile product of ``gemm.py`` on tensor cores, for numbers that are rounded before they are multiplied.

A block computes a tile of C, bm x bn, and each of its warps a part of that, wm x wn, as 16 x 8 matrices whose sums stay
in its lanes' registers. The reduction is walked along BK = 16 at a time. The tiles of A and B for the next steps are on
their way to shared memory while one is multiplied, ``stages`` of them in all: each element of B by a copy of its own,
because neighbours of an image begin anywhere, A's by fours where they lie so. No register waits for a copy, and it
brings zero where there is nothing. One barrier
a step tells both that a tile is there and that another one has been read by all and may be overwritten. Tiles lie there
as ``fragments.py`` says, so that neither ``ldmatrix`` of A nor the loads of B meet in a bank.

Numbers are rounded on their way from shared memory to the tensor cores: to TF32, to a sum of two TF32 numbers, of whose
four products the smallest is left out, or to pairs of bf16. Sums are float32. Each element of C is summed by the same
lane in the same order, so that its bits are the same run after run.

roofline: 2 m n k operations. A multiprocessor of an H200 does 2048 of them in a cycle in TF32, 4096 in bf16, by
``wgmma``, and by ``mma.sync``, which this is, some 62 % of that, as published measurements of an H100 have it. A step
of the 128 x 128 tile is 2 * 128 * 128 * 16 operations for 256 * 16 numbers, 32 operations a byte, which most of all
come from caches. The multiplications of a TF32 step take 413 cycles at that rate. Its four warps issue some 500
instructions each for an image, one in a cycle on each of the four schedulers, so that the issue of instructions bounds
it, at 83 % of what ``mma.sync`` does at most; in bf16, whose multiplications are half as many, at 56 %.
``python -m bench.cuda_forecast`` counts the instructions in the machine code, and predicts; nothing here has been
measured.
"""

from __future__ import annotations

import functools

import numpy as np

from ...contract import Activation
from ...shared.activations import ACTIVATIONS
from ..runtime.device_array import DeviceArray
from ..runtime.kernel import Kernel, block_kernel
from ..runtime.target import cuda, device_function, quotient, scalar, signed, unsigned, within, word
from . import fragments, ptx
from .fragments import BK, LANES
from .gemm_plan import Tile, WarpTile
from .places import OF_A, OF_B, OF_C, Strides
from .pointwise import activate

__all__ = ["comes_in_fours", "tensor_kernel"]

_b_of_lane, _c_of_lane = device_function(fragments.b_of_lane), device_function(fragments.c_of_lane)
_row_of_matrix = device_function(fragments.row_of_matrix)
_place_in_a, _place_in_b = device_function(fragments.place_in_a), device_function(fragments.place_in_b)


@device_function
def _rounded(values):
    a, b, c, d = values
    return ptx.round_tf32(a), ptx.round_tf32(b), ptx.round_tf32(c), ptx.round_tf32(d)


@device_function
def _rest(values, rounded):
    """What rounding took away, rounded."""
    return _rounded((values[0] - rounded[0], values[1] - rounded[1], values[2] - rounded[2], values[3] - rounded[3]))


@device_function
def _mma_tf32(a, b0, b1, c):
    return ptx.mma_tf32(a[0], a[1], a[2], a[3], b0, b1, c[0], c[1], c[2], c[3])


def comes_in_fours(tile: Tile | WarpTile, a: DeviceArray, strides: Strides, k: int) -> bool:
    """Whether A lies so that all four elements from every fourth on are neighbours and begin at 16 bytes.

    The parts of a reduction do: they are multiples of that, too.
    """
    place = a.place if isinstance(a.place, int) else a.place.ctypes.data
    whole = not (place % 16 or strides.row % 4 or strides.batch % 4 or k % 4)
    return whole and strides.column == 1 and tile.threads * 4 // BK <= tile.bm


@functools.cache
def tensor_kernel(
    tile: WarpTile,
    operands: str,
    in_fours: bool,
    a_by_table: bool,
    b_kind: str,
    c_by_table: bool,
    activation: Activation,
) -> Kernel:
    """The kernel for a tile and a way to find elements; ``operands`` are ``"tf32"``, ``"tf32x3"`` or ``"bf16"``.

    ``in_fours``: A's rows are copied 16 bytes at a time, see :func:`comes_in_fours`.
    """
    bm, bn, wm, wn, stages = tile
    threads, code = tile.threads, ACTIVATIONS[activation]
    a_offset, c_offset = OF_A[a_by_table], OF_C[c_by_table]
    b_offset, b_start, b_step, b_place = OF_B[b_kind]
    warps_across, a_size, b_size = bn // wn, bm * BK, bn * BK
    # A's tiles, then B's, and in the end some rows of C, whose pitch lets the lanes of a warp meet in a bank by twos.
    all_of_a, c_pitch = stages * a_size, bn + 8
    all_tiles = max(stages * (a_size + b_size), wm * c_pitch)
    at_a_time, copy_of_a = (4, ptx.copy_four) if in_fours else (1, ptx.copy_word)
    across_a = BK // at_a_time
    a_rows_apart, b_rows_apart = threads // across_a, threads // bn
    a_loads, b_loads, swizzles = bm // a_rows_apart, BK // b_rows_apart, 4 // b_rows_apart
    accumulators, columns = wm * wn // LANES, wn // 8
    down, across, halves = unsigned(wm // 16), unsigned(columns), unsigned(2)
    all_sums, one, two, four = unsigned(accumulators), unsigned(1), unsigned(2), unsigned(4)
    arrived = ptx.wait_for_copies(stages - 2)
    real = np.float32

    @device_function
    def fetch(a, b, tiles, tables, places, targets, stage, p0, last, moves, image):
        """Begin to copy what this thread brings to the tiles of step p0."""
        a_first, rows_left, a_step, b_first, start, at = places
        a_row_stride, a_column_stride, b_row_stride = moves
        p = p0 + a_step
        is_step = within(p, last)
        place = a_first + a_offset(tables[0], a_column_stride, p if is_step else p0)
        target = stage * a_size + targets[0]
        for u in range(a_loads):
            inside = is_step & within(u * a_rows_apart, rows_left)
            copy_of_a(tiles, target + u * a_rows_apart * BK, a, place, inside)
            place += a_rows_apart * a_row_stride
        p = p0 + b_first
        steps_left = max(last - p, 0)
        for u in range(b_loads):
            inside, element = b_place(start, at, b_step(tables[1], p + u * b_rows_apart, last), b_row_stride, image)
            inside &= within(u * b_rows_apart, steps_left)
            target = all_of_a + stage * b_size + targets[1][unsigned(u % swizzles)]
            ptx.copy_word(tiles, target + u // swizzles * swizzles * b_rows_apart * bn, b, element, inside)
        ptx.commit_copies()

    @device_function
    def a_values(tiles, stage, sources, s, half):
        """This lane's share of the 16 x 8 of A in the warp's row ``s`` of them, and half of the step."""
        return ptx.load_matrices(tiles, stage * a_size + sources[0][half] + 16 * BK * s)

    @device_function
    def b_value(tiles, stage, sources, t, half, register):
        """What a register of this lane holds of the 8 x 8 of B in column ``t`` of them, and half of the step."""
        return tiles[unsigned(all_of_a + stage * b_size + sources[1][t] + (8 * half + 4 * register) * bn)]

    @device_function
    def add(sums, at, d):
        sums[at], sums[at + one], sums[at + two], sums[at + two + one] = d

    @device_function
    def sums_at(sums, at):
        return sums[at], sums[at + one], sums[at + two], sums[at + two + one]

    @device_function
    def take_tf32(tiles, stage, sources, mine, sums):
        for half in range(halves):
            for t in range(across):
                for register in range(two):
                    value = b_value(tiles, stage, sources, t, signed(half), signed(register))
                    mine[t * two + register] = ptx.round_tf32(value)
            for s in range(down):
                a = _rounded(a_values(tiles, stage, sources, signed(s), half))
                for t in range(across):
                    at = (s * across + t) * four
                    add(sums, at, _mma_tf32(a, mine[t * two], mine[t * two + one], sums_at(sums, at)))

    @device_function
    def take_tf32x3(tiles, stage, sources, mine, sums):
        for half in range(halves):
            for t in range(across):
                for register in range(two):
                    value = b_value(tiles, stage, sources, t, signed(half), signed(register))
                    rounded = ptx.round_tf32(value)
                    mine[t * four + register] = rounded
                    mine[t * four + two + register] = ptx.round_tf32(value - rounded)
            for s in range(down):
                values = a_values(tiles, stage, sources, signed(s), half)
                a = _rounded(values)
                rest = _rest(values, a)
                for t in range(across):
                    at, b = (s * across + t) * four, t * four
                    # The small ones first, which then are not lost beside the large one's.
                    c = _mma_tf32(rest, mine[b], mine[b + one], sums_at(sums, at))
                    c = _mma_tf32(a, mine[b + two], mine[b + two + one], c)
                    add(sums, at, _mma_tf32(a, mine[b], mine[b + one], c))

    @device_function
    def take_bf16(tiles, stage, sources, mine, sums):
        # Of both A and B, pairs of the words that two steps of TF32 take: see fragments.slot_in_pair.
        for t in range(across):
            for register in range(two):
                low = b_value(tiles, stage, sources, t, signed(register), 0)
                high = b_value(tiles, stage, sources, t, signed(register), 1)
                mine[t * two + register] = ptx.pack_bf16(low, high)
        for s in range(down):
            first = a_values(tiles, stage, sources, signed(s), unsigned(0))
            second = a_values(tiles, stage, sources, signed(s), one)
            a0, a1 = ptx.pack_bf16(first[0], first[2]), ptx.pack_bf16(first[1], first[3])
            a2, a3 = ptx.pack_bf16(second[0], second[2]), ptx.pack_bf16(second[1], second[3])
            for t in range(across):
                at = (s * across + t) * four
                c = sums_at(sums, at)
                b0, b1 = mine[t * two], mine[t * two + one]
                add(sums, at, ptx.mma_bf16(a0, a1, a2, a3, b0, b1, c[0], c[1], c[2], c[3]))

    take = {"tf32": take_tf32, "tf32x3": take_tf32x3, "bf16": take_bf16}[operands]
    kept, word_of_b = (4 if operands == "tf32x3" else 2) * columns, np.int32 if operands == "bf16" else np.float32

    def product(block, thread, a, b, c, bias, a_table, fixed, moving, c_table, sizes, strides, image):
        m, n, k, part, tiles_m, tiles_n, batch, has_bias = sizes
        a_row_stride, a_column_stride, a_batch, b_row_stride, b_column_stride, b_batch = strides[:6]
        c_row_stride, c_column_stride, c_batch, c_part, bias_row, bias_column, bias_batch = strides[6:]
        tiles = cuda.shared.array(all_tiles, real, alignment=16)
        sums = cuda.local.array(accumulators, real)
        mine = cuda.local.array(kept, word_of_b)
        targets_b = cuda.local.array(swizzles, np.int32)
        sources_a = cuda.local.array(2, np.int32)
        sources_b = cuda.local.array(columns, np.int32)

        rest = quotient(block, tiles_m)
        i0 = (block - rest * tiles_m) * bm
        group = quotient(rest, tiles_n)
        j0 = (rest - group * tiles_n) * bn
        split = quotient(group, batch)
        member = group - split * batch
        first = split * part
        last = min(k, first + part)

        # Columns beyond C are read as its last one, rows as zeros, and neither is stored.
        column, row, step = thread & (bn - 1), quotient(thread, across_a), (thread & (across_a - 1)) * at_a_time
        at = b_offset(fixed, b_column_stride, min(j0 + column, n - 1))
        start = ptx.settled(word(b_start(member * b_batch, at, image)))
        a_first, b_first = member * a_batch + (i0 + row) * a_row_stride, quotient(thread, bn)
        places, tables = (a_first, max(m - i0 - row, 0), step, b_first, start, at), (a_table, moving)
        moves = (a_row_stride, a_column_stride, b_row_stride)
        # Steps and rows that are a multiple of the swizzle's period apart are a constant apart in shared memory.
        for r in range(swizzles):
            targets_b[unsigned(r)] = ptx.settled(word(_place_in_b(b_first + r * b_rows_apart, column, bn)))
        targets = (_place_in_a(row, step), targets_b)
        lane, warp = thread & (LANES - 1), quotient(thread, LANES)
        my_row = quotient(warp, warps_across) * wm
        my_column = (warp & (warps_across - 1)) * wn
        down_in, across_in = _row_of_matrix(lane)
        for half in range(2):
            sources_a[unsigned(half)] = _place_in_a(my_row + down_in, 8 * half + across_in)
        down_in, across_in = _b_of_lane(lane, 0)
        for t in range(columns):
            sources_b[unsigned(t)] = _place_in_b(down_in, my_column + 8 * t + across_in, bn)
        sources = (sources_a, sources_b)
        for v in range(all_sums):
            sums[v] = scalar(c, 0)

        stage, p0 = 0, first
        for ahead in range(stages - 1):
            if first + ahead * BK < last:
                fetch(a, b, tiles, tables, places, targets, ahead, first + ahead * BK, last, moves, image)
            else:
                ptx.commit_copies()
        while p0 < last:
            arrived()
            cuda.syncthreads()
            following = p0 + (stages - 1) * BK
            if following < last:
                # The tile that the step before this one has read.
                free = stage - 1 if stage > 0 else stages - 1
                fetch(a, b, tiles, tables, places, targets, free, following, last, moves, image)
            else:
                ptx.commit_copies()
            take(tiles, stage, sources, mine, sums)
            stage = stage + 1 if stage < stages - 1 else 0
            p0 += BK

        # C by way of shared memory, as many rows at a time as a warp has: neighbouring threads store neighbours, and
        # what is done to a number stands here once and not for each of a lane's.
        column = j0 + column
        place = member * c_batch + split * c_part + c_offset(c_table, c_column_stride, min(column, n - 1))
        for rows in range(bm // wm):
            cuda.syncthreads()
            if quotient(warp, warps_across) == rows:
                for s in range(down):
                    for t in range(across):
                        for r in range(four):
                            down_in, across_in = _c_of_lane(lane, signed(r))
                            at_row, at_column = 16 * signed(s) + down_in, my_column + 8 * signed(t) + across_in
                            tiles[unsigned(at_row * c_pitch + at_column)] = sums[(s * across + t) * four + r]
            cuda.syncthreads()
            for u in range(wm // b_rows_apart):
                row = b_first + u * b_rows_apart
                value = tiles[unsigned(row * c_pitch + (thread & (bn - 1)))]
                row += i0 + rows * wm
                if row < m and column < n:
                    if has_bias:
                        value += bias[member * bias_batch + row * bias_row + column * bias_column]
                    c[place + row * c_row_stride] = activate(code, value, c)

    variant = f"{operands}-{'x'.join(map(str, tile))}-{at_a_time}-{a_by_table:d}{b_kind}{c_by_table:d}-{activation}"
    return block_kernel(threads, f"{__name__}.product-{variant}")(product)
