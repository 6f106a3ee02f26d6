"""What the LeNet is trained on that the page shows where no model is named: shapes as people draw them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data

__all__ = ["practice_set"]

SHAPES = 16_640
PER_SIZE = 5_000
DRAWN = ((60, 4), (66, 5), (72, 6))
"""Height and width of drawings and the thickness of their lines in pixels, before all are made smaller."""
SMALLER = 3
INSIDE = 140
"""Grey above it is of the shape, below it of the background or of what is strewn over it."""
MOST_SHIFT = 2


def practice_set(shapes: int = SHAPES, per_size: int = PER_SIZE, seed: int = 0) -> data.ArrayDataset:
    """The built-in shapes, and as many filled and outlined ones without noise, in the centre, as `centred` puts them.

    Args:
        shapes: how many of the built-in data set.
        per_size: how many for each of three sizes, filled and as outlines.
        seed: of the drawings, at least 0.

    >>> found = practice_set(shapes=10, per_size=10)
    >>> found.images.shape, found.classes == data.shapes("train", 1).classes
    ((70, 1, 28, 28), True)
    """
    plain = data.shapes("train", shapes)
    images, labels = [plain.images], [plain.labels]
    rng = np.random.default_rng(seed)
    for number, (size, thickness) in enumerate(DRAWN, 1):
        large = data.shapes("train", per_size, size, seed=seed + number)
        filled = large.images[:, 0] > INSIDE
        for drawn in (filled, filled & ~_eroded(filled, thickness)):
            images.append(_placed(drawn, rng)[:, None])
            labels.append(large.labels)
    return data.ArrayDataset(np.concatenate(images), np.concatenate(labels), plain.classes, "shapes, drawn")


def _eroded(filled: np.ndarray[Any, Any], by: int) -> np.ndarray[Any, Any]:
    """(n, h, w) bool: whether all pixels in a square around each are filled."""
    for axis in (1, 2):
        width = [(0, 0), (0, 0), (0, 0)]
        width[axis] = (by, by)
        windows: Any = np.lib.stride_tricks.sliding_window_view(np.pad(filled, width), 2 * by + 1, axis)
        filled = np.asarray(windows.all(axis=-1))
    return filled


def _placed(drawn: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """(n, 28, 28) uint8: drawings (n, h, w), made smaller, about in the middle."""
    n, size = len(drawn), drawn.shape[1] // SMALLER
    small = drawn.reshape(n, size, SMALLER, size, SMALLER).mean(axis=(2, 4)) * 255
    images = np.zeros((n, 28, 28), np.uint8)
    top, left = (28 - size) // 2 + rng.integers(-MOST_SHIFT, MOST_SHIFT + 1, (2, n))
    for image, pixels, y, x in zip(images, small, top, left, strict=True):
        image[y : y + size, x : x + size] = pixels
    return images
