"""Which lane of a warp holds which element of a matrix that tensor cores multiply, and how tiles lie in shared memory.

Plain functions of integers, for kernels, their simulator and tests alike. The first ones are the layouts of PTX for
``mma.sync`` of shape m16n8k8 with TF32 operands, ``row.col``, and of ``ldmatrix``. They are written in shifts and
masks, which kernels can have of signed numbers without a division.
"""

from __future__ import annotations

__all__ = [
    "BK",
    "LANES",
    "a_of_lane",
    "b_of_lane",
    "c_of_lane",
    "place_in_a",
    "place_in_b",
    "row_of_matrix",
    "slot_in_pair",
]

LANES = 32
# Steps of the reduction that a tile in shared memory holds: a row of A is 64 bytes, as its swizzle wants it.
BK = 16


def a_of_lane(lane, register):
    """Row and column, in the 16 x 8 of A, of what register 0 .. 3 of a lane holds."""
    return (lane >> 2) + 8 * (register & 1), (lane & 3) + 4 * (register >> 1)


def b_of_lane(lane, register):
    """Row and column, in the 8 x 8 of B, of what register 0 or 1 of a lane holds."""
    return (lane & 3) + 4 * register, lane >> 2


def c_of_lane(lane, register):
    """Row and column, in the 16 x 8 of C, of what register 0 .. 3 of a lane holds."""
    return (lane >> 2) + 8 * (register >> 1), 2 * (lane & 3) + (register & 1)


def row_of_matrix(lane):
    """Row and first column of the 16 bytes that a lane points ``ldmatrix.x4`` at, in a 16 x 8 of A.

    ``ldmatrix`` takes the addresses of the rows of four 8 x 4 matrices of words from lanes 0-7, 8-15, ... and gives
    word ``lane % 4`` of row ``lane // 4`` of each; in this order these are the four registers of :func:`a_of_lane`.
    """
    return lane & 15, 4 * (lane >> 4)


def slot_in_pair(member, value):
    """The slot of 16, in m16n8k16, for value 0 .. 3 of member ``lane % 4``, where bf16 pairs are made of words.

    Registers hold steps 2 member, 2 member + 1, 2 member + 8 and 2 member + 9 there, while :func:`a_of_lane` twice, for
    steps 0-7 and 8-15, gives a lane the steps member, member + 4, member + 8 and member + 12. A sum does not care which
    of its terms comes in which slot, as long as A and B agree: both are packed from these.
    """
    return 2 * member + (value & 1) + 8 * (value >> 1)


def place_in_a(row, step):
    """Where element (row, step) of A's tile, rows of BK words, lies.

    The four runs of 16 bytes of a row change places from one pair of rows to the next, so that the eight rows that
    ``ldmatrix`` reads at a time lie in all 32 banks, and 16 bytes stay together.
    """
    return row * BK + ((((step >> 2) ^ (row >> 1)) & 3) << 2) + (step & 3)


def place_in_b(step, column, width):
    """Where element (step, column) of B's tile, rows of ``width`` words, a multiple of 32, lies.

    Runs of eight words change places from one step to the next, so that the 4 steps x 8 columns that the lanes of a
    warp read at a time lie in all 32 banks.
    """
    return step * width + (column ^ ((step & 3) << 3))
