"""Dropout's microkernels against their definitions, and its masks, which are the same however arrays lie."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn import backends
from numbacnn.backends.cpu.vector import dropping
from numbacnn.backends.shared.philox import drop_threshold, dropout_words

pytestmark = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SOME = dropping.ALIGNED_POSITIONS
WORDS = (7, 1 << 31, 0xFFFFFFFF, 12345)
"""Of offset and seed."""


def compiled(function):
    return function if config.DISABLE_JIT else numba.njit(function)


@compiled
def drop(microkernel, x, y, scale, count, first, threshold, c2, c3, k0, k1):
    dropping.drop(microkernel, x, 1, y, 2, scale, 0, count, first, threshold, c2, c3, k0, k1)


@compiled
def decide(microkernel, x, bits, channels, first, apart, threshold, c2, c3, k0, k1):
    dropping.decide(microkernel, x, 0, x, 0, bits, 1, channels, first, apart, threshold, c2, c3, k0, k1)


@compiled
def pick(microkernel, x, y, scale, bits, rows, columns):
    dropping.pick(microkernel, x, 1, y, 2, scale, 0, bits, 1, rows, columns)


only_compiled = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")


@only_compiled
@pytest.mark.parametrize("count", [0, 1, SOME - 1, SOME, SOME + 1, 5 * SOME + 3])
@pytest.mark.parametrize("threshold", [1, 1 << 31, 1 << 32])
@pytest.mark.parametrize("first", [0, (1 << 32) - 2, 1 << 40])
def test_dropped(dtype, count, threshold, first):
    """Counters carry into their upper word, and nothing beyond the run is written."""
    x = np.random.default_rng(count).standard_normal(count + 1).astype(dtype)
    scale = np.array([1.25], dtype)
    y = np.full(count + 40, 9, dtype)
    expected = y.copy()
    dropping.DROPPED.definition(x, 1, expected, 2, scale, 0, count, first, threshold, *WORDS)
    drop(dropping.DROPPED.address(np.dtype(dtype)), x, y, scale, count, first, threshold, *WORDS)
    np.testing.assert_array_equal(y, expected)


@only_compiled
@pytest.mark.parametrize("first", [0, 1, 3, (1 << 34) - 2])
@pytest.mark.parametrize("apart", [4, 49])
def test_decided(dtype, first, apart):
    found, expected = np.zeros((2, 9), np.int32)
    dropping.DECIDED.definition(
        np.zeros(1, dtype), 0, np.zeros(1, dtype), 0, expected, 1, 7, first, apart, 1 << 30, *WORDS
    )
    address = dropping.DECIDED.address(np.dtype(dtype))
    decide(address, np.zeros(1, dtype), found, 7, first, apart, 1 << 30, *WORDS)
    # What is beyond the positions that it says is anything.
    mask = np.uint32((1 << dropping.POSITIONS) - 1)
    np.testing.assert_array_equal(found.view(np.uint32) & mask, expected.view(np.uint32) & mask)
    assert expected[1:-1].any()


@only_compiled
@pytest.mark.parametrize("columns", [1, 7, 64, 133])
@pytest.mark.parametrize("rows", [0, 1, SOME])
def test_picked(dtype, columns, rows):
    rng = np.random.default_rng(columns)
    x = rng.standard_normal(1 + rows * columns).astype(dtype)
    bits, scale = rng.integers(-(1 << 31), 1 << 31, 1 + columns).astype(np.int32), np.array([1.25], dtype)
    y = np.full(rows * columns + 40, 9, dtype)
    expected = y.copy()
    dropping.PICKED.definition(x, 1, expected, 2, scale, 0, bits, 1, rows, columns)
    pick(dropping.PICKED.address(np.dtype(dtype)), x, y, scale, bits, rows, columns)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 17, 7, 7), (1, 64, 28, 28), (2, 5, 1, 3), (1, 140, 9, 5)])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_masks_are_told_by_the_place_in_the_order_of_the_axes(dtype, shape, p):
    backend, seed, offset = backends.get("cpu"), (1 << 63) + 12345678901, (1 << 40) + 7
    x = np.abs(np.random.default_rng(0).standard_normal(shape)).astype(dtype) + 1
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    is_kept = dropout_words(x.size, seed, offset).reshape(shape) >= drop_threshold(p)
    for given in (x, channels_last):
        y = backend.dropout(given, p, seed, np.array(offset))
        np.testing.assert_array_equal(y != 0, is_kept)
        np.testing.assert_allclose(y[is_kept], x[is_kept] / max(1 - p, 1e-9), rtol=1e-6)
