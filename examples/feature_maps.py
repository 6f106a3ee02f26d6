"""Draw what a layer makes of an image, the first filters, and which classes a trained model confuses.

``python -m examples.feature_maps --help``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import nn
from numbacnn.command_line import say
from numbacnn.training import confusion_matrix

from .figures import draw_image, new_figure, save
from .pictures import Scene, new_parser, run

MOST = 96
"""Feature maps, or filters, in a picture."""


def draw(scene: Scene, arguments: argparse.Namespace, folder: Path) -> None:
    """All pictures."""
    draw_output(scene, folder / "feature_maps.png")
    draw_filters(scene, folder / "filters.png")
    if arguments.weights:
        draw_confusion(scene, folder / "confusion.png")
    else:
        say("no confusion matrix: it takes the --weights of a trained model")


def draw_output(scene: Scene, path: Path) -> None:
    """The image, and beside it the feature maps of the layer, or its output as a curve where it has no maps."""
    y = np.asarray(nn.outputs(scene.model, scene.image, [scene.layer])[scene.layer])[0]
    figure = new_figure(10, 6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 3])
    draw_image(left, scene.image[0])
    left.set_title(f"test image: {scene.label}", fontsize=10)
    left.set_axis_off()
    if y.ndim == 3:
        title = f"{scene.title()}\n{_shown(len(y), 'channels')}, {y.shape[1]}x{y.shape[2]}"
        draw_tiles(figure, right, y[:MOST], title, "channel")
    else:
        right.stairs(y, np.arange(len(y) + 1) - 0.5, fill=True)
        right.set(title=f"{scene.title()}\n{len(y)} features", xlabel="feature", ylabel="output")
        right.margins(x=0)
    save(figure, path)


def draw_filters(scene: Scene, path: Path) -> None:
    """The kernels of the first convolution, those of one filter beside each other."""
    name, conv = next((name, layer) for name, layer in scene.model.named_layers() if isinstance(layer, nn.Conv2d))
    filters, channels, kh, kw = conv.weight.shape
    kernels = np.asarray(conv.weight.value)[: max(1, MOST // channels)].reshape(-1, kh, kw)
    title = f"{scene.name}, filters of layer {name} (Conv2d)\n{_shown(filters, 'filters', MOST // channels)}, {kh}x{kw}"
    figure = new_figure(7.5, 6)
    draw_tiles(figure, figure.subplots(), kernels, title, "filter", channels)
    save(figure, path)


def _shown(count: int, what: str, most: int = MOST) -> str:
    return f"{count} {what}" if count <= most else f"{most} of {count} {what}, {count - most} more not shown"


def draw_tiles(figure: Any, axes: Any, images: np.ndarray, title: str, what: str, together: int = 1) -> None:
    """Images (k, h, w) in a grid under one scale of colours, numbered by the row; ``together`` are one ``what``."""
    k, h, w = images.shape
    columns = min(k, together * math.ceil(math.sqrt(4 / 3 * k * h / w) / together))
    rows, gap = math.ceil(k / columns), max(1, max(h, w) // 16)
    grid = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), np.nan, images.dtype)
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        grid[top : top + h, left : left + w] = image
    # Zero is white where there are negative numbers, and black where there are none.
    limit = float(np.abs(images).max()) or 1.0
    scale = {"cmap": "RdBu_r", "vmin": -limit} if images.min() < 0 else {"cmap": "magma", "vmin": 0}
    axes.set_facecolor("0.6")
    drawn = axes.imshow(grid, vmax=limit, interpolation="nearest", **scale)
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks(
        [row * (h + gap) + (h - 1) / 2 for row in range(rows)],
        [str(row * columns // together) for row in range(rows)],
        fontsize=8,
    )
    axes.set_ylabel(f"first {what} of the row")


def draw_confusion(scene: Scene, path: Path) -> None:
    """The confusion matrix over the test images: counts, coloured by their share of the row."""
    counts = confusion_matrix(scene.model, scene.loader)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right, total = int(np.trace(counts)), int(counts.sum())
    figure = new_figure(2.5 + 0.6 * len(counts), 2 + 0.5 * len(counts))
    axes = figure.subplots()
    drawn = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, label="share of the true class")
    for i, j in np.ndindex(*counts.shape):
        axes.text(
            j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color="w" if share[i, j] > 0.5 else "k"
        )
    places = range(len(counts))
    axes.set_xticks(places, scene.test_set.classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, scene.test_set.classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{scene.name} on {scene.dataset}\naccuracy {right / total:.3f}, {right} of {total} test images")
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = new_parser(
        "python -m examples.feature_maps",
        "Draw the feature maps of a layer for a test image, the filters of the first convolution and, with --weights, "
        "the confusion matrix over the test images.",
        layer="the first convolution",
    )
    return run(parser, argv, draw, default_layer=lambda convolutions: convolutions[0])


if __name__ == "__main__":
    sys.exit(main())
