"""Boxes of images that something else takes the place of, and images that are blended with others."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

from ...backends import Array, Backend
from ...ops.arguments import integer, number
from .arguments import drawn_boxes, fill_values, number_range
from .transform import ImageShape

__all__ = ["BatchTransform", "CutMix", "MixUp", "RandomErasing", "check_batch_transform", "with_classes"]


class RandomErasing:
    """Put a box of one value, or of noise, into each image with probability ``p``, as torchvision's RandomErasing.

    Of ten boxes that are drawn it is the first that fits into the image, at a place where it does; if none does, the
    image stays.

    Args:
        p: 0 to 1.
        scale: the least and the largest area of the box, as shares of the image's; uniform between these.
        ratio: the least and the largest height over width, whose logarithm is uniform between theirs.
        value: what is in the box: a number, one for each channel, or "random" for numbers of a standard normal
            distribution, one for each element.

    Raises:
        ValueError: when it is called, if there are other than as many values as channels.

    Example:
        >>> RandomErasing(p=0.25).output_shape((3, 32, 32))
        (3, 32, 32)
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | str | Sequence[float] = 0,
    ) -> None:
        self.p = number("p", p, 0, 1)
        self.scale = number_range("scale", scale, above=0.0)
        self.ratio = number_range("ratio", ratio, above=0.0)
        self.value = value if isinstance(value, str) and value == "random" else fill_values(value, "value")

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        n, c, h, w = images.shape
        if isinstance(self.value, tuple) and len(self.value) != c:
            raise ValueError(f"`value` {self.value} must be one number, or one for each of the {c} channels")
        is_erased = random.random(n) < self.p
        inside = (max(h - 1, 0), max(w - 1, 0))
        fits, height, width = drawn_boxes(random, n, (h, w), self.scale, self.ratio, inside, smallest=0, tall=True)
        top, left = (random.integers(0, size - some + 1) for size, some in ((h, height), (w, width)))
        boxes = np.stack([top, top + height, left, left + width], axis=1) * (is_erased & fits)[:, None]
        index = np.zeros(n, np.int64)
        if self.value == "random":
            index, source = np.arange(n), np.zeros((n, c, h, w))
            for image, (first, end, begin, stop) in zip(source, boxes, strict=True):
                image[:, first:end, begin:stop] = random.standard_normal((c, end - first, stop - begin))
        else:
            source = np.broadcast_to(self.value, c).reshape(1, c, 1, 1)
        return _mixed(images, source, index, boxes, np.zeros(n), backend)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        return image_shape

    def for_targets(self, mask: bool) -> None:
        """Nothing."""

    def __repr__(self) -> str:
        return f"RandomErasing({self.p:g}, scale={self.scale}, ratio={self.ratio}, value={self.value!r})"


class BatchTransform(Protocol):
    """What is done to a batch of images and their labels; any such function will do."""

    def __call__(
        self, images: Array, labels: Array, random: np.random.Generator, backend: Backend
    ) -> tuple[Array, Array]:
        """New images and targets of ``backend`` from images (n, c, h, w) and labels (n,)."""


