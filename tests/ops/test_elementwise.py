"""Activations, dropout, sums and concatenations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import ops

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4, 5), (0, 3), (2, 0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_and_their_gradients(backend, shape, dtype):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    formulas = {
        "relu": (lambda x: np.maximum(x, 0), lambda y: y > 0),
        "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y)),
        "tanh": (np.tanh, lambda y: 1 - y * y),
    }
    for name, (value, slope) in formulas.items():
        y = getattr(ops, name)(x)
        # Slopes of what is near 1 are differences from it, of as many units in the last place as y is off.
        tolerance = {"rtol": 10 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}
        np.testing.assert_allclose(backend.to_numpy(y), value(x), **tolerance)
        dx = getattr(ops, f"{name}_backward")(dy, y)
        np.testing.assert_allclose(backend.to_numpy(dx), dy * slope(value(x)), **tolerance)
        assert y.dtype == dx.dtype == dtype
        assert tuple(y.shape) == tuple(dx.shape) == shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_do_not_overflow(backend, dtype):
    x = np.array([-np.inf, -1e4, -90, 0, 90, 1e4, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(backend.to_numpy(ops.relu(x)), [0, 0, 0, 0, 90, 1e4, np.inf, np.nan])
    sigmoid = backend.to_numpy(ops.sigmoid(x))
    np.testing.assert_allclose(sigmoid, [0, 0, np.exp(-90.0), 0.5, 1, 1, 1, np.nan], rtol=1e-5, atol=1e-38)
    np.testing.assert_array_equal(backend.to_numpy(ops.tanh(x)), [-1, -1, -1, 0, 1, 1, 1, np.nan])


def test_relu_stops_the_gradient_at_zero_and_lets_it_through_at_nan(backend):
    dx = ops.relu_backward(np.array([1.0, 2.0, 3.0]), np.array([0.0, 5.0, np.nan]))
    np.testing.assert_array_equal(backend.to_numpy(dx), [0, 2, 3])


@given(n=st.integers(0, 4), classes=st.integers(1, 12), shift=st.sampled_from([0, -1e4, 1e4]))
@settings(max_examples=20)
def test_softmax(backend, n, classes, shift):
    x = np.random.default_rng(n).normal(size=(n, classes))
    y = backend.to_numpy(ops.softmax(x + shift))
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-9)


def test_dropout_scales_what_it_keeps(backend):
    x = np.random.default_rng(0).normal(size=(50, 40))
    for p in (0.25, 0.5, 0.9):
        y = backend.to_numpy(ops.dropout(x, p, seed=1, offset=2))
        kept = y != 0
        np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-12)
        # Five standard deviations of a binomial count.
        assert abs(kept.sum() - 2000 * (1 - p)) < 5 * np.sqrt(2000 * p * (1 - p))


def test_dropout_of_nothing_and_of_everything(backend):
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(backend.to_numpy(ops.dropout(x, 0, 0, 0)), x)
    np.testing.assert_array_equal(backend.to_numpy(ops.dropout(x, 1, 0, 0)), np.zeros((3, 5)))


def test_dropout_masks_depend_on_seed_offset_and_position_alone(backend):
    ones = np.ones(1000)
    masks = {
        key: backend.to_numpy(ops.dropout(ones, 0.5, *key)) for key in ((0, 0), (0, 1), (1, 0), (2**63, 0), (0, 2**40))
    }
    np.testing.assert_array_equal(backend.to_numpy(ops.dropout(ones.reshape(10, 100), 0.5, 0, 0)).ravel(), masks[0, 0])
    np.testing.assert_array_equal(backend.to_numpy(ops.dropout(ones[:333], 0.5, 0, 0)), masks[0, 0][:333])
    keys = list(masks)
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(masks[key], ops.dropout(ones, 0.5, *key, backend="reference"))
        for other in keys[:i]:
            assert 350 < (masks[key] != masks[other]).sum() < 650


def test_dropout_takes_its_offset_from_an_array_too(backend):
    x, offset = np.ones(100, np.float32), backend.asarray(np.array(2**40 + 3))
    expected = backend.to_numpy(ops.dropout(x, 0.5, 1, 2**40 + 3))
    np.testing.assert_array_equal(backend.to_numpy(ops.dropout(x, 0.5, 1, offset)), expected)
    np.testing.assert_array_equal(backend.to_numpy(ops.dropout(x, 0.5, 1, np.int64(2**40 + 3))), expected)


@pytest.mark.parametrize("offset", [np.zeros((), np.float32), np.zeros(1, np.int64), np.zeros((), np.int32)])
def test_an_array_that_is_no_offset(backend, offset):
    with pytest.raises(TypeError, match=r"`offset` \(.*\) of dtype .* must be an int, or int64 of shape \(\)"):
        ops.dropout([1.0], 0.5, 0, backend.asarray(offset))


def test_add_sums_one_or_more(backend):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 3, 4)).astype(np.float32) for _ in range(4)]
    for count in range(1, 5):
        expected = arrays[0].copy()
        for array in arrays[1:count]:
            expected += array
        np.testing.assert_array_equal(backend.to_numpy(ops.add(arrays[:count])), expected)


@pytest.mark.parametrize("rest", [(), (5,), (4, 5)], ids=str)
@pytest.mark.parametrize(("n", "sizes"), [(2, [3]), (2, [1, 2, 3]), (0, [1, 2]), (2, [2, 0, 1])], ids=str)
def test_concat_and_its_inverse(backend, rest, n, sizes):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, size, *rest)) for size in sizes]
    y = ops.concat(arrays)
    np.testing.assert_array_equal(backend.to_numpy(y), np.concatenate(arrays, axis=1))
    parts = ops.concat_backward(y, sizes)
    assert isinstance(parts, list)
    for part, array in zip(parts, arrays, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(part), array)


@pytest.mark.parametrize(
    ("shape", "start_dim", "expected"),
    [
        ((2, 3, 4, 5), 1, (2, 60)),
        ((2, 3, 4, 5), 0, (120,)),
        ((2, 3, 4, 5), 2, (2, 3, 20)),
        ((2, 3), 1, (2, 3)),
        ((2, 3), 2, (2, 3, 1)),
        ((2,), 1, (2, 1)),
        ((0, 3, 4), 1, (0, 12)),
    ],
)
def test_flatten_joins_axes_in_row_major_order(backend, shape, start_dim, expected):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y = backend.to_numpy(ops.flatten(x, start_dim))
    assert y.shape == expected
    np.testing.assert_array_equal(y.ravel(), x.ravel())


def test_copy(backend):
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(backend.to_numpy(ops.copy(x.T)), x.T)


def test_float64_in_any_argument_makes_the_result_float64(backend):
    single, double = np.ones((2, 3), np.float32), np.ones((2, 3))
    assert ops.add([single, single]).dtype == np.float32
    assert ops.add([single, double]).dtype == np.float64
    assert ops.concat([double, single]).dtype == np.float64
    assert ops.relu_backward(single, double).dtype == np.float64


@pytest.mark.parametrize("factors", [(2, 3, 4, 5), (2, 3, 1, 1)], ids=str)
def test_products_and_their_gradients(backend, factors):
    rng = np.random.default_rng(0)
    x, y, dy = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=factors), rng.normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(backend.to_numpy(ops.multiply(x, y)), x * y, rtol=1e-14)
    dx, of_y = (backend.to_numpy(each) for each in ops.multiply_backward(dy, x, y))
    np.testing.assert_allclose(dx, dy * y, rtol=1e-14)
    np.testing.assert_allclose(of_y, dy * x if factors == x.shape else (dy * x).sum((2, 3), keepdims=True), rtol=1e-12)
    assert of_y.shape == factors


def test_factors_are_of_one_shape_or_a_number_for_each_channel():
    x = np.ones((2, 3, 4, 5))
    for shape in [(2, 3), (1, 3, 1, 1), (2, 1, 4, 5), (4, 5), ()]:
        with pytest.raises(ValueError, match=r"`y` .* must have the shape \(2, 3, 4, 5\) or \(2, 3, 1, 1\)"):
            ops.multiply(x, np.ones(shape))
    with pytest.raises(ValueError, match=r"`y` \(3, 1\) must have the shape \(3, 2\) for"):
        ops.multiply(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"`dy` \(2, 3, 1, 1\) must have the shape \(2, 3, 4, 5\) of `x`"):
        ops.multiply_backward(np.ones((2, 3, 1, 1)), x, np.ones((2, 3, 1, 1)))
