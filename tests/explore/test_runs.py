"""What a run has left, as the page is told it."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from numbacnn import nn
from numbacnn.explore import runs
from numbacnn.explore.runs import state_of
from numbacnn.io.arrays import write_arrays
from numbacnn.training import History, HistoryFile, MistakesFile, ProgressFile, fit, read_mistakes
from tests.training.toy import loaders, model_and_optimizer, record

HISTORY, MISTAKES, PROGRESS = "history.jsonl", "mistakes.safetensors", "progress.json"


def train(folder: Path, epochs: int = 2) -> History:
    model, optimizer = model_and_optimizer()
    train_loader, test_loader = loaders()
    callbacks = [
        HistoryFile(folder / HISTORY),
        MistakesFile(folder / MISTAKES, test_loader.dataset),
        ProgressFile(folder / PROGRESS),
    ]
    return fit(model, train_loader, test_loader, nn.CrossEntropyLoss(), optimizer, epochs, callbacks=callbacks)


def rewrite(path: Path, **changes: Any) -> None:
    """An object of JSON with other entries."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_run(tmp_path: Path) -> None:
    history = train(tmp_path)
    state = state_of(tmp_path)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["records"] == history.to_json() and state["errors"] == []
    assert [picture.count("<svg") for picture in state["curves"]] == [1, 1]
    assert 'class="train"' in state["curves"][0] and ">epoch</text>" in state["curves"][0]
    assert state["progress"] == json.loads((tmp_path / PROGRESS).read_text())
    assert state["status"]["state"] == "ended"
    assert state["status"]["text"] == "progress.json says that the run has ended, after epoch 2 of 2"
    assert 0 <= state["status"]["seconds_ago"] < 60

    found, told = read_mistakes(tmp_path / MISTAKES), state["mistakes"]
    assert told["confusion"] == found.confusion.tolist() and told["shown"] == [0, 1]
    assert (told["epoch"], told["classes"]) == (2, ["low", "high"])
    assert told["labels"] == found.confusion.sum(axis=1).tolist()
    assert len(told["worst"]) == len(found.index) > 0
    for i, one in enumerate(told["worst"]):
        assert (one["index"], one["label"], one["predicted"]) == (found.index[i], found.label[i], found.predicted[i])
        assert one["predicted_probability"] == pytest.approx(found.predicted_probability[i])
        kind, _, text = one["image"].partition(",")
        assert kind == "data:image/png;base64"
        np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(text))), found.images[i, 0])


def test_what_was_seen_is_left_out_until_it_changes(tmp_path: Path) -> None:
    train(tmp_path)
    first = state_of(tmp_path)
    again = state_of(tmp_path, first["version"])
    assert first.keys() - again.keys() == {"records", "curves", "mistakes"}
    train(tmp_path, epochs=3)
    assert len(state_of(tmp_path, first["version"])["records"]) == 3


def test_files_that_stay_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path)
    reads = []
    monkeypatch.setattr(runs, "read_mistakes", lambda path: reads.append(path) or read_mistakes(path))
    states = [state_of(tmp_path) for _ in range(3)]
    assert len(reads) == 1
    assert states[0]["mistakes"] == states[2]["mistakes"]


def test_how_it_is_known_whether_a_run_goes_on(tmp_path: Path) -> None:
    train(tmp_path)
    progress = tmp_path / PROGRESS
    rewrite(progress, doing="training", epochs=5)
    running = state_of(tmp_path)["status"]
    assert running["state"] == "running"
    assert running["text"].startswith("progress.json is new; the run writes it every 2 s")

    def written(seconds_ago: float) -> dict[str, Any]:
        then = time.time() - seconds_ago
        os.utime(progress, (then, then))
        return dict(state_of(tmp_path)["status"])

    assert written(25)["state"] == "running"
    silent = written(60)
    assert silent["state"] == "silent" and silent["seconds_ago"] == pytest.approx(60, abs=20)
    assert "the run was killed, or what it computes or compiles takes so long" in silent["text"]
    # A run that writes seldom may be silent for longer, and a clock that goes wrong makes nothing older than new.
    rewrite(progress, every=10.0)
    assert written(60)["state"] == "running"
    assert written(-50)["seconds_ago"] == 0
    rewrite(progress, doing="nothing")
    assert written(60)["text"] == "progress.json says that the run has ended, after epoch 2 of 5"


