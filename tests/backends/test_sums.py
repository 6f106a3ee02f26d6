"""Long sums: of 10^7 equal numbers they are right to 1e-6, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba.core import config

from numbacnn import backends
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from tests.strategies import SIMULATED

AVAILABLE = [name for name, reason in backends.available().items() if reason is None]
BOUND = 1e-6
# Numbers whose float32 sums drift to either side.
VALUES = [0.1, 0.3, 1.7]


def side(name: str) -> int:
    """Of a square of about 10^7 numbers; fewer where each is a step of Python's."""
    return 40 if (name == "cuda" and SIMULATED) or (name == "cpu" and config.DISABLE_JIT) else 3163


def error(backend: Any, result: Any, expected: float) -> float:
    values = backend.to_numpy(result).astype(np.float64)
    return float(np.abs(values / expected - 1).max())


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", AVAILABLE)
def test_sums_per_channel_and_feature(name: str, value: float) -> None:
    backend, n = backends.get(name), side(name)
    x = backend.asarray(np.full((1, 1, n, n), value, np.float32))
    ones, third = backend.asarray(np.ones(1, np.float32)), backend.asarray(np.full(1, 0.25, np.float32))
    exact = float(np.float32(value))
    flat = x.reshape((1, 1, n * n))
    assert error(backend, backend.conv2d_backward_bias(x), exact * n * n) <= BOUND
    assert error(backend, backend.linear_backward_bias(x.reshape((n * n, 1))), exact * n * n) <= BOUND
    assert error(backend, backend.batch_norm_train(flat, ones, ones, 1e-5)[1], exact) <= BOUND
    negative = backend.asarray(np.full((1, 1, n, n), -value, np.float32))
    _, dweight = backend.prelu_backward(x, negative, third)
    assert error(backend, dweight, -exact * exact * n * n) <= BOUND
    assert error(backend, backend.sum_of_products(x, x), exact * exact * n * n) <= BOUND
    for shape, groups in (((1, 1, n * n), 1), ((n, 1, n), 1), ((1, n, n), n), ((n * n, 1), 1), ((1, n * n), 1)):
        of_shape, c = x.reshape(shape), shape[1]
        assert error(backend, backend.group_norm(of_shape, None, None, groups, 1e-5)[1], exact) <= BOUND
        weight, of_groups = (backend.asarray(np.ones(size, np.float32)) for size in (c, (shape[0], groups)))
        mean = backend.asarray(np.full((shape[0], groups), 0.25, np.float32))
        _, dweight, dbias = backend.group_norm_backward(of_shape, of_shape, weight, mean, of_groups, groups)
        assert error(backend, dbias, exact * n * n / c) <= BOUND
        assert error(backend, dweight, exact * (exact - 0.25) * n * n / c) <= BOUND
    image = backend.group_norm_backward(x, x, ones, third.reshape((1, 1)), ones.reshape((1, 1)), 1)
    assert error(backend, image[2], exact * n * n) <= BOUND
    assert error(backend, backend.group_norm(x, None, None, 1, 1e-5)[1], exact) <= BOUND
    _, dweight, dbias = backend.batch_norm_eval_backward(flat, flat, ones, third, ones)
    assert error(backend, dbias, exact * n * n) <= BOUND
    assert error(backend, dweight, exact * (exact - 0.25) * n * n) <= BOUND


