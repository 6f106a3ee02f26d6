"""Figures of epochs for trackers, and the tracker that is a file."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from numbacnn import nn
from numbacnn.training import Accuracy, History, Tracker, TrackerFile, Tracking, fit
from tests.training.toy import loaders, model_and_optimizer, record


class Kept:
    """A tracker that keeps what it gets."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, float]]] = []

    def log(self, data: dict[str, float], step: int) -> None:
        self.calls.append((step, data))

    is_finished = False

    def finish(self) -> None:
        self.is_finished = True


def train(tracker: Tracker, epochs: int, history: History | None = None) -> History:
    model, optimizer = model_and_optimizer()
    return fit(
        *(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs),
        start_epoch=len(history or ()),
        history=history,
        callbacks=[Tracking(tracker)],
        metrics={"top2": Accuracy(k=2)},
    )


def test_a_tracker_gets_what_is_known_of_each_epoch() -> None:
    kept = Kept()
    history = train(kept, 2)
    assert kept.calls == [(r.epoch, r.figures) for r in history.records]
    assert kept.calls[1][1]["test_top2"] == 1.0
    train(kept, 3, history)
    assert [step for step, _ in kept.calls] == [1, 2, 3]


def test_the_figures_of_a_record_are_those_that_are_known() -> None:
    figures = record(3, test_loss=math.nan, metrics={"train_iou": 0.25, "test_iou": math.nan}).figures
    assert figures == {
        "train_loss": 2 / 3,
        "train_accuracy": 0.5,
        "test_accuracy": 0.4,
        "examples_per_second": 1000.0,
        "wall_examples_per_second": 500.0,
        "lr": 0.1,
        "seconds": 2.0,
        "train_iou": 0.25,
    }


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_the_guide_s_code_for_services_gives_them_the_figures(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the code asks of their packages in their place."""
    guide = (Path(__file__).parents[3] / "docs" / "seeing-training.md").read_text(encoding="utf-8")
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if f"import {service}\n" in block
    )
    kept, module = Kept(), ModuleType(service)
    module.init = lambda **settings: kept  # type: ignore[attr-defined]
    module.start_run = nullcontext  # type: ignore[attr-defined]
    module.log_params = dict  # type: ignore[attr-defined]
    module.log_metrics = lambda metrics, step: kept.log(metrics, step)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, service, module)
    model, optimizer = model_and_optimizer()
    names: dict[str, Any] = {
        "model": model,
        "loaders": loaders(),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
    }
    exec(compile(code, service, "exec"), names)
    assert [step for step, _ in kept.calls] == list(range(1, 11))
    assert kept.is_finished == (service == "wandb") and "test_loss" in kept.calls[-1][1]


@pytest.mark.parametrize("tracker", [None, print, Kept])
def test_what_is_no_tracker(tracker: Any) -> None:
    with pytest.raises(TypeError, match=r"`tracker` .* must be an object with a method log\(values, step\)"):
        Tracking(tracker)


def rows(path: Path) -> list[dict[str, float]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_file_goes_on_with_a_resumed_run_and_begins_anew_with_a_new_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"figures{kind}"
    history = train(TrackerFile(path), 3)
    assert rows(path) == [{"step": r.epoch, **r.figures} for r in history.records]
    del history.records[2:]
    train(TrackerFile(path), 4, history)
    assert rows(path) == [{"step": r.epoch, **r.figures} for r in history.records] and len(rows(path)) == 4
    history = train(TrackerFile(path), 1)
    assert rows(path) == [{"step": 1, **history.records[0].figures}]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_names_and_numbers_of_all_kinds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"figures{kind}"
    TrackerFile(path).log({'a "b", c\n': 0.1, "é": math.inf}, 0)
    TrackerFile(path).log({"é": math.nan, "new": 1e-300}, 7)
    first, second = rows(path)
    assert first['a "b", c\n'] == 0.1 and second["new"] == 1e-300 and second["step"] == 7
    not_finite = (first["é"], second["é"])
    assert not_finite == (None, None) if kind == ".jsonl" else not_finite[0] == math.inf and math.isnan(not_finite[1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "epoch,loss\n1,2\n"),
        ("a.csv", "step,loss\n1,low\n"),
        ("a.csv", "step,loss\n1,2,3\n"),
        ("a.csv", 'step,loss\n1,"2\n'),
        ("a.jsonl", "[1]\n"),
        ("a.jsonl", '{"loss": 1}\n'),
        ("a.jsonl", "{\n"),
        ("a.jsonl", '{"step": 1, "loss": [1]}\n'),
    ],
)
def test_the_table_of_somebody_else_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=r"`path` .* must be a table that TrackerFile has written"):
        TrackerFile(path).log({"loss": 1.0}, 2)
    assert path.read_text() == text


def test_what_a_file_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`path` 'a\.txt' must end in \.csv or \.jsonl"):
        TrackerFile("a.txt")
    table = TrackerFile(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="`step` -1"):
        table.log({}, -1)
    with pytest.raises(ValueError, match="`values` must not have a 'step'"):
        table.log({"step": 1}, 1)
    assert not list(tmp_path.iterdir())
