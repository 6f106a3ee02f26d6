"""Batch normalisation in training and evaluation."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from numbacnn import backends, nn, use_backend
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


def test_sequences_are_normalised_over_batch_and_positions(backend: Backend) -> None:
    layer = nn.BatchNorm1d(2, eps=0, affine=False, dtype=np.float64)
    x = RNG.normal(3, 2, (4, 2, 5))
    expected = (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-9)


def test_without_running_averages_evaluation_looks_at_the_batch(backend: Backend) -> None:
    layer = nn.BatchNorm2d(2, affine=False, track_running_stats=False, dtype=np.float64)
    assert not layer.state_dict() and not layer.parameters() and layer.mixes_samples
    trained = np.array(layer(IMAGES))
    dx = np.array(layer.backward(IMAGES + 1))
    layer.eval()
    np.testing.assert_array_equal(layer(IMAGES), trained)
    with nn.enable_grad():
        layer(IMAGES)
    np.testing.assert_array_equal(layer.backward(IMAGES + 1), dx)
    # A session whose first batch has equal images is not to take them for independent of each other.
    session = nn.InferenceSession(layer)
    for _ in range(3):
        session(np.zeros_like(IMAGES))
    np.testing.assert_array_equal(session(IMAGES), trained)


@pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")
def test_constants_move_with_the_layer_and_are_no_state() -> None:
    with use_backend("reference"):
        layer = nn.BatchNorm2d(2, affine=False).eval()
        expected = layer(IMAGES)
    assert list(layer.state_dict()) == ["running_mean", "running_var", "num_batches_tracked"]
    layer.to("cpu")
    assert layer._scale is not None and layer._scale.backend.name == "cpu"
    np.testing.assert_allclose(layer(IMAGES), expected, rtol=1e-5)
    np.testing.assert_array_equal(copy.deepcopy(layer)(IMAGES), layer(IMAGES))


@pytest.mark.parametrize("affine", [True, False])
def test_each_sample_has_its_own_statistics_until_it_is_evaluated(backend: Backend, affine: bool) -> None:
    layer = nn.InstanceNorm2d(2, momentum=0.3, affine=affine, track_running_stats=True, dtype=np.float64)
    y = np.array(layer(IMAGES))
    mean, variance = IMAGES.mean((2, 3)), IMAGES.var((2, 3))
    expected = (IMAGES - mean[:, :, None, None]) / np.sqrt(variance[:, :, None, None] + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)
    count = IMAGES.shape[2] * IMAGES.shape[3]
    running_mean, running_var = 0.3 * mean.mean(0), 0.7 + 0.3 * variance.mean(0) * count / (count - 1)
    np.testing.assert_allclose(layer.running_mean.value, running_mean)
    np.testing.assert_allclose(layer.running_var.value, running_var)
    assert layer.num_batches_tracked.value == 0
    layer.eval()
    expected = (IMAGES - running_mean[:, None, None]) / np.sqrt(running_var[:, None, None] + 1e-5)
    np.testing.assert_allclose(layer(IMAGES), expected, rtol=1e-9)
    np.testing.assert_allclose(layer.running_mean.value, running_mean)


def test_a_group_of_equal_numbers_has_no_variance(backend: Backend) -> None:
    for dtype in (np.float32, np.float64):
        for shape in ((3, 4), (3, 4, 5000), (3, 4, 7, 9)):
            x = np.full(shape, 1e6 / 3, dtype)
            _, _, variance, _ = backend.group_norm(backend.asarray(x), None, None, 2, 1e-5)
            # A sum in float64 of numbers that are float64 themselves is rounded.
            values = backend.to_numpy(variance)
            assert (values >= 0).all() and values.max() <= (0 if dtype == np.float32 else 1e-19)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4)])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layer_norm_is_over_the_last_axes(backend: Backend, shape: tuple[int, ...], axes: int) -> None:
    x = RNG.normal(3, 2, shape)
    axes = min(axes, len(shape) - 1)
    for affine in (True, False):
        layer = nn.LayerNorm(shape[-axes:], elementwise_affine=affine, dtype=np.float64)
        if affine:
            layer.weight.value, layer.bias.value = RNG.normal(size=(2, *shape[-axes:]))
        over = tuple(range(-axes, 0))
        expected = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + 1e-5)
        if affine:
            expected = expected * np.asarray(layer.weight.value) + np.asarray(layer.bias.value)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-9, atol=1e-12)


def test_response_is_of_the_neighbours(backend: Backend) -> None:
    x = RNG.normal(3, 2, (2, 5, 3, 4))
    for size in (1, 4, 5):
        y = nn.LocalResponseNorm(size, alpha=0.5, k=2)(x)
        for c in range(5):
            window = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
            scale = 2 + 0.5 / size * (window**2).sum(1)
            np.testing.assert_allclose(np.asarray(y)[:, c], x[:, c] / scale**0.75, rtol=1e-9)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.BatchNorm2d, (1, 2, 1, 1), "more than one value per channel"),
        (nn.BatchNorm1d, (1, 2), "more than one value per channel"),
        (nn.BatchNorm2d, (4, 3, 2, 2), r"BatchNorm2d\(2, .*shape \(4, 3, 2, 2\), must have \(n, c, h, w\) with c = 2"),
        (nn.BatchNorm2d, (4, 2), r"must have \(n, c, h, w\) with c = 2"),
        (nn.BatchNorm1d, (4, 2, 2, 2), r"must have \(n, c\) or \(n, c, l\) with c = 2"),
    ],
)
def test_inputs_that_do_not_fit(backend: Backend, layer: type, shape: tuple[int, ...], message: str) -> None:
    norm = layer(2)
    with pytest.raises(ValueError, match=message):
        norm(np.ones(shape))
    assert norm.num_batches_tracked.value == 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_trains_as_its_model_does(backend: Backend, duplicate) -> None:
    layer = nn.BatchNorm2d(2)
    layer(IMAGES)
    other = duplicate(layer)
    for each in (layer, other):
        each(2 * IMAGES)
    np.testing.assert_array_equal(*(backend.to_numpy(each.running_mean.value) for each in (layer, other)))
