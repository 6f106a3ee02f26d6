"""Labelled images held in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ops.arguments import integer
from ..readers.image_files import ImageFiles
from .columns import Column

__all__ = ["ArrayDataset"]

_IMAGE_DTYPES = (np.uint8, np.float32, np.float64)


class ArrayDataset:
    """Images and their labels, as two arrays of one length.

    Args:
        images: (n, c, h, w); uint8 are pixel values, which the loader scales from 0..255 to 0..1, float32 and float64
            are taken as they are. Kept without a copy. Or `ImageFiles`, which are read when a batch needs them.
        labels: (n,) integers in 0..len(classes) - 1; kept as int64.
        classes: names of the classes; if None, the numbers from 0 to the largest label.
        name: what the data set is called where it is printed.

    Raises:
        TypeError: another dtype, or one string for ``classes``.
        ValueError: shapes that do not go together, labels outside their range.

    Example:
        >>> dataset = ArrayDataset(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 1, 0]), ["cat", "dog"], "pets")
        >>> len(dataset), dataset.num_classes, dataset.image_shape
        (3, 2, (1, 8, 8))
        >>> dataset.subset(2)
        ArrayDataset('pets', 2 x (1, 8, 8) uint8, 2 classes)
    """

    def __init__(
        self, images: np.ndarray | ImageFiles, labels: np.ndarray, classes: Sequence[str] | None = None, name: str = ""
    ) -> None:
        images, labels = images if isinstance(images, ImageFiles) else np.asarray(images), np.asarray(labels)
        if images.dtype not in _IMAGE_DTYPES:
            raise TypeError(f"`images` of dtype {images.dtype} must be uint8, float32 or float64")
        if images.ndim != 4:
            raise ValueError(f"`images` of shape {images.shape} must have four axes (n, c, h, w)")
        if labels.dtype.kind not in "iu":
            raise TypeError(f"`labels` of dtype {labels.dtype} must be integers")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"`labels` of shape {labels.shape} must be one for each of the {len(images)} images")
        if isinstance(classes, str):
            raise TypeError(f"`classes` {classes!r} must be a sequence of names, not one string")
        smallest, largest = (int(labels.min()), int(labels.max())) if labels.size else (0, -1)
        self.classes = tuple(map(str, range(largest + 1) if classes is None else classes))
        if smallest < 0 or largest >= len(self.classes):
            wrong = smallest if smallest < 0 else largest
            limits = "at least 0" if classes is None else f"in 0..{len(self.classes) - 1}, one for each of `classes`"
            raise ValueError(f"`labels` holds {wrong}; labels must be {limits}")
        self.images = images
        self.labels = labels.astype(np.int64)
        self.name = name

    @property
    def num_classes(self) -> int:
        """How many classes there are, with samples or without."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, c, h, w = self.images.shape
        return c, h, w

    def columns(self) -> tuple[Column, Column]:
        """What the loader makes batches of: images and labels."""
        return Column(self.images, True), Column(self.labels, False)

    def subset(self, limit: int) -> ArrayDataset:
        """The first ``limit`` samples, at least 1, or all where there are fewer; the classes stay the same."""
        limit = integer("limit", limit, 1)
        return ArrayDataset(self.images[:limit], self.labels[:limit], self.classes, self.name)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """A copy of one image (c, h, w), and its label; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` {index} must be in {-len(self)}..{len(self) - 1}")
        return self.images[index].copy(), int(self.labels[index])

    def __repr__(self) -> str:
        kind = f"{len(self)} x {self.image_shape} {self.images.dtype}"
        return f"ArrayDataset({self.name!r}, {kind}, {self.num_classes} classes)"
