"""The routines of pooling, of every width of vectors, against their definitions in plain Python."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu import pool_rows

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.parametrize("dtype", [np.float32, np.float64]),
    pytest.mark.parametrize("size", [16, 32, 64]),
    pytest.mark.parametrize("count", [1, 7, 16, 33]),
]


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("taps", [1, 4])
@pytest.mark.parametrize("with_places", [False, True])
def test_maxima(dtype, size, count, step, taps, with_places):
    routine = pool_rows.maxima(step, with_places, size)
    run = numba.njit(
        lambda routine, x, offset, taps, y, places, count: pool_rows.max_row(
            routine, x, 2, offset, 1, offset, 2, taps, y, 3, places, 4, 5, count
        )
    )
    x, offset = _row(dtype, count, step), np.array([9, 0, 3, 4, 1, 2])
    x[::5], x[3] = 1, np.nan
    y, places = np.zeros(3 + count + 70, dtype), np.zeros(4 + count + 70, np.int32)
    expected, expected_places = y.copy(), places.copy()
    routine.definition(x, 2, offset, 1, offset, 2, taps, expected, 3, expected_places, 4, 5, count)
    run(routine.address(np.dtype(dtype)), x, offset, taps, y, places, count)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(places, expected_places)


@pytest.mark.parametrize("step", [1, 2])
def test_maxima_inside(dtype, size, count, step):
    routine = pool_rows.maxima_inside(step, size)
    run = numba.njit(
        lambda routine, x, offset, inside, y, count: pool_rows.max_inside(
            routine, x, 2, offset, 1, inside, 1, 3, y, 3, count
        )
    )
    x, offset = _row(dtype, count, step), np.array([9, 0, 2, 1])
    x[::5], x[3] = 1, np.nan
    inside = np.random.default_rng(1).integers(0, 1 << 16, 1 + 3 * 33) & -2  # the first output has nothing
    y = np.zeros(3 + count + 70, dtype)
    expected = y.copy()
    routine.definition(x, 2, offset, 1, inside, 1, 3, expected, 3, count)
    run(routine.address(np.dtype(dtype)), x, offset, inside, y, count)
    assert expected[3] == -np.inf
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("step", [1, 2])
def test_means(dtype, size, count, step):
    routine = pool_rows.means(step, size)
    run = numba.njit(
        lambda routine, x, offset, y, count: pool_rows.avg_row(routine, x, 2, offset, 1, 4, y, 3, 5, count)
    )
    x, offset = _row(dtype, count, step), np.array([9, 0, 3, 4, 1])
    y = np.zeros(3 + count + 70, dtype)
    expected = y.copy()
    routine.definition(x, 2, offset, 1, 4, expected, 3, 5, count)
    run(routine.address(np.dtype(dtype)), x, offset, y, count)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_pairs(dtype, size, count):
    routine = pool_rows.spread_pairs(size)
    run = numba.njit(lambda routine, y, x, count: pool_rows.spread(routine, y, 2, x, 3, 4, count))
    y, x = _row(dtype, count, 1), np.zeros(3 + 2 * count + 140, dtype)
    expected = x.copy()
    routine.definition(y, 2, expected, 3, 4, count)
    run(routine.address(np.dtype(dtype)), y, x, count)
    np.testing.assert_array_equal(x, expected)


def _row(dtype, count, step):
    """No element behind the last that is asked for."""
    return np.random.default_rng(count).standard_normal(2 + (count - 1) * step + 4 + 1).astype(dtype)
