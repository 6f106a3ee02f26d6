"""What may join a run: schedules, clipped gradients, and an early end; averages are in test_average.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, optim
from numbacnn.io import load_checkpoint
from numbacnn.training import (
    Callback,
    CheckpointFile,
    EarlyStopping,
    History,
    Run,
    TrainingStep,
    WeightAverage,
    fit,
)
from tests.recorder import Recorder
from tests.strategies import SIMULATED
from tests.training.toy import assert_same, batches, loaders, model_and_optimizer, record

SCHEDULES: dict[str, Callable[[optim.Optimizer], optim.Schedule]] = {
    "epoch": lambda o: optim.LinearWarmup(1, optim.StepLR(o, 2)),
    "batch": lambda o: optim.OneCycleLR(o, 0.7, total_steps=12),
}
every_schedule = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)


class Rates(Callback):
    """Notes the learning rates of the batches to come."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_begin(self, run: Run) -> None:
        self.seen.append(run.optimizer.lr)

    def on_batch_end(self, run: Run) -> None:
        self.seen.append(run.optimizer.lr)


def run_fit(
    epochs: int,
    make: Callable[[optim.Optimizer], optim.Schedule] | None = None,
    callbacks: tuple[Callback, ...] = (),
    **options: Any,
) -> tuple[nn.Sequential, History]:
    model, optimizer = model_and_optimizer()
    if make is not None:
        options["schedule"] = make(optimizer)
    return model, fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs, callbacks=callbacks, **options)


def test_a_schedule_steps_after_each_epoch() -> None:
    rates = Rates()
    _, history = run_fit(4, lambda o: optim.StepLR(o, 2, gamma=0.5), (rates,))
    assert [r.lr for r in history.records] == [0.5, 0.5, 0.25, 0.25]
    assert rates.seen == [0.5] * 8 + [0.25] * 8


def test_a_schedule_steps_after_each_batch() -> None:
    rates = Rates()
    _, history = run_fit(2, lambda o: optim.StepLR(o, 1, gamma=0.5, per="batch"), (rates,))
    assert rates.seen == [0.5, 0.25, 0.125, 0.0625, 0.0625, 0.03125, 0.015625, 0.0078125]
    assert [r.lr for r in history.records] == [0.5, 0.0625]


@every_schedule
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, backend: backends.Backend, make: Any) -> None:
    path, epochs = tmp_path / "checkpoint.safetensors", 2 if SIMULATED else 4
    whole, whole_history = run_fit(epochs, make)
    run_fit(1 if SIMULATED else 2, make, (CheckpointFile(path, {"seed": 3}),))

    model, optimizer = model_and_optimizer(lr=0.1)
    schedule = make(optimizer)
    checkpoint = load_checkpoint(path, model, optimizer)
    schedule.load_state_dict(checkpoint["settings"].pop("schedule"))
    assert checkpoint["settings"] == {"seed": 3}
    history = History.from_json(checkpoint["history"])
    fit(
        *(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs),
        start_epoch=checkpoint["epoch"],
        history=history,
        schedule=schedule,
    )
    assert_same(model.state_dict(), whole.state_dict())
    figures = ("train_loss", "test_loss", "lr")
    for one, other in zip(history.records, whole_history.records, strict=True):
        assert [getattr(one, name) for name in figures] == [getattr(other, name) for name in figures]


def test_schedules_that_do_not_fit(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    _, other = model_and_optimizer()
    arguments = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, 2)
    with pytest.raises(ValueError, match="`schedule` was made for another optimizer"):
        fit(*arguments, schedule=optim.StepLR(other, 1))
    with pytest.raises(ValueError, match="`schedule` is at its beginning, `start_epoch` is 1: load its state"):
        fit(*arguments, schedule=optim.StepLR(optimizer, 1), start_epoch=1)
    keeper = CheckpointFile(tmp_path / "checkpoint.safetensors", {"schedule": "cosine"})
    with pytest.raises(ValueError, match="`settings` may not have 'schedule'"):
        fit(*arguments, schedule=optim.StepLR(optimizer, 1), callbacks=[keeper])
    fit(*arguments, callbacks=[keeper])


def train(backend: Any, clip_norm: float | None, decay: float | None) -> tuple[dict[str, Any], list[str | None]]:
    """What five steps leave behind, and how they ran."""
    model, optimizer = model_and_optimizer()
    loss = nn.CrossEntropyLoss()
    if backend is not None:
        model.to(backend)
        loss.to(backend)
    average = None if decay is None else WeightAverage(model, decay)
    step, modes = TrainingStep(model, loss, optimizer, clip_norm=clip_norm, weight_average=average), []
    for x, y in batches(5):
        step(x, y)
        modes.append(step.mode)
    averages = {} if average is None else {f"average {name}": a for name, a in average.state_dict().items()}
    return {**model.state_dict(), **optimizer.state_dict(), **averages, "totals": step.totals()}, modes


