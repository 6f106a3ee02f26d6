"""Which forward pass a backward pass belongs to."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.training import TrainingStep
from tests.nn.test_densenet_block import dense, images

AGAIN = "`backward` called again after several forward passes"
RANDOM = np.random.default_rng(0)
X1, X2, DY1, DY2 = RANDOM.standard_normal((4, 3, 4)).astype(np.float32)


def encoder() -> nn.Sequential:
    nn.init.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh())


class Siamese(nn.Layer):
    """One encoder for both halves of the features, called twice."""

    def __init__(self, first: nn.Layer, second: nn.Layer) -> None:
        super().__init__()
        self.encoders = [first] if first is second else [first, second]

    def forward(self, x: Any) -> Any:
        first, second = self.encoders[0], self.encoders[-1]
        return self.backend.asarray(np.concatenate([self._host(first(x[:, :4])), self._host(second(x[:, 4:]))], axis=1))

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        dy = self._host(dy)
        halves = [self.encoders[0].backward(dy[:, :4]), self.encoders[-1].backward(dy[:, 4:])]
        return self.backend.asarray(np.concatenate([self._host(half) for half in halves], axis=1))

    def _host(self, array: Any) -> np.ndarray:
        return np.asarray(self.backend.to_numpy(array))


def gradients(model: nn.Layer) -> list[np.ndarray]:
    return [np.array(parameter.grad) for parameter in model.parameters()]


@pytest.mark.parametrize("make", [encoder, lambda: nn.Linear(4, 4), lambda: nn.Add(nn.ReLU()), nn.ReLU, nn.Flatten])
def test_a_layer_that_was_called_twice_is_not_asked_twice_for_gradients(backend: Backend, make: Any) -> None:
    layer = make()
    layer(X1)
    layer(X2)
    layer.backward(DY2)
    before = gradients(layer)
    with pytest.raises(RuntimeError, match=f"{AGAIN}.*join the inputs into one batch.*`nn.tied_copy`"):
        layer.backward(DY1)
    for gradient, kept in zip(gradients(layer), before, strict=True):
        np.testing.assert_array_equal(gradient, kept)
    layer(X1)
    layer.backward(DY1)


def test_siamese_layers_are_refused_or_right_with_tied_copies(backend: Backend) -> None:
    one = encoder()
    x, dy = np.concatenate([X1, X2], axis=1), np.concatenate([DY1, DY2], axis=1)
    shared = Siamese(one, one)
    shared(x)
    with pytest.raises(RuntimeError, match=AGAIN):
        shared.backward(dy)

    joined = encoder()
    joined(np.concatenate([X1, X2]))
    dx = np.asarray(joined.backward(np.concatenate([DY1, DY2])))
    tied = Siamese(encoder(), nn.Identity())
    tied.encoders[1] = nn.tied_copy(tied.encoders[0])
    tied(x)
    np.testing.assert_allclose(tied.backward(dy), np.concatenate([dx[:3], dx[3:]], axis=1), rtol=1e-5, atol=1e-6)
    assert len(tied.parameters()) == 2
    for gradient, expected in zip(gradients(tied), gradients(joined), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_a_training_step_refuses_them_too(backend: Backend) -> None:
    one = encoder()
    model = nn.Sequential(Siamese(one, one))
    step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), capture=False)
    if backend.asynchronous:
        pytest.skip("a captured step cannot read arrays in between")
    with pytest.raises(RuntimeError, match=AGAIN):
        step(np.concatenate([X1, X2], axis=1), np.zeros(3, np.int64))


def test_a_forward_pass_may_come_before_the_one_that_counts(backend: Backend) -> None:
    layer, other = encoder(), encoder()
    for _ in range(3):
        layer(X2)
        layer(X1)
        layer.backward(DY1)
        other(X1)
        other.backward(DY1)
    for gradient, expected in zip(gradients(layer), gradients(other), strict=True):
        np.testing.assert_array_equal(gradient, expected)


def test_one_forward_pass_may_have_several_backward_passes(backend: Backend) -> None:
    layer = encoder()
    layer(X2)
    layer.drop_saved()
    layer(X1)
    layer.backward(DY1)
    once = gradients(layer)
    layer.backward(DY1)
    nn.outputs(layer, X2, ["0"])
    layer.backward(DY1)
    for gradient, first in zip(gradients(layer), once, strict=True):
        np.testing.assert_allclose(gradient, 3 * first, rtol=1e-6)


def test_passes_without_input_gradient_count_for_layers_that_are_left_out(backend: Backend) -> None:
    branches = nn.Sequential(nn.ReLU(), nn.Add(nn.Linear(4, 4), nn.Sequential(nn.Tanh())))
    for model, x, dy in ((encoder(), X1, DY1), (branches, X1, DY1), (dense()[1:], images(), np.ones((2, 9, 2, 3)))):
        for _ in range(3):
            model(x)
            model.backward(dy, input_gradient=False)
        model(x)
        for _ in range(2):
            assert model.backward(dy) is not None
        model(x)
        model(x)
        model.backward(dy)
        with pytest.raises(RuntimeError, match=AGAIN):
            model.backward(dy)


def test_backward_may_read_what_was_saved_several_times(backend: Backend) -> None:
    class Own(nn.ReLU):
        def backward(self, dy: Any, input_gradient: bool = True) -> Any:
            assert self.saved is not None
            dx = super().backward(dy, input_gradient)
            assert self.saved is not None
            return dx

    layer = Own()
    layer(X1)
    layer(X2)
    with pytest.raises(ValueError, match="shape"):
        layer.backward(DY2[:1])
    layer.backward(DY2)
    with pytest.raises(RuntimeError, match=AGAIN):
        layer.backward(DY2)
    with pytest.raises(RuntimeError, match=AGAIN):
        copy.deepcopy(layer).backward(DY2)


@pytest.mark.parametrize("make", [nn.MSELoss, nn.CrossEntropyLoss])
def test_a_loss_too(backend: Backend, make: Any) -> None:
    loss = make()
    target = np.zeros(3, np.int64) if make is nn.CrossEntropyLoss else X2
    loss(X1, target)
    first = np.array(loss.backward())
    np.testing.assert_array_equal(loss.backward(), first)
    loss(X1, target)
    loss(X2, target)
    loss.backward()
    with pytest.raises(RuntimeError, match=f"{AGAIN}.*a loss of its own for each: {make.__name__}"):
        loss.backward()
