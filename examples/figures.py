"""What all figures share: the option that names their file, how they look, images and numbers in them."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn.command_line import UserError, path, say
from numbacnn.io import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["add_output_option", "check_matplotlib", "draw_image", "draw_numbers", "new_figure", "save", "write_figure"]

LARGE = 0.6
"""Share of the largest number from which on a cell is so dark that what is written in it is white."""


def add_output_option(parser: argparse.ArgumentParser, of_what: str) -> None:
    """``--output``, of examples that print, and draw if they are asked to."""
    parser.add_argument("--output", type=path, metavar="FILE", help=f"draw {of_what}, into this PNG file")


def check_matplotlib() -> None:
    """UserError unless it is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError('pictures need matplotlib: pip install "numbacnn[plot]"')


def write_figure(output: Path | None, width: float, height: float, draw: Callable[[Figure], None]) -> None:
    """Have ``draw`` fill a figure of so many inches, and save it; nothing where no ``output`` is asked for."""
    if output is None:
        return
    check_matplotlib()
    figure = new_figure(width, height)
    figure.set_layout_engine("compressed")  # panels of fixed proportions lie close together
    draw(figure)
    output.parent.mkdir(parents=True, exist_ok=True)
    save(figure, output)


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that pyplot knows nothing of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_image(axes: Any, image: np.ndarray[Any, Any]) -> None:
    """An image (c, h, w) in 0..1: in colour if it has three channels, else the mean of them in grey."""
    if len(image) == 3:
        axes.imshow(image.transpose(1, 2, 0))
    else:
        axes.imshow(image.mean(axis=0), cmap="gray", vmin=0, vmax=1)


def draw_numbers(axes: Any, array: np.ndarray[Any, Any], title: str, grey: bool = False, cell: int = 1) -> None:
    """Numbers (h, w) in cells: red above 0, blue below, as dark as they are large; or ``grey``, an image in 0..1.

    They are written with two decimals unless all are whole. A ``cell`` is as large as so many by so many of others.
    """
    h, w = array.shape
    largest = max(1.0, float(np.abs(array).max()))
    colours = {"cmap": "gray", "vmin": 0} if grey else {"cmap": "RdBu_r", "vmin": -largest}
    axes.imshow(array, vmax=largest, extent=(0, w * cell, h * cell, 0), **colours)
    decimals = 0 if np.array_equal(array, np.rint(array)) else 2
    for row, column in np.ndindex(h, w):
        number = array[row, column] + 0.0  # no -0
        is_dark = number < 0.5 if grey else abs(number) > LARGE * largest
        place = (column + 0.5) * cell, (row + 0.5) * cell
        text = f"{number:.{decimals}f}"
        axes.text(*place, text, ha="center", va="center", color="white" if is_dark else "black", fontsize=8)
    axes.set_xticks(np.arange(w + 1) * cell)
    axes.set_yticks(np.arange(h + 1) * cell)
    axes.grid(color="0.6", linewidth=0.6)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.set_title(title, fontsize=10)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG file, or of another kind that the name ends in, whole or not at all, and say where."""
    with replacing(path) as temporary:
        kind = path.suffix[1:].lower() or "png"
        figure.savefig(temporary, format=kind, **({"pil_kwargs": {"optimize": True}} if kind == "png" else {}))
    say(f"wrote {path}")
