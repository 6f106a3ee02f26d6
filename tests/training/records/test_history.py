"""Records of epochs, in memory and in files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from numbacnn import nn
from numbacnn.training import EarlyStopping, History, HistoryFile, RunningMean, TrainingStep, WeightAverage
from tests.training.toy import model_and_optimizer, record, run_with


def test_json_there_and_back() -> None:
    history = History([record(1, test_loss=0.1 + 0.2), record(2)])
    assert History.from_json(json.loads(json.dumps(history.to_json()))) == history


def test_metrics_are_in_json_in_the_table_and_in_what_is_printed() -> None:
    name = "train_Accuracy(k=5)"
    first = {"train_iou": 0.25, "test_iou": math.nan}
    history = History([record(1, metrics=first), record(2, metrics={name: 0.5}), record(3)])
    assert history.to_json()[0]["metrics"] == {"train_iou": 0.25, "test_iou": None}
    again = History.from_json(json.loads(json.dumps(history.to_json())))
    assert math.isnan(again.records[0].metrics.pop("test_iou"))
    assert again.records[0].metrics == {"train_iou": 0.25} and again.records[1:] == history.records[1:]
    lines = str(history).splitlines()
    assert len(set(map(len, lines))) == 1
    assert lines[0].split()[-5:] == ["train_iou", "test_iou", name, "examples/s", "seconds"]
    assert lines[1].split()[5:8] == ["0.25", "nan", "nan"] and lines[2].split()[5:8] == ["nan", "nan", "0.5"]
    assert repr(History(history.records[:1])).endswith("test_accuracy=0.4, train_iou=0.25)")
    assert len({record(1), record(1)}) == 1


def test_json_from_before_there_were_metrics() -> None:
    records = History([record(1)]).to_json()
    assert records[0].pop("metrics") == {}
    assert History.from_json(records) == History([record(1)])


def test_rates_over_epochs_are_samples_over_seconds() -> None:
    # 1000 samples in 2 s, of which 1 s in steps; 3000 samples in 2 s, of which 0.5 s in steps.
    history = History(
        [
            record(1, examples_per_second=1000.0, wall_examples_per_second=500.0, seconds=2.0),
            record(2, examples_per_second=6000.0, wall_examples_per_second=1500.0, seconds=2.0),
        ]
    )
    assert history.examples_per_second == pytest.approx(4000 / 1.5)
    assert history.wall_examples_per_second == pytest.approx(4000 / 4)


def test_it_prints_as_a_table() -> None:
    lines = str(History([record(1, train_loss=0.5, seconds=12.25), record(2)])).splitlines()
    assert lines[0].split() == [
        "epoch",
        "train",
        "loss",
        "accuracy",
        "test",
        "loss",
        "accuracy",
        "examples/s",
        "seconds",
    ]
    assert lines[1].split()[:2] == ["1", "0.5"] and lines[1].split()[-1] == "12.2" and lines[2].split()[0] == "2"
    assert len(set(map(len, lines))) == 1
    assert "epoch" in repr(History([record(1)])) and "\n" not in repr(History([record(1)]))


def test_what_is_not_known_is_null_and_not_said() -> None:
    unknown = {"train_accuracy": math.nan, "test_loss": math.nan, "test_accuracy": math.nan}
    history = History([record(1, train_loss=0.5, **unknown)])
    assert all(history.to_json()[0][name] is None for name in unknown) and "NaN" not in history.lines()
    again = History.from_json(history.to_json()).records[0]
    assert all(math.isnan(getattr(again, name)) for name in unknown) and again.train_loss == 0.5
    assert repr(history) == "History(1 epoch, the last one with train_loss=0.5)"
    assert len(set(map(len, str(history).splitlines()))) == 1
    with pytest.raises(ValueError, match="`monitor` 'test_loss' is not known in this run"):
        EarlyStopping(1).on_epoch_end(SimpleNamespace(history=history, stop=False))


def test_no_epochs() -> None:
    history = History()
    assert len(history) == 0
    assert history.lines() == ""
    assert math.isnan(history.examples_per_second)
    assert math.isnan(history.wall_examples_per_second)


@pytest.mark.parametrize(
    "records",
    [
        *([{}], [{"epoch": 1}], [5], ["epoch"], [record(1).__dict__ | {"more": 1}]),
        *([record(1).__dict__ | {"metrics": metrics}] for metrics in (1, None, {"a": "1"}, {"a": True}, {1: 1.0})),
        *([record(1).__dict__ | {"lr": lr}] for lr in ("0.1", True, None, 10**400)),
        *([record(1).__dict__ | {"epoch": epoch}] for epoch in (True, 0, 2, 1.5)),
        *([record(1).__dict__ | {name: value}] for name in ("seconds", "examples_per_second") for value in (0, -1.0)),
    ],
)
def test_other_json_is_refused(records: list) -> None:
    with pytest.raises(ValueError, match="record 1 of the history must"):
        History.from_json(records)


def test_the_file_has_a_line_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("of another run\n")
    run, callback = run_with(0), HistoryFile(path)
    callback.on_fit_begin(run)
    assert path.read_text() == ""
    for epoch in (1, 2):
        run.history.records.append(record(epoch))
        callback.on_epoch_end(run)
        lines = path.read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epoch + 1))
    assert set(json.loads(lines[0])) == {
        *("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"),
        *("examples_per_second", "wall_examples_per_second", "lr", "seconds", "metrics"),
    }


def test_a_resumed_run_cuts_the_file_to_its_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(History([record(1), record(2), record(3)]).lines() + '{"epoch": 4, "tra')
    run = run_with(2)
    HistoryFile(path).on_fit_begin(run)
    assert path.read_text() == run.history.lines()


def test_epochs_that_do_not_follow_each_other_are_refused() -> None:
    for records in ([record(2)], [record(1), record(1)], [record(1), record(3)]):
        with pytest.raises(ValueError, match="of the history must be of epoch"):
            History.from_json(History(records).to_json())
    with pytest.raises(ValueError, match="record 1 of the history must be made of numbers"):
        History.from_json([record(1).__dict__ | {"epoch": True}])


def test_what_is_printed() -> None:
    assert repr(History([record(1), record(2)])) == (
        "History(2 epochs, the last one with train_loss=1, train_accuracy=0.5, test_loss=1.25, test_accuracy=0.4)"
    )
    assert repr(HistoryFile("history.jsonl")) == "HistoryFile(path='history.jsonl')"
    assert repr(EarlyStopping(3)) == (
        "EarlyStopping(patience=3, min_delta=0.0, monitor='test_loss', mode=None, restore_best=False, best_epoch=0)"
    )
    average = RunningMean()
    average.add(3.0, 1, 2)
    assert repr(average) == "RunningMean(loss=1.5, accuracy=0.5, examples=2)"
    model, optimizer = model_and_optimizer()
    assert repr(WeightAverage(model, 0.5)) == "WeightAverage(Sequential, 6 parameters, decay=0.5)"
    step = TrainingStep(model, nn.CrossEntropyLoss(), optimizer)
    assert repr(step) == (
        "TrainingStep(Sequential, CrossEntropyLoss(reduction='mean'), SGD(6 parameters, lr=0.5, momentum=0.5, "
        "nesterov=False, weight_decay=0.0), mode=None)"
    )
