"""Steps of the optimizer after several batches, against steps with one batch of all their samples."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.training import Accuracy, TrainingStep, WeightAverage, fit
from tests.recorder import Recorder
from tests.strategies import SIMULATED
from tests.training.toy import assert_same, batches

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((11, 2, 6, 6))
LABELS = RNG.integers(0, 3, 11)
LABELS[[2, 3, 9]] = 1
SIZES = (4, 2, 5)


def network(dtype: Any = np.float64) -> nn.Sequential:
    with nc.use_backend("reference"):
        nc.manual_seed(3)
        if SIMULATED:
            return nn.Sequential(nn.AvgPool2d(3), nn.Flatten(), nn.Linear(8, 3, dtype=dtype))
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, dtype=dtype), nn.GroupNorm(2, 4, dtype=dtype), nn.PReLU(4, dtype=dtype), nn.Flatten(),
            nn.Linear(64, 3, dtype=dtype),
        )  # fmt: skip


class OfTheMean(nn.Loss):
    """Half the mean square over the samples, of one's own."""

    capturable = True

    def compute(self, prediction: Any, target: Any) -> Any:
        self.saved = prediction, target
        return nc.ops.pointwise_loss(prediction, target, "squared", 0.0, "mean", backend=self.backend)

    def backward(self, dy: Any = None) -> Any:
        return nc.ops.pointwise_loss_backward(None, *self.saved, "squared", 0.0, "mean", backend=self.backend)


class Focused(nn.CrossEntropyLoss):
    """A subclass, whose gradient is its own."""

    capturable = True

    def backward(self, dy: Any = None) -> Any:
        gradient = super().backward(dy)
        return nc.ops.add([gradient, gradient], backend=self.backend)


LOSSES: dict[str, tuple[Callable[[], nn.Loss], np.ndarray]] = {
    "labels": (nn.CrossEntropyLoss, LABELS),
    "ignored and weighted": (lambda: nn.CrossEntropyLoss([1.0, 3.0, 0.5], ignore_index=1, label_smoothing=0.1), LABELS),
    "sum": (lambda: nn.CrossEntropyLoss(reduction="sum"), LABELS),
    "probabilities": (nn.CrossEntropyLoss, np.random.default_rng(1).dirichlet([1, 1, 1], 11)),
    "nll": (lambda: nn.NLLLoss([1.0, 3.0, 0.5], ignore_index=1), LABELS),
    "squared": (nn.MSELoss, RNG.standard_normal((11, 3))),
    "squared sum": (lambda: nn.MSELoss(reduction="sum"), RNG.standard_normal((11, 3))),
    "logistic": (lambda: nn.BCEWithLogitsLoss(pos_weight=[1.0, 2.0, 3.0]), RNG.random((11, 3))),
    "one's own": (OfTheMean, RNG.standard_normal((11, 3))),
    "a subclass": (Focused, LABELS),
}


def parts(sizes: tuple[int, ...] = SIZES) -> list[slice]:
    ends = np.cumsum((0, *sizes)).tolist()
    return [slice(*pair) for pair in pairwise(ends)]


def state_of(step: TrainingStep) -> dict[str, np.ndarray]:
    gradients = {f"gradient {name}": p.backend.to_numpy(p.grad) for name, p in step.model.named_parameters()}
    arrays = step.optimizer.state_dict()
    average = {} if step.weight_average is None else step.weight_average.state_dict()
    named = {f"average {name}": array for name, array in average.items()}
    return {name: np.array(x) for name, x in {**step.model.state_dict(), **gradients, **arrays, **named}.items()}


def step_of(backend: Any, loss: nn.Loss, model: nn.Layer | None = None, **options: Any) -> TrainingStep:
    model = (model or network()).to(backend)
    loss.to(backend)
    options["weight_average"] = WeightAverage(model, 0.5)
    return TrainingStep(model, loss, optim.AdamW(model.parameters(), 0.01), **options)


