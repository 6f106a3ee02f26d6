"""What every layer has to stand: its definition, the other backends, PyTorch, a capture, any memory, an empty batch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads
from numba.core import config

from numbacnn import nn, testing, use_backend
from numbacnn.backends import Backend
from numbacnn.backends.capture import Effects, recording
from numbacnn.nn import Layer
from tests.registry import ENTRIES, Case
from tests.strategies import IN_PYTHON

DRAWS = 2 if IN_PYTHON else 8
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-10}
CONTAINERS = {"Add", "Concat", "DenseBlock", "Graph", "InferenceSession", "Layer", "Sequential"}

each = pytest.mark.parametrize("name", ENTRIES)
"""A test of each entry."""


def cases(name: str, dtype: Any = np.float64, draws: int = DRAWS) -> list[Case]:
    return [ENTRIES[name].draw(np.random.default_rng(seed), dtype) for seed in range(draws)]


def made(case: Case, seed: int = 0) -> nn.Layer:
    """The case's layer, its parameters and buffers drawn."""
    nn.init.manual_seed(seed)
    layer = case.layer()
    rng = np.random.default_rng(seed)
    for _, state in (*layer.named_parameters(), *layer.named_buffers()):
        if state.shape:
            state.value = rng.uniform(0.5, 1.5, state.shape).astype(state.dtype)
    return layer


def on(backend: Backend, arrays: Any) -> list[Any]:
    return [backend.asarray(array) for array in arrays]


def passes(layer: nn.Layer, inputs: Any, training: bool) -> dict[str, np.ndarray]:
    """What a forward and a backward pass give: y, the inputs' gradients, the parameters', the buffers."""
    layer.train(training).zero_grad()
    with nn.enable_grad():
        y = layer.forward(*on(layer.backend, inputs))
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    dxs = layer.backward(layer.backend.asarray(dy))
    found = {"y": y, **{f"dx {i}": dx for i, dx in enumerate(dxs if isinstance(dxs, tuple) else (dxs,))}}
    found |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    found |= {name: buffer.value for name, buffer in layer.named_buffers()}
    return {name: np.array(layer.backend.to_numpy(layer.backend.asarray(array))) for name, array in found.items()}


def assert_near(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        atol = tolerance * max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_every_layer_is_registered() -> None:
    layers = {
        name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), Layer)
    }
    assert layers - CONTAINERS == ENTRIES.keys() - CONTAINERS


@each
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_central_differences(name: str, training: bool) -> None:
    with use_backend("reference"):
        for seed, case in enumerate(cases(name)):
            testing.check_gradients(made(case, seed).train(training), *case.inputs, seed=seed)


@each
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float32] if IN_PYTHON else [np.float32, np.float64])
def test_a_backend_does_what_the_reference_does(backend: Backend, name: str, dtype: Any, training: bool) -> None:
    if backend.name == "reference" and dtype == np.float64:
        pytest.skip("it is the reference")
    for seed, (case, of_float64) in enumerate(zip(cases(name, dtype), cases(name), strict=True)):
        with use_backend("reference"):
            expected = passes(made(of_float64, seed), of_float64.inputs, training)
        layer = made(case, seed)
        found = passes(layer, case.inputs, training)
        assert found["y"].dtype == dtype
        assert tuple(layer.output_shape(*(x.shape for x in case.inputs))) == found["y"].shape
        assert_near(found, expected, TOLERANCE[dtype])


