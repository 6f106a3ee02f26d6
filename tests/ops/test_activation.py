"""Activations against their textbook formulas, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from numbacnn import ops


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def elu(x: float, alpha: float, scale: float = 1.0) -> float:
    return scale * (x if x > 0 else alpha * (math.exp(x) - 1))


def soft(x: float, beta: float = 1.0) -> float:
    return math.log(1 + math.exp(beta * x)) / beta


FORMULAS: dict[str, tuple[Callable[[float], float], tuple[object, ...]]] = {
    "celu": (lambda x: x if x > 0 else 1.5 * (math.exp(x / 1.5) - 1), (1.5,)),
    "elu": (lambda x: elu(x, 1.5), (1.5,)),
    "gelu": (lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2, ()),
    "gelu, tanh": (lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2, ("tanh",)),
    "hardsigmoid": (lambda x: min(max(x / 6 + 0.5, 0), 1), ()),
    "hardswish": (lambda x: x * min(max(x / 6 + 0.5, 0), 1), ()),
    "hardtanh": (lambda x: min(max(x, -0.7), 1.3), (-0.7, 1.3)),
    "leaky_relu": (lambda x: x if x > 0 else 0.2 * x, (0.2,)),
    "mish": (lambda x: x * math.tanh(soft(x)), ()),
    "relu6": (lambda x: min(max(x, 0), 6), ()),
    "selu": (lambda x: elu(x, 1.6732632423543772, 1.0507009873554805), ()),
    "silu": (lambda x: x * sigmoid(x), ()),
    "softplus": (lambda x: soft(x, 2.0), (2.0,)),
    "softsign": (lambda x: x / (1 + abs(x)), ()),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients(backend, name: str, dtype: type) -> None:
    formula, arguments = FORMULAS[name]
    operation = name.partition(",")[0]
    # None of them is where a function bends.
    x = np.linspace(-8.013, 8.017, 40).reshape(2, 4, 5)
    dy = np.random.default_rng(0).normal(size=x.shape)
    y = getattr(ops, operation)(x.astype(dtype), *arguments)
    dx = getattr(ops, f"{operation}_backward")(dy.astype(dtype), x.astype(dtype), *arguments)
    assert y.dtype == dx.dtype == dtype
    of_each = np.vectorize(formula, otypes=[np.float64])
    slope = (of_each(x + 1e-5) - of_each(x - 1e-5)) / 2e-5
    tolerance = 3e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(backend.to_numpy(y), of_each(x), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(backend.to_numpy(dx), dy * slope, rtol=1e-5, atol=1e-5)


def test_softplus_is_the_identity_above_its_threshold(backend) -> None:
    x = np.array([1.9, 2.1])
    np.testing.assert_allclose(backend.to_numpy(ops.softplus(x, 2.0, 4.0)), [soft(1.9, 2.0), 2.1], rtol=1e-14)
    dx = backend.to_numpy(ops.softplus_backward(np.ones(2), x, 2.0, 4.0))
    np.testing.assert_allclose(dx, [sigmoid(3.8), 1], rtol=1e-14)


def test_slopes_of_channels(backend) -> None:
    x = np.array([[[-1.0, 2.0], [-3.0, -4.0]], [[5.0, -6.0], [7.0, 8.0]]])
    y = backend.to_numpy(ops.prelu(x, np.array([0.5, 0], np.float32)))
    np.testing.assert_array_equal(y, [[[-0.5, 2], [0, 0]], [[5, -3], [7, 8]]])
    assert y.dtype == np.float32  # of the weight, which is no array of float64
    dx, dweight = ops.prelu_backward(np.ones_like(x), x, np.array([0.5, 0.0]))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[0.5, 1], [0, 0]], [[1, 0.5], [1, 1]]])
    np.testing.assert_array_equal(backend.to_numpy(dweight), [-7, -7])
    np.testing.assert_array_equal(backend.to_numpy(ops.prelu_backward(np.ones_like(x), x, np.array([2.0]))[1]), [-14])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.prelu(np.ones((2, 3)), np.ones(2)),
            r"`weight` \(2,\) must have the shape \(1,\) or \(3,\) for `x`",
        ),
        (lambda: ops.prelu(np.ones(2), np.ones(2)), r"`weight` \(2,\) must have the shape \(1,\) for `x` \(2,\)"),
        (
            lambda: ops.prelu_backward(np.ones(3), np.ones(2), np.ones(1)),
            r"`dy` \(3,\) must have the shape \(2,\) of `x`",
        ),
        (lambda: ops.silu_backward(np.ones(3), np.ones(2)), r"`dy` \(3,\) must have the shape \(2,\) of `x`"),
        (lambda: ops.gelu(1.0, "fast"), "`approximate` 'fast' must be one of 'none', 'tanh'"),
        (lambda: ops.hardtanh(1.0, 2, 1), "`min_val` 2 must be below `max_val` 1"),
    ],
)
def test_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
