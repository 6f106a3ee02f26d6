"""What transforms of batches of images are, and several in turn.

A transform is called as ``transform(images, random, backend)``, with images (n, c, h, w) of ``backend``, float32 or
float64, and a NumPy generator, and returns new images of that backend; ``transform.output_shape((c, h, w))`` is the
shape that images of a shape will have. Random numbers are drawn by NumPy, so that they are the same on every backend.
``DataLoader(..., transform=...)`` applies one to each batch. For `PairTransform`, ``transform.for_targets(mask)`` is
the transform of targets, masks or pictures, that goes with it, or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ...backends import Array, Backend

__all__ = ["Compose", "ImageShape", "Transform", "check_transform"]

ImageShape = tuple[int, int, int]


class Transform(Protocol):
    """What a transform can do."""

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """New images of ``backend`` from images (n, c, h, w)."""

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """Channels, height and width of what becomes of an image; ValueError if the transform cannot take it."""


class Compose:
    """One transform after the other.

    Args:
        transforms: in their order; without any, the images are only copied.

    Example:
        >>> from numbacnn.data import RandomCrop, RandomHorizontalFlip
        >>> Compose([RandomHorizontalFlip(), RandomCrop(28, padding=2)]).output_shape((1, 28, 28))
        (1, 28, 28)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        if not isinstance(transforms, Sequence):
            raise TypeError(f"`transforms` {transforms!r} must be a list of transforms")
        for transform in transforms:
            check_transform("transforms", transform)
        self.transforms = tuple(transforms)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """What the last one makes of the images."""
        if not self.transforms:
            return backend.copy(images)
        for transform in self.transforms:
            images = transform(images, random, backend)
        return images

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """The last one's."""
        for transform in self.transforms:
            image_shape = transform.output_shape(image_shape)
        return image_shape

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


def check_transform(name: str, transform: Any) -> None:
    """TypeError unless ``transform`` is called as one and has ``output_shape``."""
    if isinstance(transform, type) or not callable(transform) or not hasattr(transform, "output_shape"):
        raise TypeError(f"`{name}` {transform!r} must be called as (images, random, backend) and have `output_shape`")
