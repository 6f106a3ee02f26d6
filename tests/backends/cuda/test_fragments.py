"""Which lane holds what, and where tiles lie in shared memory: plain functions against the definitions of PTX."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.strategies import SIMULATED

if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("neither the CUDA toolkit nor the simulator", allow_module_level=True)

from numbacnn.backends.cuda.block import fragments as f
from numbacnn.backends.cuda.block.gemm_plan import WARP_RATES, WarpTile

LANES, BANKS = range(32), 32
TILES = pytest.mark.parametrize("tile", WARP_RATES, ids=lambda tile: "x".join(map(str, tile)))

# PTX ISA, "Matrix Fragments for mma.m16n8k8", .tf32: with groupID = laneid >> 2 and threadID_in_group = laneid % 4,
#   A: row = groupID for a0 and a2, groupID + 8 for a1 and a3; col = threadID_in_group for a0 and a1, + 4 for a2 and a3
#   B: row = threadID_in_group for b0, + 4 for b1; col = groupID
#   C: row = groupID for c0 and c1, groupID + 8 for c2 and c3; col = threadID_in_group * 2 + (i & 1)
A = {0: (0, 0), 1: (8, 0), 2: (0, 4), 3: (8, 4)}
B = {0: (0, 0), 1: (4, 0)}
C = {0: (0, 0), 1: (0, 1), 2: (8, 0), 3: (8, 1)}
# The corners of its figures.
CORNERS = {
    "a": {(0, 0): (0, 0), (3, 0): (0, 3), (0, 2): (0, 4), (4, 0): (1, 0), (28, 1): (15, 0), (31, 3): (15, 7)},
    "b": {(0, 0): (0, 0), (3, 0): (3, 0), (0, 1): (4, 0), (4, 0): (0, 1), (31, 1): (7, 7)},
    "c": {(0, 0): (0, 0), (0, 1): (0, 1), (3, 1): (0, 7), (4, 0): (1, 0), (0, 2): (8, 0), (31, 3): (15, 7)},
}


def test_fragments_are_those_of_ptx():
    for lane in LANES:
        group, member = lane >> 2, lane % 4
        for register, (down, across) in A.items():
            assert f.a_of_lane(lane, register) == (group + down, member + across)
        for register, (down, across) in B.items():
            assert f.b_of_lane(lane, register) == (member + down, group + across)
        for register, (down, across) in C.items():
            assert f.c_of_lane(lane, register) == (group + down, 2 * member + across)
    for name, of_lane in ("a", f.a_of_lane), ("b", f.b_of_lane), ("c", f.c_of_lane):
        assert {at: of_lane(*at) for at in CORNERS[name]} == CORNERS[name]


def test_ldmatrix_brings_the_fragment_of_a():
    """PTX ISA, ldmatrix: lanes 8 i .. 8 i + 7 point at rows of matrix i, of which a lane gets word 4 group + member."""
    for lane in LANES:
        for register in range(4):
            row, first = f.row_of_matrix(8 * register + (lane >> 2))
            assert (row, first + lane % 4) == f.a_of_lane(lane, register)


def test_pairs_of_bf16_are_of_the_same_steps_in_a_and_b():
    """m16n8k16: a pair's first step is 2 member, + 8 for a2, a3 and b1; what fills it are the words of two m16n8k8."""
    of_a, of_b = {}, {}
    for lane in LANES:
        member = lane % 4
        for half in range(2):
            for register in range(4):
                step = f.a_of_lane(lane, register)[1] + 8 * half
                of_a.setdefault(f.slot_in_pair(member, 2 * half + (register >> 1)), set()).add(step)
            for register in range(2):
                step = f.b_of_lane(lane, register)[0] + 8 * half
                of_b.setdefault(f.slot_in_pair(member, 2 * half + register), set()).add(step)
        slots = [f.slot_in_pair(member, value) for value in range(4)]
        assert slots == [2 * member, 2 * member + 1, 2 * member + 8, 2 * member + 9]
    assert of_a == of_b and sorted(of_a) == list(range(16))
    assert sorted(step for (step,) in of_a.values()) == list(range(16))


