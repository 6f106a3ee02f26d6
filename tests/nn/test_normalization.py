"""Batch normalisation in training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.backends import Backend

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(3, 2, (4, 2, 3, 5))
AXES = (0, 2, 3)


def test_training_normalises_each_channel(backend: Backend) -> None:
    layer = nn.BatchNorm2d(2, dtype=np.float64)
    y = np.asarray(layer(IMAGES))
    np.testing.assert_allclose(y.mean(AXES), [0, 0], atol=1e-12)
    variance = IMAGES.var(AXES)
    np.testing.assert_allclose(y.var(AXES), variance / (variance + 1e-5), rtol=1e-9)


def test_features_are_normalised_over_the_batch(backend: Backend) -> None:
    layer = nn.BatchNorm1d(3, eps=0, dtype=np.float64)
    x = RNG.normal(3, 2, (6, 3))
    np.testing.assert_allclose(layer(x), (x - x.mean(0)) / x.std(0), rtol=1e-9)


def test_weight_and_bias_of_the_batch_make_it_the_identity(backend: Backend) -> None:
    layer = nn.BatchNorm2d(2, dtype=np.float64)
    layer.weight.value, layer.bias.value = np.sqrt(IMAGES.var(AXES) + layer.eps), IMAGES.mean(AXES)
    np.testing.assert_allclose(layer(IMAGES), IMAGES, rtol=1e-12)


def test_running_averages(backend: Backend) -> None:
    layer = nn.BatchNorm2d(2, momentum=0.3, dtype=np.float64)
    count = IMAGES.size // 2
    layer(IMAGES)
    np.testing.assert_allclose(layer.running_mean.value, 0.3 * IMAGES.mean(AXES))
    np.testing.assert_allclose(layer.running_var.value, 0.7 + 0.3 * IMAGES.var(AXES) * count / (count - 1))
    assert layer.num_batches_tracked.value == 1
    layer(IMAGES)
    np.testing.assert_allclose(layer.running_mean.value, (0.7 * 0.3 + 0.3) * IMAGES.mean(AXES))
    assert layer.num_batches_tracked.value == 2


def test_evaluation_does_not_look_at_the_batch(backend: Backend) -> None:
    layer = nn.BatchNorm2d(2, dtype=np.float64)
    layer(IMAGES)
    state = layer.eval().state_dict()
    together = np.asarray(layer(IMAGES))
    for i in range(len(IMAGES)):
        np.testing.assert_allclose(layer(IMAGES[i : i + 1]), together[i : i + 1], rtol=1e-12)
    expected = (IMAGES - state["running_mean"][:, None, None]) / np.sqrt(state["running_var"][:, None, None] + 1e-5)
    np.testing.assert_allclose(together, expected, rtol=1e-9)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_the_mode_at_forward_decides_what_backward_does(backend: Backend) -> None:
    layer = nn.BatchNorm2d(2, dtype=np.float64)
    dy = RNG.standard_normal(IMAGES.shape)
    layer(IMAGES)
    trained = np.asarray(layer.backward(dy))
    layer(IMAGES)
    layer.eval()
    np.testing.assert_array_equal(layer.backward(dy), trained)
    # Through the batch's statistics the gradient of a shift of the whole channel is zero.
    np.testing.assert_allclose(trained.sum(AXES), [0, 0], atol=1e-9)
    with nn.enable_grad():
        layer(IMAGES)
    layer.train()
    scale = np.asarray(layer.weight.value) / np.sqrt(np.asarray(layer.running_var.value) + layer.eps)
    np.testing.assert_allclose(layer.backward(dy), dy * scale[:, None, None], rtol=1e-9)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.BatchNorm2d, (1, 2, 1, 1), "more than one value per channel"),
        (nn.BatchNorm1d, (1, 2), "more than one value per channel"),
        (nn.BatchNorm2d, (4, 3, 2, 2), r"BatchNorm2d\(2, .*shape \(4, 3, 2, 2\), must have \(n, c, h, w\) with c = 2"),
        (nn.BatchNorm2d, (4, 2), r"must have \(n, c, h, w\) with c = 2"),
        (nn.BatchNorm1d, (4, 2, 2, 2), r"must have \(n, c\) with c = 2"),
    ],
)
def test_inputs_that_do_not_fit(backend: Backend, layer: type, shape: tuple[int, ...], message: str) -> None:
    norm = layer(2)
    with pytest.raises(ValueError, match=message):
        norm(np.ones(shape))
    assert norm.num_batches_tracked.value == 0
