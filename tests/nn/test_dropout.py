"""Dropout: its rate, its mask, its two modes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from numbacnn import backends, nn, ops
from numbacnn.backends import Backend
from tests.strategies import SIMULATED


def test_drops_its_share_and_keeps_the_mean(backend: Backend) -> None:
    nn.init.manual_seed(0)
    for p in (0.1, 0.5, 0.8):
        y = np.asarray(nn.Dropout(p)(np.ones(2_000 if SIMULATED else 100_000, np.float32)))
        dropped = np.mean(y == 0)
        assert abs(dropped - p) < 5 * np.sqrt(p * (1 - p) / y.size)
        np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-6)


def test_limits(backend: Backend) -> None:
    x = np.arange(1, 9, dtype=np.float32)
    np.testing.assert_array_equal(nn.Dropout(0)(x), x)
    np.testing.assert_array_equal(nn.Dropout(1)(x), np.zeros(8))


def test_backward_drops_what_forward_dropped(backend: Backend) -> None:
    layer = nn.Dropout(0.4)
    x = np.ones((10, 30), np.float32)
    first = np.asarray(layer(x))
    np.testing.assert_array_equal(layer.backward(x), first)
    second = np.asarray(layer(x))
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)
    np.testing.assert_array_equal(layer.backward(2 * x), 2 * second)
    assert layer.calls == 2


def test_evaluation_is_the_identity_and_draws_nothing(backend: Backend) -> None:
    layer = nn.Dropout(0.9).eval()
    x = np.arange(6, dtype=np.float32)
    with nn.enable_grad():
        np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    assert layer.calls == 0


def test_backward_draws_the_mask_of_the_pass_also_when_the_count_was_set_since(backend: Backend) -> None:
    layer = nn.Dropout(0.4)
    x = np.ones((10, 30), np.float32)
    first, state = backend.to_numpy(layer(x)), layer.random_state()
    layer.load_random_state({"": [layer.seed, 7]})
    assert layer.calls == 7
    np.testing.assert_array_equal(backend.to_numpy(layer.backward(x)), first)
    eighth = backend.to_numpy(layer(x))
    assert layer.calls == 8 and (eighth != first).any()
    np.testing.assert_array_equal(eighth, backend.to_numpy(ops.dropout(x, 0.4, layer.seed, 7)))
    layer.load_random_state({name: [seed, calls - 1] for name, (seed, calls) in state.items()})
    np.testing.assert_array_equal(backend.to_numpy(layer(x)), first)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_go_on_from_the_same_pass(backend: Backend, duplicate) -> None:
    layer, x = nn.Dropout(0.4), np.ones(50, np.float32)
    layer(x)
    other = duplicate(layer)
    expected = backend.to_numpy(layer(x))
    np.testing.assert_array_equal(backend.to_numpy(other(x)), expected)
    assert (other.calls, layer.calls) == (2, 2)
    layer(x)
    assert other.calls == 2


def test_every_backend_draws_the_same_mask() -> None:
    masks = []
    for name in (name for name, reason in backends.available().items() if reason is None):
        with backends.use_backend(name) as backend:
            nn.init.manual_seed(7)
            model = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.5))
            masks.append([backend.to_numpy(model(np.ones((3, 101), np.float32))) for _ in range(2)])
    for other in masks[1:]:
        np.testing.assert_array_equal(other, masks[0])


def test_layers_draw_different_masks(backend: Backend) -> None:
    x = np.ones(200, np.float32)
    assert not np.array_equal(nn.Dropout()(x), nn.Dropout()(x))


@pytest.mark.parametrize(
    ("p", "error"), [(-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError), ("0", TypeError)]
)
def test_p_is_a_probability(backend: Backend, p: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="`p` "):
        nn.Dropout(p)


def test_channels_are_dropped_as_elements_of_n_and_c(backend: Backend) -> None:
    layer = nn.Dropout2d(0.4)
    x = np.random.default_rng(0).normal(size=(6, 5, 3, 4))
    y = np.asarray(layer(x))
    mask = np.asarray(ops.dropout(np.ones((6, 5)), 0.4, layer.seed, 0))
    np.testing.assert_allclose(y, mask[..., None, None] * x, rtol=1e-15)
    assert 0 < (mask == 0).sum() < 30
    np.testing.assert_array_equal(layer.backward(x), y)
    second = np.asarray(layer(x))
    assert (y != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)
    assert layer.calls == 2
    np.testing.assert_array_equal(layer.eval()(x), x)


def test_an_input_without_channels_is_refused_in_evaluation_too(backend: Backend) -> None:
    for layer in (nn.Dropout2d(), nn.Dropout2d().eval()):
        with pytest.raises(ValueError, match=r"\(2, 3\), must have 4 axes"):
            layer(np.ones((2, 3)))
