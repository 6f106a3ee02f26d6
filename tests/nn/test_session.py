"""Inference sessions: the bits of the model in evaluation mode, whatever happens to the model afterwards."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numba.core import config

from numbacnn import backends, models, nn
from numbacnn.backends import Backend
from tests.strategies import SIMULATED


def of_the_host(backend: Backend) -> str:
    """How a pass runs where it is done at once."""
    return "captured" if backend.name == "cpu" and not config.DISABLE_JIT else "plain"


def network(seed: int = 0) -> nn.Sequential:
    nn.init.manual_seed(seed)
    algorithm = "loops" if SIMULATED else "auto"
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, algorithm=algorithm),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Concat(nn.Identity(), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1, algorithm=algorithm))),
        nn.MaxPool2d(2),
        nn.Add(nn.Identity(), nn.Sequential(nn.Conv2d(6, 6, 1, algorithm=algorithm), nn.Tanh())),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    model.forward(images(3))  # so that the averages are not those of a new model
    return model


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([n, seed]).standard_normal((n, 2, 4, 4), np.float32)


def outputs(model: nn.Layer, x: Any) -> np.ndarray:
    training = [layer.training for layer in model.layers()]
    y = np.array(model.backend.to_numpy(model.eval().forward(x)))
    for layer, mode in zip(model.layers(), training, strict=True):
        layer.training = mode
    return y


def test_the_bits_of_the_model_in_evaluation_mode(backend: Backend) -> None:
    model = network()
    session = nn.InferenceSession(model)
    assert session.mode is None
    modes = []
    for i, n in enumerate((2, 2, 1, 2, 1, 1)):
        x = images(n, i)
        np.testing.assert_array_equal(backend.to_numpy(session(x)), outputs(model, x))
        modes.append(session.mode)
    if backend.asynchronous:
        assert modes == ["plain", "captured", "plain", *["captured"] * 3]
    else:
        assert modes == [of_the_host(backend)] * 6
    assert model.training and all(layer.training for layer in model.layers())


def test_it_stays_as_it_was_made(backend: Backend) -> None:
    model = network()
    expected = outputs(model, images(2))
    session = nn.InferenceSession(model)
    for step in range(3):
        np.testing.assert_array_equal(backend.to_numpy(session(images(2))), expected)
        for parameter in model.parameters():
            parameter.value = np.full(parameter.shape, step)
    assert not np.array_equal(outputs(model, images(2)), expected)


def test_outputs_are_the_caller_s_to_keep(backend: Backend) -> None:
    session = nn.InferenceSession(network())
    results = [session(images(2, seed)) for seed in range(4)]
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(backend.to_numpy(result), backend.to_numpy(session(images(2, seed))))
    identity = nn.InferenceSession(nn.Sequential(nn.Flatten()))
    x = backend.asarray(images(1).reshape(1, -1))
    for _ in range(3):
        y = identity(x)
        backend.fill_zero(y)
    assert np.abs(backend.to_numpy(x)).min() > 0


def test_no_model_that_its_backend_cannot_capture_computes_anything_else() -> None:
    class Doubled(nn.ReLU):
        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

    with backends.use_backend("cpu"):
        session = nn.InferenceSession(nn.Sequential(Doubled(), nn.Flatten()))
    for seed in range(3):
        x = images(2, seed)
        np.testing.assert_array_equal(session(x), 2 * np.maximum(x, 0).reshape(2, -1))
    assert session.mode == "plain"


def test_only_so_many_shapes_are_captured(backend: Backend) -> None:
    session = nn.InferenceSession(nn.Sequential(nn.Flatten(), nn.ReLU()))
    modes = []
    for n in [*range(1, 7)] * 3:
        y = backend.to_numpy(session(images(n)))
        np.testing.assert_array_equal(y, np.maximum(images(n), 0).reshape(n, -1))
        modes.append(session.mode)
    first = "plain" if backend.asynchronous else of_the_host(backend)
    later = "captured" if backend.asynchronous else first
    assert modes == [*[first] * 4, *["plain"] * 2, *[*[later] * 4, *["plain"] * 2] * 2]


def test_inputs_are_converted_and_refused_as_by_the_model(backend: Backend) -> None:
    session = nn.InferenceSession(network())
    expected = backend.to_numpy(session(images(2)))
    for _ in range(3):
        np.testing.assert_array_equal(backend.to_numpy(session(images(2).tolist())), expected)
        np.testing.assert_allclose(backend.to_numpy(session(images(2).astype(np.float64))), expected, rtol=1e-5)
    for x, error in ((images(2)[:, :1], ValueError), (np.full((1, 2, 4, 4), "x"), TypeError)):
        with pytest.raises(error, match="`x`"):
            session(x)


@pytest.mark.skipif(SIMULATED, reason="takes long in the simulator")
def test_threads_get_their_own_outputs(backend: Backend) -> None:
    session = nn.InferenceSession(models.lenet())
    inputs = [np.random.default_rng(i).random((1, 1, 28, 28), np.float32) for i in range(4)]
    expected = [backend.to_numpy(session(x)) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        found = [backend.to_numpy(session(inputs[i])) for _ in range(20)]
        wrong.extend(i for y in found if not np.array_equal(y, expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_only_layers_are_models() -> None:
    with pytest.raises(TypeError, match="`model` 'lenet' must be a Layer"):
        nn.InferenceSession("lenet")  # type: ignore[arg-type]
