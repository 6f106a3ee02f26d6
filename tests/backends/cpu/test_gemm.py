"""The matrix product against NumPy's, on ragged sizes, and against itself bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.backends.cpu import gemm
from numbacnn.backends.cpu.gemm import matmul

sizes = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 96, 97, 257]))


@given(sizes, sizes, sizes, st.booleans(), st.booleans(), st.sampled_from([np.float32, np.float64]), st.integers(0, 99))
def test_equals_numpy(rows, columns, depth, transpose_a, transpose_b, dtype, seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, depth)).astype(dtype)
    b = rng.standard_normal((depth, columns)).astype(dtype)
    c = matmul(
        np.ascontiguousarray(a.T) if transpose_a else a,
        np.ascontiguousarray(b.T) if transpose_b else b,
        transpose_a,
        transpose_b,
    )
    expected = a.astype(np.float64) @ b.astype(np.float64)
    bound = {np.float32: 1e-6, np.float64: 1e-15}[dtype] * np.sqrt(max(depth, 1))
    assert c.dtype == dtype
    np.testing.assert_allclose(c, expected, rtol=0, atol=bound * max(np.abs(expected).max(initial=0), 1))


def test_depth_beyond_one_step_and_rows_far_apart():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((9, 2 * gemm.DEPTH + 3), dtype=np.float32)
    b = rng.standard_normal((2 * gemm.DEPTH + 3, 1100), dtype=np.float32)
    np.testing.assert_allclose(matmul(a, b), a.astype(np.float64) @ b, rtol=0, atol=1e-4)


def test_nan_stays_in_its_row_and_column():
    a, b = np.ones((20, 5), np.float32), np.ones((5, 70), np.float32)
    a[17, 2] = np.nan
    b[3, 69] = np.inf
    c = matmul(a, b)
    assert np.isnan(c[17]).all()
    assert np.isfinite(np.delete(c, 17, axis=0)[:, :69]).all()
    assert np.isinf(np.delete(c, 17, axis=0)[:, 69]).all()
