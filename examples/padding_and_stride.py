"""What padding and stride make of the size of an 8x8 image."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import nn
from numbacnn.command_line import Parser, run_command

from .figures import add_output_option, write_figure

SIZE = 8
CASES: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (5, 3), "padding": (2, 1)},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": (0, 1), "stride": (3, 4)},
    # An even kernel cannot be padded alike on both sides: the odd row goes after, or before.
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 4, "padding": "same_lower"},
    {"kernel_size": 4, "padding": ((2, 1), (2, 1))},
)


def show(output: Path | None) -> None:
    """Print a line per case, and draw each into ``output``."""
    x = np.random.default_rng(0).random((1, 1, SIZE, SIZE))
    for arguments in CASES:
        _, _, h, w = nn.Conv2d(1, 1, **arguments)(x).shape
        print(f"{words(arguments):<50} {h}x{w}")
    write_figure(output, 10, 6, draw)


def words(arguments: dict[str, Any], between: str = ", ") -> str:
    """The arguments as a call has them."""
    return between.join(f"{name}={value!r}" for name, value in arguments.items())


def draw(figure: Any) -> None:
    """A panel per case."""
    panels = figure.subplots(2, 4).ravel()
    for axes, arguments in zip(panels, CASES, strict=False):
        draw_windows(axes, nn.Conv2d(1, 1, **arguments))
        axes.set_title(words(arguments, "\n"), fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, labels, loc="center", fontsize=9, frameon=False)
    panels[-1].set_axis_off()


def draw_windows(axes: Any, conv: nn.Conv2d) -> None:
    """The image with its padding, the windows of the first and of the last output, and the middle of every window."""
    from matplotlib.patches import Rectangle

    window = conv.window()
    assert window is not None
    (kh, kw), (sh, sw), ((top, bottom), (left, right)) = window.kernel, window.stride, window.padding
    oh, ow = conv.output_shape((1, 1, SIZE, SIZE))[2:]
    cells = np.full((top + SIZE + bottom, left + SIZE + right), np.nan)
    cells[top : top + SIZE, left : left + SIZE] = 0.25
    h, w = cells.shape
    edges = np.arange(w + 1) - left, np.arange(h + 1) - top
    axes.pcolormesh(*edges, cells, cmap="Greys", vmin=0, vmax=1, edgecolors="0.7", lw=0.5)
    axes.plot([], [], "s", color="0.75", markersize=9, label="pixel of the image")
    axes.plot([], [], "s", color="white", markeredgecolor="0.7", markersize=9, label="padding")
    for row, column, style, name in ((0, 0, "-", "first"), (oh - 1, ow - 1, "--", "last")):
        corner = column * sw - left, row * sh - top
        axes.add_patch(Rectangle(corner, kw, kh, fill=False, edgecolor="C3", linestyle=style, lw=2, zorder=3))
        axes.plot([], [], "C3", linestyle=style, lw=2, label=f"window of the {name} output")
    y, x = np.meshgrid(np.arange(oh) * sh - top + kh / 2, np.arange(ow) * sw - left + kw / 2, indexing="ij")
    axes.plot(x.ravel(), y.ravel(), "C0o", markersize=4, label="middle of a window: one output")
    axes.set(aspect="equal", xlim=(-left - 0.2, w - left + 0.2), ylim=(h - top + 0.2, -top - 0.2))
    axes.set_xlabel(f"{oh}x{ow} outputs", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser("python -m examples.padding_and_stride", "Tell how large the output of a convolution is.")
    add_output_option(parser, "where the windows lie")
    return run_command(partial(show, parser.parse_args(argv).output))


if __name__ == "__main__":
    sys.exit(main())