@pytest.mark.parametrize(("clip_norm", "decay"), [(0.05, None), (None, 0.5), (0.05, 0.9)])
def test_captured_steps_clip_and_average(clip_norm: float | None, decay: float | None) -> None:
    actual, modes = train(Recorder(), clip_norm, decay)
    expected, _ = train(None, clip_norm, decay)
    assert modes == ["plain", *["captured"] * 4]
    assert_same(actual, expected)


def test_a_backend_s_steps_clip_and_average(backend: backends.Backend) -> None:
    actual, _ = train(None, 0.05, 0.5)
    with backends.use_backend("reference"):
        expected, _ = train(None, 0.05, 0.5)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_clipped_steps_are_short() -> None:
    model, optimizer = model_and_optimizer()
    optimizer.momentum = 0
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer, clip_norm=0.01)
    for x, y in batches(3):
        before = [np.array(p.value) for p in model.parameters()]
        step(x, y)
        moved = sum(np.square(p.value - b).sum() for p, b in zip(model.parameters(), before, strict=True)) ** 0.5
        np.testing.assert_allclose(moved, 0.5 * 0.01, rtol=1e-3)


@pytest.mark.parametrize("change", ["clip_norm", "weight_average"])
def test_another_bound_or_average_means_another_capture(change: str) -> None:
    recorder = Recorder()
    model, optimizer = model_and_optimizer()
    step = TrainingStep(model.to(recorder), nn.CrossEntropyLoss(), optimizer, clip_norm=0.1)
    modes = []
    for i, (x, y) in enumerate(batches(6)):
        if i == 3:
            setattr(step, change, None if change == "clip_norm" else WeightAverage(model))
        step(x, y)
        modes.append(step.mode)
    assert modes == ["plain", "captured", "captured"] * 2


def test_fit_clips() -> None:
    loose, tight = (run_fit(1, clip_norm=bound)[0].state_dict() for bound in (1e6, 1e-3))
    assert_same(loose, run_fit(1)[0].state_dict())
    assert not np.array_equal(loose["1.weight"], tight["1.weight"])
    with pytest.raises(ValueError, match="`clip_norm` -1 must be at least 0"):
        run_fit(1, clip_norm=-1)


def stopped_after(losses: list[float], **options: Any) -> tuple[int, int]:
    """The epoch after which a run with these test losses (and 1 - loss for accuracy) ends, and its best."""
    stopping, history = EarlyStopping(**options), History()
    run = Run(*[None] * 3, history=history, epochs=len(losses), batches=1, epoch=0)  # type: ignore[arg-type]
    stopping.on_fit_begin(run)
    assert not run.stop and stopping.best_epoch == 0
    for epoch, loss in enumerate(losses, 1):
        history.records.append(record(epoch, test_loss=loss, test_accuracy=1 - loss))
        stopping.on_epoch_end(run)
        resumed = Run(*[None] * 3, history=history, epochs=9, batches=1, epoch=epoch)  # type: ignore[arg-type]
        again = EarlyStopping(**options)
        again.on_fit_begin(resumed)
        assert (resumed.stop, again.best_epoch) == (run.stop, stopping.best_epoch)
        if run.stop:
            break
    return epoch, stopping.best_epoch


def test_patience() -> None:
    losses = [0.9, 0.5, 0.6, 0.5, 0.4, 0.45, 0.41, 0.42, 0.39]
    assert stopped_after(losses, patience=1) == (3, 2)
    assert stopped_after(losses, patience=2) == (4, 2)
    assert stopped_after(losses, patience=3) == (8, 5)
    assert stopped_after(losses, patience=4) == (9, 9)
    assert stopped_after(losses, patience=3, min_delta=0.2) == (5, 2)
    assert stopped_after(losses, patience=3, monitor="test_accuracy") == (8, 5)


def test_a_run_ends_early_and_cleanly() -> None:
    class Count(Callback):
        ended = 0

        def on_fit_end(self, run: Run) -> None:
            self.ended += 1

    count = Count()
    _, history = run_fit(9, callbacks=(EarlyStopping(2, min_delta=100), count))
    assert (len(history), count.ended) == (3, 1)
    model, optimizer = model_and_optimizer()
    fit(
        *(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 9),
        start_epoch=3,
        history=history,
        callbacks=[EarlyStopping(2, min_delta=100)],
    )
    assert len(history) == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 0}, ValueError, "`patience` 0 must be at least 1"),
        ({"patience": 1, "min_delta": -1}, ValueError, "`min_delta` -1 must be at least 0"),
        ({"patience": 1, "monitor": "loss"}, ValueError, "`monitor` 'loss' must be one of 'train_loss'"),
    ],
)
def test_stopping_arguments_that_are_refused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**options)
