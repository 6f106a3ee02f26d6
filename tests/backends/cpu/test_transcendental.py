"""exp, expm1, log1p, tanh and erf: accuracy over the whole range, and the ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import cpu
from numbacnn.backends.cpu.runtime.kernel import kernel
from numbacnn.backends.cpu.vector import transcendental
from numbacnn.backends.cpu.vector.transcendental import erf, exp, expm1, log1p, tanh


@kernel
def exp_of(chunk, x, y):
    for i in range(np.uintp(x.size)):
        y[i] = exp(x[i])


@kernel
def expm1_of(chunk, x, y):
    for i in range(np.uintp(x.size)):
        y[i] = expm1(x[i])


@kernel
def log1p_of(chunk, x, y):
    for i in range(np.uintp(x.size)):
        y[i] = log1p(x[i])


@kernel
def tanh_of(chunk, x, y):
    for i in range(np.uintp(x.size)):
        y[i] = tanh(x[i])


@kernel
def erf_of(chunk, x, y):
    for i in range(np.uintp(x.size)):
        y[i] = erf(x[i])


EXACT = {
    exp_of: np.exp,
    expm1_of: np.expm1,
    log1p_of: np.log1p,
    tanh_of: np.tanh,
    erf_of: np.vectorize(math.erf, otypes=[np.float64]),
}
each = pytest.mark.parametrize("function", EXACT, ids=lambda function: function.__name__)


def computed(function: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel gives, and what the C library does in float64."""
    y = np.empty_like(x)
    function(1, x, y)
    with np.errstate(all="ignore"):
        return y, EXACT[function](x.astype(np.float64)).astype(x.dtype)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_few_units_in_the_last_place(function: Any, dtype: Any) -> None:
    rng, count = np.random.default_rng(0), 300 if config.DISABLE_JIT else 20_000
    sizes = 10.0 ** rng.uniform(-30, 2.9, count)
    x = np.concatenate([np.linspace(-20, 20, count), sizes, -sizes, rng.standard_normal(count)]).astype(dtype)
    y, expected = computed(function, x[(x >= 0) & (x <= 1)] if function is log1p_of else x)
    # What is below the smallest normal number may be 0.
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).tiny)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends(function: Any, dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([-np.inf, -1e30, -1000, -1, -tiny, -0.0, 0, tiny, 1, 1000, 1e30, np.inf, np.nan], dtype)
    y, expected = computed(function, x[(x >= 0) & (x <= 1) | (x != x)] if function is log1p_of else x)
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)


def test_exp_float32_as_plain_python():
    for x in np.linspace(-87, 88.7, 300, dtype=np.float32):
        assert float(transcendental.exp_float32(x)) == pytest.approx(float(np.exp(np.float64(x))), rel=3e-7)


def test_tanh_float32_as_plain_python():
    for x in np.linspace(-9, 9, 301, dtype=np.float32):
        expected = float(np.tanh(np.float64(x)))
        assert float(transcendental.tanh_float32(x)) == pytest.approx(expected, rel=3e-7, abs=1e-30)


def test_ends_of_exp():
    with np.errstate(all="ignore"):
        ends = [transcendental.exp_float32(np.float32(x)) for x in (-np.inf, -104, 89, np.inf, np.nan)]
    assert ends[:4] == [0, 0, np.inf, np.inf]
    assert np.isnan(ends[4])


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_compiled_activation_is_accurate_everywhere(name):
    x = np.linspace(-20, 20, 4001, dtype=np.float32)
    exact = {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh}[name](x.astype(np.float64))
    np.testing.assert_allclose(getattr(cpu, name)(x), exact, rtol=5e-7, atol=1e-30)