class _OfPairs:
    """Mixes each image with the one before it in the batch, the first with the last; one share for all of a batch.

    Targets become probabilities of classes, of the images' dtype, as `CrossEntropyLoss` takes them.
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        self.alpha = number("alpha", alpha, 0)
        if self.alpha == 0:
            raise ValueError(f"`alpha` {alpha!r} must be above 0")
        self.num_classes = None if num_classes is None else integer("num_classes", num_classes, 1)

    def __call__(
        self, images: Array, labels: Array, random: np.random.Generator, backend: Backend
    ) -> tuple[Array, Array]:
        """Images of the same shape, and probabilities (n, num_classes)."""
        n, _, h, w = images.shape
        probabilities = self._probabilities(images, labels, backend)
        box, inside, share = self._draw(random, h, w)
        before = np.arange(n) - 1
        before[:1] = n - 1
        mixed = _mixed(images, images, before, np.tile(box, (n, 1)), np.full(n, inside), backend)
        shape = tuple(probabilities.shape)
        as_images = backend.reshape(probabilities, (*shape, 1, 1))
        whole = np.tile((0, 1, 0, 1), (n, 1))
        targets = _mixed(as_images, as_images, before, whole, np.full(n, share), backend)
        return mixed, backend.reshape(targets, shape)

    def _draw(self, random: np.random.Generator, h: int, w: int) -> tuple[tuple[int, int, int, int], float, float]:
        """The box, how much of an image stays there, and how much stays in all."""
        raise NotImplementedError

    def _probabilities(self, images: Array, labels: Array, backend: Backend) -> Array:
        kind, shape = np.dtype(labels.dtype).kind, tuple(labels.shape)
        if kind == "f" and len(shape) == 2 and shape[0] == images.shape[0]:
            return backend.asarray(labels, images.dtype)
        if kind not in "iu" or shape != tuple(images.shape[:1]):
            raise ValueError(
                f"labels of shape {shape} and dtype {labels.dtype} must be class numbers, one for each of the "
                f"{images.shape[0]} images, or probabilities of classes: {self!r}"
            )
        if self.num_classes is None:
            raise ValueError("`num_classes` None must be given where there is no data set that has classes")
        rows = _identity(self.num_classes, np.dtype(images.dtype), cast(Any, backend))
        return backend.gather_samples(rows, backend.asarray(labels, np.int64))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha:g}, num_classes={self.num_classes})"


class MixUp(_OfPairs):
    """Blend each image, and its target, with the one before it in the batch, the first with the last.

    As torchvision's MixUp: one share, of a Beta(alpha, alpha) distribution, for all of a batch. Targets become
    probabilities (n, num_classes), of the images' dtype, as `CrossEntropyLoss` takes them. Zhang et al. 2018 ("mixup:
    beyond empirical risk minimization").

    Args:
        alpha: above 0; the smaller, the more often there is nearly nothing of one of the two.
        num_classes: None for as many as the data set of the loader has.

    Raises:
        ValueError: when it is called, for labels that are neither class numbers (n,) nor probabilities (n, classes).

    Example:
        >>> from numbacnn.backends import get
        >>> images, labels = np.array([0, 1.0]).reshape(2, 1, 1, 1), np.array([0, 1])
        >>> mixed, targets = MixUp(num_classes=2)(images, labels, np.random.default_rng(0), get("reference"))
        >>> bool(mixed[0, 0, 0, 0] == targets[0, 1]), targets.sum(axis=1).tolist()
        (True, [1.0, 1.0])
    """

    def _draw(self, random: np.random.Generator, h: int, w: int) -> tuple[tuple[int, int, int, int], float, float]:
        share = float(random.beta(self.alpha, self.alpha))
        return (0, h, 0, w), share, share


class CutMix(_OfPairs):
    """Put a box of the image before it in the batch into each image, of the last into the first, and mix the targets.

    As torchvision's CutMix: one box for all of a batch, at a place of any pixel as its middle, and cut off where it
    leaves the image; what is left of the image is, before that, a share of a Beta(alpha, alpha) distribution. Targets
    become probabilities (n, num_classes), of the images' dtype, by the areas. Yun et al. 2019 ("CutMix").

    Args:
        alpha: above 0; the smaller, the more often there is nearly nothing of one of the two.
        num_classes: None for as many as the data set of the loader has.

    Raises:
        ValueError: when it is called, for labels that are neither class numbers (n,) nor probabilities (n, classes).

    Example:
        >>> from numbacnn.data import ArrayDataset, DataLoader
        >>> dataset = ArrayDataset(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4))
        >>> images, targets = next(iter(DataLoader(dataset, batch_size=4, batch_transform=CutMix())))
        >>> targets.shape, targets.dtype
        ((4, 4), dtype('float32'))
    """

    def _draw(self, random: np.random.Generator, h: int, w: int) -> tuple[tuple[int, int, int, int], float, float]:
        share = float(random.beta(self.alpha, self.alpha))
        column, row = (int(random.integers(0, max(size, 1))) for size in (w, h))
        half = 0.5 * math.sqrt(1 - share)
        across, down = int(half * w), int(half * h)
        box = max(row - down, 0), min(row + down, h), max(column - across, 0), min(column + across, w)
        return box, 0.0, 1 - (box[1] - box[0]) * (box[3] - box[2]) / max(h * w, 1)


@functools.lru_cache(maxsize=4)
def _identity(size: int, dtype: np.dtype, backend: Any) -> Array:
    return backend.asarray(np.eye(size), dtype)


def with_classes(transform: BatchTransform, num_classes: int | None) -> BatchTransform:
    """``transform``, with the classes of a data set if it is one that needs them and has none."""
    if isinstance(transform, _OfPairs) and transform.num_classes is None and num_classes is not None:
        return type(transform)(transform.alpha, num_classes)
    return transform


def check_batch_transform(name: str, transform: Any) -> None:
    """TypeError unless ``transform`` can be called."""
    if isinstance(transform, type) or not callable(transform):
        raise TypeError(f"`{name}` {transform!r} must be called as (images, labels, random, backend)")


def _mixed(
    images: Array, source: Any, index: np.ndarray, boxes: np.ndarray, share: np.ndarray, backend: Backend
) -> Array:
    images = backend.asarray(images)
    source, share = backend.asarray(source, images.dtype), backend.asarray(share, images.dtype)
    index, boxes = backend.asarray(index, np.int64), backend.asarray(boxes, np.int64)
    return backend.mix_images(images, source, index, boxes, share)
