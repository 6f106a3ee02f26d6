"""Draw what of an image a unit inside of a model sees, by the sizes of the layers and by its gradient.

``python -m examples.receptive_field --help``. After Luo et al. 2016 ("Understanding the effective receptive field in
deep convolutional neural networks").
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import nn
from numbacnn.command_line import UserError, say

from .figures import draw_image, new_figure, save
from .pictures import Scene, new_parser, run

FIELD = "tab:red"


def measured_field(part: nn.Layer, x: np.ndarray, unit: tuple[int, int]) -> np.ndarray:
    """How much the output of ``part`` at ``unit``, all channels, changes with each pixel of ``x`` (1, c, h, w).

    The absolute gradient (h, w), the mean of the image's channels.
    """
    with nn.enable_grad():
        dy = np.zeros(part(x).shape, np.float32)
    dy[0, :, unit[0], unit[1]] = 1
    return np.abs(np.asarray(part.backward(dy)))[0].mean(axis=0)


def draw(scene: Scene, arguments: argparse.Namespace, folder: Path) -> None:
    """The picture of both fields, and a line with the sizes."""
    part = nn.upto(scene.model, scene.layer)
    shape = part.output_shape(scene.image.shape)
    if len(shape) != 4:
        raise UserError(f"--layer {scene.layer}: its output of shape {shape} has no rows and columns")
    oh, ow = shape[2:]
    unit = row, column = tuple(arguments.unit or (oh // 2, ow // 2))
    if not (0 <= row < oh and 0 <= column < ow):
        raise UserError(
            f"--unit {row} {column}: the output of layer {scene.layer} has rows 0..{oh - 1} and columns 0..{ow - 1}"
        )
    field = nn.receptive_field(part, scene.image.shape)
    rows, columns = field.pixels(unit)
    h, w = scene.image.shape[2:]
    say(
        f"{scene.title()}, unit {unit} of {oh}x{ow}: size {field.size[0]}x{field.size[1]}, "
        f"jump {field.jump[0]}x{field.jump[1]}, rows {rows[0]}..{rows[1]} and columns {columns[0]}..{columns[1]} "
        f"of an image of {h}x{w}"
    )
    gradient = measured_field(part, scene.image, unit)

    figure = new_figure(10, 5.2)
    figure.suptitle(f"{scene.title()}, unit {unit} of {oh}x{ow}, test image: {scene.label}", fontsize=11)
    left, right = figure.subplots(1, 2)
    draw_image(left, scene.image[0])
    left.set_facecolor("0.85")
    left.set_title(
        f"theoretical: {field.size[0]}x{field.size[1]} pixels, jump {field.jump[0]}x{field.jump[1]}", fontsize=10
    )
    draw_field(left, rows, columns, (h, w))
    largest = gradient.max()
    drawn = right.imshow(gradient / (largest or 1), cmap="magma", vmin=0, vmax=1)
    right.set_title("measured: absolute gradient" if largest else "measured: no gradient, the unit is off", fontsize=10)
    figure.colorbar(drawn, ax=right, shrink=0.8, label="share of the largest")
    draw_rectangle(right, *inside(rows, columns, (h, w)), edgecolor=FIELD)
    save(figure, folder / "receptive_field.png")


def draw_field(axes: Any, rows: tuple[int, int], columns: tuple[int, int], image: tuple[int, int]) -> None:
    """What of the field lies in the image, and dashed the whole of it where it reaches into the padding."""
    clipped = inside(rows, columns, image)
    if clipped != (rows, columns):
        draw_rectangle(axes, rows, columns, edgecolor=FIELD, linestyle="--", label="with padding")
        for limits, (first, last), size in ((axes.set_ylim, rows, image[0]), (axes.set_xlim, columns, image[1])):
            margin = 0.03 * (max(last, size) - min(first, 0))
            ends = min(first, 0) - 0.5 - margin, max(last, size - 1) + 0.5 + margin
            limits(*(ends[::-1] if limits == axes.set_ylim else ends))
    draw_rectangle(axes, *clipped, edgecolor=FIELD, label="receptive field in the image")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, fontsize=8, frameon=False)


def inside(rows: tuple[int, int], columns: tuple[int, int], image: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The part of the rows and columns, first and last, that lies in an image of this height and width."""
    return tuple(
        (max(first, 0), min(last, size - 1)) for (first, last), size in zip((rows, columns), image, strict=True)
    )


def draw_rectangle(axes: Any, rows: tuple[int, int], columns: tuple[int, int], **style: Any) -> None:
    """The outline of pixels."""
    from matplotlib.patches import Rectangle

    height, width = rows[1] - rows[0] + 1, columns[1] - columns[0] + 1
    axes.add_patch(Rectangle((columns[0] - 0.5, rows[0] - 0.5), width, height, fill=False, linewidth=2, **style))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = new_parser(
        "python -m examples.receptive_field",
        "Draw the receptive field of a unit of a layer's output on a test image: as the layers' sizes have it, and as "
        "the gradient of the unit, over all channels, with respect to the image.",
        layer="the last convolution",
    )
    parser.add_argument("--unit", type=int, nargs=2, metavar=("ROW", "COL"), help="from 0 (default: the middle)")
    return run(parser, argv, draw, default_layer=lambda convolutions: convolutions[-1])


if __name__ == "__main__":
    sys.exit(main())