@pytest.mark.parametrize("kind", ["ignored and weighted", "squared"] if SIMULATED else LOSSES)
@pytest.mark.parametrize("capture", [False, True])
def test_it_is_one_batch_of_all_samples(backend: Backend, kind: str, capture: bool) -> None:
    make, targets = LOSSES[kind]
    together, apart = (step_of(backend, make(), clip_norm=0.3, **more) for more in ({}, {"accumulate": 3}))
    apart.capture = capture
    for _ in range(3):
        together(IMAGES, targets)
        for i, part in enumerate(parts()):
            assert apart.pending == i
            apart(IMAGES[part], targets[part])
        assert apart.pending == 0
    expected = state_of(together)
    for name, array in state_of(apart).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-11, err_msg=name)
    if capture and backend.name == "cpu" and not config.DISABLE_JIT:
        assert apart.mode == "captured"


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_bits_are_the_same_where_nothing_is_rounded(backend: Backend, reduction: str) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-4, 5, (16, n)).astype(np.float32) for n in (6, 4))
    found = []
    for accumulate in (1, 4):
        model = nn.Linear(6, 4)
        for parameter in model.parameters():
            parameter.value = np.random.default_rng(1).integers(-3, 4, parameter.shape)
        step = TrainingStep(
            model, nn.MSELoss(reduction=reduction), optim.SGD(model.parameters(), 2**-6), accumulate=accumulate
        )
        for part in np.split(np.arange(16), accumulate):
            step(x[part], y[part])
        found.append(state_of(step))
    assert_same(*found)


@pytest.mark.parametrize("on", ["recorder", "backend"])
def test_captured_is_plain_to_the_bit(backend: Backend, on: str) -> None:
    """Through shapes, a group cut short, and changes of settings in the middle of groups."""
    states = []
    for capture in (False, True):
        target = Recorder() if on == "recorder" else backend
        step = step_of(target, nn.CrossEntropyLoss(), network(np.float32), accumulate=3, capture=capture)
        step.metrics = (Accuracy(),)
        x = IMAGES.astype(np.float32)
        totals = []
        for i in range(11):
            part = slice(0, 4) if i % 4 else slice(4, 9)
            step(x[part], LABELS[part])
            if i == 4:
                step.optimizer.lr, step.clip_norm = 0.02, 0.1
            if i == 6:
                next(layer for layer in step.model if layer.parameters()).freeze()
            if i == 7:
                step.flush()
            if i == 8:
                step.accumulate = 1
            totals.append(step.pending)
        assert totals == [1, 2, 0, 1, 2, 0, 1, 0, 1, 0, 0]
        states.append({**state_of(step), "totals": step.totals(), "accuracy": step.metrics[0].value()})
    assert_same(*states)


def test_captures_are_of_a_batch_and_of_an_end() -> None:
    recorder = Recorder()
    step = step_of(recorder, nn.CrossEntropyLoss(), accumulate=2)
    for _ in range(8):
        step(IMAGES[:4], LABELS[:4])
        assert recorder.read == 0
    # The first of each kind is plain on a backend that works in the background, and so is the first end.
    assert recorder.captured == 2 and recorder.launched == 7 + 3
    assert step.mode == "captured"


def test_metrics_and_totals_are_of_every_batch() -> None:
    with nc.use_backend("reference"):
        accuracy = Accuracy()
        step = step_of("reference", nn.CrossEntropyLoss(), accumulate=5, metrics=[accuracy])
        for part in parts():
            step(IMAGES[part], LABELS[part])
        loss, correct, examples = step.totals()
        logits = network().predict(IMAGES)
        assert examples == 11 and correct == (logits.argmax(1) == LABELS).sum()
        assert loss == pytest.approx(11 * nn.CrossEntropyLoss()(logits, LABELS))
        assert accuracy.value() == pytest.approx(correct / 11)


@pytest.mark.parametrize("bad", [1, 5, 10])
@pytest.mark.parametrize(
    ("sizes", "options"),
    [((4, 4, 3), {"accumulate": 3}), ((8, 3), {"accumulate": 2, "micro_batch": 4}), ((11,), {"micro_batch": 4})],
)
def test_a_step_with_a_loss_that_is_not_finite_is_not_taken(
    bad: int, sizes: tuple[int, ...], options: dict[str, int]
) -> None:
    """As with one batch of all the samples; the next step is as if there had been none before."""
    with nc.use_backend("reference"):
        step, twin = (step_of("reference", nn.CrossEntropyLoss(), **options) for _ in range(2))
        before, spoilt = state_of(step), IMAGES.copy()
        spoilt[bad, 0, 2, 3] = np.inf
        with np.errstate(invalid="ignore"):
            for part in parts(sizes):
                step(spoilt[part], LABELS[part])
        assert step.pending == 0 and step.totals()[2] == 11
        assert_same(state_of(step), before)
        for each in (step, twin):
            for part in parts(sizes):
                each(IMAGES[part], LABELS[part])
        assert_same(state_of(step), state_of(twin))


