"""Curves that grow: on terminals, in files and in notebooks."""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from numbacnn import nn
from numbacnn.training import Callback, History, LiveCurves, ProgressBar, Run, fit
from numbacnn.training.records.character_curves import ASCII, BRAILLE, Characters, character_curves
from tests.training.toy import loaders, model_and_optimizer, record, run_with


class Terminal(io.StringIO):
    """Text that is written to a terminal, and the screen that it makes."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines, y, x = [""], 0, 0
        for part in re.findall(r"\x1b\[\d*[A-Z]|\n|\r|[^\x1b\n\r]+", self.getvalue()):
            if part == "\n":
                y, x = y + 1, 0
                lines += [""] * (y - len(lines) + 1)
            elif part == "\r":
                x = 0
            elif part.endswith("A") and part[0] == "\x1b":
                y -= int(part[2:-1])
                assert y >= 0
            elif part == "\x1b[J":
                lines[y:] = [lines[y][:x]]
            else:
                lines[y] = lines[y].ljust(x)[:x] + part + lines[y][x + len(part) :]
                x += len(part)
        return [line.rstrip() for line in lines]


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")


def train(*callbacks: Callback, epochs: int = 3) -> History:
    model, optimizer = model_and_optimizer()
    return fit(*(model, *loaders(), nn.CrossEntropyLoss(), optimizer, epochs), callbacks=callbacks)


def falling(epochs: int, **changes: Any) -> History:
    """Train loss falls from 1 to 0 along a line, test loss stays at 1."""
    last = max(epochs - 1, 1)
    accuracies = dict.fromkeys(("train_accuracy", "test_accuracy"), math.nan)
    figures = [{"train_loss": 1 - i / last, "test_loss": 1.0, **accuracies, **changes} for i in range(epochs)]
    return History([record(i, **figure) for i, figure in enumerate(figures, 1)])


def test_the_picture_stays_below_the_bars_of_the_epochs() -> None:
    terminal = Terminal()
    history = train(ProgressBar(terminal), LiveCurves(terminal))
    picture = character_curves(history, BRAILLE, 89, 28, 3)
    screen = terminal.screen()
    assert [line[:15] for line in screen[:3]] == [f"epoch {epoch}/3: 100%" for epoch in (1, 2, 3)]
    assert screen[3:] == [*picture, ""]


def test_an_error_amid_an_epoch_leaves_the_picture_whole() -> None:
    class Interrupt(Callback):
        def on_batch_end(self, run: Run) -> None:
            if run.epoch == 2:
                raise KeyboardInterrupt

    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt):
        train(ProgressBar(terminal), LiveCurves(terminal), Interrupt())
    screen = terminal.screen()
    assert [line[:9] for line in screen[:2]] == ["epoch 1/3", "epoch 2/3"]
    assert screen[2].startswith("loss") and screen[-2].split() == ["1", "3", "1", "3"]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_where_it_cannot_move_a_picture_follows_the_other(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal() if is_terminal else io.StringIO()
    history = train(LiveCurves(stream, always=True))
    assert "\x1b" not in stream.getvalue()
    pictures = [character_curves(History(history.records[:n]), BRAILLE, 89, 28, 3) for n in (1, 2, 3)]
    assert stream.getvalue().splitlines() == [line for picture in pictures for line in picture]


def test_elsewhere_nothing_is_shown() -> None:
    stream = io.StringIO()
    train(LiveCurves(stream))
    assert not stream.getvalue()


def test_training_goes_on_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w", encoding="utf-8")
    os.close(read_end)
    train(LiveCurves(stream, always=True))
    with pytest.raises(BrokenPipeError):
        stream.close()
    closed = Terminal()
    callback = LiveCurves(closed)
    closed.close()
    train(callback)
    monkeypatch.setattr("sys.stdout", None)
    train(LiveCurves())


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", "\u2524"), ("ascii", "+"), ("latin-1", "+"), ("no-such", "+")]
)
def test_what_the_encoding_does_not_have_is_not_written(encoding: str, mark: str) -> None:
    terminal = Terminal()
    terminal.encoding = encoding
    LiveCurves(terminal).on_epoch_end(run_with(3))  # type: ignore[arg-type]
    assert f"     2.5{mark}" in terminal.getvalue()
    assert terminal.getvalue().isascii() == (mark == "+")


def test_a_line_in_ascii() -> None:
    lines = character_curves(falling(8), ASCII, 17, 11)
    assert lines == [
        "* train 0  o test",
        "       1+*ooooooo",
        "        | *",
        "        |  *",
        "        |   *",
        "        |    *",
        "        |     *",
        "        |      *",
        "       0+       *",
        "        +--------",
        "         1      8",
    ]


def test_a_line_in_braille() -> None:
    lines = character_curves(falling(9, test_loss=math.nan), BRAILLE, 13, 8)
    columns = [line[9:] for line in lines[1:6]]
    dots = [
        [bool(x < len(line) and (ord(line[x]) - 0x2800) & bit and line[x] != " ") for x in range(4) for bit in bits]
        for line in columns
        for bits in ((1, 8), (2, 16), (4, 32), (64, 128))
    ]
    heights = [[y for y, row in enumerate(dots) if row[x]] for x in range(8)]
    assert heights[0][0] == 0 and heights[-1][-1] == 19
    for left, right in itertools.pairwise(heights):
        assert left == list(range(left[0], left[-1] + 1)) and right[0] in (left[-1], left[-1] + 1)


@pytest.mark.parametrize("characters", [ASCII, BRAILLE])
@pytest.mark.parametrize("width", [12, 40, 79, 120, 200])
def test_lines_are_no_wider_than_asked(characters: Characters, width: int) -> None:
    metrics = {"train_a_very_long_name_of_a_metric_indeed": 123456.789, "test_iou": -0.001}
    history = History([record(epoch, metrics=metrics) for epoch in range(1, 4)])
    lines = character_curves(history, characters, width, 30)
    assert max(map(len, lines)) <= width
    panels = 4
    beside = min(max((width + 2) // 40, 1), panels)
    assert len(lines) <= max(30, 8 * math.ceil(panels / beside))


def test_gaps_and_single_points() -> None:
    history = falling(5, test_loss=math.nan)
    history.records[2] = record(3, train_loss=math.inf, test_loss=0.5, train_accuracy=math.nan, test_accuracy=math.nan)
    lines = character_curves(history, ASCII, 49, 11)
    drawn = "\n".join(line[9:] for line in lines[1:9])
    assert drawn.count("o") == 1
    assert {x for line in lines[1:9] for x, sign in enumerate(line) if sign == "*"} == {*range(9, 20), *range(38, 49)}
    assert not character_curves(History(), ASCII, 80, 24)
    for of, points in ((history, 1), (falling(1), 2)):
        picture = ElementTree.fromstring(f"<div>{of._repr_html_()}</div>")
        assert len(list(picture.iter("{http://www.w3.org/2000/svg}circle"))) == points


def test_a_notebook_shows_one_figure_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    def display(figure: Any, display_id: bool) -> Any:
        assert display_id is True
        shown.append(figure)
        return SimpleNamespace(update=shown.append)

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    history = train(LiveCurves())
    assert len(shown) == 3
    assert repr(shown[-1]) == repr(history)
    first, _, last = (ElementTree.fromstring(figure._repr_html_()) for figure in shown)
    circles, paths = (f"{{http://www.w3.org/2000/svg}}{name}" for name in ("circle", "path"))
    assert len(list(first.iter(circles))) == 4 and not list(last.iter(circles))
    assert sum(path.get("d", "").count("L") == 2 for path in last.iter(paths)) == 4
    ipython.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    train(LiveCurves(), epochs=1)
    assert len(shown) == 3 and terminal.getvalue().startswith("loss")
