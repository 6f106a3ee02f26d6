"""The matrix product against NumPy's, on ragged sizes, and against itself bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.backends.cpu import gemm, simd
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, simd.TILE_ROWS - 1, simd.TILE_ROWS])
@pytest.mark.parametrize("add", [0, 1])
def test_tile_and_its_definition_agree(dtype, rows, add):
    """The compiled tile and the Python text that stands in for it when the compiler is off."""
    from numbacnn.backends.cpu.jit import kernel

    @kernel
    def run_tile(chunk, a, b, c, rows, depth, columns, add):
        simd.multiply_tile(a, 1, depth, 1, rows, b, 2, columns, depth, c, 3, columns, add)

    rng = np.random.default_rng(2)
    depth, columns = 11, simd._VECTORS * simd._VECTOR_BYTES // np.dtype(dtype).itemsize
    a = rng.standard_normal(1 + rows * depth).astype(dtype)
    b = rng.standard_normal(2 + depth * columns).astype(dtype)
    c = rng.standard_normal(3 + simd.TILE_ROWS * columns).astype(dtype)
    expected = c.copy()
    simd._define_multiply_tile(a, 1, depth, 1, rows, b, 2, columns, depth, expected, 3, columns, add)
    run_tile(1, a, b, c, rows, depth, columns, add)
    np.testing.assert_allclose(c, expected, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-5)
