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


@pytest.mark.parametrize("n", [1, 2, linear.FEW_GRADIENTS, linear.FEW_SAMPLES, 7, 2 * linear.ROWS + 1])
def test_more_than_a_block_in_every_direction(n):
    check(n, 2 * linear.DEPTH + 3, linear.DEPTH + 130, np.float32)


def test_samples_of_more_than_a_chunk():
    check(linear.PANELS * 4 * linear.VECTOR_BYTES // 4 + 3, 20, 2 * linear.ROWS + 5, np.float32)