@TILES
def test_tiles_lie_in_shared_memory_once_and_in_every_bank(tile):
    bm, bn = tile.bm, tile.bn
    in_a = {f.place_in_a(row, step) for row in range(bm) for step in range(f.BK)}
    in_b = {f.place_in_b(step, column, bn) for step in range(f.BK) for column in range(bn)}
    assert (in_a, in_b) == (set(range(bm * f.BK)), set(range(f.BK * bn)))
    for row in range(0, bm, 16):
        for first in 0, 8:
            places = [f.place_in_a(row + down, first + across) for down, across in map(f.row_of_matrix, LANES)]
            assert not any(place % 4 for place in places)
            for matrix in range(4):  # the eight rows that are read at a time
                assert len({place // 4 % 8 for place in places[8 * matrix : 8 * matrix + 8]}) == 8
    for step in 0, 4, 8, 12:
        for column in range(0, bn, 8):
            read = [f.b_of_lane(lane, 0) for lane in LANES]
            banks = {f.place_in_b(step + down, column + across, bn) % BANKS for down, across in read}
            assert len(banks) == BANKS
    for first in range(0, tile.threads, 32):  # and what the lanes of a warp copy there
        threads = range(first, first + 32)
        for places in (
            [f.place_in_a(t // f.BK, t % f.BK) for t in threads],
            [f.place_in_b(t // bn, t % bn, bn) for t in threads],
        ):
            assert len({place % BANKS for place in places}) == BANKS
        fours = [f.place_in_a(t // 4, t % 4 * 4) for t in threads]
        for eight in range(0, 32, 8):  # of 16 bytes, which go there by eights
            assert len({place // 4 % 8 for place in fours[eight : eight + 8]}) == 8
    for row in range(bm):
        for step in range(f.BK):
            assert f.place_in_a(row, step) == f.place_in_a(row, step & ~3) + step % 4


@TILES
def test_what_a_thread_adds_to_its_first_place_is_constant(tile):
    """The kernel works out each place once and adds constants to it from then on."""
    bm, bn = tile.bm, tile.bn
    rows, steps = tile.threads // f.BK, tile.threads // bn  # and four times as many rows, copied by fours
    period = 4 // steps
    assert tile.threads % bn == 0 and steps * period == 4
    for t in range(tile.threads):
        row, step = divmod(t, f.BK)
        for u in range(bm // rows):
            assert f.place_in_a(row + u * rows, step) == f.place_in_a(row, step) + u * rows * f.BK
        first, column = divmod(t, bn)
        for u in range(f.BK // steps):
            base = f.place_in_b(first + u % period * steps, column, bn)
            assert f.place_in_b(first + u * steps, column, bn) == base + u // period * period * steps * bn
    for lane in LANES:
        down, across = f.row_of_matrix(lane)
        for s in range(0, bm, 16):
            assert f.place_in_a(s + down, across) == f.place_in_a(down, across) + s * f.BK
        down, across = f.b_of_lane(lane, 0)
        for step in 0, 4, 8, 12:
            for column in range(0, bn, 8):
                base = f.place_in_b(down, column + across, bn)
                assert f.place_in_b(step + down, column + across, bn) == base + step * bn


@TILES
def test_warps_share_a_tile_out(tile):
    bm, bn, wm, wn, _ = tile
    stored = np.zeros((bm, bn), int)
    for warp in range(tile.threads // 32):
        row, column = warp // (bn // wn) * wm, warp % (bn // wn) * wn
        for down in range(row, row + wm, 16):
            for across in range(column, column + wn, 8):
                for lane in LANES:
                    for register in range(4):
                        i, j = f.c_of_lane(lane, register)
                        stored[down + i, across + j] += 1
    assert (stored == 1).all()


@TILES
def test_two_tiles_fit_a_multiprocessor_of_a_hundred_kilobytes(tile):
    assert isinstance(tile, WarpTile) and tile.stages >= 3
    assert tile.shared_bytes <= 48 * 1024 and tile.threads <= 256
    assert 4 * tile.wm * (tile.bn + 8) <= tile.shared_bytes  # C goes through the same memory
