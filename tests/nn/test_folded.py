"""What notebooks show of models, summaries and profiles: tables of HTML that can be folded."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, optim, use_backend
from numbacnn.nn.folded import OPEN_ROWS
from numbacnn.training import TrainingStep


class Odd(nn.Layer):
    """Its output has a shape that it does not tell."""

    def extra_repr(self) -> str:
        return "'<script>alert(1)</script>' & co"

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return dy


def parsed(shown: Any) -> ElementTree.Element:
    """The tree of what is shown, which takes no script and no colours but those of the page."""
    text = shown._repr_html_()
    assert "<script" not in text
    assert not re.search(r"#[0-9a-f]{3}|rgb|color:(?!inherit)", text)
    return ElementTree.fromstring(f"<div>{text}</div>")


def rows(shown: Any) -> list[list[str]]:
    """The texts of the cells of each row, a branch being one cell."""
    found = []
    for row in parsed(shown).iter("tr"):
        branch = row.find("./td/details/summary")
        found.append(["".join(cell.itertext()) for cell in (list(row) if branch is None else [branch])])
    return found


def blocks(count: int) -> nn.Sequential:
    with use_backend("reference"):
        return nn.Sequential(
            {f"<{i}>": nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()) for i in range(count)} | {"odd": Odd()}
        )


def test_a_model_before_it_is_given_anything() -> None:
    assert rows(blocks(1)) == [
        ["layer", "parameters"],
        ["Sequential parameters 10"],
        ["(<0>) Sequential parameters 10"],
        ["(0) Conv2d 1, 1, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)", "10"],
        ["(1) ReLU", "0"],
        ["(odd) Odd '<script>alert(1)</script>' & co", "0"],
    ]


def test_shapes_are_those_of_what_it_was_given_last() -> None:
    model = blocks(1)
    x = np.zeros((2, 1, 8, 8), np.float32)
    model(x)
    assert len(rows(model)[0]) == 2, "a layer of one's own does not tell the shape"
    del model["odd"]
    assert rows(model)[0][:2] == ["layer", "output shape"]
    assert rows(model)[3][1:5] == ["(2, 1, 8, 8)", "10", "0.002", "3x3"]
    model.predict(x[:1])
    assert rows(model)[4][1] == "(1, 1, 8, 8)"
    step = TrainingStep(model, nn.MSELoss(), optim.SGD(model.parameters()))
    step(np.zeros((5, 1, 8, 6), np.float32), np.zeros((5, 1, 8, 6), np.float32))
    assert rows(model)[4][1] == "(5, 1, 8, 6)"
    model["<0>"] = nn.Conv2d(3, 1, 1)
    assert len(rows(model)[0]) == 2, "the last input does not fit the new layer"
    model(np.zeros((1, 3, 4, 4), np.float32))
    assert rows(model)[2][1] == "(1, 1, 4, 4)"


def test_large_models_are_folded() -> None:
    for count, is_open in ((2, True), (OPEN_ROWS // 2, False)):
        branches = list(parsed(blocks(count)).iter("details"))
        assert len(branches) == count + 1
        assert ["open" in branch.attrib for branch in branches] == [True, *[is_open] * count]


def test_a_summary_and_a_profile_show_the_cells_that_they_print(backend: nc.backends.Backend) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.ReLU())
    summary = nc.summary(model, (4, 2, 3))
    shown, printed = rows(summary), str(summary).splitlines()
    assert shown[0] == ["layer", "output shape", "parameters", "MFLOPs", "memory"]
    assert shown[1] == ["Sequential output shape (4, 3), parameters 21, MFLOPs 0.000"]
    for cells, line in zip(shown[2:], printed[3:-2], strict=True):
        assert cells[1:] == re.split(r"  +", line.strip())[1:]
    assert "".join(parsed(summary).itertext()).endswith(printed[-1])
    profile = nc.profile(model, (4, 6), rounds=1)
    lines = str(profile).splitlines()
    assert [cells[0] for cells in rows(profile)] == [re.split("  +", line)[0] for line in [lines[0], *lines[2:-2]]]
    assert "".join(parsed(profile).itertext()).endswith(lines[-1])


@pytest.mark.parametrize("several", [False, True])
def test_graphs(several: bool) -> None:
    with use_backend("reference"):
        model = nn.Graph({"sum": (nn.Sum(), "x", "u" if several else "x")}, ("x", "u") if several else "x")
    model(*[np.zeros((3, 4), np.float32)] * (1 + several))
    assert rows(model)[2][:2] == ["(sum) Sum", "(3, 4)"]
