"""Pictures of models: every layer a box, boxes side by side and below what they get, shapes on the lines."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn import models, nn, use_backend

SVG = "{http://www.w3.org/2000/svg}"


def boxes_of(svg: str) -> list[tuple[float, float, float, float]]:
    rects = [rect for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect") if rect.get("class") == "box"]
    return [tuple(float(rect.get(key, "")) for key in ("x", "y", "width", "height")) for rect in rects]  # type: ignore[misc]


def texts_of(svg: str, kind: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text") if text.get("class") == kind]


def check_places(drawing: Any) -> None:
    width, height = drawing.size
    boxes = boxes_of(drawing.svg)
    for x, y, w, h in boxes:
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
    for (x, y, w, h), (u, v, k, m) in itertools.combinations(boxes, 2):
        assert x + w <= u or u + k <= x or y + h <= v or v + m <= y


def graph() -> nn.Graph:
    return nn.Graph(
        {
            "a<b": (nn.Conv2d(3, 4, 3, padding=1), "x"),
            "relu": (nn.ReLU(), "a<b"),
            "inner": (nn.Graph({"one": (nn.Tanh(), "v"), "two": (nn.Sigmoid(), "v")}, "v", ["one", "two"]), "relu"),
            "sum": (nn.Sum(), "relu", ("inner", 0)),
            "join": (nn.Concatenate(), "sum", "u", ("inner", 1)),
        },
        ["x", "u"],
        ["join", "relu"],
    )


def test_each_node_is_a_box_and_each_value_is_written_once() -> None:
    with use_backend("reference"):
        drawing = nc.draw(graph(), ((1, 3, 8, 9), (1, 2, 8, 9)))
    names = ["x", "u", "a<b", "relu", "inner.one", "inner.two", "sum", "join", "output 0", "output 1"]
    assert texts_of(drawing.svg, "name") == names
    assert sorted(texts_of(drawing.svg, "shape")) == sorted(
        ["1 x 3 x 8 x 9", "1 x 2 x 8 x 9", *["1 x 4 x 8 x 9"] * 5, "1 x 10 x 8 x 9"]
    )
    assert texts_of(drawing.svg, "what")[1] == "ReLU"
    check_places(drawing)
    assert repr(drawing) == f"Drawing(10 boxes, {drawing.size[0]} x {drawing.size[1]} pixels)"
    assert drawing._repr_svg_() is drawing.svg


@pytest.mark.parametrize(("name", "size"), [("lenet", 28), ("googlenet", 96), ("resnet", 96), ("densenet", 96)])
def test_the_models_are_drawn(name: str, size: int) -> None:
    with use_backend("reference"):
        model = getattr(models, name)()
        drawing = nc.draw(model, (1, 1, size, size))
    check_places(drawing)
    leaves = [layer for layer in model.layers() if not list(layer.children())]
    assert len(boxes_of(drawing.svg)) >= min(len(leaves), 10)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=15))
@settings(max_examples=30)
def test_boxes_never_overlap(edges: list[tuple[int, int]]) -> None:
    nodes: dict[str, Any] = {}
    for i, (first, second) in enumerate(edges):
        known = ["x", *nodes]
        nodes[f"node {i}"] = (nn.Sum(), known[first % len(known)], known[second % len(known)])
    used = {source for node in nodes.values() for source in node[1:]}
    with use_backend("reference"):
        drawn = nc.draw(nn.Graph(nodes, "x", [name for name in nodes if name not in used]), (1, 3))
    check_places(drawn)


def test_it_is_saved(tmp_path: Path) -> None:
    with use_backend("reference"):
        drawing = nc.draw(nn.Sequential(nn.ReLU(), nn.Add(nn.Identity(), nn.Tanh())), (2, 5))
    drawing.save(tmp_path / "model.svg")
    assert (tmp_path / "model.svg").read_text(encoding="utf-8") == drawing.svg
    assert texts_of(drawing.svg, "name") == ["input", "0", "1.0", "1.1", "1", "output"]


def test_what_cannot_be_drawn() -> None:
    with use_backend("reference"):
        with pytest.raises(TypeError, match="`model` 3 must be a Layer"):
            nc.draw(3, (1, 2))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="has 2 channels"):
            nc.draw(nn.Sequential(nn.Conv2d(3, 4, 3)), (1, 2, 8, 8))
