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
    def run(source, row_at, step, depth, b, b_row, c, c_row, add):
        compiled(source, row_at, 1, step, 2, depth, b, 3, b_row, c, 4, c_row, add)

    rng = np.random.default_rng(rows * columns)
    depth, width = 7, columns * size // np.dtype(dtype).itemsize
    source = rng.standard_normal(100).astype(dtype)
    row_at, step = rng.integers(0, 50, rows + 1), rng.integers(0, 50, depth + 2)
    b = rng.standard_normal(3 + depth * (width + 1)).astype(dtype)
    c = rng.standard_normal(4 + rows * (width + 2)).astype(dtype)
    expected = c.copy()
    definition(source, row_at, 1, step, 2, depth, b, 3, width + 1, expected, 4, width + 2, add)
    run(source, row_at, step, depth, b, width + 1, c, width + 2, add)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)


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
            values = v.load_first(at[0], arguments[2])
            v.store_first(values, at[1], arguments[2])
            return v.sum(values)

        return source.dtype(source, target, types.int64), codegen

    return total_of_first
