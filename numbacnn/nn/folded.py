"""A tree as a table of HTML, whose branches can be folded."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .table import CELL, TABLE

__all__ = ["Branch", "folded"]

OPEN_ROWS = 40
"""Of a tree with more rows than that only the first level is unfolded."""
FIRST, OTHERS = 22.0, 6.0
WIDTHS = {"output shape": 10.0, "parameters": 8.5, "algorithm": 8.0, "jump": 5.0}
"""Of columns in em: the least of the first one, and those of the others, by header."""


class Branch(NamedTuple):
    """A row of the tree, before those that are in it: how deep it is, what it is called, and what is said of it."""

    depth: int
    title: str
    detail: str
    cells: Sequence[str]


def folded(tree: Sequence[Branch], headers: Sequence[str], left: Collection[str], total: str = "") -> str:
    """A tree, its root first, as HTML without scripts: columns without text are left out, ``total`` stands below.

    Columns whose headers are in ``left`` begin at the left.
    """
    kept = [i for i in range(len(headers)) if any(branch.cells[i] for branch in tree)]
    table = _Tree(tree, [headers[i] for i in kept], kept, left)
    below = f'<div style="padding:2px 0">{html.escape(total)}</div>' if total else ""
    return f'<div style="overflow-x:auto">{table.whole()}{below}</div>'


class _Tree:
    def __init__(self, tree: Sequence[Branch], headers: list[str], kept: list[int], left: Collection[str]) -> None:
        self._tree = tree
        self._headers = headers
        self._kept = kept
        self._styles = [CELL.format("left" if header in left else "right") for header in headers]
        # In tables within tables the columns at the right stand below each other, as the first one gives way.
        widths = [WIDTHS.get(header, OTHERS) for header in headers]
        columns = "".join(f'<col style="width:{width}em"/>' for width in widths)
        self._columns = f"<colgroup><col/>{columns}</colgroup>"
        self._inner = f"{TABLE};table-layout:fixed;width:100%"
        self._outer = f"{self._inner};min-width:{FIRST + sum(widths)}em;overflow-wrap:anywhere"

    def whole(self) -> str:
        cells = [
            f'<th style="{style}">{html.escape(h)}</th>' for h, style in zip(self._headers, self._styles, strict=True)
        ]
        head = f'<thead><tr><th style="{CELL.format("left")}">layer</th>{"".join(cells)}</tr></thead>'
        rows, _ = self._rows(0, -1)
        return f'<table style="{self._outer}">{self._columns}{head}<tbody>{rows}</tbody></table>'

    def _rows(self, start: int, depth: int) -> tuple[str, int]:
        """The rows from ``start`` on that are deeper than ``depth``, and where the others begin."""
        parts = []
        i = start
        while i < len(self._tree) and self._tree[i].depth > depth:
            branch = self._tree[i]
            within, after = self._rows(i + 1, branch.depth)
            parts.append(self._branch(branch, within) if within else self._leaf(branch))
            i = after
        return "".join(parts), i

    def _leaf(self, branch: Branch) -> str:
        shown = [branch.cells[i] for i in self._kept]
        cells = [f'<td style="{style}">{html.escape(c)}</td>' for c, style in zip(shown, self._styles, strict=True)]
        return f'<tr><td style="{CELL.format("left")}">{_name(branch)}</td>{"".join(cells)}</tr>'

    def _branch(self, branch: Branch, within: str) -> str:
        named = [(header, branch.cells[i]) for header, i in zip(self._headers, self._kept, strict=True)]
        said = ", ".join(f"{header} {cell}" for header, cell in named if cell)
        is_open = ' open=""' if branch.depth == 0 or len(self._tree) <= OPEN_ROWS else ""
        return (
            f'<tr><td colspan="{len(self._headers) + 1}" style="padding:0;border:0;text-align:left">'
            f'<details{is_open} style="padding-left:8px"><summary>{_name(branch)} '
            f'<span style="opacity:0.7">{html.escape(said)}</span></summary>'
            f'<table style="{self._inner}">{self._columns}<tbody>{within}</tbody></table></details></td></tr>'
        )


def _name(branch: Branch) -> str:
    detail = f' <span style="opacity:0.7">{html.escape(branch.detail)}</span>' if branch.detail else ""
    return f"<b>{html.escape(branch.title)}</b>{detail}"
