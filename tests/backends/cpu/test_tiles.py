"""The register tiles and the transposition, of every width of vectors, against their definitions in plain Python."""

from __future__ import annotations

import functools

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.vector import simd, tiles

WIDTHS = (16, 32, 64)
# Each is compiled once, not for every case.
gathering_tile, dot_tile = functools.cache(tiles.gathering_tile), functools.cache(tiles.dot_tile)
# Narrower vectors run on every machine, and wider ones in parts.
pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.parametrize("dtype", [np.float32, np.float64]),
    pytest.mark.parametrize("size", WIDTHS),
]


@numba.njit
def multiply(tile, source, row_at, step, depth, length, b, b_at, shift, c, c_at, count, todo):
    tiles.multiply(
        tile, source, 0, row_at, 1, step, 2, depth, length, b, 3, b_at, 5, shift, 1, c, 4, c_at, 1, count, todo
    )


@numba.njit
def multiply_gathered(tile, height, source, row_at, rows, step, depth, length, b, b_at, shift, c, c_at, count, todo):
    tiles.multiply_gathered(
        tile, height, source, 0, row_at, rows, step, 0, depth, length, b, 0, b_at, 0, shift, 0, c, 0, c_at, count, todo
    )


@numba.njit
def transpose_block(turn, source, source_row, rows, columns, target, target_row):
    tiles.transpose_block(turn, source, 2, source_row, rows, columns, target, 3, target_row)


@pytest.mark.parametrize("rows, columns, missing", [(1, 1, 1), (3, 2, 0), (3, 7, 3), (8, 3, 17)])
@pytest.mark.parametrize("todo", [0, tiles.ADD + 3 * tiles.ROUND, tiles.RELU + tiles.ROUND, tiles.ADD + tiles.RELU])
@pytest.mark.parametrize("length", [2, 7, 100])
@pytest.mark.parametrize("elementwise, ahead", [(False, 0), (True, 0), (False, 2)])
def test_gathering_tile(dtype, size, rows, columns, missing, todo, length, elementwise, ahead):
    tile = gathering_tile(rows, columns, size, elementwise, ahead)

    rng = np.random.default_rng(rows * columns)
    depth, width = 7, columns * size // np.dtype(dtype).itemsize
    # Behind the lanes that count there is nothing: what reads or writes there changes or crashes something.
    count = max(1, width - missing)
    source = rng.standard_normal(98 + (count if elementwise else 1)).astype(dtype)
    row_at, step = rng.integers(0, 50, rows + 1), rng.integers(0, 49, depth + 2)
    b_at = rng.integers(0, 30, depth + 5)
    b, shift = rng.standard_normal(3 + 29 + count).astype(dtype), rng.standard_normal(1 + count).astype(dtype)
    c, c_at = rng.standard_normal(4 + rows * (width + 2)).astype(dtype), rng.permutation(rows + 1) * 0
    c_at[1:] = rng.permutation(rows) * (width + 2)
    expected = c.copy()
    tile.definition(
        source, 0, row_at, 1, step, 2, depth, length, b, 3, b_at, 5, shift, 1, expected, 4, c_at, 1, count, todo
    )
    multiply(tile.address(np.dtype(dtype)), source, row_at, step, depth, length, b, b_at, shift, c, c_at, count, todo)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("rows", [1, 5, 50])
