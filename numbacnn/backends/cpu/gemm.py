"""The matrix product that a chunk makes by itself, of operands with any strides, for ``conv_im2col.py``.

roofline: 2 m n k operations; from memory m k + k n + m n elements, once each where a block of A and B fits in L2.
"""

from __future__ import annotations

import numpy as np

from .bands import round_up
from .jit import Scratch, function
from .simd import VECTOR_BYTES, lanes_of
from .tiles import TILES, multiply

__all__ = ["DEPTH", "TILE", "multiply_block", "scratch_of"]

DEPTH = 256
# Rows of B farther apart than this fall into the same few cache sets and each on a page of its own: worth a copy.
FARTHEST_ROW = 1024
TILE = TILES[1]
ROWS, VECTORS = TILE.rows, TILE.vectors


def scratch_of(rows: int, dtype: np.dtype) -> tuple[Scratch, Scratch]:
    """What :func:`multiply_block` takes as ``panel`` and ``places`` where A has ``rows`` rows."""
    width = VECTORS * VECTOR_BYTES // dtype.itemsize
    return Scratch((DEPTH + ROWS) * width, dtype), Scratch(3 * DEPTH + round_up(rows, ROWS), np.dtype(np.int64))


@function
def multiply_block(
    tile, panel, places, a, a_start, a_row, a_column, b, b_start, b_row, b_column, c, c_start, c_row, rows, columns,
    depth, run, add,
):  # fmt: skip
    """C (rows x columns) = or, with ``add``, += A (rows x depth) B (depth x columns), by the calling thread alone.

    ``tile`` is TILE's routine, ``panel`` and ``places`` are scratch. All arrays are flat; A and B have any strides,
    rows of C are ``c_row`` apart. At most ``run`` products are summed in registers, and the sums of the runs in C.

    Loop order: depth in steps of DEPTH, then panels of a tile's width of B, then tiles down C, so that a panel of B
    (DEPTH x width) stays in L1 while A passes from L2. A panel is copied only if its columns do not lie next to each
    other or are fewer than the tile's, or its rows lie too far apart.
    """
    width = VECTORS * lanes_of(c.itemsize)
    # Behind the panel is a tile at the edge of C; places are of A's columns, B's rows, the panel's rows, A's rows.
    edge, row_of_b, row_of_panel, row_of_a = DEPTH * width, DEPTH, 2 * DEPTH, 3 * DEPTH
    for k in range(min(depth, DEPTH)):
        places[k], places[row_of_b + k], places[row_of_panel + k] = k * a_column, k * b_row, k * width
    # The last row of A stands in for those that a tile at the end lacks.
    for i in range((rows + ROWS - 1) // ROWS * ROWS):
        places[row_of_a + i] = a_start + min(i, rows - 1) * a_row
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
                    (c, at_c, c_row, adding) if whole else (panel, edge, width, 0)
                )
                source = b if in_place else panel
                multiply(
                    tile, a, first * a_column, places, row_of_a + row, places, 0, size, run, source, at_b, places,
                    row_at_b, target, at_target, target_row, add_to_target,
                )  # fmt: skip
                if not whole:
                    for i in range(rows_here):
                        for j in range(width_here):
                            value = panel[edge + i * width + j]
                            c[at_c + i * c_row + j] = c[at_c + i * c_row + j] + value if adding else value
