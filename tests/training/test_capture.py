"""Steps that are captured and replayed: the same numbers as plain ones, whatever changes in between."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import backends, nn, optim
from numbacnn.training import Callback, Run, TrainingStep, fit
from tests.recorder import Recorder
from tests.training.toy import loaders, model_and_optimizer

Change = Callable[[nn.Sequential, optim.Optimizer], Any]


def batches(sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.random((n, 1, 2, 2), np.float32), rng.integers(0, 2, n)) for n in sizes]


def model_of(make: str) -> tuple[nn.Sequential, optim.Optimizer]:
    model, optimizer = model_and_optimizer()
    if make == "adam":
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
    if make == "part":
        optimizer = optim.SGD(model[4].parameters(), lr=0.3, momentum=0.5)
    return model, optimizer


def train(
    backend: Any, sizes: list[int], make: str = "sgd", changes: dict[int, Change] | None = None
) -> tuple[dict[str, Any], list[str | None]]:
    """Everything that training leaves behind, and how each step ran."""
    model, optimizer = model_of(make)
    loss = nn.CrossEntropyLoss()
    if backend is not None:
        model.to(backend)
        loss.to(backend)
    step, modes = TrainingStep(model, loss, optimizer), []
    assert step.mode is None
    totals = []
    for i, (x, y) in enumerate(batches(sizes)):
        if changes and i in changes:
            changes[i](model, optimizer)
        read = getattr(backend, "read", 0)
        assert step(x, y) is None
        assert getattr(backend, "read", 0) == read
        modes.append(step.mode)
        if i % 3 == 2:
            totals.append(step.totals())
    totals.append(step.totals())
    totals.append(step.totals())
    return {
        **model.state_dict(),
        **optimizer.state_dict(),
        "totals": totals,
        "random": model.random_state(),
        **{f"gradient {i}": p.backend.to_numpy(p.grad) for i, p in enumerate(optimizer.parameters)},
    }, modes


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@pytest.mark.parametrize("make", ["sgd", "adam", "part"])
def test_replays_do_what_plain_steps_do(make: str) -> None:
    sizes = [8, 8, 8, 4, 8, 4, 4, 8]
    recorder = Recorder()
    actual, modes = train(recorder, sizes, make)
    expected, plain = train(None, sizes, make)
    assert_same(actual, expected)
    assert modes == ["plain", "captured", "captured", "plain", "captured", "captured", "captured", "captured"]
    assert plain == ["plain"] * 8
    assert (recorder.captured, recorder.launched) == (2, 6)
    assert expected["totals"][-1] == (0.0, 0, 0)
    assert [examples for _, _, examples in expected["totals"]] == [24, 16, 12, 0]
    assert expected["2.num_batches_tracked"] == 8
    assert expected["random"]["3"][1] == 8


@pytest.mark.parametrize("refusal", ["early", "late"])
def test_after_a_refusal_all_steps_run_plainly_as_if_nothing_had_been(refusal: str) -> None:
    recorder = Recorder(refusal)
    actual, modes = train(recorder, [8, 8, 8, 4, 4])
    assert_same(actual, train(None, [8, 8, 8, 4, 4])[0])
    assert modes == ["plain"] * 5
    assert (recorder.captured, recorder.launched) == (1, 0)


def set_rate(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    optimizer.lr = 0.01


def set_nesterov(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    optimizer.nesterov = True


def freeze(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    model[2].eval()


def go_back(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    model.load_random_state({"3": [model[3].seed, 0]})


def reseed(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    model.load_random_state({"3": [99, 5]})


def load(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    model.load_state_dict({name: np.ones_like(array) for name, array in model.state_dict().items()})
    optimizer.load_state_dict({**optimizer.state_dict(), "lr": 0.05})


def accumulate(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    model.zero_grad()
    for parameter in model.parameters():
        parameter.accumulate(np.full(parameter.shape, 100))


def take_over(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
    optim.SGD(model.parameters(), lr=1).step()


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (set_rate, True),
        (go_back, True),
        (load, True),
        (set_nesterov, False),
        (accumulate, False),
        (freeze, False),
        (reseed, False),
        (take_over, False),
    ],
)
def test_what_changes_between_steps_counts(change: Change, stays: bool) -> None:
    recorder = Recorder()
    actual, modes = train(recorder, [8] * 7, changes={4: change})
    assert_same(actual, train(None, [8] * 7, changes={4: change})[0])
    again = ["captured"] * 3 if stays else ["plain", "captured", "captured"]
    assert modes == ["plain", "captured", "captured", "captured", *again]
    assert recorder.captured == (1 if stays else 2)


def test_settings_of_adam_and_its_count_are_followed() -> None:
    def change(model: nn.Sequential, optimizer: optim.Optimizer) -> None:
        optimizer.beta1, optimizer.eps, optimizer.steps = 0.5, 1e-3, 40

    actual, modes = train(Recorder(), [8] * 5, "adam", {3: change})
    expected, _ = train(None, [8] * 5, "adam", {3: change})
    assert_same(actual, expected)
    assert (modes[1:], expected["steps"]) == (["captured"] * 4, 42)


def test_a_model_may_move_in_between() -> None:
    recorder, other = Recorder(), Recorder()
    other.name = "other"
    model, optimizer = model_and_optimizer()
    loss = nn.CrossEntropyLoss()
    step = TrainingStep(model, loss, optimizer)
    modes = []
    for i, (x, y) in enumerate(batches([8] * 9)):
        if i % 3 == 0:
            target = (recorder, other, "reference")[i // 3]
            model.to(target)
            loss.to(target)
        step(x, y)
        modes.append(step.mode)
    assert modes == [*["plain", "captured", "captured"] * 2, *["plain"] * 3]
    still, former = model_and_optimizer()
    plain = TrainingStep(still, nn.CrossEntropyLoss(), former)
    for x, y in batches([8] * 9):
        plain(x, y)
    assert_same(model.state_dict(), still.state_dict())
    assert_same(optimizer.state_dict(), former.state_dict())
    assert step.totals() == plain.totals()


def test_a_launch_looks_at_the_settings_at_a_glance(backend: backends.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend.name == "reference" or config.DISABLE_JIT:
        pytest.skip("it captures nothing")
    model, optimizer = model_and_optimizer()
    training = TrainingStep(model, nn.CrossEntropyLoss(), optimizer)
    steps = batches([3] * 5)
    for x, y in steps[:3]:
        training(x, y)
    monkeypatch.setattr("numbacnn.training.captured.fingerprint", None)
    for x, y in steps[3:]:
        training(x, y)
        assert training.mode == "captured"


def test_only_so_many_shapes_are_captured() -> None:
    recorder = Recorder()
    sizes = [*range(3, 9)] * 3
    actual, modes = train(recorder, sizes)
    assert_same(actual, train(None, sizes)[0])
    assert recorder.captured == 4
    assert modes[6:] == [*["captured"] * 4, *["plain"] * 2] * 2


def test_shapes_that_are_not_seen_any_more_make_way() -> None:
    sizes = [*range(2, 6)] * 2 + [6] * 40 + [7, 2, 6]
    recorder = Recorder()
    actual, modes = train(recorder, sizes)
    assert_same(actual, train(None, sizes)[0])
    first = modes[8:48].index("captured")
    assert 25 < first < 35 and modes[8 + first : 48] == ["captured"] * (40 - first)
    assert modes[48:] == ["plain", "plain", "captured"]
    assert recorder.captured == 5


def test_convolutions_and_activations_are_replayed() -> None:
    states = []
    for backend in (None, Recorder()):
        nc.manual_seed(0)
        model = nc.models.lenet()
        loss = nn.CrossEntropyLoss()
        optimizer = optim.SGD(model.parameters(), 0.1)
        if backend is not None:
            model.to(backend)
            loss.to(backend)
        step = TrainingStep(model, loss, optimizer)
        rng = np.random.default_rng(1)
        for _ in range(3):
            step(rng.random((3, 1, 28, 28), np.float32), rng.integers(0, 10, 3))
        states.append({**model.state_dict(), "totals": step.totals()})
    assert step.mode == "captured"
    assert_same(*states)


OPTIMIZERS: dict[str, Callable[[nn.Layer], optim.Optimizer]] = {
    "sgd": lambda model: optim.SGD(model.parameters(), 0.3, momentum=0.9, weight_decay=0.01),
    "adam": lambda model: optim.Adam(model.parameters(), 0.1),
}


def five_steps(name: str, optimizer: str, capture: bool) -> tuple[dict[str, Any], list[str | None]]:
    """What five steps on the backend ``name`` leave behind, the last two at another learning rate, and how they ran."""
    with backends.use_backend(name):
        nc.manual_seed(5)
        model = nn.Sequential(
            # A bias here has a gradient of zero but for rounding, which Adam would make much of.
            nn.Conv2d(1, 3, 2, padding="same", bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(12, 2),
        )
        loss, update = nn.CrossEntropyLoss(), OPTIMIZERS[optimizer](model)
    step = TrainingStep(model, loss, update, capture=capture)
    modes, totals = [], []
    for i, (x, y) in enumerate(batches([4, 4, 4, 4, 3])):
        if i == 3:
            update.lr = 0.05
        step(x, y)
        modes.append(step.mode)
        totals.append(step.totals())
    gradients = {f"gradient {i}": np.array(p.grad) for i, p in enumerate(model.parameters())}
    random = list(model.random_state().values())
    return {**model.state_dict(), **update.state_dict(), **gradients, "totals": totals, "random": random}, modes


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_backend_s_own_captures_do_what_its_plain_steps_do(backend: backends.Backend, optimizer: str) -> None:
    actual, modes = five_steps(backend.name, optimizer, capture=True)
    expected, plain = five_steps(backend.name, optimizer, capture=False)
    assert_same(actual, expected)
    if backend.asynchronous:
        assert modes == ["plain", *["captured"] * 3, "plain"]
    else:
        assert modes == ["captured" if backend.name == "cpu" and not config.DISABLE_JIT else "plain"] * 5
    assert plain == ["plain"] * 5
    assert actual["1.num_batches_tracked"] == 5 and actual["random"][0][1] == 5
    definition, _ = five_steps("reference", optimizer, capture=False)
    assert actual.keys() == definition.keys()
    for name, value in definition.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


class Watch(Callback):
    """Notes how many samples the average is of after each batch."""

    def __init__(self) -> None:
        self.examples: list[int] = []

    def on_batch_end(self, run: Run) -> None:
        self.examples.append(run.average.examples)


@pytest.mark.parametrize(("seconds", "examples"), [(0, [8, 16, 20]), (1e9, [0, 0, 20])])
def test_fit_reads_results_now_and_then(monkeypatch: pytest.MonkeyPatch, seconds: float, examples: list[int]) -> None:
    monkeypatch.setattr(sys.modules["numbacnn.training.fit"], "REPORT_SECONDS", seconds)
    results = []
    for backend in (None, Recorder()):
        model, optimizer = model_and_optimizer()
        loss, watch = nn.CrossEntropyLoss(), Watch()
        if backend is not None:
            model.to(backend)
            loss.to(backend)
        history = fit(model, *loaders(), loss, optimizer, 3, callbacks=[watch])
        results.append((model.state_dict(), history))
    assert watch.examples == examples * 3
    assert backend.captured == 2
    assert_same(results[1][0], results[0][0])
    for plain, captured in zip(*(history.records for _, history in results), strict=True):
        np.testing.assert_allclose(captured.train_loss, plain.train_loss, rtol=1e-14)
        assert captured.train_accuracy == plain.train_accuracy
        assert captured.test_loss == plain.test_loss
        assert 0 < captured.wall_examples_per_second < captured.examples_per_second


def test_a_loss_that_is_no_number_is_found_late_but_before_the_epoch_ends() -> None:
    class Explode(Callback):
        def on_batch_end(self, run: Run) -> None:
            run.model[1].weight.value = np.full((6, 4), np.inf)

    model, optimizer = model_and_optimizer()
    loss, recorder = nn.CrossEntropyLoss(), Recorder()
    model.to(recorder)
    loss.to(recorder)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"training loss is nan in epoch 1, after"):
        fit(model, *loaders(), loss, optimizer, 1, callbacks=[Explode()])


def test_evaluation_waits_once() -> None:
    model, _ = model_and_optimizer()
    loss, recorder = nn.CrossEntropyLoss(), Recorder()
    expected = nc.training.evaluate(model, loaders()[1], loss)
    model.to(recorder)
    loss.to(recorder)
    before = recorder.read
    assert nc.training.evaluate(model, loaders()[1], loss) == expected
    assert recorder.read == before + 2


class Doubled(nn.ReLU):
    """A layer of one's own that computes by NumPy, where the backend's arrays are NumPy's."""

    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