def test_what_is_brought_into_the_cache_changes_no_bit(dtype, size, rows):
    chosen = tiles.TILES[1].for_rows(rows, 1 << 30)
    assert (chosen is not tiles.TILES[1].microkernel) == (rows <= tiles.MAX_STREAMED_ROUNDS * tiles.TILES[1].rows)
    assert tiles.TILES[1].for_rows(rows, 1 << 10) is tiles.TILES[1].microkernel
    height, depth = tiles.TILES[1].rows, 9
    padded = -(-rows // height) * height

    rng = np.random.default_rng(rows)
    width = 2 * simd.VECTOR_BYTES // np.dtype(dtype).itemsize
    source, b = (rng.standard_normal(count).astype(dtype) for count in (padded * depth, depth * width))
    results = []
    for microkernel in (tiles.TILES[1].microkernel, chosen):
        c = np.zeros(padded * width, dtype)
        multiply_gathered(
            microkernel.address(np.dtype(dtype)), height, source, np.arange(padded) * depth, rows, np.arange(depth),
            depth, depth, b, np.arange(depth) * width, np.zeros(width, dtype), c, np.arange(padded) * width, width, 0,
        )  # fmt: skip
        results.append(c)
    assert results[0].any()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("todo", [0, tiles.ADD])
def test_rows_of_a_tile_may_be_one_row(dtype, size, todo):
    """Which is how the last tile has fewer rows than it could."""
    tile = gathering_tile(3, 1, size)

    lanes = size // np.dtype(dtype).itemsize
    source, b, c = np.arange(5).astype(dtype), np.ones((5, lanes), dtype), np.ones((2, lanes), dtype)
    table, b_at = np.array([0, 0, 0]), np.arange(5) * lanes
    multiply_gathered(
        tile.address(np.dtype(dtype)), 3, source, table, 3, np.arange(5), 5, 2, b.ravel(), b_at,
        np.zeros(lanes, dtype), c.reshape(-1), np.array([0, lanes, lanes]), lanes, todo,
    )  # fmt: skip
    assert (c == 10 + (1 if todo else 0)).all()


@functools.cache
def dot_products(size):
    """Compiled, of vectors of ``size`` bytes: a tile of products and the total of its first vector."""
    _, total_of = simd.lane_sums(size)

    @numba.njit
    def run(tile, a, a_at, a_step, b, b_at, b_step, depth, length, count, c, c_row, add, total):
        tiles.multiply_dot(
            tile, a, 0, a_at, 1, a_step, 2, b, 0, b_at, 3, b_step, 4, depth, length, count, c, 5, c_row, add
        )
        total[0] = total_of(c, 5)

    return run


@pytest.mark.parametrize("rows, columns, count", [(1, 1, 1), (3, 2, 2), (4, 6, 99)])
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("length", [2, 7, 100])
def test_dot_tile(dtype, size, rows, columns, count, add, length):
    tile = dot_tile(rows, columns, size)

    rng = np.random.default_rng(count)
    depth, lanes = 7, size // np.dtype(dtype).itemsize
    # Of the vectors that begin last, only the first ``count`` lanes are there.
    a, b = (rng.standard_normal(40 + min(count, lanes)).astype(dtype) for _ in range(2))
    a_at, a_step, b_at, b_step = (rng.integers(0, 21, n) for n in (rows + 1, depth + 2, columns + 3, depth + 4))
    c = rng.standard_normal(5 + rows * (columns * lanes + 1)).astype(dtype)
    expected, total = c.copy(), np.zeros(1, dtype)
    row = columns * lanes + 1
    tile.definition(a, 0, a_at, 1, a_step, 2, b, 0, b_at, 3, b_step, 4, depth, length, count, expected, 5, row, add)
    run = dot_products(size)
    run(tile.address(np.dtype(dtype)), a, a_at, a_step, b, b_at, b_step, depth, length, count, c, row, add, total)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance)
    assert abs(total[0] - expected[5 : 5 + lanes].sum()) < tolerance


@pytest.mark.parametrize("missing_rows, missing_columns", [(0, 0), (1, 0), (0, 1), (1, 1), (99, 99)])
def test_transposition(dtype, size, missing_rows, missing_columns):
    turn = tiles.transposition(size)

    lanes = size // np.dtype(dtype).itemsize
    rows, columns = max(1, lanes - missing_rows), max(1, lanes - missing_columns)
    source = np.random.default_rng(0).standard_normal(2 + (rows - 1) * (lanes + 1) + columns).astype(dtype)
    target = np.zeros(3 + columns * (lanes + 2), dtype)
    expected = target.copy()
    turn.definition(source, 2, lanes + 1, rows, columns, expected, 3, lanes + 2)
    transpose_block(turn.address(np.dtype(dtype)), source, lanes + 1, rows, columns, target, lanes + 2)
    assert np.array_equal(target, expected)
