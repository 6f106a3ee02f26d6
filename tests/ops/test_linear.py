"""The fully connected layer."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import ops


def integers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-5, 6, shape).astype(np.float32)


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (4, 3), (17, 5)])
def test_values_and_gradients(backend, leading, features, outputs):
    x, weight, bias = integers(0, *leading, features), integers(1, outputs, features), integers(2, outputs)
    dy = integers(3, *leading, outputs)
    np.testing.assert_array_equal(backend.to_numpy(ops.linear(x, weight)), x @ weight.T)
    np.testing.assert_array_equal(backend.to_numpy(ops.linear(x, weight, bias)), x @ weight.T + bias)
    dx, dweight, dbias = (backend.to_numpy(gradient) for gradient in ops.linear_backward(dy, x, weight))
    np.testing.assert_array_equal(dx, dy @ weight)
    rows = dy.reshape(-1, outputs) if dy.size else np.zeros((0, outputs))
    np.testing.assert_array_equal(dweight, rows.T @ (x.reshape(-1, features) if x.size else np.zeros((0, features))))
    np.testing.assert_array_equal(dbias, rows.sum(axis=0))


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activations(backend, activation):
    x, weight, bias = integers(0, 2, 3, 4), integers(1, 5, 4), integers(2, 5)
    expected = getattr(ops, activation)(ops.linear(x, weight, bias))
    actual = ops.linear(x, weight, bias, activation=activation)
    np.testing.assert_array_equal(backend.to_numpy(actual), backend.to_numpy(expected))


def test_without_input_gradient(backend):
    x, weight, dy = integers(0, 4, 3), integers(1, 2, 3), integers(2, 4, 2)
    nothing, dweight, dbias = ops.linear_backward(dy, x, weight, input_gradient=False)
    assert nothing is None
    np.testing.assert_array_equal(backend.to_numpy(dweight), dy.T @ x)
    np.testing.assert_array_equal(backend.to_numpy(dbias), dy.sum(axis=0))
