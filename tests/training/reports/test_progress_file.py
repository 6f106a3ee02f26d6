"""Progress in a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import nn
from numbacnn.training import Callback, ProgressFile, Run, fit
from tests.training.toy import loaders, model_and_optimizer


class Watch(Callback):
    """What the file says after each moment, put behind its callback."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[dict[str, Any]] = []

    def look(self, run: Run, *_: Any) -> None:
        self.seen.append(json.loads(self.path.read_text()))

    on_fit_begin = on_batch_end = on_test_batch_end = on_epoch_end = on_fit_end = look


def train(path: Path, every: float, *others: Callback, epochs: int = 2, **options: Any) -> list[dict[str, Any]]:
    model, optimizer = model_and_optimizer()
    watch = Watch(path)
    callbacks = [ProgressFile(path, every), watch, *others]
    fit(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs, callbacks=callbacks, **options)
    return watch.seen


def test_each_moment_is_in_the_file(tmp_path: Path) -> None:
    seen = train(tmp_path / "progress.json", 0)
    moments = [(one["epoch"], one["batch"], one["doing"]) for one in seen]
    epochs = [
        [*((epoch, batch, "training") for batch in (1, 2, 3)), *[(epoch, 3, "testing")] * 2, (epoch, 3, "training")]
        for epoch in (1, 2)
    ]
    assert moments == [(0, 0, "training"), *epochs[0], *epochs[1], (2, 3, "nothing")]
    assert all((one["epochs"], one["batches"], one["every"]) == (2, 3, 0.0) for one in seen)
    assert seen[0]["loss"] is seen[0]["examples_per_second"] is seen[0]["seconds_left"] is None
    assert seen[1]["loss"] > 0 and 0 <= seen[1]["accuracy"] <= 1 and seen[1]["examples_per_second"] > 0
    assert seen[1]["seconds_left"] > 0 and seen[-2]["seconds_left"] == 0 and seen[-1]["seconds_left"] is None


def test_the_file_is_left_alone_between_writes(tmp_path: Path) -> None:
    seen = train(tmp_path / "progress.json", 1000)
    assert [(one["epoch"], one["batch"]) for one in seen] == [(0, 0)] * 6 + [(1, 3)] * 6 + [(2, 3)] * 2


def test_an_error_ends_what_the_file_says(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_test_batch_end(self, run: Run, prediction: Any, target: Any) -> None:
            raise RuntimeError("for the test")

    path = tmp_path / "progress.json"
    with pytest.raises(RuntimeError, match="for the test"):
        train(path, 0, Fails())
    assert (lambda one: (one["epoch"], one["doing"]))(json.loads(path.read_text())) == (1, "nothing")


def test_training_goes_on_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    class Removes(Callback):
        def on_epoch_begin(self, run: Run) -> None:
            path.unlink(missing_ok=True)
            if folder.exists():
                folder.rmdir()

    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "progress.json"
    model, optimizer = model_and_optimizer()
    run = (model, *loaders(), nn.CrossEntropyLoss(), optimizer, 2)
    history = fit(*run, callbacks=[ProgressFile(path, 0), Removes()])
    assert len(history) == 2 and not folder.exists()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(*run, callbacks=[ProgressFile(path, 0)])
    with pytest.raises(ValueError, match="`every` -1"):
        ProgressFile(path, -1)


def test_figures_that_are_not_known_are_null(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with_no_classes = [(np.ones((4, 1, 2, 2), np.float32), np.ones((4, 2), np.float32))]
    model, optimizer = model_and_optimizer()
    history = fit(model, with_no_classes, None, nn.MSELoss(), optimizer, 1, callbacks=[ProgressFile(path)])
    progress = json.loads(path.read_text())
    assert progress["accuracy"] is None and math.isclose(progress["loss"], history.records[0].train_loss)
