"""Event files, read by TensorBoard itself."""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numbacnn import nn, optim, use_backend
from numbacnn.training import Accuracy, Callback, History, Run, TensorBoardFile, fit
from numbacnn.training.reports.event_values import graph_event, histogram, tiled
from tests.training.toy import loaders, run_with

pytest.importorskip("tensorboard")


def convolutional() -> tuple[nn.Sequential, optim.SGD]:
    with use_backend("reference"):
        model = nn.Sequential(
            {
                "first": nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()),
                "both": nn.Add(nn.Identity(), nn.Conv2d(3, 3, 1)),
                "flat": nn.Flatten(),
                "head": nn.Linear(12, 2),
            }
        )
    return model, optim.SGD(model.parameters(), lr=0.1)


def train(folder: Path, epochs: int, history: History | None = None, **options: Any) -> History:
    model, optimizer = convolutional()
    callback = TensorBoardFile(folder, **options)
    return fit(
        *(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs),
        start_epoch=len(history or ()),
        history=history,
        callbacks=[callback],
        metrics={"top2": Accuracy(k=2)},
    )


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0}).Reload()


def scalars(events: Any) -> dict[str, list[tuple[int, float]]]:
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def pixels(event: Any) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(event.encoded_image_string)) as image:
        return np.asarray(image)


def test_the_figures_are_those_of_the_history(tmp_path: Path) -> None:
    history = train(tmp_path, 3)
    found = scalars(read(tmp_path / "train"))
    named = {"learning_rate": "lr"} | {
        name: name for name in ("examples_per_second", "wall_examples_per_second", "seconds")
    }
    assert set(found) == {"loss", "accuracy", "top2", *named}
    for tag, name in {"loss": "train_loss", "accuracy": "train_accuracy", "top2": "train_top2", **named}.items():
        expected = [(record.epoch, pytest.approx(record.figures[name], rel=1e-6)) for record in history.records]
        assert found[tag] == expected, tag
    of_tests = scalars(read(tmp_path / "test"))
    assert of_tests["loss"] == [(r.epoch, pytest.approx(r.test_loss, rel=1e-6)) for r in history.records]
    assert set(of_tests) == {"loss", "accuracy", "top2"}


def test_parameters_filters_and_images(tmp_path: Path) -> None:
    seen = []

    def predictions(run: Run) -> dict[str, Any]:
        seen.append(run.epoch)
        return {"predictions/two": np.eye(4, dtype=np.float32).reshape(2, 1, 2, 4) * 3}

    train(tmp_path / "some", 3, every=2, images=predictions)
    events = read(tmp_path / "some" / "train")
    assert seen == [2]
    names = [name for name, _ in convolutional()[0].named_parameters()]
    assert events.Tags()["histograms"] == [f"parameters/{name}" for name in names]
    (of_weight,) = events.Histograms("parameters/head.weight")
    assert (of_weight.step, of_weight.histogram_value.num) == (2, 24)
    assert sum(of_weight.histogram_value.bucket) == 24
    assert set(events.Tags()["images"]) == {"predictions/two", "filters/first.0"}
    assert [event.step for event in events.Images("filters/first.0")] == [2]
    assert pixels(*events.Images("predictions/two")).max() == 255

    train(tmp_path / "batch", 2, images=np.full((5, 3, 8, 8), 255, np.uint8))
    events = read(tmp_path / "batch" / "train")
    (batch,) = events.Images("images")
    assert batch.step == 0 and pixels(batch).shape == (batch.height, batch.width, 3) == (2 * 32 + 2, 3 * 32 + 4, 3)
    assert [event.step for event in events.Images("filters/first.0")] == [1, 2]


def test_the_graph_has_the_layers_as_nodes(tmp_path: Path) -> None:
    train(tmp_path, 1)
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    nodes = GraphDef.FromString(read(tmp_path / "train").Graph().SerializeToString()).node
    assert {node.name: list(node.input) for node in nodes} == {
        "input": [],
        "first/0_Conv2d": ["input"],
        "first/1_ReLU": ["first/0_Conv2d"],
        "both/0_Identity": ["first/1_ReLU"],
        "both/1_Conv2d": ["first/1_ReLU"],
        "both/Add": ["both/0_Identity", "both/1_Conv2d"],
        "flat_Flatten": ["both/Add"],
        "head_Linear": ["flat_Flatten"],
        "output": ["head_Linear"],
    }
    conv = nodes[1]
    assert (conv.op, conv.attr["arguments"].s) == ("Conv2d", b"1, 3, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)")
    assert [d.size for d in conv.attr["_output_shapes"].list.shape[0].dim][1:] == [3, 2, 2]


