"""A model as a picture: its layers as boxes from top to bottom, and on the lines between them the shapes."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence

from .nn.flow import Node, flow
from .nn.layer import Layer
from .nn.state import Shapes
from .svg import Svg

__all__ = ["Drawing", "draw"]

HEIGHT, GAP, SPACE, MARGIN = 38, 46, 24, 16
"""Of a box, and between boxes below and beside each other, in pixels."""
CHARACTER = 7.3
"""The width of a character, about."""
SWEEPS = 12


def draw(model: Layer, input_shape: Shapes) -> Drawing:
    """The picture of ``model`` for an input of ``input_shape``, or for a tuple of the shapes of several.

    The layers within `Sequential`, `Add`, `Concat` and `Graph` are boxes, other layers one each. The picture shows
    itself in a notebook; ``save`` writes it to a file. Nothing is run. Errors are those of ``model.output_shape``.

    >>> from numbacnn import nn
    >>> draw(nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)), (1, 1, 28, 28))
    Drawing(5 boxes, 344 x 406 pixels)
    """
    if not isinstance(model, Layer):
        raise TypeError(f"`model` {model!r} must be a Layer")
    return Drawing(flow(model, input_shape))


class Drawing(Svg):
    """What `draw` makes. ``svg`` is the text of the picture, ``size`` its width and height in pixels."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._count = len(nodes)
        super().__init__(*_picture(nodes))

    def __repr__(self) -> str:
        return f"Drawing({self._count} boxes, {self.size[0]} x {self.size[1]} pixels)"


def _shown(node: Node, most: int = 40) -> str:
    """What a box is, below what it is called."""
    text = f"{node.kind}({node.detail})" if node.detail else node.kind
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def _titled(node: Node) -> str:
    """What a pointer that rests on the box is told: all of what it is, and what it gives."""
    what = f"{node.kind}({node.detail})" if node.kind else ""
    gives = ", ".join(" x ".join(map(str, shape)) for shape in node.shapes)
    return " ".join(filter(None, (node.name, what, "gives" if node.kind else "", gives)))


class _Layout:
    """Where boxes are: each below all that it gets something from, a line through each row that it passes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.widths = [max(60.0, CHARACTER * max(len(node.name), len(_shown(node))) + 20) for node in nodes]
        row: list[int] = []
        for node in nodes:
            row.append(1 + max((row[end.node] for end in node.sources), default=-1))
        self.paths: list[list[int]] = []
        """Of each line the points that it goes through: its first box, one in each row between, its last."""
        for target, node in enumerate(nodes):
            for end in node.sources:
                path = [end.node]
                for between in range(row[end.node] + 1, row[target]):
                    self.widths.append(CHARACTER)
                    row.append(between)
                    path.append(len(row) - 1)
                self.paths.append([*path, target])
        self.rows: list[list[int]] = [[] for _ in range(max(row) + 1)]
        for point, of_point in enumerate(row):
            self.rows[of_point].append(point)
        self.above: list[list[int]] = [[] for _ in row]
        self.below: list[list[int]] = [[] for _ in row]
        for path in self.paths:
            for first, second in itertools.pairwise(path):
                self.below[first].append(second)
                self.above[second].append(first)
        self.x = [0.0] * len(row)
        for points in self.rows:
            self._place(points)
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            for points in self.rows if down else reversed(self.rows):
                beside = self.above if down else self.below
                wished = {p: _mean([self.x[q] for q in beside[p]], self.x[p]) for p in points}
                points.sort(key=wished.__getitem__)
                self._place(points, wished)
        left = min(self.x[p] - self.widths[p] / 2 for p in range(len(row)))
        self.x = [x - left + MARGIN for x in self.x]
        self.y = [MARGIN + HEIGHT / 2 + of_point * (HEIGHT + GAP) for of_point in row]

    def _place(self, points: list[int], wished: dict[int, float] | None = None) -> None:
        """Side by side in this order, as near to where each is wished as the others let it."""
        right = -float("inf")
        for point in points:
            half = self.widths[point] / 2
            self.x[point] = max(wished[point] if wished else 0.0, right + half)
            right = self.x[point] + half + SPACE
        wish = _mean([wished[p] for p in points], 0.0) if wished else 0.0
        shift = wish - _mean([self.x[p] for p in points], 0.0)
        for point in points:
            self.x[point] += shift


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _picture(nodes: Sequence[Node]) -> tuple[str, tuple[int, int]]:
    """The text of the picture, and its size."""
    layout = _Layout(nodes)
    parts: list[str] = []
    texts: list[str] = []
    ends = [x + width / 2 for x, width in zip(layout.x, layout.widths, strict=True)]
    written: set[tuple[int, str]] = set()
    lines = [end for node in nodes for end in node.sources]
    for (source, _, shape), path in zip(lines, layout.paths, strict=True):
        text = " x ".join(map(str, shape))
        points = [(layout.x[p], layout.y[p]) for p in path]
        x, y = points[0][0], points[0][1] + HEIGHT / 2
        curve = f"M {x:.1f} {y:.1f}"
        for i, (to_x, middle) in enumerate(points[1:], 1):
            to_y = middle - HEIGHT / 2
            curve += f" C {x:.1f} {y + GAP / 2:.1f} {to_x:.1f} {to_y - GAP / 2:.1f} {to_x:.1f} {to_y:.1f}"
            if i < len(points) - 1:
                to_y += HEIGHT
                curve += f" L {to_x:.1f} {to_y:.1f}"
            x, y = to_x, to_y
        parts.append(f'<path class="line" d="{curve}"/>')
        if (source, text) not in written:  # what goes to several boxes is written once
            written.add((source, text))
            x, y = points[0][0] + 6, points[0][1] + HEIGHT / 2 + 14
            texts.append(f'<text class="shape" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>')
            ends.append(x + CHARACTER * len(text))
    for box, node in enumerate(nodes):
        x, y, width = layout.x[box], layout.y[box], layout.widths[box]
        # A program that shows the picture finds a layer's box by its name, which may be "".
        of_layer = f' data-layer="{html.escape(node.name)}"' if node.kind else ""
        parts.append(
            f'<g class="node"{of_layer}><title>{html.escape(_titled(node))}</title>'
            f'<rect class="box" x="{x - width / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" '
            f'height="{HEIGHT}" rx="6"/>'
        )
        shown = [(text, kind) for text, kind in ((node.name, "name"), (_shown(node), "what")) if text]
        for i, (text, kind) in enumerate(shown):
            at = y + (4 if len(shown) == 1 else -3 + 15 * i)
            parts.append(f'<text class="{kind}" x="{x:.1f}" y="{at:.1f}">{html.escape(text)}</text>')
        parts.append("</g>")
    width, height = round(max(ends) + MARGIN), round(max(layout.y) + HEIGHT / 2 + MARGIN)
    # A page may have more than one picture in it, so that rules are for what is within one of these.
    rules = (
        ".box{fill:#f4f6fa;stroke:#5b6b8c}",
        ".line{fill:none;stroke:#8a94a6}",
        "text{font:12px monospace;fill:#1d2433}",
        ".name,.numbacnn-drawing .what{text-anchor:middle}",
        ".name{font-weight:bold}",
        ".shape{font-size:11px;fill:#5b6b8c;stroke:white;stroke-width:3px;paint-order:stroke}",
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="numbacnn-drawing" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="max-width:100%;height:auto">'
        f"<style>{' '.join(f'.numbacnn-drawing {rule}' for rule in rules)}</style>"
        f'<rect class="paper" width="{width}" height="{height}" fill="white"/>'
    )
    return "".join([head, *parts, *texts, "</svg>"]), (width, height)
