"""The microkernels of pooling, of every width of vectors, against their definitions in plain Python."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.vector import pool_pixels

PIXELS, X_STEP, Y_STEP = 3, 40, 37

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.parametrize("dtype", [np.float32, np.float64]),
    pytest.mark.parametrize("size", [16, 32, 64]),
    pytest.mark.parametrize("channels", [1, 7, 16, 33]),
    pytest.mark.parametrize("taps", [1, 4]),
]


@numba.njit
def run_maxima(microkernel, x, offsets, taps, y, places, channels):
    pool_pixels.find_maxima(
        microkernel, x, 2, offsets, 1, offsets, 2, taps, y, 3, places, 4, channels, PIXELS, X_STEP, Y_STEP, 5, 2
    )


@numba.njit
def run_visit(microkernel, x, offsets, taps, y, channels):
    pool_pixels.visit(microkernel, x, 2, offsets, 1, taps, y, 3, channels, PIXELS, X_STEP, Y_STEP, 3)


@pytest.mark.parametrize("with_places", [False, True])
def test_maxima(dtype, size, channels, taps, with_places):
    microkernel = pool_pixels.maxima(with_places, size)
    x, offsets = _pixels(dtype, channels), np.array([9, 0, 3, 4, 1, 2])
    x[::5], x[3] = 1, np.nan
    y, places = np.zeros(3 + PIXELS * Y_STEP, dtype), np.zeros(4 + PIXELS * Y_STEP, np.int32)
    expected, expected_places = y.copy(), places.copy()
    microkernel.definition(
        x, 2, offsets, 1, offsets, 2, taps, expected, 3, expected_places, 4, channels, PIXELS, X_STEP, Y_STEP, 5, 2
    )
    run_maxima(microkernel.address(np.dtype(dtype)), x, offsets, taps, y, places, channels)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(places, expected_places)


def test_means(dtype, size, channels, taps):
    microkernel = pool_pixels.means(size)
    x, offsets = _pixels(dtype, channels), np.array([9, 0, 3, 4, 1])
    y = np.zeros(3 + PIXELS * Y_STEP, dtype)
    expected = y.copy()
    microkernel.definition(x, 2, offsets, 1, taps, expected, 3, channels, PIXELS, X_STEP, Y_STEP, 3)
    run_visit(microkernel.address(np.dtype(dtype)), x, offsets, taps, y, channels)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("adding", [False, True])
def test_spreading(dtype, size, channels, taps, adding):
    microkernel = pool_pixels.spreading(adding, size)
    # Without adding, what overlaps is whichever is written last.
    taps = taps if adding else 1
    dx, offsets = _pixels(dtype, channels), np.array([9, 0, 3, 4, 1])
    dy = np.random.default_rng(1).standard_normal(3 + PIXELS * Y_STEP).astype(dtype)
    expected = dx.copy()
    microkernel.definition(expected, 2, offsets, 1, taps, dy, 3, channels, PIXELS, X_STEP, Y_STEP, 3)
    run_visit(microkernel.address(np.dtype(dtype)), dx, offsets, taps, dy, channels)
    np.testing.assert_allclose(dx, expected, rtol=1e-6)


def _pixels(dtype, channels):
    """No element behind the last that is asked for."""
    return np.random.default_rng(channels).standard_normal(2 + (PIXELS - 1) * X_STEP + 4 + channels).astype(dtype)