def test_parameters_that_are_not_the_optimizer_s_have_the_mean_s_gradient_too() -> None:
    with nc.use_backend("reference"):
        found = []
        for sizes in ((11,), SIZES):
            model = network()
            step = TrainingStep(
                model, nn.CrossEntropyLoss(), optim.SGD(model[-1].parameters(), 0.1), accumulate=len(sizes)
            )
            for part in parts(sizes):
                step(IMAGES[part], LABELS[part])
            found.append({name: p.grad for name, p in model.named_parameters()})
        assert np.abs(next(iter(found[0].values()))).max() > 0
        for name, gradient in found[0].items():
            np.testing.assert_allclose(found[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_a_model_moves_to_another_backend_in_the_middle(backend: Backend) -> None:
    found = []
    for target in ("reference", backend):
        step = step_of("reference", nn.CrossEntropyLoss(), accumulate=3)
        for part in parts():
            step(IMAGES[part], LABELS[part])
            step.model.to(target)
        found.append(step.model.state_dict())
    for name, array in found[0].items():
        np.testing.assert_allclose(found[1][name], array, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("told", [0, 3])
def test_fit_ends_an_epoch_with_what_is_left(told: int) -> None:
    """Also where the loader has fewer batches than it says."""

    class Loader(list):
        def __len__(self) -> int:
            return super().__len__() + told

    with nc.use_backend("reference"):
        data = batches(5)
        models = []
        for fitted in (True, False):
            nc.manual_seed(2)
            model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
            optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
            schedule = optim.StepLR(optimizer, 2, per="batch")
            if fitted:
                fit(
                    *(model, Loader(data), None, nn.CrossEntropyLoss(), optimizer, 2),
                    schedule=schedule,
                    accumulate=2,
                )
                assert schedule.count == 2 * math.ceil(5 / 2)
            else:
                step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer)
                for _ in range(2):
                    for group in (data[:2], data[2:4], data[4:]):
                        step(*(np.concatenate(arrays) for arrays in zip(*group, strict=True)))
                        schedule.step()
            models.append(model.state_dict())
        for name, array in models[0].items():
            np.testing.assert_allclose(models[1][name], array, rtol=1e-5, atol=1e-6)


def test_schedules_of_groups_count_steps_of_the_optimizer_or_epochs() -> None:
    found = []
    for make in (
        lambda optimizer: optim.OneCycleLR(optimizer, [1.0, 0.1], total_steps=6),
        lambda optimizer: optim.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=0, threshold=1e9, threshold_mode="abs"
        ),
    ):
        with nc.use_backend("reference"):
            model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
        model[1].freeze()
        before = model.state_dict()
        groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in ((model[1], 0.5), (model[2], 0.25))]
        optimizer = optim.Adam(groups, weight_decay=0.1)
        schedule = make(optimizer)
        fit(model, batches(5), None, nn.CrossEntropyLoss(), optimizer, 2, schedule=schedule, accumulate=2)
        same = {name: np.array_equal(array, before[name]) for name, array in model.state_dict().items()}
        assert same == {name: name.startswith("1.") for name in before}
        found.append((optimizer.steps, schedule.count, [group["lr"] for group in optimizer.param_groups]))
    assert found[0][:2] == (6, 6)
    assert found[0][2] == pytest.approx([1 / 25 / 1e4, 0.1 / 25 / 1e4])
    assert found[1] == (6, 2, [0.25, 0.125])


@pytest.mark.parametrize("name", ["accumulate", "micro_batch"])
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-2, ValueError), (1.5, TypeError), (None, TypeError), ("2", TypeError)]
)
def test_numbers_of_batches_and_of_samples(name: str, value: Any, error: type[Exception]) -> None:
    with nc.use_backend("reference"):
        model = network()
        optimizer = optim.SGD(model.parameters(), 0.1)
        if name == "micro_batch" and value is None:
            assert TrainingStep(model, nn.CrossEntropyLoss(), optimizer).micro_batch is None
            return
        with pytest.raises(error, match=f"`{name}` {value!r} must be"):
            TrainingStep(model, nn.CrossEntropyLoss(), optimizer, **{name: value})
        with pytest.raises(error, match=f"`{name}` {value!r} must be"):
            fit(model, batches(1), None, nn.CrossEntropyLoss(), optimizer, 1, **{name: value})


def test_nothing_outlives_the_step() -> None:
    with nc.use_backend("reference"):
        step = step_of("reference", nn.CrossEntropyLoss(), accumulate=2)
        step(IMAGES, LABELS)
        step(IMAGES, LABELS)
        gone = weakref.ref(step)
        gc.collect()
        gc.disable()
        try:
            del step
            assert gone() is None
        finally:
            gc.enable()
