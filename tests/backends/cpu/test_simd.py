"""The register tiles and the transposition, of every width of vectors, against their definitions in plain Python."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu import simd

WIDTHS = (16, 32, 64)
# Narrower vectors run on every machine, and wider ones in parts.
pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.parametrize("dtype", [np.float32, np.float64]),
    pytest.mark.parametrize("size", WIDTHS),
]


@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 2), (2, 4), (8, 3)])
@pytest.mark.parametrize("add", [0, 1])
def test_gathering_tile(dtype, size, rows, columns, add):
    definition, compiled = simd.gathering_tile(rows, columns, size)

    @numba.njit
    def run(source, row_at, step, depth, b, b_at, c, c_row, add):
        compiled(source, row_at, 1, step, 2, depth, b, 3, b_at, 5, c, 4, c_row, add)

    rng = np.random.default_rng(rows * columns)
    depth, width = 7, columns * size // np.dtype(dtype).itemsize
    source = rng.standard_normal(100).astype(dtype)
    row_at, step = rng.integers(0, 50, rows + 1), rng.integers(0, 50, depth + 2)
    b_at = rng.integers(0, 30, depth + 5)
    b = rng.standard_normal(3 + 30 + width).astype(dtype)
    c = rng.standard_normal(4 + rows * (width + 2)).astype(dtype)
    expected = c.copy()
    definition(source, row_at, 1, step, 2, depth, b, 3, b_at, 5, expected, 4, width + 2, add)
    run(source, row_at, step, depth, b, b_at, c, width + 2, add)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("rows, columns, count", [(1, 1, 1), (3, 2, 2), (4, 6, 99)])
@pytest.mark.parametrize("add", [0, 1])
def test_dot_tile(dtype, size, rows, columns, count, add):
    definition, compiled = simd.dot_tile(rows, columns, size)
    _, total_of = simd.lane_sums(size)

    @numba.njit
    def run(a, a_at, a_step, b, b_at, b_step, depth, count, c, c_row, add, total):
        compiled(a, a_at, 1, a_step, 2, b, b_at, 3, b_step, 4, depth, count, c, 5, c_row, add)
        total[0] = total_of(c, 5)

    rng = np.random.default_rng(count)
    depth, lanes = 7, size // np.dtype(dtype).itemsize
    # Of the vectors that begin last, only the first ``count`` lanes are there.
    a, b = (rng.standard_normal(40 + min(count, lanes)).astype(dtype) for _ in range(2))
    a_at, a_step, b_at, b_step = (rng.integers(0, 21, n) for n in (rows + 1, depth + 2, columns + 3, depth + 4))
    c = rng.standard_normal(5 + rows * (columns * lanes + 1)).astype(dtype)
    expected, total = c.copy(), np.zeros(1, dtype)
    definition(a, a_at, 1, a_step, 2, b, b_at, 3, b_step, 4, depth, count, expected, 5, columns * lanes + 1, add)
    run(a, a_at, a_step, b, b_at, b_step, depth, count, c, columns * lanes + 1, add, total)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance)
    assert abs(total[0] - expected[5 : 5 + lanes].sum()) < tolerance


@pytest.mark.parametrize("count", [0, 1, 5, 64, 71])
def test_run_copies(dtype, size, count):
    """Nothing before or after the run is written."""
    definition, compiled = simd.run_copies(size)
    run = numba.njit(lambda target, source, count: compiled(target, 3, source, 1, count))
    source = np.random.default_rng(count).standard_normal(1 + count).astype(dtype)
    target = np.zeros(3 + count + 40, dtype)
    expected = target.copy()
    definition(expected, 3, source, 1, count)
    run(target, source, count)
    assert np.array_equal(target, expected)


def test_transposition(dtype, size):
    definition, compiled = simd.transposition(size)

    @numba.njit
    def run(source, source_row, target, target_row):
        compiled(source, 2, source_row, target, 3, target_row)

    lanes = size // np.dtype(dtype).itemsize
    source = np.random.default_rng(0).standard_normal(2 + lanes * (lanes + 1)).astype(dtype)
    target = np.zeros(3 + lanes * (lanes + 2), dtype)
    expected = target.copy()
    definition(source, 2, lanes + 1, expected, 3, lanes + 2)
    run(source, lanes + 1, target, lanes + 2)
    assert np.array_equal(target, expected)


@pytest.mark.parametrize("count", [0, 1, 3, 99])
def test_masked_tails_and_sums(dtype, size, count):
    """The lanes beyond ``count`` are neither read nor written."""
    total_of_first = _total_of_first(size)

    @numba.njit
    def run(source, target, total, count):
        total[0] = total_of_first(source, target, count)

    lanes = size // np.dtype(dtype).itemsize
    source = np.arange(1, lanes + 1).astype(dtype)
    target, total = np.full(lanes, -1, dtype), np.zeros(1, dtype)
    run(source, target, total, count)
    assert total[0] == source[:count].sum()
    assert np.array_equal(target, np.where(np.arange(lanes) < count, source, -1))


def _total_of_first(size):
    """An intrinsic that copies ``count`` elements and adds them up."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def total_of_first(typing_context, source, target, count):
        def codegen(context, builder, signature, arguments):
            v = simd.Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            at = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in range(2)]
            mask = v.mask(arguments[2])
            values = v.load_masked(at[0], mask)
            v.store_masked(values, at[1], mask)
            return v.sum(values)

        return source.dtype(source, target, types.int64), codegen

    return total_of_first
