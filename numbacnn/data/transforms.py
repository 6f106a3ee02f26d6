"""Transforms of batches of images, random ones included, on any backend.

A transform is called as ``transform(images, random, backend)``, with images (n, c, h, w) of ``backend``, float32 or
float64, and a NumPy generator, and returns new images of that backend; ``transform.output_shape((c, h, w))`` is the
shape that images of a shape will have. Random numbers are drawn by NumPy, so that they are the same on every backend.
``DataLoader(..., transform=...)`` applies one to each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..backends import Array, Backend
from ..backends.geometry import Resampling
from ..ops.arguments import number, pair

__all__ = ["ColorJitter", "Compose", "Normalize", "RandomCrop", "RandomHorizontalFlip", "Resize", "Transform"]

ImageShape = tuple[int, int, int]


class Transform(Protocol):
    """What a transform can do."""

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """New images of ``backend`` from images (n, c, h, w)."""

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """Channels, height and width of what becomes of an image; ValueError if the transform cannot take it."""


class Resize:
    """Resize images by bilinear interpolation between pixel centres, without smoothing.

    The values of PyTorch's ``interpolate(mode="bilinear", align_corners=False, antialias=False)``.

    Args:
        size: height and width of the result, at least 1; an int for both.

    Example:
        >>> Resize((8, 6)).output_shape((3, 32, 32))
        (3, 8, 6)
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = pair("size", size)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images (n, c, *size)."""
        self.output_shape(images.shape[1:])
        axes = zip(images.shape[2:], self.size, strict=True)
        return backend.resample2d(images, *[Resampling(size, outputs, "linear") for size, outputs in axes])

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``(c, *size)``."""
        c, h, w = image_shape
        if h < 1 or w < 1:
            raise ValueError(f"images of shape {tuple(image_shape)} have no pixels that could be resized")
        return c, *self.size

    def __repr__(self) -> str:
        return f"Resize({self.size})"


class RandomHorizontalFlip:
    """Reverse each image from left to right with probability ``p``, 0 to 1.

    Example:
        >>> from numbacnn.backends import get
        >>> images = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
        >>> RandomHorizontalFlip(p=1)(images, np.random.default_rng(0), get("reference"))
        array([[[[2., 1., 0.]]]], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("p", p, 0, 1)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        n, _, h, w = images.shape
        mirror = random.random(n) < self.p
        start = np.zeros(n, np.int64)
        return _flip_and_crop(images, start, start, mirror, (h, w), backend)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        return image_shape

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p:g})"


class RandomCrop:
    """Cut a window out of each image, anywhere with the same probability.

    Args:
        size: height and width of the window, at least 1; an int for both.
        padding: zeros that are put around the image first: rows above and below, columns left and right; an int for
            both.

    Raises:
        ValueError: when it is called, if the window is larger than the image with its padding.

    Example:
        >>> RandomCrop(32, padding=4).output_shape((3, 32, 32))
        (3, 32, 32)
        >>> RandomCrop(32).output_shape((3, 28, 28))
        Traceback (most recent call last):
        ...
        ValueError: `size` (32, 32) must be at most the height and width (28, 28) of the images with their `padding`
    """

    def __init__(self, size: int | tuple[int, int], padding: int | tuple[int, int] = 0) -> None:
        self.size = pair("size", size)
        self.padding = pair("padding", padding, 0)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images (n, c, *size)."""
        self.output_shape(images.shape[1:])
        n = images.shape[0]
        # As many places as rows or columns are left over, and one.
        top, left = (
            random.integers(0, size + 2 * around - out + 1, n) - around
            for size, around, out in zip(images.shape[2:], self.padding, self.size, strict=True)
        )
        return _flip_and_crop(images, top, left, np.zeros(n, np.int64), self.size, backend)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``(c, *size)``."""
        c, h, w = image_shape
        padded = h + 2 * self.padding[0], w + 2 * self.padding[1]
        if self.size[0] > padded[0] or self.size[1] > padded[1]:
            raise ValueError(
                f"`size` {self.size} must be at most the height and width {padded} of the images with their `padding`"
            )
        return c, *self.size

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding})"


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

    def __repr__(self) -> str:
        return f"ColorJitter({self.brightness:g}, {self.contrast:g}, {self.saturation:g}, {self.hue:g})"


class Compose:
    """One transform after the other.

    Args:
        transforms: in their order; without any, the images are only copied.

    Example:
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


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, str) or np.ndim(values) != 1:
        raise TypeError(f"`{name}` {values!r} must be a sequence of numbers, one for each channel")
    return tuple(number(name, value, -np.inf) for value in values)


def _flip_and_crop(
    images: Array, top: np.ndarray, left: np.ndarray, mirror: np.ndarray, size: tuple[int, int], backend: Backend
) -> Array:
    top, left, mirror = (backend.asarray(values, np.int64) for values in (top, left, mirror))
    return backend.flip_and_crop(images, top, left, mirror, *size)
