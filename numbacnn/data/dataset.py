"""Labelled images held in memory."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

_IMAGE_DTYPES = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))


class ArrayDataset:
    """Images and their class labels, as two arrays of equal length.

    Args:
        images: `(n, c, h, w)`, uint8 (pixel values 0..255, which `DataLoader` scales to 0..1) or float32 or float64
            (taken as they are). Kept without a copy.
        labels: `(n,)` integers in `0..len(classes) - 1`; kept as int64.
        classes: the classes' names; without it, the labels' own numbers up to the largest one.
        name: what the data set is called in reports.

    Raises:
        TypeError, ValueError: wrong dtype, shape, length or label range.

    Example:
        >>> dataset = ArrayDataset(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 1, 0]), classes=["cat", "dog"])
        >>> len(dataset), dataset.num_classes, dataset.image_shape
        (3, 2, (1, 8, 8))
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None, name: str = ""
    ) -> None:
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype not in _IMAGE_DTYPES:
            raise TypeError(f"`images` has dtype {images.dtype}; it must be uint8, float32 or float64")
        if images.ndim != 4:
            raise ValueError(f"`images` has shape {images.shape}; it must have four dimensions (n, c, h, w)")
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(f"`labels` has dtype {labels.dtype}; it must be an integer dtype")
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"`labels` has shape {labels.shape}; it must have one entry per image, ({images.shape[0]},)"
            )
        smallest, largest = (int(labels.min()), int(labels.max())) if labels.size else (0, -1)
        if smallest < 0:
            raise ValueError(f"`labels` holds {smallest}; labels must be 0 or more")
        if isinstance(classes, str):
            raise TypeError(f"`classes` is the string {classes!r}; it must be a sequence of names")
        self.classes = tuple(map(str, range(largest + 1) if classes is None else classes))
        if largest >= len(self.classes):
            raise ValueError(
                f"`labels` holds {largest}; with {len(self.classes)} `classes` they must be in "
                f"0..{len(self.classes) - 1}"
            )
        self.images = images
        self.labels = labels.astype(np.int64)
        self.name = name

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, c, h, w = self.images.shape
        return c, h, w

    def subset(self, limit: int) -> ArrayDataset:
        """The first `limit` samples (all of them where there are fewer), with the same classes; `limit` is 1 or more."""
        limit = operator.index(limit)
        if limit < 1:
            raise ValueError(f"`limit` is {limit}; it must be at least 1")
        return ArrayDataset(self.images[:limit], self.labels[:limit], self.classes, self.name)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` is {index}; the data set has {len(self)} samples")
        return self.images[index].copy(), int(self.labels[index])

    def __repr__(self) -> str:
        return f"ArrayDataset({self.name!r}, {len(self)} x {self.image_shape} {self.images.dtype}, {self.num_classes} classes)"
