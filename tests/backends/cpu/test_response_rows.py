"""Response normalisation in registers against its definition, of rows that are no whole vectors too."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.vector import response_rows

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

REACHES = [(0, 0), (2, 2), (2, 1), (response_rows.MAX_REACH, 3)]


@numba.njit
def normalize(microkernel, x, y, scale, numbers, rows, columns):
    response_rows.normalize_rows(microkernel, x, 2, y, 2, scale, 2, numbers, 0, rows, columns)


@numba.njit
def differentiate(microkernel, dy, x, scale, dx, numbers, rows, columns):
    response_rows.differentiate_rows(microkernel, dy, 2, x, 2, scale, 2, dx, 2, numbers, 0, rows, columns)


def numbers_of(rows, columns, dtype, seed):
    """What lies before and behind the rows is larger than any of theirs."""
    x = np.full(4 + rows * columns, 1e6, dtype)
    x[2:-2] = np.random.default_rng(seed).standard_normal(rows * columns)
    return x


def assert_alike(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=100 * np.finfo(dtype).eps, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("columns", [1, 15, 64, 70])
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_values_and_gradients(dtype, rows, columns, reach, quarters):
    """Nothing before or after the rows is written."""
    x, dy = numbers_of(rows, columns, dtype, 1), numbers_of(rows, columns, dtype, 2)
    results = []
    for run in (normalize, None):
        microkernel = response_rows.values_of(*reach, quarters)
        y, scale = np.full_like(x, 9), np.full_like(x, 9)
        numbers = np.array([0.5, 1.5, 7], dtype)
        if run is None:
            microkernel.definition(x, 2, y, 2, scale, 2, numbers, 0, rows, columns)
        else:
            run(microkernel.address(np.dtype(dtype)), x, y, scale, numbers, rows, columns)
        results.append((y, scale, numbers))
    for found, expected in zip(*results, strict=True):
        assert_alike(found, expected, dtype)
    scale, results = results[1][1], []
    for run in (differentiate, None):
        microkernel = response_rows.gradients_of(*reach, quarters)
        dx, numbers = np.full_like(x, 9), np.array([0.5, 0, 7], dtype)
        if run is None:
            microkernel.definition(dy, 2, x, 2, scale, 2, dx, 2, numbers, 0, rows, columns)
        else:
            run(microkernel.address(np.dtype(dtype)), dy, x, scale, dx, numbers, rows, columns)
        results.append((dx, numbers))
    for found, expected in zip(*results, strict=True):
        assert_alike(found, expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 1e-31, 1e31, np.inf, np.nan])
def test_unusual_numbers_are_told(dtype, value):
    x = numbers_of(2, 20, dtype, 1)
    for at in (2, 21, 22, 41):
        scale, numbers = np.ones_like(x), np.array([0.5, 0, 0], dtype)
        scale[at] = value
        address = response_rows.gradients_of(1, 1, 3).address(np.dtype(dtype))
        differentiate(address, x, x, scale, np.empty_like(x), numbers, 2, 20)
        assert numbers[2] > 0
    numbers = np.array([0, value, 0], dtype)
    address = response_rows.values_of(1, 1, 3).address(np.dtype(dtype))
    normalize(address, x, np.empty_like(x), np.empty_like(x), numbers, 2, 20)
    assert numbers[2] > 0
