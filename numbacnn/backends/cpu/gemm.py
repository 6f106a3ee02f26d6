"""The matrix product of the CPU backend, with one order of summation whatever the number of threads.

BLAS libraries change the order in which they sum with the number of threads, and so the last bits of the result; and
their threads wait in loops while ours run. Each element of C is summed here by one thread, in steps of DEPTH.

roofline: 2 m n k operations; from memory m k + k n + m n elements, once each where a block of A and B fits in L2
(DEPTH x (BLOCK_ROWS + tile) elements).
reached (bench.kernels): 55 % of the peak at 1024^3, the rest is the copying of B's panels; 12 % in LeNet's linear
layer 256 x 400 x 120, whose 25 million operations take as long as starting the threads and adding the bias.
"""

from __future__ import annotations

import numpy as np

from .jit import function, kernel
from .memory import empty
from .simd import lanes_of
from .tiles import TILES, multiply

__all__ = ["TILE", "matmul", "multiply_block"]

DEPTH = 256
# Rows of B farther apart than this fall into the same few cache sets and each on a page of its own: worth a copy.
FARTHEST_ROW = 1024
BLOCK_ROWS = 96
BLOCK_COLUMNS = 256
TILE = TILES[1]
ROWS, VECTORS = TILE.rows, TILE.vectors


@function
def multiply_block(
    tile, a, a_start, a_row, a_column, b, b_start, b_row, b_column, c, c_start, c_row, rows, columns, depth, add
):
    """C (rows x columns) = or, with ``add``, += A (rows x depth) B (depth x columns), by the calling thread alone.

    ``tile`` is TILE's routine. All arrays are flat; A and B have any strides, rows of C are ``c_row`` apart.

    Loop order: depth in steps of DEPTH, then panels of a tile's width of B, then tiles down C, so that a panel of B
    (DEPTH x width) stays in L1 while A passes from L2. A panel is copied only if its columns do not lie next to each
    other or are fewer than the tile's, or its rows lie too far apart.
    """
    width = VECTORS * lanes_of(c.itemsize)
    panel = np.empty(min(depth, DEPTH) * width, c.dtype)
    edge = np.empty(ROWS * width, c.dtype)
    # The last row of A stands in for those that a tile at the end lacks.
    row_at = np.empty((rows + ROWS - 1) // ROWS * ROWS, np.int64)
    for i in range(row_at.size):
        row_at[i] = a_start + min(i, rows - 1) * a_row
    step = np.empty(depth, np.int64)
    for k in range(depth):
        step[k] = k * a_column
    row_of_b, row_of_panel = np.empty(DEPTH, np.int64), np.empty(DEPTH, np.int64)
    for k in range(min(depth, DEPTH)):
        row_of_b[k], row_of_panel[k] = k * b_row, k * width
    if depth == 0 and add == 0:
        for i in range(rows):
            c[c_start + i * c_row : c_start + i * c_row + columns] = 0
    for first in range(0, depth, DEPTH):
        size = min(DEPTH, depth - first)
        adding = 1 if (add != 0 or first > 0) else 0
        for column in range(0, columns, width):
            width_here = min(width, columns - column)
            in_place = b_column == 1 and width_here == width and b_row <= FARTHEST_ROW
            at_b, row_at_b = b_start + first * b_row + column * b_column, row_of_b
            if not in_place:
                for k in range(size):
                    for j in range(width_here):
                        # Unsigned indices, for the reason that rows.py gives.
                        panel[np.uintp(k * width + j)] = b[np.uintp(at_b + k * b_row + j * b_column)]
                    for j in range(width_here, width):
                        panel[k * width + j] = 0
                at_b, row_at_b = 0, row_of_panel
            for row in range(0, rows, ROWS):
                rows_here, at_c = min(ROWS, rows - row), c_start + row * c_row + column
                whole = rows_here == ROWS and width_here == width
                target, at_target, target_row, add_to_target = (
                    (c, at_c, c_row, adding) if whole else (edge, 0, width, 0)
                )
                source = b if in_place else panel
                multiply(
                    tile,
                    a,
                    0,
                    row_at,
                    row,
                    step,
                    first,
                    size,
                    source,
                    at_b,
                    row_at_b,
                    0,
                    target,
                    at_target,
                    target_row,
                    add_to_target,
                )
                if not whole:
                    for i in range(rows_here):
                        for j in range(width_here):
                            value = edge[i * width + j]
                            c[at_c + i * c_row + j] = c[at_c + i * c_row + j] + value if adding else value


@kernel
def _matmul_blocks(chunk, tile, a, a_row, a_column, b, b_row, b_column, c, rows, columns, depth, block_columns):
    """A chunk is one block of C: all blocks of a column of blocks after each other."""
    down = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    row, column = chunk % down * BLOCK_ROWS, chunk // down * block_columns
    multiply_block(
        tile,
        a,
        row * a_row,
        a_row,
        a_column,
        b,
        column * b_column,
        b_row,
        b_column,
        c,
        row * columns + column,
        columns,
        min(BLOCK_ROWS, rows - row),
        min(block_columns, columns - column),
        depth,
        0,
    )


def matmul(a: np.ndarray, b: np.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> np.ndarray:
    """A (m, k) times B (k, n), C-contiguous; a transposed operand is given as it lies, (k, m) or (n, k)."""
    rows, depth = a.shape[::-1] if transpose_a else a.shape
    columns = b.shape[0] if transpose_b else b.shape[1]
    c = empty((rows, columns), a.dtype)
    a_row, a_column = (1, rows) if transpose_a else (depth, 1)
    b_row, b_column = (1, depth) if transpose_b else (columns, 1)
    # A small product is cut into narrower blocks, so that more than a few threads have one.
    block_columns = BLOCK_COLUMNS if columns >= 8 * BLOCK_COLUMNS else BLOCK_COLUMNS // 4
    blocks = -(-rows // BLOCK_ROWS) * -(-columns // block_columns)
    _matmul_blocks(
        blocks,
        TILE.routine,
        a.ravel(),
        a_row,
        a_column,
        b.ravel(),
        b_row,
        b_column,
        c.ravel(),
        rows,
        columns,
        depth,
        block_columns,
    )
    return c
