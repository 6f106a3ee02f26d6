"""Every function of every fast backend against the reference, which runs on the same numbers in float64; convolution
is in test_parity_conv.py, images of another size in test_parity_spatial.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from numbacnn.backends import reference
from numbacnn.backends.contract import AnyPool2dGeometry
from numbacnn.backends.cpu.vector.blocks import BLOCK
from numbacnn.backends.geometry import AdaptivePool2dGeometry, Pool2dGeometry
from numbacnn.backends.reference.activation import _FORMULAS
from tests.numeric import assert_within, normal, wide
from tests.on_numpy import OnNumPy
from tests.strategies import (
    CHECKS,
    DTYPES,
    IN_PYTHON,
    SIMULATED,
    adaptive_pool2d_geometries,
    dtypes,
    pool2d_geometries,
    seeds,
)

POOL_CASES = (
    Pool2dGeometry(2, 3, 28, 30, 2, 2, 2, 2),
    Pool2dGeometry(1, 17, 13, 13, 3, 3, 2, 2, 1, 1, 1, 1),
    Pool2dGeometry(1, 5, 9, 35, 3, 3, 1, 1, 1, 1, 1, 1),
    Pool2dGeometry(2, 3, 7, 9, 7, 9, 7, 9),
    Pool2dGeometry(1, 2, 6, 6, 3, 2, 2, 3, ceil_mode=True),
    # Several planes to a chunk, and a last one with fewer; windows of two columns, and with gaps.
    Pool2dGeometry(2, 19, 12, 12, 3, 3, 2, 2, 1, 1, 1, 1),
    Pool2dGeometry(3, 11, 6, 7, 3, 3, 1, 1, 1, 1, 1, 1),
    Pool2dGeometry(1, 9, 7, 5, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2),
    Pool2dGeometry(1, 9, 5, 8, 4, 3, 3, 2, 1, 1, 1, 0),
    # Rows of windows that see nothing but padding, and columns that do.
    Pool2dGeometry(2, 9, 1, 7, 2, 1, 1, 1, 1, 1, 0, 0, 2, 1),
    Pool2dGeometry(1, 3, 6, 1, 1, 2, 1, 1, 0, 0, 1, 1, 1, 2),
)

shapes = st.one_of(
    st.lists(st.sampled_from((1, 2, 3, 5, 17)), min_size=0, max_size=4).map(tuple),
    st.sampled_from(((0, 3), (3, 0, 2), (103,) if SIMULATED else (BLOCK + 3,) if IN_PYTHON else (67_003,))),
)
sizes = st.sampled_from((1, 2, 3, 5, 8, 17))
image_shapes = st.tuples(st.integers(0, 3), st.sampled_from((1, 3)), sizes, sizes)


def check_max_pool2d(ours: OnNumPy, g: AnyPool2dGeometry, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dy = normal(g.y_shape, seed, dtype)
    for x in (normal(g.x_shape, seed, dtype), rng.choice([-np.inf, 0.0, 1.0, np.inf, np.nan], g.x_shape).astype(dtype)):
        y, indices = ours.max_pool2d_with_indices(x, g)
        expected_y, expected_indices = reference.max_pool2d_with_indices(x, g)
        np.testing.assert_array_equal(y, expected_y)
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(ours.max_pool2d(x, g), expected_y)
        expected_dx = reference.max_pool2d_backward(*wide(dy), indices, g)
        assert_within(ours.max_pool2d_backward(dy, indices, g), expected_dx, taps(g))


def check_avg_pool2d(
    ours: OnNumPy, g: AnyPool2dGeometry, count_include_pad: bool, dtype: Any, seed: int, divisor: int | None = None
) -> None:
    x, dy = normal(g.x_shape, seed, dtype), normal(g.y_shape, seed, dtype)
    y = reference.avg_pool2d(*wide(x), g, count_include_pad, divisor)
    assert_within(ours.avg_pool2d(x, g, count_include_pad, divisor), y, taps(g))
    dx = reference.avg_pool2d_backward(*wide(dy), g, count_include_pad, divisor)
    assert_within(ours.avg_pool2d_backward(dy, g, count_include_pad, divisor), dx, taps(g))


def taps(g: AnyPool2dGeometry) -> int:
    """Of a window, at most, and windows that an element is in."""
    if isinstance(g, AdaptivePool2dGeometry):
        return (g.h // g.oh + g.oh // g.h + 2) * (g.w // g.ow + g.ow // g.w + 2)
    return g.kh * g.kw


@CHECKS
@given(pool2d_geometries(min_batch=0, max_dilation=2), dtypes, seeds)
def test_max_pool2d(ours: OnNumPy, g: Pool2dGeometry, dtype: Any, seed: int) -> None:
    check_max_pool2d(ours, g, dtype, seed)


@CHECKS
@given(pool2d_geometries(min_batch=0), st.booleans(), st.sampled_from((None, None, 1, 7)), dtypes, seeds)
@example(Pool2dGeometry(2, 3, 5, 4, 5, 4, 1, 1), True, 7, np.float32, 1)  # of whole planes
def test_avg_pool2d(
    ours: OnNumPy, g: Pool2dGeometry, count_include_pad: bool, divisor: int | None, dtype: Any, seed: int
) -> None:
    check_avg_pool2d(ours, g, count_include_pad, dtype, seed, divisor)


@CHECKS
@given(adaptive_pool2d_geometries(min_batch=0), st.sampled_from((None, 7)), dtypes, seeds)
@example(AdaptivePool2dGeometry(2, 70, 7, 5, 3, 2), None, np.float32, 1)
@example(AdaptivePool2dGeometry(1, 3, 1, 2, 4, 5), None, np.float32, 1)
def test_adaptive_pool2d(ours: OnNumPy, g: AdaptivePool2dGeometry, divisor: int | None, dtype: Any, seed: int) -> None:
    check_max_pool2d(ours, g, dtype, seed)
    check_avg_pool2d(ours, g, True, dtype, seed, divisor)


POWERS = st.one_of(
    st.sampled_from((("square", ()), ("exp", ()), ("log", ()))),
    st.sampled_from((1.0, 0.25, 9.0)).map(lambda scale: ("root", (scale,))),
    st.tuples(st.sampled_from((1.0, 2.0, 3.0, 1 / 3, 1.7)), st.sampled_from((1.0, 0.25, 9.0))).map(
        lambda parameters: ("power", parameters)
    ),
)


@CHECKS
@given(shapes, POWERS, dtypes, seeds)
def test_powers(ours: OnNumPy, shape: tuple[int, ...], power: Any, dtype: Any, seed: int) -> None:
    x, dy = np.asarray(normal(shape, seed, dtype)), np.asarray(normal(shape, seed + 1, dtype))
    if power[0] in ("root", "log") or power[1][:1] in ((1 / 3,), (1.7,)):
        x = np.asarray(np.abs(x) + dtype(0.1), dtype)
    y = reference.pointwise(*wide(x), *power)
    assert_within(ours.pointwise(x, *power), y, 1, max(1.0, np.abs(y).max(initial=1)))
    dx = reference.pointwise_backward(*wide(dy, x), *power)
    assert_within(ours.pointwise_backward(dy, x, *power), dx, 1, max(1.0, np.abs(dx).max(initial=1)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", ["root", "exp", "log", 1.0, 2.0, 3.0, 0.7, 1.7, 0.3, -0.5])
def test_powers_of_the_extremes(ours: OnNumPy, power: Any, dtype: Any) -> None:
    has_no_slope = power in ("root", 0.7, 0.3, -0.5)
    power = ("power", (power, 1.0)) if isinstance(power, float) else (power, (1.0,))
    x = np.resize(np.array([-np.inf, -2, -0.0, 0, 1, 1e-3, 1e3, np.inf, np.nan], dtype), 45)
    dy = np.resize(np.array([1, np.nan, -2, np.inf], dtype), 45)
    tolerance = {"rtol": 1e-5 if dtype == np.float32 else 1e-12}
    np.testing.assert_allclose(ours.pointwise(x, *power), reference.pointwise(x, *power), **tolerance)
    expected = reference.pointwise_backward(dy, x, *power)
    np.testing.assert_allclose(ours.pointwise_backward(dy, x, *power), expected, **tolerance)
    np.testing.assert_array_equal(expected[x == 0], np.where(has_no_slope, 0, expected[x == 0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("g", POOL_CASES)
def test_pool_cases(ours: OnNumPy, g: Pool2dGeometry, dtype: Any) -> None:
    check_max_pool2d(ours, g, dtype, 1)
    for count_include_pad in (True, False) if (g.dh, g.dw) == (1, 1) else ():
        check_avg_pool2d(ours, g, count_include_pad, dtype, 1)


@CHECKS
@given(st.tuples(st.integers(0, 5), st.integers(1, 17), st.integers(0, 33)), st.integers(0, 3), dtypes, seeds)
# So many values that a channel's sum is made of parts; with short rows too.
@example((5 if SIMULATED else 64, 3, 129), 2, np.float32, 1)
@example((70 if SIMULATED else 600, 2, 3), 1, np.float32, 1)
@example((0, 3, 5), 0, np.float32, 1)
def test_batch_norm(ours: OnNumPy, shape: tuple[int, int, int], more: int, dtype: Any, seed: int) -> None:
    """Of ``x`` with ``more`` channels that do not count."""
    (n, c, length), count = shape, max(shape[0] * shape[2], 1)
    x, dy = normal((n, c + more, length), seed, dtype) + dtype(2), normal(shape, seed + 1, dtype)
    x[:, c:] *= dtype(1e6)
    weight, bias = normal((c,), seed, dtype), normal((c,), seed + 1, dtype)
    x64, dy64, weight64, bias64 = wide(x, dy, weight, bias)
    # With few values per channel the terms of a gradient cancel: they are as large as inverse_std allows.
    results = ours.batch_norm_train(x, weight, bias, 1e-3)
    expected = reference.batch_norm_train(x64, weight64, bias64, 1e-3)
    mean, inverse_std = (expected[i].astype(dtype) for i in (1, 3))
    mean64, inverse_std64 = wide(mean, inverse_std)
    largest_x = np.abs(x64[:, :c]).max(initial=1)
    slope = inverse_std64.max() * np.abs(weight64).max()
    y_scale = slope * largest_x + np.abs(bias64).max()
    for result, reference_value, scale in zip(
        results, expected, (y_scale, largest_x, largest_x**2, inverse_std64.max() ** 3 * largest_x**2), strict=True
    ):
        assert_within(result, reference_value, count, scale)
    for activation in ("relu", "sigmoid", "tanh"):
        activated, *statistics = ours.batch_norm_train(x, weight, bias, 1e-3, activation)
        # Activations are no steeper than the identity.
        assert_within(activated, reference.batch_norm_train(x64, weight64, bias64, 1e-3, activation)[0], count, y_scale)
        for again, result in zip(statistics, results[1:], strict=True):
            np.testing.assert_array_equal(again, result)

    largest_x_hat = np.abs((x64[:, :c] - mean64[:, None]) * inverse_std64[:, None]).max(initial=1)
    largest_dy = np.abs(dy64).max(initial=1)
    scales = (
        slope * largest_dy * largest_x_hat**2,
        math.sqrt(count) * largest_dy * inverse_std64.max() * largest_x,
        math.sqrt(count) * largest_dy,
    )
    for name in ("batch_norm_train_backward", "batch_norm_eval_backward"):
        results = getattr(ours, name)(dy, x, weight, mean, inverse_std)
        expected = getattr(reference, name)(dy64, x64, weight64, mean64, inverse_std64)
        for result, reference_value, scale in zip(results, expected, scales, strict=True):
            assert_within(result, reference_value, count, scale)

    mean, variance = normal((c,), seed + 2, dtype), np.abs(normal((c,), seed + 3, dtype)) + dtype(0.1)
    y, inverse_std = ours.batch_norm_eval(x, weight, bias, mean, variance, 1e-3)
    y64, inverse_std64 = reference.batch_norm_eval(x64, weight64, bias64, *wide(mean, variance), 1e-3)
    assert_within(y, y64, 1, 10 * y_scale * inverse_std64.max())
    activated, _ = ours.batch_norm_eval(x, weight, bias, mean, variance, 1e-3, "relu")
    np.testing.assert_array_equal(activated, np.where(y <= 0, dtype(0), y))
    assert_within(inverse_std, inverse_std64, 1)


@CHECKS
@given(
    st.integers(0, 3),
    st.sampled_from((1, 2, 5)),
    st.integers(1, 4),
    st.one_of(st.tuples(), st.tuples(st.integers(0, 9)), st.tuples(*[st.integers(0, 7)] * 2)),
    st.tuples(st.booleans(), st.booleans()),
    dtypes,
    seeds,
)
# A run of several blocks; a sample that is shared out in parts; wide rows; runs of which a chunk has some.
@example(2, 1, 1, (6 if SIMULATED else 9000,), (True, True), np.float32, 1)
@example(1, 2, 20, (3, 2) if SIMULATED else (50, 37), (True, True), np.float32, 1)
@example(3, 3 if SIMULATED else 70, 1, (5, 2), (True, False), np.float32, 1)
@example(3 if SIMULATED else 400, 1, 3 if SIMULATED else 300, (), (True, True), np.float32, 1)
def test_group_norm(
    ours: OnNumPy, n: int, groups: int, channels: int, positions: tuple[int, ...], given: tuple[bool, bool],
    dtype: Any, seed: int,
) -> None:  # fmt: skip
    c = groups * channels
    shape, count = (n, c, *positions), max(channels * math.prod(positions), 1)
    x, dy = normal(shape, seed, dtype) + dtype(2), normal(shape, seed + 1, dtype)
    weight, bias = normal((c,), seed, dtype), normal((c,), seed + 1, dtype)
    x64, dy64, weight64, bias64 = wide(x, dy, weight, bias)
    parts = [array if is_there else None for array, is_there in zip((weight, bias), given, strict=True)]
    parts64 = [array if is_there else None for array, is_there in zip((weight64, bias64), given, strict=True)]
    results = ours.group_norm(x, *parts, groups, 1e-3)
    expected = reference.group_norm(x64, *parts64, groups, 1e-3)
    mean, inverse_std = (expected[i].astype(dtype) for i in (1, 3))
    mean64, inverse_std64 = wide(mean, inverse_std)
    largest_x, largest_dy = np.abs(x64).max(initial=1), np.abs(dy64).max(initial=1)
    steepest = inverse_std64.max(initial=1)
    slope = steepest * np.abs(weight64).max(initial=1)
    for result, reference_value, scale in zip(
        results, expected, (slope * largest_x, largest_x, largest_x**2, steepest**3 * largest_x**2), strict=True
    ):
        assert_within(result, reference_value, count, scale)
    results = ours.group_norm_backward(dy, x, parts[0], mean, inverse_std, groups)
    expected = reference.group_norm_backward(dy64, x64, parts64[0], mean64, inverse_std64, groups)
    largest_x_hat = max(1, steepest * largest_x)
    of_channel = max(n * math.prod(positions), 1)
    scales = (
        slope * largest_dy * largest_x_hat**2,
        math.sqrt(of_channel) * largest_dy * largest_x_hat,
        math.sqrt(of_channel) * largest_dy,
    )
    assert [result is None for result in results] == [value is None for value in expected]
    for result, reference_value, scale in zip(results, expected, scales, strict=True):
        if result is not None:
            assert_within(result, reference_value, max(count, of_channel), scale)


@CHECKS
@given(
    st.integers(0, 2),
    st.integers(0, 19),
    st.one_of(st.tuples(st.integers(0, 9)), st.tuples(*[st.integers(0, 5)] * 2)),
    st.integers(1, 25),
    st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0, 1.75, 2.0, 0.6)),
    dtypes,
    seeds,
)
@example(2, 5 if SIMULATED else 2500, (2, 3), 5, 0.75, np.float32, 1)
def test_local_response_norm(
    ours: OnNumPy, n: int, c: int, positions: tuple[int, ...], size: int, beta: float, dtype: Any, seed: int
) -> None:
    shape = (n, c, *positions)
    x, dy = 2 * normal(shape, seed, dtype), normal(shape, seed + 1, dtype)
    y, scale = ours.local_response_norm(x, size, 0.5, beta, 1.5)
    y64, scale64 = reference.local_response_norm(*wide(x), size, 0.5, beta, 1.5)
    assert_within(y, y64, size)
    assert_within(scale, scale64, size)
    scale = scale64.astype(dtype)
    dx = reference.local_response_norm_backward(*wide(dy, x, scale), size, 0.5, beta)
    largest = np.abs(dy).max(initial=1) * np.abs(x).max(initial=1) ** 2
    assert_within(ours.local_response_norm_backward(dy, x, scale, size, 0.5, beta), dx, size, largest)


@CHECKS
@given(
    st.integers(0, 9),
    st.sampled_from((0, 1, 2, 3, 5, 17, 20 if SIMULATED else 400)),
    st.sampled_from((1, 2, 10, 33)),
    dtypes,
    seeds,
)
@example(*((3, 12, 8) if SIMULATED else (256, 120, 84)), np.float32, 1)
def test_linear(ours: OnNumPy, n: int, inputs: int, outputs: int, dtype: Any, seed: int) -> None:
    x, weight, bias = (
        normal((n, inputs), seed, dtype),
        normal((outputs, inputs), seed, dtype),
        normal((outputs,), 1, dtype),
    )
    dy = normal((n, outputs), seed, dtype)
    x64, weight64, bias64, dy64 = wide(x, weight, bias, dy)
    assert_within(ours.linear(x, weight, bias), reference.linear(x64, weight64, bias64), inputs)
    assert_within(ours.linear(x, weight, None), reference.linear(x64, weight64, None), inputs)
    assert_within(ours.linear_backward_input(dy, weight), reference.linear_backward_input(dy64, weight64), outputs)
    assert_within(ours.linear_backward_weight(dy, x), reference.linear_backward_weight(dy64, x64), n)
    assert_within(ours.linear_backward_bias(dy), reference.linear_backward_bias(dy64), n, max(1.0, math.sqrt(n)))


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
@CHECKS
@given(shape=shapes, dtype=dtypes, seed=seeds)
def test_activation(ours: OnNumPy, name: str, shape: tuple[int, ...], dtype: Any, seed: int) -> None:
    x, dy = 3 * normal(shape, seed, dtype), normal(shape, seed + 1, dtype)
    x, dy = np.asarray(x, dtype), np.asarray(dy, dtype)
    y64 = getattr(reference, name)(*wide(x))
    assert_within(getattr(ours, name)(x), y64, 1)
    y = np.asarray(y64, dtype)
    dx64 = getattr(reference, f"{name}_backward")(*wide(dy, y))
    # 1 - y^2 and 1 - y cancel where y is near 1.
    assert_within(getattr(ours, f"{name}_backward")(dy, y), dx64, 1, np.abs(dy).max(initial=0))


PARAMETERS = {"hardtanh": (-0.5, 1.5), "softplus": (1.5, 4.0)}
OF_POWERS = {"exp", "log", "power", "root", "square"}
"""Which have no activation's bounds, and tests of their own."""
KINDS = sorted(_FORMULAS.keys() - OF_POWERS)


