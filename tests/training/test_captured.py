"""Functions of one's own that are captured: the same bits as plain ones, whatever changes in between."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import backends, nn, optim
from numbacnn.training import Accuracy, CapturedFunction, TrainingStep, WeightAverage
from tests.recorder import Recorder
from tests.training.toy import assert_same

JIT = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is captured")
N = 4
REAL, FAKE = np.ones((N, 1), np.float32), np.zeros((N, 1), np.float32)


class Gan:
    """Two models, each with a loss and an optimizer of its own, and a step that trains both."""

    def __init__(self, backend: Any, capture: bool = True) -> None:
        nc.manual_seed(3)
        self.generator = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
        self.critic = nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(), nn.Dropout(0.2), nn.Linear(6, 1))
        for model in (self.generator, self.critic):
            model.to(backend)
        self.losses = loss, of_generator = nn.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss()
        self.optimizers = (
            optim.Adam(self.generator.parameters(), 0.02),
            optim.SGD(self.critic.parameters(), 0.1, momentum=0.5),
        )
        generator, critic, (of_g, of_c) = self.generator, self.critic, self.optimizers

        def step(x: Any, z: Any, real: Any, fake: Any) -> Any:
            of_c.zero_grad()
            found = loss.compute(critic.forward(x), real)
            critic.backward(loss.backward(), input_gradient=False)
            drawn = generator.forward(z)
            invented = loss.compute(critic.forward(drawn), fake)
            critic.backward(loss.backward(), input_gradient=False)
            of_c.step()
            of_g.zero_grad()
            fooled = of_generator.compute(critic.forward(drawn), real)
            generator.backward(critic.backward(of_generator.backward()), input_gradient=False)
            of_g.step()
            return {"critic": (found, invented), "generator": fooled}

        self.step = CapturedFunction(step, generator, critic, *self.losses, *self.optimizers, capture=capture)

    def train(self, calls: int, changes: dict[int, Callable[[Gan], Any]] | None = None) -> tuple[dict[str, Any], Any]:
        """Everything that ``calls`` calls leave behind, and how each of them ran."""
        rng, values, modes = np.random.default_rng(0), [], []
        for i in range(calls):
            if changes and i in changes:
                changes[i](self)
            x, z = rng.standard_normal((N, 4)).astype(np.float32), rng.standard_normal((N, 3)).astype(np.float32)
            found = self.step(x, z, REAL, FAKE)
            to_numpy = self.generator.backend.to_numpy
            values.append([float(to_numpy(value)) for value in (*found["critic"], found["generator"])])
            modes.append(self.step.mode)
        state = {f"{i}.{name}": array for i, part in enumerate(self.all) for name, array in part.state_dict().items()}
        random = list(self.critic.random_state().values())
        return {**state, "values": np.array(values), "random": random}, modes

    @property
    def all(self) -> tuple[Any, ...]:
        return (self.generator, self.critic, *self.optimizers)


def slow_down(gan: Gan) -> None:
    for optimizer in gan.optimizers:
        optimizer.lr *= 0.5


def leak_more(gan: Gan) -> None:
    gan.critic[1].negative_slope = 0.3


def freeze(gan: Gan) -> None:
    gan.generator[1].eval()


def sum_up(gan: Gan) -> None:
    gan.losses[0].reduction = "sum"


CHANGES = {None: True, slow_down: True, leak_more: False, freeze: False, sum_up: False}
"""And whether what was captured stays."""


@pytest.mark.parametrize("change", CHANGES)
def test_two_optimizers_in_one_launch(change: Any) -> None:
    changes = {4: change} if change else {}
    recorder = Recorder()
    actual, modes = Gan(recorder).train(7, changes)
    expected, plain = Gan("reference", capture=False).train(7, changes)
    assert_same(actual, expected)
    again = ["captured"] * 3 if CHANGES[change] else ["plain", "captured", "captured"]
    assert modes == ["plain", "captured", "captured", "captured", *again]
    assert recorder.captured == (1 if CHANGES[change] else 2)
    assert plain == ["plain"] * 7
    if change:
        unchanged, _ = Gan("reference", capture=False).train(7)
        assert any((unchanged[name] != expected[name]).any() for name in ("0.0.weight", "1.0.weight"))


@pytest.mark.parametrize("change", CHANGES)
def test_a_backend_s_own_captures_do_what_its_plain_calls_do(backend: backends.Backend, change: Any) -> None:
    changes = {2: change} if change else {}
    actual, modes = Gan(backend).train(4, changes)
    expected, _ = Gan(backend, capture=False).train(4, changes)
    assert_same(actual, expected)
    if backend.asynchronous:
        assert modes[:2] == ["plain", "captured"] and modes[3] == "captured"
    else:
        assert modes == ["captured" if backend.name == "cpu" and not config.DISABLE_JIT else "plain"] * 4


def test_two_losses_of_one_model(backend: backends.Backend) -> None:
    x = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    labels, number = np.array([0, 1, 1, 0]), np.random.default_rng(1).standard_normal((N, 1)).astype(np.float32)
    states = []
    for capture in (True, False):
        nc.manual_seed(0)
        heads = {"label": (nn.Linear(4, 2), "body"), "number": (nn.Linear(4, 1), "body")}
        model = nn.Graph({"body": (nn.Linear(3, 4), "x"), **heads}, outputs=["label", "number"])
        main, auxiliary, optimizer = nn.CrossEntropyLoss(), nn.MSELoss(), optim.Adam(model.parameters(), 0.1)
        average, metric = WeightAverage(model, 0.5), Accuracy()

        def step(
            x: Any, targets: Any, model=model, main=main, auxiliary=auxiliary, optimizer=optimizer, average=average,
            metric=metric,
        ) -> Any:  # fmt: skip
            optimizer.zero_grad()
            logits, guess = model.forward(x)
            metric.update(logits, targets[0])
            values = main.compute(logits, targets[0]), auxiliary.compute(guess, targets[1])
            model.backward((main.backward(), auxiliary.backward()), input_gradient=False)
            optim.clip_grad_norm(optimizer, 0.5)
            optimizer.step()
            average.update()
            return values

        captured = CapturedFunction(step, model, main, auxiliary, optimizer, average, metric, capture=capture)
        values = [[float(backend.to_numpy(value)) for value in captured(x, (labels, number))] for _ in range(5)]
        assert sum(values[-1]) < sum(values[0])
        is_captured = capture and (backend.asynchronous or (backend.name == "cpu" and not config.DISABLE_JIT))
        assert captured.mode == ("captured" if is_captured else "plain")
        averages = {f"average {name}": array for name, array in average.state_dict().items()}
        states.append(
            {**model.state_dict(), **optimizer.state_dict(), **averages, "values": values, "share": metric.value()}
        )
    assert_same(*states)


def of_one_model(function: Callable[..., Any], *more: Any, **options: Any) -> tuple[CapturedFunction, nn.Linear]:
    """``function`` of a model, a loss, an optimizer and the arrays, on the CPU."""
    with backends.use_backend("cpu"):
        nc.manual_seed(0)
        model, loss = nn.Linear(2, 1), nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), 0.1)
    parts = (model, loss, optimizer)
    return CapturedFunction(lambda *arrays: function(*parts, *arrays), *parts, *more, **options), model


def one_step(model: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.zero_grad()
    value = loss.compute(model.forward(x), y)
    model.backward(loss.backward())
    optimizer.step()
    return value


X, Y = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)


@JIT
def test_it_does_what_a_training_step_does() -> None:
    captured, model = of_one_model(one_step)
    with backends.use_backend("cpu"):
        nc.manual_seed(0)
        other = nn.Linear(2, 1)
        step = TrainingStep(other, nn.MSELoss(), optim.SGD(other.parameters(), 0.1))
    for size in (3, 3, 2, 3, 2):
        captured(X[:size], Y[:size])
        step(X[:size], Y[:size])
        assert captured.mode == step.mode == "captured"
    assert_same(model.state_dict(), other.state_dict())


@JIT
def test_results_are_written_anew() -> None:
    captured, _ = of_one_model(one_step)
    first = captured(X, Y)
    before = float(first)
    second = captured(X, Y)
    assert second is first and float(second) < before


def counted_forward(model: Any, loss: Any, optimizer: Any, x: Any, y: Any) -> Any:
    model.passes = getattr(model, "passes", 0) + 1
    return model.forward(x)


@JIT
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, loss, o, x, y: float(loss.forward(m.forward(x), y)), "an array that is read cannot be part"),
        (lambda m, loss, o, x, y: m.forward(x).shape, "the function returns int, and a launch gives arrays"),
        (lambda m, *more: (m.zero_grad(), one_step(m, *more))[1], "a pass gives a Parameter another array"),
        (counted_forward, "changes `passes`"),
    ],
)  # fmt: skip
def test_what_a_launch_would_not_do_runs_plainly(function: Callable[..., Any], reason: str) -> None:
    captured, model = of_one_model(function)
    plain, other = of_one_model(function, capture=False)
    with pytest.warns(RuntimeWarning, match=reason):
        results = [captured(X, Y)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results += [captured(X, Y), captured(X, Y)]
    for result in results:
        np.testing.assert_array_equal(result, plain(X, Y))
    assert captured.mode == plain.mode == "plain"
    assert_same(model.state_dict(), other.state_dict())
    np.testing.assert_array_equal(model.weight.grad, other.weight.grad)


class Doubled(nn.Layer):
    def forward(self, x: Any) -> Any:
        return 2 * x

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return 2 * dy


@JIT
def test_layers_that_may_use_numpy_run_plainly() -> None:
    with backends.use_backend("cpu"):
        doubled = nn.Sequential(nn.Linear(2, 2), Doubled())
    captured, _ = of_one_model(lambda m, loss, o, x: m.forward(doubled.forward(x)), doubled)
    with pytest.warns(RuntimeWarning, match="the function runs .* not captured: Doubled is not a class of numbacnn"):
        first = captured(X)
    assert captured.mode == "plain"
    assert float(captured(2 * X)[0, 0]) != float(first[0, 0])


def test_numbers_in_variables_cost_another_capture() -> None:
    recorder = Recorder()
    model = nn.Linear(2, 1)
    model.to(recorder)
    scale = 1.0

    def function(x: Any) -> Any:
        y = model.forward(x)
        recorder.accumulate(y, y, scale)
        return y

    captured = CapturedFunction(function, model)
    found = []
    for i in range(6):
        scale = 1.0 if i < 3 else 2.0
        found.append(captured(X).copy())
        assert captured.mode == ("plain" if i in (0, 3) else "captured")
    np.testing.assert_allclose(found[-1], 1.5 * found[0], rtol=1e-6)
    assert recorder.captured == 2


@JIT
def test_a_function_that_counts_runs_plainly() -> None:
    count = 0
    with backends.use_backend("cpu"):
        model = nn.Linear(2, 1)

    def counting(x: Any) -> Any:
        nonlocal count
        count += 1
        return model.forward(x)

    captured = CapturedFunction(counting, model)
    with pytest.warns(RuntimeWarning, match="the function changes a variable that it reads"):
        captured(X)
    before = count
    captured(X)
    assert (captured.mode, count) == ("plain", before + 1)


@JIT
def test_memory_goes_with_the_function(request: pytest.FixtureRequest) -> None:
    captured, _ = of_one_model(one_step)
    result = weakref.ref(captured(X, Y))
    gc.collect()
    assert result() is not None
    gc.disable()
    request.addfinalizer(gc.enable)
    del captured
    assert result() is None


def test_layers_on_different_backends() -> None:
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    captured = CapturedFunction(lambda x: first.forward(x), first, second)
    second.to(Recorder())
    with pytest.raises(ValueError, match="must be on one backend, but are on 'reference' and 'recorder'"):
        captured(X)


MODEL = nn.Sequential(nn.Linear(2, 1))
LOSS = nn.MSELoss()


def uses_both(x: Any, y: Any) -> Any:
    return LOSS.compute(MODEL[0].forward(x), y)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((None, MODEL), TypeError, "`function` None must be a function of arrays"),
        ((uses_both, MODEL, [LOSS]), TypeError, r"`parts`\[1\] of type list must be a Layer, Loss"),
        ((uses_both, LOSS), ValueError, "`parts` must have a layer"),
        ((uses_both, MODEL), ValueError, "must have all that the function uses, but is without `LOSS`"),
        ((uses_both, MODEL[0], LOSS), ValueError, "must have all that the function uses, but is without `MODEL`"),
        (
            (len, MODEL, *(optim.SGD(MODEL.parameters(), 1) for _ in range(2))),
            ValueError,
            "two optimizers of one parameter",
        ),
    ],
)
def test_what_is_refused(arguments: tuple[Any, ...], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        CapturedFunction(*arguments)
