"""exp and tanh in float32: accuracy over the whole range, and the ends."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.backends import cpu
from numbacnn.backends.cpu.vector import transcendental


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
