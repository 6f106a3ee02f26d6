"""What is drawn with the mouse, as the images that models are trained on have it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["centred"]

BOX = 20 / 28
"""The share of the image that a digit of MNIST fills, in its longer direction."""


def centred(drawing: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """A drawing as the digits of MNIST were made of scanned ones, (size, size) uint8.

    What is drawn is scaled to fit a box of 20 pixels in 28, and its centre of mass put into the centre of the image
    (LeCun et al. 1998, "Gradient-based learning applied to document recognition"). Of an empty drawing it is empty.

    Args:
        drawing: (h, w) uint8, light on black.
        size: height and width of the result, at least 1.

    >>> drawing = np.zeros((280, 280), np.uint8)
    >>> drawing[10:90, 20:40] = 255
    >>> rows, columns = np.nonzero(centred(drawing, 28))
    >>> sorted(set(rows.tolist())) == list(range(4, 24)), sorted(set(columns.tolist())) == list(range(12, 17))
    (True, True)
    """
    from PIL import Image

    result = np.zeros((size, size), np.uint8)
    rows, columns = np.flatnonzero(drawing.any(axis=1)), np.flatnonzero(drawing.any(axis=0))
    if not len(rows):
        return result
    cut = drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX * size / max(cut.shape)
    height, width = (max(1, round(length * scale)) for length in cut.shape)
    small = np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BILINEAR))
    mass = small.astype(np.float64)
    if not mass.any():  # a dot that is lost when it is made smaller
        return result
    centre = [float((np.arange(length) + 0.5) @ mass.sum(axis=1 - axis)) for axis, length in enumerate(small.shape)]
    top, left = (
        int(np.clip(round(size / 2 - moment / mass.sum()), 0, size - length))
        for moment, length in zip(centre, small.shape, strict=True)
    )
    result[top : top + height, left : left + width] = small
    return result
