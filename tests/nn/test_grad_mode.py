"""Evaluation mode: what it does not keep, and who asks for gradients all the same."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.backends import Backend
from tests.recorder import Recorder
from tests.strategies import SIMULATED

IN_EVALUATION = r"`backward` called after `forward` in evaluation mode; call `train\(\)` first"
X = np.random.default_rng(0).standard_normal((2, 2, 4, 4)).astype(np.float32)


def with_every_layer() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(3),
        nn.Sigmoid(),
        nn.Concat(nn.Identity(), nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Tanh())),
        nn.Add(nn.Identity(), nn.AvgPool2d(3, 1, 1)),
        nn.Dropout(),
        nn.Add(nn.Sequential(nn.Flatten(), nn.Linear(96, 6)), nn.Sequential(nn.GlobalAvgPool2d(), nn.Flatten())),
        nn.BatchNorm1d(6),
    )


def held(value: Any) -> Iterator[Any]:
    """All arrays in an object that a layer has saved."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from held(item)
    elif hasattr(value, "dtype"):
        yield value


def saved_arrays(model: nn.Layer) -> list[Any]:
    states = (nn.Parameter, nn.Buffer)
    values = [value for layer in model.layers() for value in vars(layer).values() if not isinstance(value, states)]
    return list(held(values))


def test_nothing_is_saved_in_evaluation(backend: Backend) -> None:
    model = with_every_layer()
    model(X)
    assert len(saved_arrays(model)) > 10
    y = model.eval()(X)
    assert not saved_arrays(model)
    for layer in model.layers():
        if not isinstance(layer, nn.Sequential):
            with pytest.raises(RuntimeError, match=IN_EVALUATION):
                layer.backward(X)
    with pytest.raises(RuntimeError, match=IN_EVALUATION):
        model.train().backward(y)
    assert not any(np.asarray(parameter.grad).any() for parameter in model.parameters())
    with pytest.raises(RuntimeError, match="`backward` called before `forward`"):
        copy.deepcopy(model).backward(y)


def test_peak_memory_does_not_grow_with_depth() -> None:
    def peak(depth: int, training: bool) -> int:
        with backends.use_backend("reference"):
            layers = [layer for _ in range(depth) for layer in (nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))]
            model = nn.Sequential(*layers).train(training)
        tracemalloc.start()
        model(x)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    x = np.ones((4, 4, 32, 32), np.float32)
    assert peak(12, training=False) < peak(3, training=False) + x.nbytes
    assert peak(12, training=True) > peak(3, training=True) + 17 * x.nbytes


def test_a_frozen_layer_passes_gradients_on(backend: Backend) -> None:
    class Block(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm.forward(x)

        def backward(self, dy, input_gradient=True):
            return self.norm.backward(dy, input_gradient)

    frozen = [nn.BatchNorm2d(2).eval() for _ in range(3)]
    own = Block()
    own.norm.eval()
    models = (nn.Sequential(frozen[0]), nn.Add(frozen[1]), nn.Concat(nn.Sequential(frozen[2]).eval()), own)
    for model in models:
        model(X)
        dx = backend.to_numpy(model.backward(X))
        np.testing.assert_allclose(dx, X / np.sqrt(np.float32(1 + 1e-5)), rtol=1e-6)
        model.eval()(X)
        with pytest.raises(RuntimeError, match=IN_EVALUATION):
            model.backward(X)


def test_saving_is_asked_for_in_one_thread_and_ends_with_the_block(backend: Backend) -> None:
    layer = nn.ReLU().eval()
    with ThreadPoolExecutor(1) as pool:
        with nn.enable_grad():
            pool.submit(layer, X).result()
            with pytest.raises(RuntimeError, match=IN_EVALUATION):
                layer.backward(X)
            layer(X)
        np.testing.assert_array_equal(layer.backward(X), np.maximum(X, 0))
    with pytest.raises(ZeroDivisionError), nn.enable_grad():
        raise ZeroDivisionError
    layer(X)
    with pytest.raises(RuntimeError, match=IN_EVALUATION):
        layer.backward(X)


@pytest.mark.parametrize("n", [0, 1, 4, 7])
def test_predict_is_evaluation_in_batches(backend: Backend, n: int) -> None:
    model = with_every_layer()
    model(X)
    model[2].eval()
    modes, state = [layer.training for layer in model.layers()], model.state_dict()
    images = np.random.default_rng(n).integers(0, 5, (n, 2, 4, 4))
    inputs = [images, backend.asarray(images.astype(np.float32)), images.astype(np.float16)[:, ::-1][:, ::-1]]
    results = [
        model.predict(x, batch_size=3) for x in (inputs[:2] if SIMULATED else [*inputs, *[images.tolist()] * (n > 0)])
    ]
    assert [layer.training for layer in model.layers()] == modes and not saved_arrays(model)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert all(backend.is_array(y) and y.shape == (n, 6) and y.dtype == np.float32 for y in results)
    expected = backend.to_numpy(model.eval()(images))
    for y in results:
        np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=1e-5, atol=1e-6)


def test_predict_restores_modes_after_an_error_and_saves_nothing(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU().eval())
    for x, message in (
        (np.ones((2, 5)), "`x`"),
        (1.0, r"`x` \(\) must have a first axis"),
        (np.ones(2), r"for 2 samples is \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(x)
        assert [layer.training for layer in model.layers()] == [True, True, False]
    with pytest.raises(ValueError, match="`batch_size` 0 must be at least 1"):
        model.predict(np.ones((1, 2)), batch_size=0)
    with nn.enable_grad():
        model.predict(np.ones((1, 2)))
    assert not saved_arrays(model)


def test_predict_refuses_outputs_that_are_no_batch(backend: Backend) -> None:
    class Mean(nn.Layer):
        def forward(self, x):
            return np.ones((1, 2), np.float32)

    with pytest.raises(ValueError, match=r"the output for 2 samples is \(1, 2\), not \(2, 2\)"):
        Mean().predict(np.ones((3, 2)), batch_size=2)


def test_predict_waits_for_nothing() -> None:
    recorder = Recorder()
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten()).to(recorder)
    before = recorder.read
    assert model.predict(X, batch_size=1).shape == (2, 12)
    assert recorder.read == before