def test_runs_of_which_less_is_there(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none", tmp_path / "file" / "inside"):
        (tmp_path / "file").touch()
        state = state_of(missing)
        assert state["status"]["state"] == "absent" and state["errors"] == []
        assert state["records"] == state["curves"] == [] and state["mistakes"] is state["progress"] is None
    (tmp_path / HISTORY).write_text(History([record(1), record(2)]).lines())
    state = state_of(tmp_path)
    assert state["status"]["state"] == "unknown" and "there is no progress.json" in state["status"]["text"]
    assert len(state["records"]) == 2 and state["mistakes"] is None and state["errors"] == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (HISTORY, b'{"epoch": 1', "history.jsonl' is no history of a run: Expecting"),
        (HISTORY, b"[1]\n", "history.jsonl' is no history of a run: record 1 of the history must have the fields"),
        (HISTORY, b"\xff\xfe", "history.jsonl' is no history of a run: 'utf-8' codec"),
        (PROGRESS, b"", "progress.json' is no progress of a run: Expecting value"),
        (PROGRESS, b"[]", "progress.json' is no progress of a run: it must be an object of epoch, epochs"),
        (PROGRESS, {"batch": -1}, "progress.json' is no progress of a run: its 'batch' is -1"),
        (PROGRESS, {"epoch": 1.5}, "its 'epoch' is 1.5"),
        (PROGRESS, {"every": None}, "its 'every' is None"),
        (PROGRESS, {"loss": "1"}, "its 'loss' is '1'"),
        (PROGRESS, {"more": 1}, "it must be an object of epoch, epochs"),
        (MISTAKES, b"", "mistakes.safetensors' is no whole .safetensors file"),
        (MISTAKES, None, "mistakes.safetensors' is no file of MistakesFile: it has no 'classes'"),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_shown(
    name: str, content: Any, message: str, tmp_path: Path
) -> None:
    train(tmp_path)
    whole = state_of(tmp_path)
    if isinstance(content, dict):
        rewrite(tmp_path / name, **content)
    elif content is None:
        write_arrays(tmp_path / name, {"a": np.zeros(1)})
    else:
        (tmp_path / name).write_bytes(content)
    state = state_of(tmp_path)
    (error,) = state["errors"]
    assert message in error and "\n" not in error
    part = {HISTORY: "records", PROGRESS: "progress", MISTAKES: "mistakes"}[name]
    assert not state[part]
    for other in {"records", "progress", "mistakes"} - {part}:
        assert state[other] == whole[other]
    assert state_of(tmp_path, state["version"])["errors"] == [error]


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    for name in (HISTORY, MISTAKES, PROGRESS):
        (tmp_path / name).mkdir()
    state = state_of(tmp_path)
    assert [next(name for name in (HISTORY, MISTAKES, PROGRESS) if name in error) for error in state["errors"]] == [
        HISTORY,
        PROGRESS,
        MISTAKES,
    ]


def test_metrics_that_json_has_no_number_for(tmp_path: Path) -> None:
    metrics = {"train_iou": math.nan, "test_iou": math.inf}
    (tmp_path / HISTORY).write_text(History([record(1, metrics=metrics, test_loss=math.nan)]).lines())
    (row,) = state_of(tmp_path)["records"]
    assert row["metrics"] == {"train_iou": None, "test_iou": None} and row["test_loss"] is None


def test_of_many_classes_those_with_the_most_mistakes_are_shown(tmp_path: Path) -> None:
    n = runs.MOST_CLASSES + 5
    confusion = np.diag(np.arange(1, n + 1))
    confusion[7, n - 1] = 3
    arrays = {
        "epoch": np.array(4),
        "confusion": confusion,
        **{name: np.array([7]) for name in ("index", "label")},
        "predicted": np.array([n - 1]),
        **{name: np.ones(1, np.float32) for name in ("label_probability", "predicted_probability")},
        "images": np.zeros((1, 5, 2, 2), np.uint8),
    }
    write_arrays(tmp_path / MISTAKES, arrays, {"classes": json.dumps(list(map(str, range(n))))})
    told = state_of(tmp_path)["mistakes"]
    assert len(told["shown"]) == runs.MOST_CLASSES and {7, n - 1} <= set(told["shown"])
    assert told["confusion"][told["shown"].index(7)][told["shown"].index(n - 1)] == 3
    assert told["labels"][7] == 11 and len(told["labels"]) == n
    assert told["worst"][0]["image"] is None  # of five channels


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Whatever the moment, each file is the former or the new one, whole."""
    thread = threading.Thread(target=lambda: train(tmp_path, epochs=60))
    thread.start()
    states = []
    while thread.is_alive():
        states.append(state_of(tmp_path))
    thread.join()
    assert not [error for state in states for error in state["errors"]]
    counts = [len(state["records"]) for state in states]
    assert counts == sorted(counts) and len(state_of(tmp_path)["records"]) == 60
