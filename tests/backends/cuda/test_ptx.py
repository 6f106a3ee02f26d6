"""What the instructions of ``block/ptx.py`` compute: on a GPU themselves, in the simulator what stands for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import backends

if backends.available()["cuda"] is not None:
    pytest.skip("neither a GPU nor the simulator", allow_module_level=True)

from numbacnn.backends import cuda as cuda_backend
from numbacnn.backends.cuda.block import fragments
from numbacnn.backends.cuda.runtime import device_array

from . import ptx_kernels as kernels

cuda: Any = cuda_backend
pytestmark = pytest.mark.skipif(
    device_array.device().capability < (8, 0) if hasattr(device_array.device(), "capability") else False,
    reason="tensor cores of compute capability 8.0",
)


def run(kernel: Any, *arrays: Any, shape: tuple[int, ...], dtype: Any = np.float32, more: tuple[Any, ...] = ()) -> Any:
    result = cuda.zeros(shape, dtype)
    kernel(1, *(cuda.asarray(np.ascontiguousarray(x)) for x in arrays), result, *more)
    return np.asarray(result)


def numbers(*shape: int, bits: int) -> np.ndarray:
    """Random numbers of so many bits, whose products and sums are exact in float32."""
    return np.random.default_rng(0).integers(-(1 << bits), 1 << bits, shape).astype(np.float32)


@pytest.mark.parametrize(("name", "depth", "bits"), [("tf32_product", 8, 9), ("bf16_product", 16, 7)])
def test_products(name: str, depth: int, bits: int) -> None:
    a, b, c = numbers(16, depth, bits=bits), numbers(depth, 8, bits=bits), numbers(16, 8, bits=9)
    np.testing.assert_array_equal(run(getattr(kernels, name), a, b, c, shape=(16, 8)), c + a @ b)
    c[3, 5], a[2, 1] = np.inf, np.nan
    result = run(getattr(kernels, name), a, b, c, shape=(16, 8))
    assert np.isnan(result[2]).all() and result[3, 5] == np.inf and np.isfinite(result[4:]).all()


def test_tensor_cores_look_at_no_more_than_the_bits_of_tf32() -> None:
    a, b, zero = np.zeros((16, 8), np.float32), np.eye(8, dtype=np.float32), np.zeros((16, 8), np.float32)
    a[:, 0], a[:, 1] = 1 + 2.0**-10, 1 + 2.0**-11
    result = run(kernels.tf32_product, a, b, zero, shape=(16, 8))
    assert (result[:, 0] == 1 + 2.0**-10).all() and (result[:, 1] == 1).all()


def test_rounding() -> None:
    ulp = 2.0**-10
    cases = {  # to the nearest of 11 bits, halves away from zero
        1.0: 1.0, 1 + 0.49 * ulp: 1.0, 1 + 0.5 * ulp: 1 + ulp, -1 - 0.5 * ulp: -1 - ulp, 1 + 1.49 * ulp: 1 + ulp,
        2 - 0.25 * ulp: 2.0, 0.0: 0.0, np.inf: np.inf, -np.inf: -np.inf,
    }  # fmt: skip
    x = np.zeros(32, np.float32)
    x[: len(cases)] = list(cases)
    quiet, full = np.array([0x7FC00000, 0x7FFFFFFF], np.uint32).view(np.float32)
    x[20], x[21] = quiet, full
    x[24:] = np.random.default_rng(1).standard_normal(8)
    pairs = cuda.zeros((32,), np.int32)
    rounded = run(kernels.rounded, x, shape=(32,), more=(pairs,))
    np.testing.assert_array_equal(rounded[: len(cases)], np.array(list(cases.values()), np.float32))
    assert np.isnan(rounded[20:22]).all()
    bits = rounded[24:].view(np.uint32)
    assert not (bits & 0x1FFF).any() and (np.abs(rounded[24:] - x[24:]) <= 2.0**-11 * np.abs(x[24:])).all()

    words = np.asarray(pairs).view(np.uint32)
    low, high = (words << 16).view(np.float32), (words & 0xFFFF0000).view(np.float32)
    assert np.isnan(low[20:22]).all() and (low[24:] != x[24:]).any()
    np.testing.assert_array_equal(low[np.isinf(x)], x[np.isinf(x)])
    finite = np.isfinite(x)
    assert (np.abs(low[finite] - x[finite]) <= 2.0**-8 * np.abs(x[finite])).all()
    np.testing.assert_array_equal(high, low[::-1])


def test_matrices() -> None:
    x = numbers(16, 8, bits=9)
    y = run(kernels.through_matrices, x, shape=(32, 4))
    places = [[fragments.a_of_lane(lane, register) for register in range(4)] for lane in range(32)]
    np.testing.assert_array_equal(y, [[x[place] for place in row] for row in places])


def test_copies_outside_are_zeros() -> None:
    x = numbers(3, 32, bits=9)
    x[:, 20:] = np.nan
    y = run(kernels.through_copies, x, shape=(3, 32), more=(20,))
    np.testing.assert_array_equal(y, np.where(np.arange(32) < 20, x, 0))


def test_sixteen_bytes() -> None:
    x = numbers(32, 4, bits=9)
    np.testing.assert_array_equal(run(kernels.sixteen_bytes, x, shape=(32, 4)), x[::-1])
