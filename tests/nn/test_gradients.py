"""Gradients of whole models against central differences in float64, along random directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import nn
from numbacnn.backends import Backend
from tests.nn.stacks import stacks
from tests.strategies import SIMULATED


def check_gradients(model: nn.Layer, x: np.ndarray, rng: np.random.Generator) -> None:
    """`backward` of a random cotangent, along a random direction of the input and of each parameter."""
    randomness = model.random_state()

    def run(x: np.ndarray) -> np.ndarray:
        model.load_random_state(randomness)
        with nn.enable_grad():
            return np.asarray(model.forward(x))

    dy = rng.standard_normal(run(x).shape)
    model.zero_grad()
    dx = np.asarray(model.backward(dy))
    assert dx.shape == x.shape and dx.dtype == np.float64
    direction = rng.standard_normal(x.shape)
    check_slope((dx * direction).sum(), lambda step: (run(x + step * direction) * dy).sum(), "x")
    for name, parameter in model.named_parameters():
        direction, value = rng.standard_normal(parameter.shape), np.array(parameter.value)

        def at(
            step: float, parameter: nn.Parameter = parameter, value: Any = value, direction: Any = direction
        ) -> float:
            parameter.value = value + step * direction
            result = float((run(x) * dy).sum())
            parameter.value = value
            return result

        check_slope((np.asarray(parameter.grad) * direction).sum(), at, name)


def check_slope(along: float, function: Callable[[float], float], name: str) -> None:
    """``along`` is the slope of ``function`` at 0.

    Where a maximum passes to another element within a step, the difference is none of slopes: then a smaller step says.
    """
    slopes = [(function(step) - function(-step)) / (2 * step) for step in (1e-6, 1e-7, 1e-8)]
    assert np.isclose(along, slopes, rtol=1e-5, atol=1e-6).any(), (name, along, slopes)


@given(stacks(), st.booleans(), st.integers(0, 1000))
@settings(max_examples=12 if SIMULATED else 40)
def test_gradients_of_drawn_models(
    backend: Backend, drawn: tuple[nn.Sequential, tuple[int, ...]], training: bool, seed: int
) -> None:
    model, shape = drawn
    rng = np.random.default_rng(seed)
    for _, buffer in model.named_buffers():
        if buffer.shape:
            buffer.value = rng.uniform(0.5, 1.5, buffer.shape)
    check_gradients(model.train(training), rng.standard_normal(shape), rng)


def test_gradients_of_a_classifier_with_its_loss(backend: Backend) -> None:
    nn.init.manual_seed(3)
    rng = np.random.default_rng(3)
    model = nn.Sequential(nn.Linear(5, 6, dtype=np.float64), nn.BatchNorm1d(6, dtype=np.float64), nn.Tanh())
    x, labels, step = rng.standard_normal((7, 5)), rng.integers(6, size=7), 1e-6
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1)):
        model.zero_grad()
        loss.forward(model(x), labels)
        dx = np.asarray(model.backward(loss.backward()))
        direction = rng.standard_normal(x.shape)
        slope = (loss(model(x + step * direction), labels) - loss(model(x - step * direction), labels)) / (2 * step)
        np.testing.assert_allclose((dx * direction).sum(), slope, rtol=1e-6)


@given(stacks(random=False), st.integers(0, 1000))
@settings(max_examples=10 if SIMULATED else 15)
def test_parameter_gradients_do_not_depend_on_whether_the_input_gets_one(
    backend: Backend, drawn: tuple[nn.Sequential, tuple[int, ...]], seed: int
) -> None:
    model, shape = drawn
    rng = np.random.default_rng(seed)
    dy = rng.standard_normal(model(rng.standard_normal(shape)).shape)
    assert model.backward(dy) is not None
    once = [np.array(p.grad) for p in model.parameters()]
    assert model.backward(dy, input_gradient=False) is None
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-12, atol=1e-12)
