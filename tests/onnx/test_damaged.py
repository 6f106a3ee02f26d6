"""Files that are cut, changed, or made to do harm: one clear error each, little time and little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from tests.mutation import MOST_BYTES, changes, peak_bytes, refusals
from tests.onnx.graphs import node, written


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model with many kinds of nodes."""
    nn.init.manual_seed(0)
    graph = nn.Graph(
        {
            "conv": (nn.Conv2d(3, 4, 3, padding="same"), "x"),
            "norm": (nn.BatchNorm2d(4), "conv"),
            "gelu": (nn.GELU(), "norm"),
            "up": (nn.Upsample(size=(12, 12)), "gelu"),
            "groups": (nn.GroupNorm(2, 4), "up"),
            "pool": (nn.AdaptiveAvgPool2d((5, 7)), "groups"),
            "softplus": (nn.Softplus(2.0, 3.0), "pool"),
            "mean": (nn.GlobalAvgPool2d(), "pool"),
            "gate": (nn.Product(), "pool", "mean"),
            "sum": (nn.Sum(), "gate", "softplus"),
            "wide": (nn.ConvTranspose2d(4, 2, 3, stride=2), "sum"),
            "flat": (nn.Flatten(), "wide"),
            "head": (nn.Linear(330, 5), "flat"),
        }
    )
    path = tmp_path_factory.mktemp("models") / "whole.onnx"
    nc.onnx.save(graph, path, (2, 3, 8, 8))
    assert nc.onnx.load(path).output_shape((2, 3, 8, 8)) == (2, 5)
    return path.read_bytes()


def is_read(path: Path) -> None:
    assert isinstance(nc.onnx.load(path), nn.Graph)


def test_thousands_of_changes(tmp_path: Path, whole: bytes) -> None:
    assert refusals(is_read, tmp_path / "changed.onnx", [whole], changes()) > len(changes()) / 2


def test_changes_take_little_memory(tmp_path: Path, whole: bytes) -> None:
    assert peak_bytes(is_read, tmp_path / "changed.onnx", [whole], range(100)) < MOST_BYTES


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_every_beginning_is_refused(tmp_path: Path, whole: bytes, length: int) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r"cut\.onnx"):
        nc.onnx.load(path)


def test_shapes_that_would_fill_the_memory(tmp_path: Path) -> None:
    nodes = [
        node("ConstantOfShape", ["s"], "a", value=np.zeros(1, np.float32)),
        node("ConstantOfShape", ["t"], "b"),
        node("Range", ["zero", "most", "one"], "c"),
        node("Expand", ["one", "s"], "d"),
        node("Tile", ["u", "s"], "e"),
        node("Tile", ["x", "r"], "f"),
        node("Sum", ["a", "b", "c", "d", "e", "f"], "y"),
    ]
    weights = {"s": np.array([2**20, 2**20]), "t": np.array([-5]), "zero": np.array(0), "most": np.array(2**62),
               "one": np.array(1), "u": np.ones((1, 1), np.float32), "r": np.array([1, 2**40])}  # fmt: skip
    path = written(tmp_path / "m.onnx", nodes, {"x": (2, 3)}, weights=weights)
    with pytest.raises(ValueError) as caught:
        nc.onnx.load(path)
    assert [line.partition(")")[0] for line in str(caught.value).splitlines()[1:]] == [
        "- node 'a' (ConstantOfShape", "- node 'b' (ConstantOfShape", "- node 'c' (Range", "- node 'd' (Expand",
        "- node 'e' (Tile", "- node 'f' (Tile",
    ]  # fmt: skip


def test_attributes_that_would_fill_the_memory(tmp_path: Path) -> None:
    most = 2**31 - 1
    for one in (
        node("Resize", ["x", "", "scales"], "y", mode="cubic"),
        node("Pad", ["x", "pads"], "y"),
        node("MaxPool", ["x"], "y", kernel_shape=[most, most]),
        node("AveragePool", ["x"], "y", kernel_shape=[3, 3], pads=[most, most, most, most], count_include_pad=1),
        node("Conv", ["x", "w"], "y", group=most),
        node("DepthToSpace", ["x"], "y", blocksize=most),
        node("LRN", ["x"], "y", size=most, alpha=float("inf")),
        node("Upsample", ["x", "scales"], "y"),
    ):
        weights = {"scales": np.float32([1, 1, 1e9, 1e9]), "pads": np.array([0, 0, most, most, 0, 0, 0, 0]),
                   "w": np.zeros((4, 3, 3, 3), np.float32)}  # fmt: skip
        path = written(tmp_path / "m.onnx", [one], {"x": (2, 3, 8, 8)}, weights=weights)
        with pytest.raises(ValueError, match=one.op_type):
            nc.onnx.load(path)


def test_sizes_that_would_fill_the_memory(tmp_path: Path) -> None:
    """What Resize does is compared with what a layer does, as matrices of some size."""
    for size in (2**20, 2**22, 2**27):
        nodes = [node("Resize", ["x", "", "", "sizes"], "y", mode="nearest", nearest_mode="floor",
                      coordinate_transformation_mode="asymmetric")]  # fmt: skip
        path = written(tmp_path / "m.onnx", nodes, {"x": (1, 1, 1, 8)}, weights={"sizes": np.array([1, 1, 1, size])})
        tracemalloc.start()
        try:
            if size == 2**20:
                assert nc.onnx.load(path).output_shape((1, 1, 1, 8)) == (1, 1, 1, size)
            else:
                with pytest.raises(ValueError, match=f"{size} points of 8 are too many"):
                    nc.onnx.load(path)
            assert tracemalloc.get_traced_memory()[1] < 2 * MOST_BYTES
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("op", ["Slice", "Split", "SplitToSequence", "Tile"])
def test_axes_that_are_long_take_no_memory(tmp_path: Path, op: str) -> None:
    """What is taken of an axis is a range, however long the file says that the axis is."""
    most = 2**29
    nodes = {
        "Slice": [node("Slice", ["x", "one", "end", "one"], "y")],
        "Split": [node("Split", ["x", "halves"], ["a", "y"], axis=1)],
        "SplitToSequence": [
            node("SplitToSequence", ["x", "half"], "a", axis=1),
            node("SequenceAt", ["a", "first"], "y"),
        ],
        "Tile": [node("Tile", ["x", "times"], "y")],
    }
    weights = {"one": np.array([1]), "end": np.array([most - 1]), "halves": np.array([most // 2] * 2),
               "half": np.array(most // 2), "first": np.array(1), "times": np.array([1, 2])}  # fmt: skip
    path = written(tmp_path / "m.onnx", nodes[op], {"x": (1, most)}, weights=weights)
    tracemalloc.start()
    try:
        if op == "Tile":
            with pytest.raises(ValueError, match=f"it would repeat {most} elements 2 times"):
                nc.onnx.load(path)
        else:
            expected = most - 2 if op == "Slice" else most // 2
            assert nc.onnx.load(path).output_shape((1, most)) == (1, expected)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
