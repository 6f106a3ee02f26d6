"""The register tiles and the transposition, of every width of vectors, against their definitions in plain Python."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu import simd, tiles

WIDTHS = (16, 32, 64)
# Narrower vectors run on every machine, and wider ones in parts.
pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.parametrize("dtype", [np.float32, np.float64]),
    pytest.mark.parametrize("size", WIDTHS),
]


@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 2), (2, 4), (8, 3)])
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("length", [2, 7, 100])
def test_gathering_tile(dtype, size, rows, columns, add, length):
    tile = tiles.gathering_tile(rows, columns, size)

    @numba.njit
    def run(tile, source, row_at, step, depth, length, b, b_at, c, c_row, add):
        tiles.multiply(tile, source, 0, row_at, 1, step, 2, depth, length, b, 3, b_at, 5, c, 4, c_row, add)

    rng = np.random.default_rng(rows * columns)
    depth, width = 7, columns * size // np.dtype(dtype).itemsize
    source = rng.standard_normal(100).astype(dtype)
    row_at, step = rng.integers(0, 50, rows + 1), rng.integers(0, 50, depth + 2)
    b_at = rng.integers(0, 30, depth + 5)
    b = rng.standard_normal(3 + 30 + width).astype(dtype)
    c = rng.standard_normal(4 + rows * (width + 2)).astype(dtype)
    expected = c.copy()
    tile.definition(source, 0, row_at, 1, step, 2, depth, length, b, 3, b_at, 5, expected, 4, width + 2, add)
    run(tile.address(np.dtype(dtype)), source, row_at, step, depth, length, b, b_at, c, width + 2, add)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("rows, columns, count", [(1, 1, 1), (3, 2, 2), (4, 6, 99)])
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("length", [2, 7, 100])
def test_dot_tile(dtype, size, rows, columns, count, add, length):
    tile = tiles.dot_tile(rows, columns, size)
    _, total_of = simd.lane_sums(size)

    @numba.njit
    def run(tile, a, a_at, a_step, b, b_at, b_step, depth, length, count, c, c_row, add, total):
        tiles.multiply_dot(
            tile, a, 0, a_at, 1, a_step, 2, b, 0, b_at, 3, b_step, 4, depth, length, count, c, 5, c_row, add
        )
        total[0] = total_of(c, 5)

    rng = np.random.default_rng(count)
    depth, lanes = 7, size // np.dtype(dtype).itemsize
    # Of the vectors that begin last, only the first ``count`` lanes are there.
    a, b = (rng.standard_normal(40 + min(count, lanes)).astype(dtype) for _ in range(2))
    a_at, a_step, b_at, b_step = (rng.integers(0, 21, n) for n in (rows + 1, depth + 2, columns + 3, depth + 4))
    c = rng.standard_normal(5 + rows * (columns * lanes + 1)).astype(dtype)
    expected, total = c.copy(), np.zeros(1, dtype)
    row = columns * lanes + 1
    tile.definition(a, 0, a_at, 1, a_step, 2, b, 0, b_at, 3, b_step, 4, depth, length, count, expected, 5, row, add)
    run(tile.address(np.dtype(dtype)), a, a_at, a_step, b, b_at, b_step, depth, length, count, c, row, add, total)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance)
    assert abs(total[0] - expected[5 : 5 + lanes].sum()) < tolerance


def test_transposition(dtype, size):
    turn = tiles.transposition(size)

    @numba.njit
    def run(turn, source, source_row, target, target_row):
        tiles.transpose_block(turn, source, 2, source_row, target, 3, target_row)

    lanes = size // np.dtype(dtype).itemsize
    source = np.random.default_rng(0).standard_normal(2 + lanes * (lanes + 1)).astype(dtype)
    target = np.zeros(3 + lanes * (lanes + 2), dtype)
    expected = target.copy()
    turn.definition(source, 2, lanes + 1, expected, 3, lanes + 2)
    run(turn.address(np.dtype(dtype)), source, lanes + 1, target, lanes + 2)
    assert np.array_equal(target, expected)
