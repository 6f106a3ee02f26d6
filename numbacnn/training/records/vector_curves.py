"""The curves of a history as pictures in HTML, for notebooks."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from .panels import Panel, panels

if TYPE_CHECKING:
    from .history import History

__all__ = ["curve_pictures", "curves_html"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 224, 52, 12, 40, 38
"""Of a picture, and its margins, in pixels."""
STYLES = {"train": "", "test": ' stroke-dasharray="5 3"'}


def curves_html(history: History, epochs: int = 0) -> str:
    """Pictures side by side, each of one figure: the curve of training and, dashed, that of tests.

    In the colour of the text around them. The axis of epochs reaches to ``epochs`` at least.
    """
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(curve_pictures(history, epochs))}</div>'


def curve_pictures(history: History, epochs: int = 0) -> list[str]:
    """The pictures alone. Curves and their names are of the class "train" or "test", for pages with colours."""
    return [_picture(panel, max(epochs, panel.epochs[-1])) for panel in panels(history)]


def _picture(panel: Panel, last: int) -> str:
    marks = _marks(*panel.limits())
    low, high = marks[0], marks[-1]
    first = panel.epochs[0]
    last = max(last, first + 1)

    def at(epoch: float, value: float) -> tuple[float, float]:
        x = LEFT + (epoch - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 14, panel.title, "start", ' font-weight="bold"')]
    for value in marks:
        _, y = at(first, value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity="0.2"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:.4g}", "end"))
    marked = _whole_marks(first, last)
    parts += [_text(at(epoch, low)[0], HEIGHT - 22, str(epoch), "middle") for epoch in marked]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "epoch", "middle"))
    for i, (split, values) in enumerate(panel.curves.items()):
        drawn = f'class="{split}" fill="none" stroke="currentColor" stroke-width="1.5"{STYLES[split]}'
        begin = LEFT + 124 * i
        parts.append(f'<path d="M{begin} 27h20" {drawn}/>')
        parts.append(_text(begin + 25, 31, f"{split} {panel.last(split):.4g}", "start"))
        for run in _runs(panel.epochs, values):
            points = [at(epoch, value) for epoch, value in run]
            if len(points) > 1:
                parts.append(f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" {drawn}/>')
            else:  # a line through one point is not seen
                ((x, y),) = points
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" class="{split}" fill="currentColor"/>')
    title = html.escape(f"{panel.title} over the epochs", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{more}>{html.escape(text)}</text>'


def _runs(epochs: list[int], values: list[float]) -> list[list[tuple[int, float]]]:
    """The stretches of a curve between values that are not known."""
    runs: list[list[tuple[int, float]]] = [[]]
    for point in zip(epochs, values, strict=True):
        if math.isnan(point[1]):
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _step(span: float, most: int) -> float:
    """1, 2 or 5 times a power of ten, of which at most ``most`` are in ``span``."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= most)


def _marks(low: float, high: float) -> list[float]:
    """Round values from below the lowest to above the highest one."""
    step = _step(high - low, 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, last + 1)]


def _whole_marks(first: int, last: int) -> list[int]:
    step = max(round(_step(last - first, 5)), 1)
    return [first, *(epoch for epoch in range(step, last + 1, step) if epoch - first > step / 2)]
