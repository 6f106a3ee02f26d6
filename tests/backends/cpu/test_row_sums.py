"""Sums down columns, means and variances, and functions of columns, of rows that lie side by side and of rows with more
than their columns.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.vector import row_maps, row_sums

pytestmark = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ROUTINES = {
    "values": row_sums.VALUES,
    "moments": row_sums.MOMENTS,
    "products": row_sums.PRODUCTS,
    "gradients": row_sums.GRADIENTS,
    "cut_products": row_sums.CUT_PRODUCTS,
}
MAPS = {
    "normalized": row_maps.NORMALIZED,
    "gradient": row_maps.GRADIENT,
    "scaled": row_maps.SCALED,
    "cut": row_maps.CUT,
}


def compiled(function):
    return function if config.DISABLE_JIT else numba.njit(function)


@compiled
def sum_rows(microkernel, a, b, center, sums, rows, columns, add):
    row_sums.sum_rows(microkernel, a, 1, 80, b, 2, 90, center, 3, sums, 4, 75, rows, columns, add)


@compiled
def map_rows(microkernel, a, b, y, of_columns, rows, columns):
    row_maps.map_rows(microkernel, a, 1, 80, b, 2, 90, y, 3, 85, of_columns, 4, 75, rows, columns)


@compiled
def find_moments(microkernel, x, row, center, sums, totals, rows, columns, times):
    row_sums.find_moments(microkernel, x, 0, row, center, sums, totals, rows, columns, times)


def argument(microkernel, dtype):
    return microkernel.definition if config.DISABLE_JIT else microkernel.address(np.dtype(dtype))


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("columns", [1, 15, 64, 70])
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("name", ROUTINES)
def test_sums(dtype, name, rows, columns, add):
    microkernel = ROUTINES[name]
    rng = np.random.default_rng(rows)
    # Nothing lies behind the last numbers that are asked for.
    a, b = (rng.standard_normal(first + max(rows - 1, 0) * row + columns) for first, row in ((1, 80), (2, 90)))
    center, sums = rng.standard_normal(3 + columns), rng.standard_normal(4 + 75 + columns)
    a, b, center, sums = (x.astype(dtype) for x in (a, b, center, sums))
    expected = sums.copy()
    microkernel.definition(a, 1, 80, b, 2, 90, center, 3, expected, 4, 75, rows, columns, add)
    sum_rows(microkernel.address(np.dtype(dtype)), a, b, center, sums, rows, columns, add)
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("columns", [1, 15, 64, 70])
@pytest.mark.parametrize("name", MAPS)
def test_maps(dtype, name, rows, columns):
    microkernel, rng = MAPS[name], np.random.default_rng(rows)
    a, b, y = (rng.standard_normal(k + max(rows - 1, 0) * row + columns) for k, row in ((1, 80), (2, 90), (3, 85)))
    a, b, y, of_columns = (x.astype(dtype) for x in (a, b, y, rng.standard_normal(4 + 3 * 75 + columns)))
    expected = y.copy()
    microkernel.definition(a, 1, 80, b, 2, 90, expected, 3, 85, of_columns, 4, 75, rows, columns)
    map_rows(microkernel.address(np.dtype(dtype)), a, b, y, of_columns, rows, columns)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


def moments(dtype, x, columns, times):
    """Means and variances of the first ``columns`` columns."""
    wide = columns * times
    totals = np.zeros(2 * wide)
    find_moments(
        argument(row_sums.MOMENTS, dtype), x.reshape(-1), x.shape[1], np.zeros(wide, dtype),
        np.zeros(2 * wide, dtype), totals, x.shape[0], columns, times,
    )  # fmt: skip
    return totals[:columns], totals[wide : wide + columns] / max(x.shape[0], 1)


@pytest.mark.parametrize("rows, columns, times", [(1, 3, 4), (5, 3, 4), (9, 1, 4), (170, 3, 4), (100, 20, 1)])
@pytest.mark.parametrize("offset", [0, 1000])
def test_moments(dtype, rows, columns, times, offset):
    x = (np.random.default_rng(rows).standard_normal((rows, columns)) + offset).astype(dtype)
    mean, variance = moments(dtype, x, columns, times)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-5, atol=1e-6)


def test_moments_are_the_same_bits_whatever_lies_behind_the_columns(dtype):
    x = np.random.default_rng(0).standard_normal((70, 9)).astype(dtype)
    of_some = moments(dtype, x, 4, 3)
    alone = moments(dtype, np.ascontiguousarray(x[:, :4]), 4, 3)
    assert all(np.array_equal(a, b) for a, b in zip(of_some, alone, strict=True))
