"""`ReduceLROnPlateau` by hand, in a run, and against PyTorch."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, optim
from numbacnn.io import load_checkpoint
from numbacnn.training import CheckpointFile, History, MeanAbsoluteError, fit
from tests.training.toy import assert_same, loaders, model_and_optimizer

CASES: dict[str, dict[str, Any]] = {
    "usual": {"patience": 2},
    "max": {"mode": "max", "patience": 1, "factor": 0.5},
    "abs": {"threshold_mode": "abs", "threshold": 0.3, "patience": 0},
    "max abs": {"mode": "max", "threshold_mode": "abs", "threshold": 0.2, "patience": 1, "min_lr": [0.01, 0.002]},
    "cooldown": {"patience": 0, "cooldown": 3, "factor": 0.3},
    "least": {"patience": 0, "min_lr": 0.03, "factor": 0.5},
    "eps": {"patience": 0, "eps": 1e-3},
}
every_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def reference_by_default() -> Iterator[None]:
    with backends.use_backend("reference"):
        yield


def optimizer_of(lr: float = 0.4) -> optim.SGD:
    return optim.SGD([{"params": [nn.Parameter([1.0])]}, {"params": [nn.Parameter([1.0])], "lr": 0.1}], lr)


def figures(count: int = 40) -> list[float]:
    """Losses that fall, rest and rise again, some of them NaN or infinite."""
    rng = np.random.default_rng(3)
    found = (2 / (1 + np.arange(count) / 6) + 0.2 * rng.standard_normal(count)).tolist()
    return [*found[:15], math.nan, *found[15:25], math.inf, *found[25:], *[found[-1]] * 5]


def course(schedule: optim.ReduceLROnPlateau, losses: list[float]) -> list[list[float]]:
    found = []
    for loss in losses:
        schedule.step(loss)
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
    return found


def test_by_hand() -> None:
    schedule = optim.ReduceLROnPlateau(optimizer_of(), factor=0.5, patience=1, cooldown=2, min_lr=0.05)
    losses = [3.0, 2.0, 2.0, 1.9999, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0]
    rates = [0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1]
    assert [lr for lr, _ in course(schedule, losses)] == rates
    assert schedule.optimizer.param_groups[1]["lr"] == 0.05
    assert (schedule.best, schedule.count, schedule.num_bad_epochs) == (1.0, 11, 1)
    assert repr(schedule) == "ReduceLROnPlateau(count=11, mode='min', lr=[0.1, 0.05])"
    schedule.optimizer.lr = 0.4
    assert schedule.optimizer.param_groups[1]["lr"] == 0.1


def torch_course(options: dict[str, Any], losses: list[float]) -> list[list[float]]:
    import torch

    groups = [
        {"params": [torch.nn.Parameter(torch.ones(1))]},
        {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.4)
    schedule, found = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options), []
    for loss in losses:
        schedule.step(loss)
        found.append([group["lr"] for group in optimizer.param_groups])
    return found


@pytest.mark.torch
@every_case
def test_the_rates_are_pytorch_s(options: dict[str, Any]) -> None:
    losses = figures()
    assert course(optim.ReduceLROnPlateau(optimizer_of(), **options), losses) == torch_course(options, losses)


@every_case
@pytest.mark.parametrize("before", [0, 7, 20])
def test_a_saved_state_continues(options: dict[str, Any], before: int) -> None:
    losses = figures()
    whole = course(optim.ReduceLROnPlateau(optimizer_of(), **options), losses)
    first = optim.ReduceLROnPlateau(optimizer_of(), **options)
    course(first, losses[:before])
    state = json.loads(json.dumps([first.state_dict(), first.optimizer.state_dict()]))
    second = optim.ReduceLROnPlateau(optimizer_of(lr=7), **options)
    second.load_state_dict(state[0])
    second.optimizer.load_state_dict(state[1])
    assert course(second, losses[before:]) == whole[before:]
    assert whole[-1] != whole[0]
    other = copy.deepcopy(first)
    assert course(other, losses[before:]) == whole[before:]
    assert first.count == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "least"}, ValueError, "`mode` 'least' must be one of 'min', 'max'"),
        ({"factor": 1}, ValueError, "`factor` 1 must be at least 0 and less than 1"),
        ({"patience": -1}, ValueError, "`patience` -1 must be at least 0"),
        ({"patience": 1.5}, TypeError, "`patience` 1.5 must be an int"),
        ({"threshold": -1}, ValueError, "`threshold` -1 must be at least 0"),
        ({"threshold_mode": "x"}, ValueError, "`threshold_mode` 'x' must be one of 'rel', 'abs'"),
        ({"cooldown": -1}, ValueError, "`cooldown` -1 must be at least 0"),
        ({"min_lr": -1}, ValueError, "`min_lr` -1 must be at least 0"),
        ({"min_lr": [1, 2, 3]}, ValueError, r"`min_lr` \[1, 2, 3\] must be .* one for each of 2 groups"),
        ({"eps": "0"}, TypeError, "`eps` '0' must be a number"),
        ({"monitor": 3}, TypeError, "`monitor` 3 must be the name of a figure"),
    ],
)
def test_arguments_that_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optim.ReduceLROnPlateau(optimizer_of(), **options)


def test_what_is_refused_later() -> None:
    with pytest.raises(TypeError, match="`optimizer` of type float must be an Optimizer"):
        optim.ReduceLROnPlateau(0.1)
    schedule = optim.ReduceLROnPlateau(optimizer_of())
    with pytest.raises(TypeError, match="`metrics` None must be a number"):
        schedule.step(None)
    schedule.step(1)
    state = schedule.state_dict()
    for change, error in (
        ({"count": -1}, ValueError),
        ({"best": math.nan}, ValueError),
        ({"best": "1"}, TypeError),
        ({"num_bad_epochs": 1.5}, TypeError),
        ({"lr": 1}, ValueError),
    ):
        with pytest.raises(error):
            schedule.load_state_dict({**state, **change})
    with pytest.raises(TypeError, match="`state` of type list must be a dict"):
        schedule.load_state_dict([])
    with pytest.raises(TypeError, match="`then` of type ReduceLROnPlateau must be a Schedule"):
        optim.LinearWarmup(2, schedule)
    assert schedule.state_dict() == state


def run(epochs: int, *callbacks: Any, start: Path | None = None, tested: bool = True, **options: Any) -> Any:
    model, optimizer = model_and_optimizer(0.3 if start else 0.5)
    schedule, history, epoch = (
        optim.ReduceLROnPlateau(optimizer, **{"patience": 0, "factor": 0.5, **options}),
        History(),
        0,
    )
    if start is not None:
        checkpoint = load_checkpoint(start, model, optimizer)
        schedule.load_state_dict(checkpoint["settings"]["schedule"])
        history, epoch = History.from_json(checkpoint["history"]), checkpoint["epoch"]
    batches, tests = loaders()
    fit(
        *(model, batches, tests if tested else None, nn.CrossEntropyLoss(), optimizer, epochs),
        callbacks=callbacks,
        schedule=schedule,
        history=history,
        start_epoch=epoch,
    )
    return model, history, schedule


@pytest.mark.parametrize(
    ("options", "figure"),
    [
        ({}, "test_loss"),
        ({"tested": False}, "train_loss"),
        ({"monitor": "train_loss"}, "train_loss"),
        ({"monitor": "test_accuracy", "mode": "max"}, "test_accuracy"),
    ],
)
def test_a_run_gives_the_figure(options: dict[str, Any], figure: str) -> None:
    _, history, schedule = run(6, threshold=0.1, **options)
    own = {name: value for name, value in options.items() if name == "mode"}
    alone = optim.ReduceLROnPlateau(model_and_optimizer()[1], patience=0, factor=0.5, threshold=0.1, **own)
    expected = [0.5, *(lr for (lr,) in course(alone, [getattr(record, figure) for record in history.records]))]
    assert [record.lr for record in history.records] == expected[:-1]
    assert schedule.optimizer.lr == expected[-1] < 0.5


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    whole, whole_history, _ = run(6, threshold=0.1)
    run(3, CheckpointFile(path), threshold=0.1)
    model, history, _ = run(6, threshold=0.1, start=path)
    assert_same(model.state_dict(), whole.state_dict())
    assert [record.lr for record in history.records] == [record.lr for record in whole_history.records]


def test_figures_that_there_are_not() -> None:
    model, optimizer = model_and_optimizer()
    arguments = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1)
    with pytest.raises(ValueError, match=r"`monitor` 'loss' must be one of 'train_loss', .*'test_accuracy'"):
        fit(*arguments, schedule=optim.ReduceLROnPlateau(optimizer, monitor="loss"))
    with pytest.raises(ValueError, match="`monitor` 'test_loss' must be one of 'train_loss', 'train_accuracy'"):
        run(1, tested=False, monitor="test_loss")
    with pytest.raises(ValueError, match="`schedule` is at its beginning"):
        fit(*arguments[:-1], 2, schedule=optim.ReduceLROnPlateau(optimizer), start_epoch=1)
    regression = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    optimizer, pairs = optim.SGD(regression.parameters(), 0.1), [(np.ones((2, 1, 2, 2)), np.ones((2, 2)))]
    of_pairs = (regression, pairs, pairs, nn.MSELoss(), optimizer)
    with pytest.raises(ValueError, match="`monitor` 'test_accuracy' of `schedule` is not known in this run"):
        fit(*of_pairs, 1, schedule=optim.ReduceLROnPlateau(optimizer, monitor="test_accuracy"))
    schedule = optim.ReduceLROnPlateau(optimizer, monitor="test_mae")
    history = fit(*of_pairs, 2, schedule=schedule, metrics={"mae": MeanAbsoluteError()})
    assert schedule.best == min(record.metrics["test_mae"] for record in history.records)
