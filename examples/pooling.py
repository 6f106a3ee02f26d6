"""Maximum and average pooling."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import nn, ops
from numbacnn.command_line import Parser, run_command

from .figures import add_output_option, draw_numbers, write_figure


def print_results(output: Path | None) -> None:
    """Print the results, and draw the last of them into ``output``."""
    X = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    for layer in (nn.MaxPool2d(2, stride=1), nn.AvgPool2d(2, stride=1)):
        show(layer, X)

    X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    show(nn.MaxPool2d(3), X)  # the stride is the window's size unless told otherwise
    show(nn.MaxPool2d(3, padding=1, stride=2), X)
    show(nn.MaxPool2d((2, 3), stride=(2, 3), padding=(0, 1)), X)
    show(nn.MaxPool2d(3, padding=1, stride=2), np.concatenate([X, X + 1], axis=1))

    print("an edge moved by one pixel is still found in the same place")
    found = [pooled_edges(column) for column in (5, 6)]
    for steps in found:
        print(steps["MaxPool2d(2)"][0])
    write_figure(output, 11, 4.4, partial(draw, rows=found))


def show(layer: nn.Layer, x: np.ndarray) -> None:
    """Print what ``layer`` makes of ``x``."""
    print(layer)
    print(np.asarray(layer(x))[0])


def pooled_edges(column: int) -> dict[str, np.ndarray]:
    """An image that is white up to a column, its edges, and the edges pooled."""
    image = np.zeros((6, 9), dtype=np.float32)
    image[:, :column] = 1
    edges = np.asarray(ops.corr2d(image, [[1, -1]]))
    pooled = {
        f"{type(layer).__name__}(2)": np.asarray(layer(edges.reshape(1, 1, 6, 8)))[0, 0]
        for layer in (nn.MaxPool2d(2), nn.AvgPool2d(2))
    }
    return {"image": image, "edges by (1, -1)": edges, **pooled}


def draw(figure: Any, rows: list[dict[str, np.ndarray]]) -> None:
    """The steps of each image beside each other; what is pooled is as large as its window."""
    grid = figure.subplots(len(rows), len(rows[0]), width_ratios=[9, 8, 8, 8])
    for line, steps in zip(grid, rows, strict=True):
        for axes, (name, array) in zip(line, steps.items(), strict=True):
            draw_numbers(axes, array, name, name == "image", cell=2 if "Pool" in name else 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser("python -m examples.pooling", "Pool small images, and the edges of one that moves.")
    add_output_option(parser, "the edges of an image that moves by a pixel, and what pooling makes of them")
    return run_command(partial(print_results, parser.parse_args(argv).output))


if __name__ == "__main__":
    sys.exit(main())
