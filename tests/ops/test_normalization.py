"""Batch normalisation: batch and running statistics, training against prediction."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import ops

EPS = 1e-5


def statistics(backend, channels: int, dtype=np.float64, seed: int = 0):
    """weight, bias, running mean, running variance on the backend."""
    rng = np.random.default_rng(seed)
    drawn = (
        rng.normal(size=channels),
        rng.normal(size=channels),
        rng.normal(size=channels),
        rng.uniform(0.5, 2, channels),
    )
    return [backend.asarray(values.astype(dtype)) for values in drawn]


def per_channel(values, ndim: int):
    return np.reshape(values, (1, -1) + (1,) * (ndim - 2))


@pytest.fixture(params=[(6, 3), (2, 3, 4, 5), (2, 1, 1, 1), (1, 2, 1, 3)], ids=str)
def x(request):
    return np.random.default_rng(1).normal(3, 2, request.param)


def test_training_normalises_by_the_batch(backend, x):
    weight, bias, mean, variance = statistics(backend, x.shape[1])
    axes = (0, *range(2, x.ndim))
    y, batch_mean, inverse_std = ops.batch_norm(x, weight, bias, mean, variance, training=True, return_statistics=True)
    np.testing.assert_allclose(backend.to_numpy(batch_mean), x.mean(axes), rtol=1e-10)
    np.testing.assert_allclose(backend.to_numpy(inverse_std), 1 / np.sqrt(x.var(axes) + EPS), rtol=1e-10)
    x_hat = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)
    expected = per_channel(backend.to_numpy(weight), x.ndim) * x_hat + per_channel(backend.to_numpy(bias), x.ndim)
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-9, atol=1e-9)
    assert tuple(y.shape) == x.shape


@pytest.mark.parametrize("momentum", [0, 0.1, 1])
def test_running_averages_take_the_unbiased_variance(backend, x, momentum):
    weight, bias, mean, variance = statistics(backend, x.shape[1])
    before = backend.to_numpy(mean).copy(), backend.to_numpy(variance).copy()
    ops.batch_norm(x, weight, bias, mean, variance, training=True, momentum=momentum)
    axes = (0, *range(2, x.ndim))
    expected = (1 - momentum) * before[0] + momentum * x.mean(axes)
    np.testing.assert_allclose(backend.to_numpy(mean), expected, rtol=1e-10)
    expected = (1 - momentum) * before[1] + momentum * x.var(axes, ddof=1)
    np.testing.assert_allclose(backend.to_numpy(variance), expected, rtol=1e-10)


def test_prediction_uses_and_keeps_the_running_averages(backend, x):
    weight, bias, mean, variance = statistics(backend, x.shape[1])
    before = backend.to_numpy(mean).copy(), backend.to_numpy(variance).copy()
    y, used, inverse_std = ops.batch_norm(x, weight, bias, mean, variance, return_statistics=True)
    np.testing.assert_array_equal(backend.to_numpy(mean), before[0])
    np.testing.assert_array_equal(backend.to_numpy(variance), before[1])
    np.testing.assert_array_equal(backend.to_numpy(used), before[0])
    np.testing.assert_allclose(backend.to_numpy(inverse_std), 1 / np.sqrt(before[1] + EPS), rtol=1e-12)
    gamma, beta, mu, var = (per_channel(backend.to_numpy(a), x.ndim) for a in (weight, bias, mean, variance))
    np.testing.assert_allclose(backend.to_numpy(y), gamma * (x - mu) / np.sqrt(var + EPS) + beta, rtol=1e-9, atol=1e-9)


def test_prediction_for_a_sample_does_not_depend_on_its_batch(backend):
    x = np.random.default_rng(2).normal(size=(5, 3, 4, 4)).astype(np.float32)
    arguments = statistics(backend, 3, np.float32)
    together = backend.to_numpy(ops.batch_norm(x, *arguments))
    alone = [backend.to_numpy(ops.batch_norm(x[i : i + 1], *arguments)) for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_standard_deviation_and_mean_as_gamma_and_beta_give_the_identity(backend, x):
    axes = (0, *range(2, x.ndim))
    gamma, beta = backend.asarray(np.sqrt(x.var(axes) + EPS)), backend.asarray(x.mean(axes))
    running = backend.asarray(np.zeros(x.shape[1])), backend.asarray(np.ones(x.shape[1]))
    y = ops.batch_norm(x, gamma, beta, *running, training=True)
    np.testing.assert_allclose(backend.to_numpy(y), x, rtol=1e-9)
    y = ops.batch_norm(x, gamma, beta, beta, backend.asarray(x.var(axes)), training=False)
    np.testing.assert_allclose(backend.to_numpy(y), x, rtol=1e-9)


def test_a_large_mean_does_not_drown_the_variance(backend):
    """In float32, mean(x^2) - mean(x)^2 would leave nothing of a variance of 1 beside a mean of 10000."""
    x = (10_000 + np.random.default_rng(3).normal(size=(64, 2, 8, 8))).astype(np.float32)
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    running = backend.asarray(zeros.copy()), backend.asarray(ones.copy())
    y = backend.to_numpy(ops.batch_norm(x, ones, zeros, *running, training=True))
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-3)
    np.testing.assert_allclose(backend.to_numpy(running[1]), 0.9 + 0.1 * x.astype(np.float64).var((0, 2, 3)), rtol=1e-3)


def test_an_empty_batch_updates_nothing(backend):
    weight, bias, mean, variance = statistics(backend, 3)
    before = backend.to_numpy(mean).copy(), backend.to_numpy(variance).copy()
    for shape in ((0, 3), (0, 3, 4, 4)):
        for training in (True, False):
            y, *_ = ops.batch_norm(np.zeros(shape), weight, bias, mean, variance, training, return_statistics=True)
            assert tuple(y.shape) == shape
    np.testing.assert_array_equal(backend.to_numpy(mean), before[0])
    np.testing.assert_array_equal(backend.to_numpy(variance), before[1])


@pytest.mark.parametrize("training", [True, False])
def test_backward_is_orthogonal_to_what_normalisation_removes(backend, x, training):
    """Through the batch statistics, dx has no component along 1 or x_hat; with constants, dx is a multiple of dy."""
    weight, bias, mean, variance = statistics(backend, x.shape[1])
    _, mean, inverse_std = ops.batch_norm(x, weight, bias, mean, variance, training, return_statistics=True)
    dy = np.random.default_rng(4).normal(size=x.shape)
    dx, dweight, dbias = (
        backend.to_numpy(g) for g in ops.batch_norm_backward(dy, x, weight, mean, inverse_std, training)
    )
    mean, inverse_std, gamma = (per_channel(backend.to_numpy(a), x.ndim) for a in (mean, inverse_std, weight))
    axes = (0, *range(2, x.ndim))
    x_hat = (x - mean) * inverse_std
    np.testing.assert_allclose(dweight, (dy * x_hat).sum(axes), rtol=1e-9)
    np.testing.assert_allclose(dbias, dy.sum(axes), rtol=1e-9)
    if training:
        np.testing.assert_allclose(dx.sum(axes), 0, atol=1e-9)
        # Up to eps, which leaves x_hat a little shorter than a unit vector.
        np.testing.assert_allclose((dx * x_hat).sum(axes), 0, atol=1e-3)
    else:
        np.testing.assert_allclose(dx, gamma * inverse_std * dy, rtol=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_the_first_channels_are_as_if_they_were_alone(backend, training):
    x = np.random.default_rng(0).normal(size=(3, 5, 2, 4))
    for channels in (0, 2, 5):
        results = []
        for part, options in ((x, {"channels": channels}), (x[:, :channels], {})):
            weight, bias, *running = statistics(backend, channels)
            y, *used = ops.batch_norm(part, weight, bias, *running, training, return_statistics=True, **options)
            dy = np.cos(backend.to_numpy(y))
            results.append([y, *used, *running, *ops.batch_norm_backward(dy, part, weight, *used, training, **options)])
        for array, alone in zip(*results, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(array), backend.to_numpy(alone))
