"""Convolution by every algorithm of every fast backend against the reference, on the same numbers in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from numbacnn.backends import reference
from numbacnn.backends.geometry import Conv2dGeometry
from tests.cases import CONV2D_CASES
from tests.numeric import assert_within, normal, wide
from tests.on_numpy import OnNumPy
from tests.strategies import CHECKS, DTYPES, IN_PYTHON, SIMULATED, conv2d_geometries, dtypes, seeds

# In the simulator a barrier takes as long as thousands of products.
MAX_SIMULATED = 4_000
# Python takes ten seconds for the largest problem by loops, whose lines the others run as well.
MAX_LOOPS_IN_PYTHON = 1_000_000


def check_conv2d(ours: OnNumPy, g: Conv2dGeometry, algorithm: str, dtype: Any, seed: int) -> None:
    x, weight, dy, bias = (normal(shape, seed, dtype) for shape in (g.x_shape, g.weight_shape, g.y_shape, (g.k,)))
    x64, weight64, dy64, bias64 = wide(x, weight, dy, bias)
    positions = g.n * g.oh * g.ow
    back = g.k // g.groups * g.kh * g.kw
    for given_bias, given_bias64 in ((bias, bias64), (None, None)):
        y64 = reference.conv2d(x64, weight64, given_bias64, g, "loops")
        assert_within(ours.conv2d(x, weight, given_bias, g, algorithm), y64, g.taps)
    dx64 = reference.conv2d_backward_input(dy64, weight64, g, "loops")
    assert_within(ours.conv2d_backward_input(dy, weight, g, algorithm), dx64, back)
    dweight64 = reference.conv2d_backward_weight(dy64, x64, g, "loops")
    assert_within(ours.conv2d_backward_weight(dy, x, g, algorithm), dweight64, positions)
    # A single channel's sum may happen to be near zero.
    dbias64, scale = reference.conv2d_backward_bias(dy64), max(1.0, math.sqrt(positions))
    assert_within(ours.conv2d_backward_bias(dy), dbias64, positions, scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("g", CONV2D_CASES, ids=lambda g: g.descriptor)
def test_conv2d_cases(ours: OnNumPy, g: Conv2dGeometry, algorithm: str, dtype: Any) -> None:
    if SIMULATED and g.macs > MAX_SIMULATED:
        pytest.skip("too large for the simulator")
    if IN_PYTHON and algorithm == "loops" and g.macs > MAX_LOOPS_IN_PYTHON:
        pytest.skip("too large for Python")
    check_conv2d(ours, g, algorithm, dtype, 1)


@CHECKS
@given(g=conv2d_geometries(min_batch=0), dtype=dtypes, seed=seeds)
def test_conv2d(ours: OnNumPy, algorithm: str, g: Conv2dGeometry, dtype: Any, seed: int) -> None:
    assume(not SIMULATED or g.macs <= MAX_SIMULATED)
    check_conv2d(ours, g, algorithm, dtype, seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("descriptor", ["n1c3h9k17r3s2p1", "n1c16h8k16r3s1p1"])
@np.errstate(invalid="ignore")
def test_conv2d_lets_nan_and_infinity_through(ours: OnNumPy, descriptor: str, algorithm: str, dtype: Any) -> None:
    g = Conv2dGeometry.parse(descriptor)
    if SIMULATED and g.macs > MAX_SIMULATED:
        pytest.skip("too large for the simulator")
    for value in (np.nan, np.inf):
        x, weight, dy = (normal(shape, 1, dtype) for shape in (g.x_shape, g.weight_shape, g.y_shape))
        x[0, 1, 4, 3] = dy[0, 2, 1, 1] = value
        pairs = (
            (ours.conv2d(x, weight, None, g, algorithm), reference.conv2d(x, weight, None, g, "loops")),
            (
                ours.conv2d_backward_input(dy, weight, g, algorithm),
                reference.conv2d_backward_input(dy, weight, g, "loops"),
            ),
            (
                ours.conv2d_backward_weight(dy, x, g, algorithm),
                reference.conv2d_backward_weight(dy, x, g, "loops"),
            ),
        )
        for result, expected in pairs:
            np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected))
            assert not np.isfinite(result).all()


@CHECKS
@given(
    st.integers(0, 3),
    st.sampled_from((1, 3, 5, 17, 70)),
    st.sampled_from(((1, 1), (3, 5), (1, 0), (7, 6) if SIMULATED else (37, 60))),
    st.sampled_from((None, "relu", "sigmoid", "tanh")),
    dtypes,
    seeds,
)
@example(*((1, 3, (5, 7)) if SIMULATED else (2, 3, (61, 67))), "tanh", np.float32, 1)
def test_add_bias(ours: OnNumPy, n: int, k: int, size: tuple[int, int], activation: Any, dtype: Any, seed: int) -> None:
    y, bias = 3 * normal((n, k, *size), seed, dtype), normal((k,), seed + 1, dtype)
    expected, bias64 = wide(y, bias)
    reference.add_bias(expected, bias64, activation)
    for turned in (False, True):
        target = np.array(y.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2) if turned else np.array(y)
        ours.add_bias(target, bias, activation)
        assert_within(target, expected, 1, np.abs(expected).max(initial=1))
