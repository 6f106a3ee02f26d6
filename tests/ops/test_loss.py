"""Losses against closed forms, and the count of right answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from numbacnn import ops


def draw(n: int, classes: int, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (n, classes)).astype(dtype), rng.integers(0, classes, n)


def smoothed(labels, classes: int, smoothing: float):
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_equal_logits_cost_the_logarithm_of_the_classes(backend, classes):
    labels = np.arange(6) % classes
    loss, probabilities, _ = ops.softmax_cross_entropy(np.full((6, classes), 3.0), labels)
    np.testing.assert_allclose(backend.to_numpy(loss), math.log(classes), atol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(probabilities), 1 / classes, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0, 0.1, 1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_and_its_gradient(backend, reduction, smoothing, dtype):
    logits, labels = draw(7, 5, dtype)
    loss, probabilities, factor = ops.softmax_cross_entropy(logits, labels, None, -100, reduction, smoothing)
    softmax = np.exp(logits.astype(np.float64))
    softmax /= softmax.sum(axis=1, keepdims=True)
    target = smoothed(labels, 5, smoothing)
    scale = 1 / 7 if reduction == "mean" else 1
    rtol = 1e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(backend.to_numpy(loss), -scale * (target * np.log(softmax)).sum(), rtol=rtol)
    np.testing.assert_allclose(backend.to_numpy(probabilities), softmax, rtol=10 * rtol)
    dlogits = ops.softmax_cross_entropy_backward(factor, probabilities, labels, None, -100, smoothing)
    np.testing.assert_allclose(backend.to_numpy(dlogits), scale * (softmax - target), rtol=rtol, atol=rtol)
    assert loss.dtype == np.float64
    assert tuple(loss.shape) == ()
    assert probabilities.dtype == dlogits.dtype == dtype


def test_large_logits_do_not_overflow(backend):
    logits = np.array([[1e4, 0, -1e4], [-1e38, 1e38, 0]], np.float32)
    loss, probabilities, _ = ops.softmax_cross_entropy(logits, [1, 1], reduction="sum")
    assert float(backend.to_numpy(loss)) == 1e4
    np.testing.assert_array_equal(backend.to_numpy(probabilities), [[1, 0, 0], [0, 1, 0]])


def test_a_hopeless_class_costs_nothing_where_it_is_not_the_label(backend):
    logits = np.array([[0.0, -np.inf, 0.0]])
    loss, probabilities, _ = ops.softmax_cross_entropy(logits, [0])
    np.testing.assert_allclose(backend.to_numpy(loss), math.log(2))
    np.testing.assert_array_equal(backend.to_numpy(probabilities), [[0.5, 0, 0.5]])
    loss, *_ = ops.softmax_cross_entropy(logits, [1])
    assert backend.to_numpy(loss) == np.inf


def test_sums_of_float32_losses_run_in_float64(backend):
    """In float32, ones would no longer count beside 2**24."""
    prediction = np.ones(4001, np.float32)
    prediction[0] = 2**13
    loss = ops.pointwise_loss(prediction, np.zeros(4001, np.float32), reduction="sum")
    assert float(backend.to_numpy(loss)) == 2**26 + 4000


@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_squared_error_and_its_gradient(backend, shape, reduction):
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=shape), rng.normal(size=shape)
    scale = 1 / prediction.size if reduction == "mean" else 1
    loss = ops.pointwise_loss(prediction, target, reduction=reduction)
    np.testing.assert_allclose(backend.to_numpy(loss), scale * ((prediction - target) ** 2).sum(), rtol=1e-12)
    gradient = ops.pointwise_loss_backward(None, prediction, target, reduction=reduction)
    np.testing.assert_allclose(backend.to_numpy(gradient), 2 * scale * (prediction - target), rtol=1e-12)


def test_the_mean_over_no_samples_is_nan_and_the_sum_zero(backend):
    logits, labels = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    for reduction, expected in (("mean", math.nan), ("sum", 0.0)):
        loss, probabilities, scale = ops.softmax_cross_entropy(logits, labels, reduction=reduction)
        np.testing.assert_array_equal(backend.to_numpy(loss), expected)
        assert tuple(probabilities.shape) == (0, 3)
        assert tuple(ops.softmax_cross_entropy_backward(scale, probabilities, labels).shape) == (0, 3)
        np.testing.assert_array_equal(
            backend.to_numpy(ops.pointwise_loss(logits, logits, reduction=reduction)), expected
        )
        assert tuple(ops.pointwise_loss_backward(None, logits, logits, reduction=reduction).shape) == (0, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, ">i4"])
def test_labels_of_every_integer_type(backend, dtype):
    logits, labels = draw(9, 4)
    loss, *_ = ops.softmax_cross_entropy(logits, labels)
    again, *_ = ops.softmax_cross_entropy(logits, labels.astype(dtype))
    assert float(backend.to_numpy(loss)) == float(backend.to_numpy(again))
    assert float(backend.to_numpy(ops.softmax_cross_entropy(logits, labels.tolist())[0])) == float(
        backend.to_numpy(loss)
    )


def test_count_correct_takes_the_first_maximum(backend):
    logits = np.array([[1, 2, 0], [5, 5, 0], [5, 5, 0], [0, 0, 1]])
    count = ops.count_correct(logits, [1, 0, 1, 0])
    assert backend.to_numpy(count) == 2
    assert count.dtype == np.int64
    assert tuple(count.shape) == ()
    assert backend.to_numpy(ops.count_correct(np.zeros((0, 3)), [])) == 0