def test_names_of_nodes_are_made_apart() -> None:
    from numbacnn.nn.flow import End, Node

    shape = (1, 2)
    twice = End(0, 1, shape)
    nodes = [
        Node("a<b", "", "", (), (shape, shape)),
        Node("a:b", "ReLU", "", (twice,), (shape,)),
        Node("a b", "ReLU", "", (twice,), (shape,)),
        Node("", "Own", "", (twice,), (shape,)),
    ]
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef.FromString(graph_event(nodes).graph_def)
    assert [(node.name, *node.input) for node in graph.node] == [
        ("a_b",),
        *((name, "a_b:1") for name in ("a_b_ReLU", "a_b_ReLU_2", "Own")),
    ]


def test_resumed_and_repeated_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # TensorBoard takes files in the order of their names, which have the second.
    clock = SimpleNamespace(time=itertools.count(2e9).__next__)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", clock)
    history = train(tmp_path, 3)
    del history.records[2:]
    train(tmp_path, 4, history)
    assert [step for step, _ in scalars(read(tmp_path / "train"))["loss"]] == [1, 2, 3, 4]
    assert len(read(tmp_path / "train").Histograms("parameters/head.bias")) == 4
    anew = train(tmp_path, 1)
    assert scalars(read(tmp_path / "test"))["loss"] == [(1, pytest.approx(anew.records[0].test_loss))]
    del history.records[3:]
    train(tmp_path / "late", 4, history)
    assert [step for step, _ in scalars(read(tmp_path / "late" / "test"))["loss"]] == [1, 2, 3, 4]


def test_a_model_that_does_not_tell_its_shapes_has_no_graph(tmp_path: Path) -> None:
    class Silent(nn.Layer):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, dy: Any, input_gradient: bool = True) -> Any:
            return dy

    model, optimizer = convolutional()
    model["last"] = Silent()
    fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 1), callbacks=[TensorBoardFile(tmp_path)], capture=False)
    tags = read(tmp_path / "train").Tags()
    assert not tags["graph"] and "loss" in tags["scalars"]


def test_files_are_closed_when_the_run_ends_early(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_epoch_end(self, run: Run) -> None:
            raise KeyboardInterrupt

    model, optimizer = convolutional()
    callback = TensorBoardFile(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, 2), callbacks=[callback, Stop()])
    assert len(scalars(read(tmp_path / "train"))["loss"]) == 1
    assert not callback._writers
    callback.on_fit_end(run_with(1))  # as where another callback's beginning failed


@pytest.mark.parametrize(
    ("array", "low", "high", "total"),
    [
        (np.float32([1, 2, np.nan, np.inf]), 1, 2, 2),
        (np.float32([3, 3]), 3, 3, 2),
        (np.float64([np.nan]), 0, 0, 0),
    ],
)
def test_histograms_are_of_finite_numbers(array: np.ndarray, low: float, high: float, total: int) -> None:
    from tensorboard.data_compat import migrate_value
    from tensorboard.util.tensor_util import make_ndarray

    value = histogram("x", array)
    assert (value.histo.min, value.histo.max, value.histo.num) == (low, high, total)
    buckets = make_ndarray(migrate_value(value).tensor)
    assert buckets[:, 2].sum() == total
    assert not total or (buckets[0, 0], buckets[-1, 1]) == (low, high)


@pytest.mark.parametrize(
    ("images", "corner"),
    [
        (np.float32([0.2, 1.0]), 51),
        (np.float32([-1, 1]), 0),
        (np.uint8([7, 9]), 7),
        (np.array([True, False]), 255),
        (np.float32([2, 2]), 0),
        (np.float32([np.nan, 1]), 0),
    ],
)
def test_numbers_of_pictures(images: np.ndarray, corner: int) -> None:
    tiles = tiled("images", images.reshape(2, 1, 1, 1))
    assert tiles.shape == (32, 66, 1) and tiles[0, 0, 0] == corner and tiles[0, 33, 0] == 128


def test_at_most_64_pictures() -> None:
    assert tiled("images", np.zeros((100, 1, 40, 40))).shape == (8 * 42 - 2, 8 * 42 - 2, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "`every`"),
        (
            {"images": np.zeros((2, 2, 3, 3))},
            ValueError,
            r"`images` of shape \(2, 2, 3, 3\), float64, must be pictures",
        ),
        ({"images": np.zeros((0, 1, 3, 3))}, ValueError, "`images`"),
        ({"images": [["a"]]}, ValueError, "`images`"),
    ],
)
def test_what_it_cannot_be_made_with(tmp_path: Path, options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        TensorBoardFile(tmp_path, **options)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [([1], TypeError, "the function `images` gave a list"), ({"a": 1}, ValueError, "`images of 'a'` of shape")],
)
def test_what_a_function_of_pictures_may_not_give(tmp_path: Path, given: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        train(tmp_path, 1, images=lambda run: given)


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "numbacnn\[tensorboard\]"'):
        TensorBoardFile(tmp_path)
