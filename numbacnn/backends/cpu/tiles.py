"""Loops over register tiles: products of gathered rows with packed vectors, and transposition, of any size."""

from __future__ import annotations

from .jit import function
from .simd import TILES, VECTOR_BYTES, lanes_of, transpose_block

__all__ = ["RATES", "ROWS", "choose_vectors", "multiply_gathered", "transpose"]

ROWS = tuple(tile.rows for tile in TILES)

_by_1, _by_2 = TILES[0].multiply, TILES[1].multiply
# Where registers are few there are no wider tiles, and nothing asks for them.
_by_3, _by_4 = (TILES[min(columns, len(TILES)) - 1].multiply for columns in (3, 4))
# Multiply-adds a cycle of each tile, beside those of the largest: a narrow one needs more broadcasts for each.
RATES = (0.8, 0.93, 1.0, 1.0)


def choose_vectors(outputs: int, itemsize: int) -> int:
    """Vectors of the tile that ``outputs`` sums side by side are computed by in the shortest time."""
    needed = -(-outputs // (VECTOR_BYTES // itemsize))
    return min(range(1, len(TILES) + 1), key=lambda width: (-(-needed // width) * width / RATES[width - 1], width))


@function
def multiply_gathered(
    vectors, source, row_at, rows, step, first, depth, b, b_start, b_at, b_first, c, c_start, c_row, add
):
    """C[i] (+)= sum over k < depth of source[row_at[i] + step[first + k]] B[k] for i < ``rows``.

    C and B are ``vectors`` vectors wide, B[k] begins at b[b_start + b_at[b_first + k]]. Rows are computed a tile at a
    time: ``row_at`` and C have some for all of the last tile.
    """
    height = ROWS[vectors - 1]
    for row in range(0, rows, height):
        at = c_start + row * c_row
        if vectors == 1:
            _by_1(source, row_at, row, step, first, depth, b, b_start, b_at, b_first, c, at, c_row, add)
        elif vectors == 2:
            _by_2(source, row_at, row, step, first, depth, b, b_start, b_at, b_first, c, at, c_row, add)
        elif vectors == 3:
            _by_3(source, row_at, row, step, first, depth, b, b_start, b_at, b_first, c, at, c_row, add)
        else:
            _by_4(source, row_at, row, step, first, depth, b, b_start, b_at, b_first, c, at, c_row, add)


@function
def transpose(source, source_start, source_row, rows, columns, target, target_start, target_row):
    """target[j, i] = source[i, j] for i < ``rows``, j < ``columns``; both flat, rows that far apart."""
    lanes = lanes_of(source.itemsize)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            at_source = source_start + i * source_row + j
            at_target = target_start + j * target_row + i
            if i + lanes <= rows and j + lanes <= columns:
                transpose_block(source, at_source, source_row, target, at_target, target_row)
            else:
                for row in range(min(lanes, rows - i)):
                    for column in range(min(lanes, columns - j)):
                        target[at_target + column * target_row + row] = source[at_source + row * source_row + column]