@pytest.mark.parametrize("kind", KINDS)
@settings(CHECKS, max_examples=6 if SIMULATED else 15)
@given(shape=shapes, dtype=dtypes, seed=seeds)
def test_pointwise(ours: OnNumPy, kind: str, shape: tuple[int, ...], dtype: Any, seed: int) -> None:
    parameters = PARAMETERS.get(kind, (0.75,))
    x, dy = np.asarray(4 * normal(shape, seed, dtype), dtype), np.asarray(normal(shape, seed + 1, dtype))
    y64 = reference.pointwise(*wide(x), kind, parameters)
    # Of GELU 1 is a term, times x.
    assert_within(ours.pointwise(x, kind, parameters), y64, 1, np.abs(x).max(initial=0) if kind == "gelu" else None)
    dx64 = reference.pointwise_backward(*wide(dy, x), kind, parameters)
    assert_within(ours.pointwise_backward(dy, x, kind, parameters), dx64, 1, np.abs(dy).max(initial=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_pointwise_of_the_extremes(ours: OnNumPy, kind: str, dtype: Any) -> None:
    """Small results are as exact as large ones, but of GELU, of which 1 is a term, and of what is hardly a number."""
    values = [-np.inf, -1e30, -1000, -90, -20, -5, -1e-5, -0.0, 0, 1e-5, 5, 20, 90, 1000, 1e30, np.inf, np.nan]
    x, parameters = np.resize(np.array(values, dtype), 45), PARAMETERS.get(kind, (0.75,))
    rtol = 2e-6 if dtype == np.float32 else 1e-13
    atol = rtol if kind == "gelu" else 1000 * np.finfo(dtype).tiny
    y64, y = reference.pointwise(*wide(x), kind, parameters), ours.pointwise(x, kind, parameters)
    np.testing.assert_allclose(y, y64.astype(dtype), rtol=rtol, atol=atol)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    dy = np.resize(np.array([1, -2, 0.5], dtype), 45)
    dx64 = reference.pointwise_backward(*wide(dy, x), kind, parameters)
    # Terms cancel, 1 at most.
    np.testing.assert_allclose(
        ours.pointwise_backward(dy, x, kind, parameters), dx64.astype(dtype), rtol=rtol, atol=rtol
    )
    assert np.isfinite(dx64[~np.isnan(x)]).all()


@CHECKS
@given(shape=shapes, one=st.booleans(), dtype=dtypes, seed=seeds)
@example(shape=(2, 3, 9, 9) if SIMULATED else (4, 3, 90, 90), one=False, dtype=np.float32, seed=1)
@example(shape=(2, 3, 9, 9) if SIMULATED else (4, 300, 9, 9), one=True, dtype=np.float32, seed=1)
def test_prelu(ours: OnNumPy, shape: tuple[int, ...], one: bool, dtype: Any, seed: int) -> None:
    x, dy = np.asarray(normal(shape, seed, dtype)), np.asarray(normal(shape, seed + 1, dtype))
    weight = normal((1,) if one or len(shape) < 2 else shape[1:2], seed, dtype)
    assert_within(ours.prelu(x, weight), reference.prelu(*wide(x, weight)), 1)
    expected = reference.prelu_backward(*wide(dy, x, weight))
    count = x.size // max(weight.size, 1)
    for result, of_reference, terms in zip(ours.prelu_backward(dy, x, weight), expected, (1, count), strict=True):
        assert_within(result, of_reference, terms, math.sqrt(max(terms, 1)) if terms > 1 else None)


@CHECKS
@given(
    shape=st.lists(st.sampled_from((1, 2, 3, 5, 40)), min_size=1, max_size=4).map(tuple),
    place=st.integers(0, 3),
    logarithm=st.booleans(),
    dtype=dtypes,
    seed=seeds,
)
@example(shape=(3, 9) if SIMULATED else (7, 20_011), place=1, logarithm=False, dtype=np.float32, seed=1)
@example(shape=(2, 3, 9) if SIMULATED else (2, 5, 1003), place=1, logarithm=True, dtype=np.float32, seed=1)
@example(shape=(0, 3), place=0, logarithm=True, dtype=np.float32, seed=1)
def test_softmax(ours: OnNumPy, shape: tuple[int, ...], place: int, logarithm: bool, dtype: Any, seed: int) -> None:
    axis = place % len(shape)
    x, dy = 5 * normal(shape, seed, dtype), normal(shape, seed + 1, dtype)
    x += dtype(100)
    y64 = reference.softmax(*wide(x), axis, logarithm)
    assert_within(ours.softmax(x, axis, logarithm), y64, 1)
    y = y64.astype(dtype)
    dx64 = reference.softmax_backward(*wide(dy, y), axis, logarithm)
    scale = max(1.0, math.sqrt(shape[axis])) if logarithm else 1.0
    assert_within(ours.softmax_backward(dy, y, axis, logarithm), dx64, 1, scale * np.abs(dy).max(initial=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_the_extremes(ours: OnNumPy, axis: int, dtype: Any) -> None:
    rows = [
        [1000, 0, -1000],
        [0, -np.inf, 0],
        [np.nan, 0, 0],
        [1e30, -1e30, 1e30],
        [-1000, -1000, -1001],
        [np.inf, 0, 1],
    ]
    x = np.array(rows, dtype)
    x = np.ascontiguousarray(x if axis == 1 else x.T)
    for logarithm in (False, True):
        with np.errstate(all="ignore"):
            expected = reference.softmax(*wide(x), axis, logarithm)
        np.testing.assert_allclose(
            ours.softmax(x, axis, logarithm), expected.astype(dtype), rtol=1e-6, atol=1000 * np.finfo(dtype).tiny
        )
    p = ours.softmax(x, axis)
    np.testing.assert_array_equal(np.isnan(p).all(axis=axis), [False, False, True, False, False, True])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_activations_of_the_extremes(ours: OnNumPy, name: str, dtype: Any) -> None:
    # Enough for whole vectors and a rest.
    x = np.resize(np.array([-np.inf, -1000, -90, -20, -1e-5, -0.0, 0, 1e-5, 20, 90, 1000, np.inf, np.nan], dtype), 45)
    y, expected = getattr(ours, name)(x), getattr(reference, name)(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=np.finfo(dtype).tiny)
    dy = np.resize(np.array([1, np.nan, -2, np.inf], dtype), 45)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(
            getattr(ours, f"{name}_backward")(dy, expected),
            getattr(reference, f"{name}_backward")(dy, expected),
            rtol=1e-5 if dtype == np.float32 else 1e-12,
            atol=np.finfo(dtype).tiny,
        )


@CHECKS
@given(shapes, st.floats(0, 1), st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1), dtypes)
@example((1001,), 0.5, 2**64 - 1, 2**63 - 1, np.float32)
@example((1001,), 1.0, 0, 0, np.float32)
@example((1001,), 0.0, 0, 0, np.float32)
def test_dropout(ours: OnNumPy, shape: tuple[int, ...], p: float, seed: int, offset: int, dtype: Any) -> None:
    x = np.ones(shape, dtype)
    y, expected = (backend.dropout(x, p, seed, np.array(offset)) for backend in (ours, reference))
    np.testing.assert_array_equal(y == 0, expected == 0)
    np.testing.assert_allclose(y, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


@CHECKS
@given(shapes, st.integers(1, 4), dtypes, seeds)
def test_add_and_accumulate(ours: OnNumPy, shape: tuple[int, ...], terms: int, dtype: Any, seed: int) -> None:
    arrays = [np.asarray(normal(shape, seed + i, dtype)) for i in range(terms)]
    np.testing.assert_array_equal(ours.add(arrays), reference.add(arrays))
    target, expected = ours.copy(arrays[0]), reference.copy(arrays[0])
    ours.accumulate(target, arrays[-1])
    reference.accumulate(expected, arrays[-1])
    np.testing.assert_array_equal(target, expected)
    ours.accumulate(target, arrays[0], 0.3)
    reference.accumulate(expected, arrays[0], 0.3)
    np.testing.assert_allclose(target, expected, rtol=1e-6, atol=1e-6)
    ours.fill_zero(target)
    assert not target.any()


@CHECKS
@given(
    st.one_of(shapes, st.tuples(st.integers(0, 3), st.sampled_from((0, 1, 3, 17, 300)), sizes, sizes)),
    st.booleans(),
    dtypes,
    seeds,
)
@example((2, 3, 9, 9) if SIMULATED else (2, 3, 90, 90), True, np.float32, 1)
@example((2, 40, 3, 5) if SIMULATED else (2, 400, 33, 35), True, np.float32, 1)
def test_multiply(ours: OnNumPy, shape: tuple[int, ...], by_channel: bool, dtype: Any, seed: int) -> None:
    factors = (*shape[:2], 1, 1) if by_channel and len(shape) == 4 else shape
    x, y = np.asarray(normal(shape, seed, dtype)), np.asarray(normal(factors, seed + 1, dtype))
    np.testing.assert_array_equal(ours.multiply(x, y), reference.multiply(x, y))
    if len(shape) == 4:
        other = normal(shape, seed + 2, dtype)
        count = shape[2] * shape[3]
        expected = reference.sum_of_products(*wide(x, other))
        assert_within(ours.sum_of_products(x, other), expected, count, math.sqrt(max(count, 1)))


@CHECKS
@given(
    st.integers(0, 3),
    st.tuples(*[st.integers(0, 5)] * 3),
    st.sampled_from(((), (3,), (2, 5), (17, 31), (0, 2))),
    dtypes,
    seeds,
)
def test_channels_are_put_taken_and_added(
    ours: OnNumPy, n: int, sizes: tuple[int, int, int], rest: tuple[int, ...], dtype: Any, seed: int
) -> None:
    before, count, _ = sizes
    whole, part = normal((n, sum(sizes), *rest), seed, dtype), normal((n, count, *rest), seed + 1, dtype)
    expected = whole.copy()
    ours.put_channels(whole, part, before)
    reference.put_channels(expected, part, before)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(ours.take_channels(whole, before, count), part)
    ours.add_channels(whole, part)
    reference.add_channels(expected, part)
    np.testing.assert_array_equal(whole, expected)


@CHECKS
@given(image_shapes, sizes, sizes, dtypes, seeds)
def test_flip_and_crop(ours: OnNumPy, shape: tuple[int, ...], oh: int, ow: int, dtype: Any, seed: int) -> None:
    rng, (n, _, h, w) = np.random.default_rng(seed), shape
    x = normal(shape, seed, dtype)
    top, left, mirror = rng.integers(-oh - 1, h + 2, n), rng.integers(-ow - 1, w + 2, n), rng.integers(0, 2, n)
    expected = reference.flip_and_crop(x, top, left, mirror, oh, ow)
    np.testing.assert_array_equal(ours.flip_and_crop(x, top, left, mirror, oh, ow), expected)


@CHECKS
@given(image_shapes, dtypes, seeds)
def test_normalize_images(ours: OnNumPy, shape: tuple[int, ...], dtype: Any, seed: int) -> None:
    x, mean, std = (
        normal(shape, seed, dtype),
        normal(shape[1:2], seed, dtype),
        0.5 + normal(shape[1:2], seed, dtype) ** 2,
    )
    expected = reference.normalize_images(*wide(x, mean, std))
    assert_within(ours.normalize_images(x, mean, std), expected, 1)


@CHECKS
@given(image_shapes, dtypes, seeds)
@example((3, 3, 17, 8), np.float32, 1)
def test_jitter_colors(ours: OnNumPy, shape: tuple[int, ...], dtype: Any, seed: int) -> None:
    rng, (n, _, h, w) = np.random.default_rng(seed), shape
    # Few levels, so that channels are often equal.
    x = (rng.integers(0, 5, (n, 3, h, w)) / 4).astype(dtype)
    factors = [rng.uniform(low, high, n).astype(dtype) for low, high in [(0, 2)] * 3 + [(-0.5, 0.5)]]
    assert_within(ours.jitter_colors(x, *factors), reference.jitter_colors(*wide(x, *factors)), 10, 1.0)


@CHECKS
@given(st.integers(0, 9), st.sampled_from((1, 2, 3, 10, 17)), st.sampled_from((0.0, 0.1, 1.0)), dtypes, seeds)
@example(23 if SIMULATED else 257, 10, 0.1, np.float32, 1)
def test_cross_entropy(ours: OnNumPy, n: int, classes: int, label_smoothing: float, dtype: Any, seed: int) -> None:
    logits = 3 * normal((n, classes), seed, dtype)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    options = (None, -100, label_smoothing)
    loss, probabilities, _ = ours.softmax_cross_entropy(logits, labels, *options, "sum")
    expected_loss, expected_probabilities, _ = reference.softmax_cross_entropy(*wide(logits), labels, *options, "sum")
    # A loss is accurate to the magnitude of the logits it is a difference of.
    tolerance = (1e-6 if dtype == np.float32 else 1e-14) * max(n, 1) * np.abs(logits).max(initial=1)
    assert abs(loss - expected_loss) <= tolerance
    assert_within(probabilities, expected_probabilities, classes)
    assert_within(ours.softmax(logits, 1), expected_probabilities, classes)
    gradient = ours.softmax_cross_entropy_backward(np.array(0.25), probabilities, labels, *options)
    expected = reference.softmax_cross_entropy_backward(np.array(0.25), *wide(probabilities), labels, *options)
    assert_within(gradient, expected, 1, 0.25)
    assert ours.count_correct(logits, labels) == reference.count_correct(logits, labels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_the_extremes(ours: OnNumPy, dtype: Any) -> None:
    logits = np.array([[1000, 0, -1000], [0, -np.inf, 0], [np.nan, 0, 0], [-1000, -1000, 1000]], dtype)
    labels = np.array([0, 0, 1, 0])
    for rows in (slice(0, 2), slice(2, 3), slice(3, 4)):
        loss, probabilities, _ = ours.softmax_cross_entropy(logits[rows], labels[rows])
        expected_loss, expected_probabilities, _ = reference.softmax_cross_entropy(logits[rows], labels[rows])
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
        np.testing.assert_allclose(probabilities, expected_probabilities, rtol=1e-5)


@CHECKS
@given(
    st.sampled_from(((0,), (3,), (2, 3, 4), (3, 0, 2), (1, 9, 5))),
    st.sampled_from((1, 2, 3, 17)),
    st.sampled_from(("labels", "probabilities", "nll")),
    st.booleans(),
    st.sampled_from((0.0, 0.1, 1.0)),
    st.sampled_from(("mean", "sum", "none")),
    dtypes,
    seeds,
)
@example((2, 3, 4), 17, "labels", True, 0.1, "mean", np.float32, 1)
@example((70,), 3, "probabilities", True, 0.1, "none", np.float32, 1)
def test_weighted_cross_entropy(
    ours: OnNumPy, positions: Any, classes: int, kind: str, weighted: bool, smoothing: float, reduction: Any,
    dtype: Any, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = (positions[0], classes, *positions[1:])
    logits = 3 * normal(shape, seed, dtype)
    target: Any = rng.integers(0, classes, positions)
    target[rng.random(positions) < 0.3] = 99
    if kind == "probabilities":
        target = reference.softmax(normal(shape, seed + 1, dtype), 1)
    weight = rng.uniform(0, 2, classes).astype(dtype) * (rng.random(classes) > 0.2).astype(dtype) if weighted else None
    of_float64 = [x.astype(np.float64) if x is not None and x.dtype == dtype else x for x in (target, weight)]
    each = normal(positions, seed + 2, dtype)
    if kind == "nll":
        loss, scale = ours.nll_loss(logits, target, weight, 99, reduction)
        expected, expected_scale = reference.nll_loss(*wide(logits), *of_float64, 99, reduction)
    else:
        options = (99, smoothing)
        loss, p, scale = ours.softmax_cross_entropy(logits, target, weight, *options, reduction)
        expected, expected_p, expected_scale = reference.softmax_cross_entropy(
            *wide(logits), *of_float64, *options, reduction
        )
        assert_within(p, expected_p, classes)
    unit = (1e-6 if dtype == np.float32 else 1e-13) * np.abs(logits).max(initial=1)
    np.testing.assert_allclose(scale, expected_scale, rtol=1e-6 if dtype == np.float32 else 1e-13)
    count = max(each.size, 1) if reduction == "sum" else 1
    np.testing.assert_allclose(loss, expected, rtol=10 * unit, atol=10 * unit * count)
    assert loss.dtype == (dtype if reduction == "none" else np.float64)
    for factor in (np.array(0.25), each):
        if kind == "nll":
            gradient = ours.nll_loss_backward(factor, logits, target, weight, 99)
            expected = reference.nll_loss_backward(*wide(factor, logits), *of_float64, 99)
        else:
            gradient = ours.softmax_cross_entropy_backward(factor, p, target, weight, *options)
            expected = reference.softmax_cross_entropy_backward(*wide(factor, p), *of_float64, *options)
        assert_within(gradient, expected, 1, max(2.0, np.abs(factor).max(initial=0) * 4))


@CHECKS
@given(
    shapes,
    st.sampled_from(("squared", "smooth_l1", "huber", "logistic")),
    st.sampled_from((0.0, 0.5, 2.0)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from((0.0, 1.0, -0.3, 1 / 256)),
    dtypes,
    seeds,
)
@example((3, 5, 9, 70), "smooth_l1", 0.0, (False, False, False), 1.0, np.float32, 1)
def test_pointwise_losses(
    ours: OnNumPy, shape: Any, kind: Any, parameter: float, given: Any, scale: float, dtype: Any, seed: int
) -> None:
    # Of these numbers no difference is nearer to a parameter, where slopes jump, than rounding takes it.
    rng = np.random.default_rng(seed)
    prediction, target = (np.asarray(rng.integers(-40, 40, shape) * 0.1 + 0.03 * i, dtype) for i in range(2))
    weight, more, dy = (
        np.asarray(normal(shape, seed + i, dtype)) if is_given else None for i, is_given in enumerate(given)
    )
    arrays, doubles = (
        (prediction, target, kind, parameter, weight, more),
        (*wide(prediction, target), kind, parameter, *(None if x is None else wide(x)[0] for x in (weight, more))),
    )
    size = np.abs(reference.pointwise_loss(*doubles)).max(initial=1)
    assert_within(ours.pointwise_loss(*arrays), reference.pointwise_loss(*doubles), 1, size)
    total, expected = ours.pointwise_loss_sum(*arrays, scale), reference.pointwise_loss_sum(*doubles, scale)
    unit = 1e-6 if dtype == np.float32 else 1e-13
    assert abs(total - expected) <= unit * abs(scale) * max(np.abs(reference.pointwise_loss(*doubles)).sum(), 1)
    gradient = ours.pointwise_loss_backward(dy, *arrays, scale)
    wide_dy = None if dy is None else wide(dy)[0]
    assert_within(gradient, reference.pointwise_loss_backward(wide_dy, *doubles, scale), 1, 20.0)


@CHECKS
@given(
    st.sampled_from(((0,), (3,), (70,), (2, 3, 4), (3, 0, 2))),
    st.sampled_from((1, 2, 3, 17)),
    st.integers(1, 4),
    dtypes,
    seeds,
)
def test_counts_of_answers(
    ours: OnNumPy, positions: tuple[int, ...], classes: int, k: int, dtype: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, 4, (positions[0], classes, *positions[1:])).astype(dtype)  # of which many are equal
    logits[rng.random(logits.shape) < 0.1] = np.nan
    labels = rng.integers(-1, classes + 1, positions)
    np.testing.assert_array_equal(ours.largest_classes(logits), logits.argmax(axis=1))
    np.testing.assert_array_equal(reference.largest_classes(logits), logits.argmax(axis=1))
    for ignored in (-1, 0):
        arguments = (logits, labels, k, ignored)
        np.testing.assert_array_equal(ours.count_correct(*arguments), reference.count_correct(*arguments))
        counts = ours.count_classes(logits, labels, ignored)
        np.testing.assert_array_equal(counts, reference.count_classes(logits, labels, ignored))
        assert counts[2].sum() == ours.count_correct(logits, labels, 1, ignored)


@CHECKS
@given(shapes, st.integers(0, 4), st.integers(0, 15), dtypes, seeds)
def test_expand(ours: OnNumPy, shape: tuple[int, ...], dropped: int, ones: int, dtype: Any, seed: int) -> None:
    sizes = tuple(1 if ones >> axis & 1 else size for axis, size in enumerate(shape))[dropped:]
    x = np.asarray(normal(sizes, seed, dtype))
    np.testing.assert_array_equal(ours.expand(x, shape), np.broadcast_to(x, shape))


@CHECKS
@given(st.integers(0, 40), st.integers(1, 5), seeds)
def test_count_correct_with_ties(ours: OnNumPy, n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(0, 3, (n, classes)).astype(np.float32), rng.integers(0, classes, n)
    assert ours.count_correct(logits, labels) == reference.count_correct(logits, labels)


def check_updates(
    update: Callable[..., None], expected_update: Callable[..., None], targets: list[np.ndarray], gradient: np.ndarray
) -> None:
    """Three steps of both, each backend on its own copies."""
    copies = wide(*targets)
    for step in range(1, 4):
        update(step, gradient, *targets)
        expected_update(step, *wide(gradient), *copies)
    for result, expected in zip(targets, copies, strict=True):
        assert_within(result, expected, 10, max(1.0, np.abs(expected).max(initial=0)))


@CHECKS
@given(shapes, st.sampled_from((0.0, 0.9)), st.booleans(), st.sampled_from((0.0, 0.1)), dtypes, seeds)
def test_sgd_step(
    ours: OnNumPy, shape: tuple[int, ...], momentum: float, nesterov: bool, weight_decay: float, dtype: Any, seed: int
) -> None:
    parameter, gradient, velocity = (np.array(normal(shape, seed + i, dtype)) for i in range(3))
    settings = np.array([0.05, momentum, weight_decay])

    def updates(backend: Any) -> Callable[..., None]:
        def update(step: int, gradient: np.ndarray, parameter: np.ndarray, velocity: np.ndarray | None = None) -> None:
            backend.sgd_step(parameter, gradient, velocity, settings, nesterov)

        return update

    targets = [parameter, velocity] if momentum else [parameter]
    check_updates(updates(ours), updates(reference), targets, gradient)


@CHECKS
@given(shapes, st.booleans(), st.sampled_from((0.0, 0.1)), dtypes, seeds)
def test_adam_step(
    ours: OnNumPy, shape: tuple[int, ...], decoupled: bool, weight_decay: float, dtype: Any, seed: int
) -> None:
    parameter, gradient = (np.array(normal(shape, seed + i, dtype)) for i in range(2))
    settings = np.array([0.05, 0.9, 0.99, 1e-3, weight_decay])

    def updates(backend: Any) -> Callable[..., None]:
        def update(step: int, gradient: np.ndarray, parameter: np.ndarray, m: np.ndarray, v: np.ndarray) -> None:
            backend.adam_step(parameter, gradient, m, v, np.array(step), settings, decoupled)

        return update

    targets = [parameter, np.zeros(shape, dtype), np.zeros(shape, dtype)]
    check_updates(updates(ours), updates(reference), targets, gradient)


@CHECKS
@given(shapes, st.booleans(), st.sampled_from((0.0, 0.1)), dtypes, seeds)
def test_nadam_step(
    ours: OnNumPy, shape: tuple[int, ...], decoupled: bool, weight_decay: float, dtype: Any, seed: int
) -> None:
    parameter, gradient = (np.array(normal(shape, seed + i, dtype)) for i in range(2))
    settings, products = np.array([0.05, 0.9, 0.99, 1e-3, weight_decay, 0.5]), (np.array(1.0), np.array(1.0))

    def updates(backend: Any, product: np.ndarray) -> Callable[..., None]:
        def update(step: int, gradient: np.ndarray, parameter: np.ndarray, m: np.ndarray, v: np.ndarray) -> None:
            backend.nadam_step(parameter, gradient, m, v, product, np.array(step), settings, decoupled)

        return update

    targets = [parameter, np.zeros(shape, dtype), np.zeros(shape, dtype)]
    check_updates(updates(ours, products[0]), updates(reference, products[1]), targets, gradient)
    np.testing.assert_allclose(*products, rtol=1e-14)


@CHECKS
@given(shapes, st.booleans(), st.sampled_from((0.0, 0.9)), st.sampled_from((0.0, 0.1)), dtypes, seeds)
def test_rmsprop_step(
    ours: OnNumPy, shape: tuple[int, ...], centered: bool, momentum: float, weight_decay: float, dtype: Any, seed: int
) -> None:
    parameter, gradient = (np.array(normal(shape, seed + i, dtype)) for i in range(2))
    settings = np.array([0.05, 0.9, 1e-3, weight_decay, momentum])

    def updates(backend: Any) -> Callable[..., None]:
        def update(step: int, gradient: np.ndarray, parameter: np.ndarray, v: np.ndarray, *others: np.ndarray) -> None:
            mean = others[0] if centered else None
            backend.rmsprop_step(parameter, gradient, v, mean, others[-1] if momentum else None, settings)

        return update

    # Squares above those of the mean, so that little cancels.
    targets = [parameter, np.array(1 + gradient**2), *[np.zeros(shape, dtype)] * centered]
    targets += [np.array(normal(shape, seed + 2, dtype))] * bool(momentum)
    check_updates(updates(ours), updates(reference), targets, gradient)


@CHECKS
@given(shapes, st.sampled_from((0.0, 0.5)), st.sampled_from((0.0, 0.1)), dtypes, seeds)
def test_adagrad_step(
    ours: OnNumPy, shape: tuple[int, ...], lr_decay: float, weight_decay: float, dtype: Any, seed: int
) -> None:
    parameter, gradient = (np.array(normal(shape, seed + i, dtype)) for i in range(2))
    settings = np.array([0.05, lr_decay, 1e-3, weight_decay])

    def updates(backend: Any) -> Callable[..., None]:
        def update(step: int, gradient: np.ndarray, parameter: np.ndarray, squares: np.ndarray) -> None:
            backend.adagrad_step(parameter, gradient, squares, np.array(step), settings)

        return update

    check_updates(updates(ours), updates(reference), [parameter, np.full(shape, 0.1, dtype)], gradient)


@CHECKS
@given(shapes, st.sampled_from((0.0, 0.1)), dtypes, seeds)
def test_lion_step(ours: OnNumPy, shape: tuple[int, ...], weight_decay: float, dtype: Any, seed: int) -> None:
    parameter, gradient = (np.array(normal(shape, seed + i, dtype)) for i in range(2))
    settings = np.array([0.05, 0.9, 0.99, weight_decay])

    def updates(backend: Any) -> Callable[..., None]:
        def update(step: int, gradient: np.ndarray, parameter: np.ndarray, average: np.ndarray) -> None:
            backend.lion_step(parameter, gradient, average, settings)

        return update

    check_updates(updates(ours), updates(reference), [parameter, np.zeros(shape, dtype)], gradient)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["adam", "nadam", "rmsprop", "adagrad", "lion"])
def test_optimizer_steps_of_the_extremes(ours: OnNumPy, name: str, dtype: Any) -> None:
    gradient = np.resize(np.array([-np.inf, -1e3, -0.0, 0, 1e-3, 1e3, np.inf, np.nan], dtype), 45)
    step = np.array(1)

    def targets(kind: Any) -> list[np.ndarray]:
        return [np.ones(45, kind), *(np.zeros(45, kind) for _ in range(3))]

    calls: dict[str, Callable[..., None]] = {
        "adam": lambda b, g, p, m, v, _: b.adam_step(p, g, m, v, step, np.array([0.1, 0.9, 0.99, 1e-8, 0.1]), True),
        "nadam": lambda b, g, p, m, v, _: b.nadam_step(
            p, g, m, v, np.array(1.0), step, np.array([0.1, 0.9, 0.99, 1e-8, 0.1, 0.004]), False
        ),
        "rmsprop": lambda b, g, p, v, m, u: b.rmsprop_step(p, g, v, m, u, np.array([0.1, 0.9, 1e-3, 0.0, 0.5])),
        "adagrad": lambda b, g, p, v, *_: b.adagrad_step(p, g, v, step, np.array([0.1, 0.5, 1e-3, 0.0])),
        "lion": lambda b, g, p, m, *_: b.lion_step(p, g, m, np.array([0.1, 0.9, 0.99, 0.1])),
    }
    found, expected = targets(dtype), targets(np.float64)
    with np.errstate(invalid="ignore"):
        calls[name](ours, gradient, *found)
        calls[name](reference, gradient.astype(np.float64), *expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4 if dtype == np.float32 else 1e-9)
    assert np.isnan(found[0][7]) and np.isfinite(found[0][1:6]).all()


@CHECKS
@given(st.integers(1, 70), st.floats(0, 1), st.floats(0.5, 2), dtypes, seeds)
def test_update_running_average(
    ours: OnNumPy, c: int, momentum: float, correction: float, dtype: Any, seed: int
) -> None:
    average, value = normal((c,), seed, dtype), normal((c,), seed + 1, dtype)
    (expected,) = wide(average)
    reference.update_running_average(expected, *wide(value), momentum, correction)
    ours.update_running_average(average, value, momentum, correction)
    assert_within(average, expected, 1, 4.0)
