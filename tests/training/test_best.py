"""Which epoch is the best, and what is kept of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.io.arrays import read_arrays
from numbacnn.training import (
    Accuracy,
    BestCheckpoint,
    Callback,
    ClassAccuracy,
    EarlyStopping,
    History,
    MeanAbsoluteError,
    Metric,
    Run,
    WeightAverage,
    evaluate,
    fit,
)
from numbacnn.training.monitor import Monitor
from tests.training.toy import assert_same, loaders, model_and_optimizer, record


class States(Callback):
    """Keeps the model's state after each epoch, and that of the run's average."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = []
        self.averages: list[dict[str, Any]] = []

    def on_epoch_end(self, run: Run) -> None:
        self.models.append(run.model.state_dict())
        if run.weight_average is not None:
            self.averages.append(run.weight_average.state_dict())


class Press(Callback):
    """Ctrl-C after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch_end(self, run: Run) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def run_of(epochs: int = 0, metrics: dict[str, Metric] | None = None, **figures: list[float]) -> Run:
    """A run with a history; what is no figure of a record is one of a metric's."""
    history = History()
    for epoch in range(1, epochs + 1):
        values = {name: each[epoch - 1] for name, each in figures.items()}
        own = {name: value for name, value in values.items() if hasattr(record(1), name)}
        others = {name: value for name, value in values.items() if name not in own}
        history.records.append(record(epoch, **own, metrics=others))
    return Run(
        *[None] * 3,  # type: ignore[arg-type]
        history=history,
        epochs=9,
        batches=1,
        epoch=epochs,
        metrics=metrics or {},
    )


def best(run: Run, monitor: str, mode: str | None = None) -> int:
    stopping = EarlyStopping(9, monitor=monitor, mode=mode)
    stopping.on_fit_begin(run)
    return stopping.best_epoch


def test_what_is_better() -> None:
    figures = [2.0, 1.0, 3.0]
    assert best(run_of(3, test_loss=figures), "test_loss") == 2
    assert best(run_of(3, test_loss=figures), "test_loss", "max") == 3
    assert best(run_of(3, train_accuracy=figures), "train_accuracy") == 3
    assert best(run_of(3, {"top": Accuracy(2)}, test_top=figures), "test_top") == 3
    assert best(run_of(3, {"mae": MeanAbsoluteError()}, train_mae=figures), "train_mae") == 2
    assert best(run_of(3, {"own": Metric()}, test_own=figures), "test_own", "min") == 2
    assert best(run_of(3, {"top": Accuracy()}, test_top=[math.nan, 1, 0]), "test_top") == 2
    assert best(run_of(0, {"top": Accuracy()}), "test_top") == 0


def test_figures_that_a_run_does_not_have(tmp_path: Path) -> None:
    run = run_of(0, {"top": Accuracy(2), "own": Metric()})
    for callback in (EarlyStopping(1, monitor="test_other"), BestCheckpoint(tmp_path / "a.npz", "test_other")):
        with pytest.raises(ValueError, match=r"`monitor` 'test_other' must be one of train_loss, .*, test_own"):
            callback.on_fit_begin(run)
    with pytest.raises(ValueError, match=r"`mode` must be 'min' or 'max' for Metric\(\), which does not say"):
        EarlyStopping(1, monitor="test_own").on_fit_begin(run)
    with pytest.raises(ValueError, match="`monitor` 'test_top' is not known in this run"):
        BestCheckpoint(tmp_path / "a.npz", "test_top").on_fit_begin(run_of(1, {"top": Accuracy()}, test_top=[math.nan]))
    with pytest.raises(ValueError, match="`mode` 'up' must be"):
        Monitor("test_loss", "up")
    with pytest.raises(ValueError, match=r"`path` 'best\.pth' must end in"):
        BestCheckpoint("best.pth")


