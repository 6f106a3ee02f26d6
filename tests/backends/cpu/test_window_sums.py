"""Sums of windows against their definition, of runs that are no whole vectors too."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.vector import window_sums

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")


@numba.njit
def sum_windows(microkernel, x, sums, rows, columns, neighbours, apart):
    window_sums.sum_windows(microkernel, x, 1, 200, sums, 2, rows, columns, neighbours, apart)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("columns", [1, 15, 64, 70, 131])
@pytest.mark.parametrize(("neighbours", "apart"), [(1, 1), (5, 1), (4, 7)])
def test_sums_of_windows(dtype, rows, columns, neighbours, apart):
    """Nothing before or after the sums is written."""
    x = np.random.default_rng(columns).standard_normal(1 + 200 * max(rows, 1) + 40).astype(dtype)
    found = np.full(2 + rows * columns + 40, 9, dtype)
    expected = found.copy()
    microkernel = window_sums.WINDOW_SUMS
    microkernel.definition(x, 1, 200, expected, 2, rows, columns, neighbours, apart)
    sum_windows(microkernel.address(np.dtype(dtype)), x, found, rows, columns, neighbours, apart)
    np.testing.assert_array_equal(found, expected)
