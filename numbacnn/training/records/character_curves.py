"""The curves of a history drawn by characters, for terminals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .panels import Panel, panels

if TYPE_CHECKING:
    from .history import History

__all__ = ["ASCII", "BRAILLE", "Characters", "character_curves"]

WIDTH, LABEL = 38, 8
"""The least columns of a picture, and those of the numbers at its left."""


class Characters(NamedTuple):
    """What is drawn with."""

    columns: int
    """Of dots in a character."""
    rows: int
    curves: dict[str, str]
    """What a curve is called in the legend by."""
    axis: tuple[str, str, str, str]
    """Upright, corner, level, mark."""

    def are_in(self, encoding: str) -> bool:
        """Whether a stream of this encoding takes them."""
        try:
            ("".join((*self.curves.values(), *self.axis)) + ("\u28ff" if self.rows > 1 else "")).encode(encoding)
        except (LookupError, UnicodeEncodeError):
            return False
        return True


BRAILLE = Characters(2, 4, {"train": "\u2500", "test": "\u2504"}, ("\u2502", "\u2514", "\u2500", "\u2524"))
"""Eight dots in a character; the curve of tests is dashed."""
ASCII = Characters(1, 1, {"train": "*", "test": "o"}, ("|", "+", "-", "+"))
"""A character for each dot, another one for each curve."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of Unicode's Braille patterns, by row and column."""


def character_curves(
    history: History, characters: Characters, width: int = 80, height: int = 24, epochs: int = 0
) -> list[str]:
    """Lines of at most ``width`` columns, one for each row of pictures: loss, accuracy and metrics side by side.

    Of so many lines that all are no more than ``height``, as far as eight lines for a row of pictures allow. The axis
    of epochs reaches to ``epochs`` at least.
    """
    shown = panels(history)
    if not shown:
        return []
    beside = min(max((width + 2) // (WIDTH + 2), 1), len(shown))
    each = (width + 2) // beside - 2
    rows = math.ceil(len(shown) / beside)
    lines = []
    for i in range(0, len(shown), beside):
        drawn = [
            _picture(panel, characters, each, min(max(height // rows, 8), 12), max(epochs, panel.epochs[-1]))
            for panel in shown[i : i + beside]
        ]
        lines += ["  ".join(line.ljust(each) for line in row).rstrip() for row in zip(*drawn, strict=True)]
    return lines


def _picture(panel: Panel, characters: Characters, width: int, height: int, last: int) -> list[str]:
    columns, rows = max(width - LABEL - 1, 2), height - 3
    low, high = panel.limits()
    first = panel.epochs[0]
    last = max(last, first + 1)
    canvas = _Canvas(characters, columns, rows)
    for split, values in panel.curves.items():
        points = [
            ((epoch - first) / (last - first), (high - value) / (high - low))
            for epoch, value in zip(panel.epochs, values, strict=True)
        ]
        canvas.draw(split, points)
    upright, corner, level, mark = characters.axis
    labels = {0: f"{high:.4g}", rows - 1: f"{low:.4g}"}
    lines = canvas.lines()
    legend = "  ".join(f"{characters.curves[split]} {split} {panel.last(split):.4g}" for split in panel.curves)
    title = panel.title[: max(width - len(legend) - 2, 0)]
    ends = f"{first}{str(last).rjust(columns - len(str(first)))}"
    return [
        f"{title}{legend.rjust(width - len(title))}"[:width],
        *(f"{labels.get(i, ''):>{LABEL}}{mark if i in labels else upright}{line}" for i, line in enumerate(lines)),
        f"{'':{LABEL}}{corner}{level * columns}",
        f"{'':{LABEL}} {ends}",
    ]


class _Canvas:
    """Dots in characters."""

    def __init__(self, characters: Characters, columns: int, rows: int) -> None:
        self._characters = characters
        self._dots: list[dict[int, str]] = [{} for _ in range(rows * characters.rows)]
        """Of each row of dots, which curve has a dot in which column."""
        self._columns = columns
        self._across = columns * characters.columns - 1
        self._down = rows * characters.rows - 1

    def draw(self, curve: str, points: list[tuple[float, float]]) -> None:
        """A curve through points of the unit square, from its upper left; NaN is a gap."""
        is_dashed = self._characters.rows > 1 and curve == "test"
        for x, y in self._along(points):
            if not is_dashed or x % 4 < 2:
                self._dots[y].setdefault(x, curve)

    def _along(self, points: list[tuple[float, float]]) -> Iterator[tuple[int, int]]:
        """The dots of a line through all points, each column of dots filled between its rows."""
        before: tuple[float, float] | None = None
        for across, down in points:
            if math.isnan(down):
                before = None
                continue
            x, y = across * self._across, down * self._down
            x0, y0 = before or (x, y)
            row = round(y0)
            for column in range(round(x0), round(x) + 1):
                share = (column - x0) / (x - x0) if x > x0 else 1.0
                to = round(y0 + (y - y0) * min(max(share, 0.0), 1.0))
                step = 1 if to > row else -1
                yield from ((column, between) for between in range(row + step, to, step))
                yield column, to
                row = to
            before = x, y

    def lines(self) -> list[str]:
        if self._characters.rows == 1:
            return [
                "".join(self._characters.curves[row[x]] if x in row else " " for x in range(self._columns)).rstrip()
                for row in self._dots
            ]
        return [
            "".join(self._braille(top, left) for left in range(0, self._columns * 2, 2)).rstrip()
            for top in range(0, len(self._dots), 4)
        ]

    def _braille(self, top: int, left: int) -> str:
        bits = sum(bit for y, row in enumerate(_DOTS) for x, bit in enumerate(row) if left + x in self._dots[top + y])
        return chr(0x2800 + bits) if bits else " "