@pytest.mark.parametrize("name", AVAILABLE)
def test_variance(name: str) -> None:
    backend, n = backends.get(name), side(name)
    x = np.full((1, 1, n * n // 2, 2), 0.3, np.float32)
    x[..., 1] = 0.7
    one = backend.asarray(np.ones(1, np.float32))
    statistics = backend.batch_norm_train(backend.asarray(x.reshape(1, 1, -1)), one, one, 1e-5)
    assert error(backend, statistics[2], float(np.var(x, dtype=np.float64))) <= BOUND
    for shape in ((1, 1, x.size), (1, 1, x.shape[2], 2)):
        statistics = backend.group_norm(backend.asarray(x.reshape(shape)), None, None, 1, 1e-5)
        assert error(backend, statistics[2], float(np.var(x, dtype=np.float64))) <= BOUND


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", AVAILABLE)
def test_losses_and_norms(name: str, value: float) -> None:
    backend, n = backends.get(name), side(name)
    x = backend.asarray(np.full((n, n), value, np.float32))
    exact = float(np.float32(value))
    assert (
        error(backend, backend.pointwise_loss_sum(x, backend.zeros((n, n), np.float32), "squared"), exact**2 * n * n)
        <= BOUND
    )
    assert error(backend, backend.global_norm([x]), exact * n) <= BOUND
    logits = backend.zeros((n * n // 4, 4), np.float32)
    labels = backend.zeros((n * n // 4,), np.int64)
    loss = backend.softmax_cross_entropy(logits, labels, None, -100, 0.0, "sum")[0]
    assert error(backend, loss, n * n // 4 * np.log(4)) <= BOUND


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", AVAILABLE)
def test_means_of_windows(name: str, value: float) -> None:
    backend, n = backends.get(name), side(name)
    exact = float(np.float32(value))
    if name == "reference":  # which adds tap by tap
        n = 300
    # The whole map; wide and narrow windows beside each other, with and without a border, some steps apart.
    small = min(n, 130)
    for g in (
        Pool2dGeometry(1, 1, n, n, n, n, n, n),
        Pool2dGeometry(1, 1, n, n, n - 3, n - 1, 1, 3),
        Pool2dGeometry(1, 2, small, small, small // 2, small // 2, 1, 1),
        Pool2dGeometry(1, 2, small, small, small // 2, small // 2, 2, 2, 5, 5, 5, 5),
        Pool2dGeometry(1, 2, small, small, 6, 8, 1, 1),
        Pool2dGeometry(1, 2, small, small, 7, 7, 3, 3),
    ):
        x = backend.asarray(np.full(g.x_shape, value, np.float32))
        assert error(backend, backend.avg_pool2d(x, g, False), exact) <= BOUND, g


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", AVAILABLE)
def test_weight_gradients(name: str, value: float) -> None:
    backend, n = backends.get(name), side(name)
    exact = float(np.float32(value))
    x = backend.asarray(np.full((n * n, 1), value, np.float32))
    ones = backend.asarray(np.ones((n * n, 1), np.float32))
    # A GPU's tile sums each of its parts from the first product to the last.
    bound = 1e-5 * n if name == "cuda" else BOUND
    assert error(backend, backend.linear_backward_weight(ones, x), exact * n * n) <= bound
    # One large image and many small ones, of few outputs and of enough to fill vectors.
    products = () if name == "cuda" else ("im2col",)
    few = n // 10
    for g, algorithms in (
        (Conv2dGeometry(1, 1, n, n, 1, 1, 1), ("direct", "loops", *products)),
        (Conv2dGeometry(100 if n > 40 else 2, 1, few, few, 1, 1, 1), ("direct", "loops", *products)),
        (Conv2dGeometry(1, 1, n // 4, n // 4, 20, 1, 1), ("direct", *products)),
        (Conv2dGeometry(40 if n > 40 else 2, 1, few // 2, few // 2, 16, 1, 1), ("direct", *products)),
        (Conv2dGeometry(40 if n > 40 else 2, 1, few // 2, few // 2, 2, 3, 3), products),
    ):
        dy = backend.asarray(np.ones(g.y_shape, np.float32))
        image = backend.asarray(np.full(g.x_shape, value, np.float32))
        for algorithm in {*backend.conv2d_algorithms()} & {*algorithms}:
            dweight = backend.conv2d_backward_weight(dy, image, g, algorithm)
            assert error(backend, dweight, exact * g.n * g.oh * g.ow) <= BOUND, (g, algorithm)