def double(layer: nn.Layer) -> nn.Layer:
    own = type(layer).forward
    layer.forward = lambda x: 2 * own(layer, x)
    return layer


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is captured")
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: Doubled(), "Doubled is not a class of numbacnn"),
        (lambda: double(nn.ReLU()), "a ReLU object has a method of its own"),
    ],
)
def test_on_the_cpu_layers_that_may_use_numpy_run_plainly(layer: Callable[[], nn.Layer], reason: str) -> None:
    with backends.use_backend("cpu"):
        model = nn.Sequential(nn.Flatten(), layer(), nn.Linear(4, 2))
        step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
        silent = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), capture=False)
    (x, y), *more = batches([4] * 3)
    silent(x, y)
    with pytest.warns(RuntimeWarning, match=f"the step runs launch by launch, it is not captured: {reason}"):
        step(x, y)
    for x, y in more:
        step(x, y)
    assert step.mode == silent.mode == "plain"


def test_labels_are_checked_before_each_step(backend: backends.Backend) -> None:
    model, optimizer = model_and_optimizer()
    model.to(backend)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer)
    for x, y in batches([4] * 3):
        step(x, y)
    if backend.asynchronous:
        pytest.skip("labels on the device are the caller's to check")
    state = model.state_dict()
    with pytest.raises(ValueError, match=r"`labels` must be in 0\.\.1 or -100, .* but hold 7"):
        step(x, np.array([0, 7, 1, 0]))
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.value, state[name])
    step(x, y)
    assert step.totals()[2] == 16
