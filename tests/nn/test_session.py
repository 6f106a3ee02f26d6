"""Inference sessions: the bits of the model in evaluation mode, whatever happens to the model afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numba.core import config

from numbacnn import backends, models, nn, ops
from numbacnn.backends import Backend, autotune
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
    with contextlib.nullcontext() if config.DISABLE_JIT else pytest.warns(RuntimeWarning, match="Doubled is not a"):
        session(images(1))
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


class Net(nn.Layer):
    """A model as users write them."""

    capturable = True

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(32, 4))

    def forward(self, x: Any) -> Any:
        return ops.relu(self.body(x), backend=self.backend)


class Remembers(Net):
    """Keeps an output, which a launch would not."""

    capturable = True
    last = None

    def forward(self, x: Any) -> Any:
        self.last = super().forward(x)
        return self.last


def test_a_class_of_one_s_own_that_says_so_is_captured(backend: Backend) -> None:
    model = Net()
    session, plain = nn.InferenceSession(model), nn.InferenceSession(model, capture=False)
    for seed in range(3):
        y = backend.to_numpy(session(images(2, seed)))
        np.testing.assert_array_equal(y, outputs(model, images(2, seed)))
        np.testing.assert_array_equal(y, backend.to_numpy(plain(images(2, seed))))
    assert session.mode == ("captured" if backend.asynchronous else of_the_host(backend))
    assert plain.mode == "plain"


def test_a_pass_that_changes_an_attribute_is_not_captured(backend: Backend) -> None:
    model = Remembers()
    session = nn.InferenceSession(model)
    tells = backend.asynchronous or of_the_host(backend) == "captured"
    with pytest.warns(RuntimeWarning, match="a pass changes `last`") if tells else contextlib.nullcontext():
        for seed in range(3):
            y = backend.to_numpy(session(images(2, seed)))
            np.testing.assert_array_equal(y, outputs(model, images(2, seed)))
    assert session.mode == "plain"


def test_what_it_prints(backend: Backend) -> None:
    session = nn.InferenceSession(nn.Sequential(nn.Flatten()))
    expected = "InferenceSession(\n  Sequential(\n    (0): Flatten()\n  ), backend={!r}, mode={}\n)"
    assert repr(session) == expected.format(backend.name, None)
    session(images(1))
    assert repr(session) == expected.format(backend.name, repr(session.mode))


def test_a_call_within_a_call_leaves_the_arrays_of_the_outer_one_alone(backend: Backend) -> None:
    session = nn.InferenceSession(network())
    expected = [np.array(backend.to_numpy(session(images(2, seed)))) for seed in range(3)]
    mode = session.mode
    (found,) = session._captures._found.values() if mode == "captured" else (None,)
    with session._lock:  # as a signal handler finds it, in the thread that holds it
        inner = backend.to_numpy(session(images(2, 0)))
        if found is not None:
            np.testing.assert_array_equal(backend.to_numpy(found.captured.xs[0]), images(2, 2))
    np.testing.assert_array_equal(inner, expected[0])
    assert session.mode == mode


HANDLER = """
import signal
import numpy as np
from numbacnn import nn, use_backend
with use_backend("cpu"):
    session = nn.InferenceSession(nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU()))
x, small = np.ones((64, 2, 16, 16), np.float32), np.ones((3, 2, 16, 16), np.float32)
expected, within = session(x), session(small)
right, handled = [], []
signal.signal(signal.SIGALRM, lambda *_: handled.append(np.array_equal(session(small), within)))
while len(handled) < 20:
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    right.append(np.array_equal(session(x), expected))
signal.setitimer(signal.ITIMER_REAL, 0)
print(all(right), all(handled))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")
def test_a_signal_handler_may_use_a_session_that_it_interrupts() -> None:
    line = [sys.executable, "-c", HANDLER]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("True True\n", "")


FORK = """
import os, signal, sys, threading
import numpy as np
from numbacnn import nn, use_backend
with use_backend(sys.argv[1]):
    session = nn.InferenceSession(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU()))
x = np.ones((2, 4), np.float32)
expected = session(x)
inside, go = threading.Event(), threading.Event()
def other():
    with session._lock:
        inside.set()
        go.wait()
thread = threading.Thread(target=other)
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if np.array_equal(session(x), expected) else 1)
go.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(session(x), expected))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_a_child_may_use_a_session_that_a_thread_of_its_parent_was_in(name: str) -> None:
    line = [sys.executable, "-W", "ignore", "-c", FORK, name]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


@pytest.mark.skipif(SIMULATED or bool(config.DISABLE_JIT), reason="nothing is captured")
def test_it_follows_what_was_tuned_since() -> None:
    with backends.use_backend("cpu"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    x = np.random.default_rng(0).random((2, 3, 9, 9), np.float32)
    session, plain = nn.InferenceSession(model), nn.InferenceSession(model, capture=False)
    geometry = model[0].geometry(x.shape)
    former = autotune.choice(model.backend, geometry, "forward")
    found = set()
    try:
        for algorithm in ("loops", "direct", "im2col"):
            autotune.remember(model.backend, geometry, "forward", algorithm)
            y = session(x)
            np.testing.assert_array_equal(y, plain(x))
            found.add(y.tobytes())
    finally:
        autotune.remember(model.backend, geometry, "forward", former)
    assert session.mode == "captured" and len(found) > 1
