"""Transforms of what is at a pixel: normalization, and colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends import Array, Backend
from ...ops.arguments import number
from .transform import ImageShape

__all__ = ["ColorJitter", "Normalize"]


class Normalize:
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Args:
        mean: a number for each channel.
        std: as many numbers, above 0.

    Raises:
        ValueError: when it is called, if the images have another number of channels.

    Example:
        >>> from numbacnn.backends import get
        >>> images = np.full((1, 1, 1, 2), 0.75, np.float32)
        >>> Normalize([0.5], [0.5])(images, np.random.default_rng(0), get("reference"))
        array([[[[0.5, 0.5]]]], dtype=float32)
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = _numbers("mean", mean), _numbers("std", std)
        if len(self.mean) != len(self.std):
            raise ValueError(f"`std` {self.std} must have as many numbers as `mean`, {len(self.mean)}")
        if min(self.std, default=1) <= 0:
            raise ValueError(f"`std` {self.std} must be above 0")

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        self.output_shape(images.shape[1:])
        mean, std = (backend.asarray(np.array(values), images.dtype) for values in (self.mean, self.std))
        return backend.normalize_images(images, mean, std)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        if image_shape[0] != len(self.mean):
            raise ValueError(f"`mean` {self.mean} must be a number for each of the {image_shape[0]} channels")
        return image_shape

    def for_targets(self, mask: bool) -> None:
        """Nothing."""

    def __repr__(self) -> str:
        return f"Normalize({self.mean}, {self.std})"


class ColorJitter:
    """Change brightness, contrast, saturation and hue of red, green and blue images in 0..1, each image by its own.

    As torchvision's ColorJitter does, but always in this order: brightness, contrast, saturation, hue. The factors of
    the first three are uniform in ``max(0, 1 - range)..1 + range``, the turn of the hue, in circles, in
    ``-range..range``; for each of the four, in the same order, one is drawn for every image.

    Args:
        brightness: how far the factor is from 1, at least 0.
        contrast: likewise.
        saturation: likewise.
        hue: 0 to 0.5.

    Raises:
        ValueError: when it is called, if the images do not have three channels.

    Example:
        >>> ColorJitter(brightness=0.2, hue=0.1).output_shape((3, 32, 32))
        (3, 32, 32)
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        self.brightness = number("brightness", brightness, 0)
        self.contrast = number("contrast", contrast, 0)
        self.saturation = number("saturation", saturation, 0)
        self.hue = number("hue", hue, 0, 0.5)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        self.output_shape(images.shape[1:])
        n = images.shape[0]
        ranges = (self.brightness, self.contrast, self.saturation)
        drawn = [random.uniform(max(0.0, 1 - most), 1 + most, n) for most in ranges]
        drawn.append(random.uniform(-self.hue, self.hue, n))
        brightness, contrast, saturation, hue = (backend.asarray(values, images.dtype) for values in drawn)
        return backend.jitter_colors(images, brightness, contrast, saturation, hue)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        if image_shape[0] != 3:
            raise ValueError(f"images of shape {tuple(image_shape)} must have 3 channels for their colours to change")
        return image_shape

    def for_targets(self, mask: bool) -> None:
        """Nothing."""

    def __repr__(self) -> str:
        return f"ColorJitter({self.brightness:g}, {self.contrast:g}, {self.saturation:g}, {self.hue:g})"


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, str) or np.ndim(values) != 1:
        raise TypeError(f"`{name}` {values!r} must be a sequence of numbers, one for each channel")
    return tuple(number(name, value, -np.inf) for value in values)