@each
def test_a_capture_does_the_same(backend: Backend, name: str) -> None:
    """As a plain pass; what is drawn is drawn anew at each launch, as in pass after pass."""
    if backend.capture(lambda: None) is None:
        pytest.skip("it captures nothing")
    is_random = ENTRIES[name].is_random
    has_drawn_anew = False
    for seed, case in enumerate(cases(name, np.float32, 4 if is_random else 1 if IN_PYTHON else 3)):
        plain, layer = made(case, seed), made(case, seed)
        plain.load_random_state(layer.random_state())
        passes(plain, [x + x.dtype.type(1) for x in case.inputs], True)
        inputs = on(backend, [x + x.dtype.type(1) for x in case.inputs])
        dy = backend.asarray(
            np.random.default_rng(1).standard_normal(layer.output_shape(*(x.shape for x in inputs))).astype(np.float32)
        )
        results: dict[str, Any] = {}

        def step(layer: nn.Layer = layer, inputs: Any = inputs, dy: Any = dy, results: Any = results) -> None:
            results["y"] = layer.forward(*inputs)
            layer.zero_grad()
            dxs = layer.backward(dy)
            results.update({f"dx {i}": dx for i, dx in enumerate(dxs if isinstance(dxs, tuple) else (dxs,))})

        effects: list[Effects] = []

        def recorded(step: Any = step, effects: list[Effects] = effects) -> None:
            with recording() as found:
                step()
            effects[:] = [found]  # of the last time that the backend ran it

        step()
        launches = backend.capture(recorded)
        assert launches is not None
        launch = effects[0].around(launches[0])
        for x, values in zip(inputs, case.inputs, strict=True):
            backend.assign(x, backend.asarray(values))
        ys = []
        for _ in range(4 if is_random else 1):
            expected = passes(plain, case.inputs, True)
            launch()
            results |= {name: parameter.grad for name, parameter in layer.named_parameters()}
            found = {name: np.array(backend.to_numpy(array)) for name, array in results.items()}
            assert_same_bits(found, {name: value for name, value in expected.items() if name in found})
            assert layer.random_state() == plain.random_state()
            ys.append(found["y"])
        has_drawn_anew |= any((y != ys[0]).any() for y in ys)
    assert has_drawn_anew == is_random


@each
def test_memory_in_another_order_gives_the_same_bits(backend: Backend, name: str) -> None:
    for seed, case in enumerate(cases(name, np.float32, 3)):
        one, other = made(case, seed), made(case, seed)
        other.load_random_state(one.random_state())
        turned = [np.array(x.T, order="C").T for x in case.inputs]
        assert_same_bits(passes(other, turned, True), passes(one, case.inputs, True))


@each
def test_an_empty_batch_has_an_empty_result(backend: Backend, name: str) -> None:
    case = cases(name, np.float32, 1)[0]
    inputs = [x[:0] for x in case.inputs]
    found = passes(made(case), inputs, False)
    assert found["y"].shape[0] == 0
    for i, x in enumerate(inputs):
        assert found[f"dx {i}"].shape == x.shape


@each
def test_threads_do_not_change_a_bit(name: str) -> None:
    threads = get_num_threads()
    if IN_PYTHON or threads < 2:
        pytest.skip("there is one thread")
    with use_backend("cpu"):
        for seed, case in enumerate(cases(name, np.float32, 4)):
            found = []
            for number in (1, threads):
                set_num_threads(number)
                nn.init.manual_seed(seed)
                found.append(passes(made(case, seed), case.inputs, True))
            assert_same_bits(*found)


@each
def test_a_session_predicts_the_same(backend: Backend, name: str) -> None:
    for seed, case in enumerate(cases(name, np.float32, 2)):
        layer = made(case, seed).eval()
        expected = np.array(backend.to_numpy(layer(*case.inputs)))
        session = nn.InferenceSession(layer)
        for _ in range(3):
            np.testing.assert_array_equal(backend.to_numpy(session(*case.inputs)), expected)


@each
def test_it_is_copied_pickled_and_printed(backend: Backend, name: str) -> None:
    case = cases(name, np.float32, 1)[0]
    layer = made(case).eval()
    assert repr(layer).startswith(f"{name}(") and type(layer) is getattr(nn, name)
    expected = passes(layer, case.inputs, False)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        assert_same_bits(passes(other, case.inputs, False), expected)


@each
@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False])
def test_pytorch_does_the_same(backend: Backend, name: str, training: bool) -> None:
    torch = pytest.importorskip("torch")
    if config.ENABLE_CUDASIM and backend.name == "cuda":
        pytest.skip("the simulator is compared with the reference")
    if ENTRIES[name].is_random and training:
        pytest.skip("PyTorch draws other numbers")
    for seed, case in enumerate(cases(name, draws=4 * DRAWS)):
        layer = made(case, seed)
        module = case.torch(torch)
        module = module.double().train(training)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()})
        found = passes(layer, case.inputs, training)
        inputs = [torch.from_numpy(x).requires_grad_() for x in case.inputs]
        y = module(*inputs)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        y.backward(torch.from_numpy(dy))
        expected = {"y": y.detach().numpy(), **{f"dx {i}": x.grad.numpy() for i, x in enumerate(inputs)}}
        expected |= {key: parameter.grad.numpy() for key, parameter in module.named_parameters()}
        expected |= {key: buffer.numpy() for key, buffer in module.named_buffers()}
        assert_near(found, expected, 1e-9)
