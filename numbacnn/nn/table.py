"""Tables, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import NamedTuple

__all__ = ["CELL", "TABLE", "Table"]

TABLE = "border-collapse:collapse;color:inherit;background:none;font-variant-numeric:tabular-nums"
"""Of a table of HTML: colours are those of the page, light or dark."""
CELL = "padding:1px 8px;border:0;text-align:{}"


class Table(NamedTuple):
    """Cells below headers; the columns in ``left`` begin at the left, the others end at the right.

    >>> table = Table(["layer", "ms"], [["Conv2d", "1.5"], ["<own>", "10.25"]], left=[0])
    >>> print(table.text("11.75 ms"))
    layer      ms
    -------------
    Conv2d    1.5
    <own>   10.25
    -------------
    11.75 ms
    >>> "&lt;own&gt;" in table.html("11.75 ms")
    True
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Collection[int]

    def text(self, total: str) -> str:
        """Lines, the last one being ``total``."""
        cells = [self.headers, *self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(self.headers))]
        lines = [
            "  ".join(
                c.ljust(w) if i in self.left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:], rule, total))

    def html(self, total: str = "") -> str:
        """A table of HTML whose text is escaped, and ``total`` below it."""
        below = f'<div style="padding:2px 8px">{html.escape(total)}</div>' if total else ""
        rows = "".join(self._row(row, "td") for row in self.rows)
        return (
            f'<table style="{TABLE}"><thead>{self._row(self.headers, "th")}</thead><tbody>{rows}</tbody></table>{below}'
        )

    def _row(self, cells: Sequence[str], tag: str) -> str:
        styles = [CELL.format("left" if i in self.left else "right") for i in range(len(cells))]
        shown = [
            f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell, style in zip(cells, styles, strict=True)
        ]
        return f"<tr>{''.join(shown)}</tr>"