@pytest.mark.parametrize("average", [False, True])
def test_the_model_ends_with_what_was_best(average: bool) -> None:
    """With its buffers; the toy's first epoch is its best, by a figure that is never reached again."""
    model, optimizer = model_and_optimizer()
    weights = WeightAverage(model, 0.5) if average else None
    states, stopping = States(), EarlyStopping(2, monitor="test_loss", mode="max", restore_best=True)
    loss = nn.CrossEntropyLoss()
    history = fit(*(model, *loaders(), loss, optimizer, 9), callbacks=[stopping, states], weight_average=weights)
    chosen = stopping.best_epoch - 1
    assert 0 <= chosen < len(history) - 1
    assert_same(model.state_dict(), states.models[chosen])
    assert any(not np.array_equal(states.models[chosen][name], array) for name, array in states.models[-1].items())
    if weights is None:
        assert evaluate(model, loaders()[1], loss)[0] == pytest.approx(history.records[chosen].test_loss, rel=1e-6)
    else:
        assert_same(weights.state_dict(), states.averages[chosen])


def test_by_default_it_ends_as_it_is() -> None:
    model, optimizer = model_and_optimizer()
    states = States()
    fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 3), callbacks=[EarlyStopping(1, mode="max"), states])
    assert_same(model.state_dict(), states.models[-1])


def test_an_interrupted_run_ends_with_what_was_best() -> None:
    model, optimizer = model_and_optimizer()
    states = States()
    callbacks = [EarlyStopping(9, restore_best=True), states, Press(5)]  # of three batches in an epoch
    with pytest.raises(KeyboardInterrupt):
        fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 9), callbacks=callbacks)
    assert len(states.models) == 1
    assert_same(model.state_dict(), states.models[0])


def test_a_resumed_run_has_no_weights_of_before() -> None:
    model, _ = model_and_optimizer()
    run = run_of(2, test_loss=[1.0, 2.0])
    with pytest.raises(ValueError, match="resumed after epoch 2: the weights of its best epoch, 1, are not kept"):
        EarlyStopping(3, restore_best=True).on_fit_begin(run)
    run = run_of(2, test_loss=[2.0, 1.0])  # the last epoch, whose weights the model has
    run.model, before = model, model.state_dict()
    stopping = EarlyStopping(3, restore_best=True)
    stopping.on_fit_begin(run)
    model.load_state_dict({name: array * 0 for name, array in before.items()})
    stopping.on_fit_end(run)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("average", [False, True])
def test_a_file_of_the_best_weights(tmp_path: Path, average: bool) -> None:
    path = tmp_path / "best.safetensors"
    model, optimizer = model_and_optimizer()
    weights = WeightAverage(model, 0.5) if average else None
    states, keep = States(), BestCheckpoint(path, "test_balanced")
    metrics = {"balanced": ClassAccuracy(2)}
    history = fit(
        *(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 4),
        callbacks=[states, keep],
        weight_average=weights,
        metrics=metrics,
    )
    values = [each.metrics["test_balanced"] for each in history.records]
    chosen = int(np.argmax(values))
    assert keep.best_epoch == chosen + 1
    arrays, metadata = read_arrays(path)
    assert metadata == {"epoch": str(chosen + 1), "test_balanced": repr(values[chosen])}
    assert_same(arrays, states.models[chosen] | (states.averages[chosen] if average else {}))
    nc.load(path, model_and_optimizer()[0])
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_resumed_run_keeps_the_best_file(tmp_path: Path) -> None:
    path = tmp_path / "best.npz"
    run = run_of(2, test_loss=[1.0, 2.0])
    run.model = model_and_optimizer()[0]
    keep = BestCheckpoint(path)
    keep.on_fit_begin(run)
    assert keep.best_epoch == 1
    keep.on_epoch_end(run)
    assert not path.exists()
    run.history.records.append(record(3, test_loss=0.5))
    keep.on_epoch_end(run)
    assert keep.best_epoch == 3 and path.exists()
