"""The three products of the linear layer against NumPy's, on ragged sizes and beyond a block."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

linear = importlib.import_module("numbacnn.backends.cpu.linear")

sizes = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 97, 129, 257]))


def check(n, c, k, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, weight, bias, dy = (rng.standard_normal(shape).astype(dtype) for shape in ((n, c), (k, c), (k,), (n, k)))
    unit = {np.float32: 1e-6, np.float64: 1e-15}[dtype]
    for ours, exact, depth in (
        (linear.linear(x, weight, bias), x.astype(float) @ weight.T + bias, c + 1),
        (linear.linear(x, weight, None), x.astype(float) @ weight.T, c),
        (linear.linear_backward_input(dy, weight), dy.astype(float) @ weight, k),
        (linear.linear_backward_weight(dy, x), dy.T.astype(float) @ x, n),
    ):
        assert ours.dtype == dtype
        bound = unit * np.sqrt(max(depth, 1)) * max(np.abs(exact).max(initial=0), 1)
        np.testing.assert_allclose(ours, exact, rtol=0, atol=bound)


@given(sizes, sizes, sizes, st.sampled_from([np.float32, np.float64]), st.integers(0, 99))
def test_equals_numpy(n, c, k, dtype, seed):
    check(n, c, k, dtype, seed)


@pytest.mark.parametrize("n", [1, 2 * linear.SAMPLES + 1])
def test_more_than_a_block_in_every_direction(n):
    lanes = linear.VECTOR_BYTES // 4
    check(n, linear.VECTORS * lanes + lanes + 3, linear.DEPTH + 130, np.float32)
    check(n, 4 * linear.PANELS * 3 * lanes + 5, 70, np.float32)


def test_nan_stays_in_its_row_and_column():
    x, weight = np.ones((20, 5), np.float32), np.ones((70, 5), np.float32)
    x[17, 2] = np.nan
    weight[69, 3] = np.inf
    y = linear.linear(x, weight, None)
    assert np.isnan(y[17]).all()
    assert np.isfinite(np.delete(y, 17, axis=0)[:, :69]).all()
    assert np.isinf(np.delete(y, 17, axis=0)[:, 69]).all()
    dx = linear.linear_backward_input(np.ones((20, 70), np.float32), weight)
    assert np.isinf(dx[:, 3]).all() and np.isfinite(np.delete(dx, 3, axis=1)).all()
