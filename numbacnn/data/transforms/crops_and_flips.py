"""Transforms that choose pixels along rows and columns: of another size, mirrored, cut out."""

from __future__ import annotations

import numpy as np

from ...backends import Array, Backend
from ...backends.geometry import Resampling
from ...backends.shared.sampling import places_of
from ...ops.arguments import number, pair
from .affine import sampled, warped
from .arguments import drawn_boxes, interpolation_name, number_range
from .transform import ImageShape

__all__ = [
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Resize",
]


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

    def for_targets(self, mask: bool) -> Resize:
        """The nearest pixels of masks, the same as of inputs for pictures."""
        return _ResizeMask(self.size) if mask else self

    def __repr__(self) -> str:
        return f"Resize({self.size})"


class _ResizeMask(Resize):
    """Each pixel is the one that its centre is in; in NumPy."""

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        rows, columns = (
            (2 * np.arange(outputs) + 1) * size // (2 * outputs)
            for size, outputs in zip(images.shape[2:], self.size, strict=True)
        )
        return images[:, :, rows[:, None], columns]


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

    def for_targets(self, mask: bool) -> RandomHorizontalFlip:
        """The same."""
        return self

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p:g})"


class RandomVerticalFlip:
    """Reverse each image from top to bottom with probability ``p``, 0 to 1.

    Example:
        >>> from numbacnn.backends import get
        >>> images = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1)
        >>> RandomVerticalFlip(p=1)(images, np.random.default_rng(0), get("reference")).ravel()
        array([2., 1., 0.], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("p", p, 0, 1)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        n, _, h, _ = images.shape
        turned = random.random(n) < self.p
        matrices = np.broadcast_to([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], (n, 2, 3)).copy()
        matrices[turned, 0] = 0, -1, h - 1
        return warped(images, matrices, backend)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        return image_shape

    def for_targets(self, mask: bool) -> RandomVerticalFlip:
        """The same."""
        return self

    def __repr__(self) -> str:
        return f"RandomVerticalFlip({self.p:g})"


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

    def for_targets(self, mask: bool) -> RandomCrop:
        """The same."""
        return self

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding})"


class RandomResizedCrop:
    """Cut a window of another size and shape out of each image, and resize it to one size.

    As torchvision's RandomResizedCrop, ``antialias=False``: of ten windows that are drawn, the first that fits into the
    image, at a place where it does; if none does, the largest window in the middle whose aspect ratio is allowed.

    Args:
        size: height and width of the result, at least 1; an int for both.
        scale: the least and the largest area of the window, as shares of the image's; uniform between these.
        ratio: the least and the largest width over height, whose logarithm is uniform between theirs.
        interpolation: "bilinear" between pixel centres of the window, without smoothing, as of `Resize`, or "nearest",
            the pixel that a point is in.

    Example:
        >>> RandomResizedCrop(24).output_shape((3, 32, 40))
        (3, 24, 24)
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ) -> None:
        self.size = pair("size", size)
        self.scale = number_range("scale", scale, above=0.0)
        self.ratio = number_range("ratio", ratio, above=0.0)
        self.interpolation = interpolation_name(interpolation)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images (n, c, *size)."""
        self.output_shape(images.shape[1:])
        n, c, h, w = images.shape
        fits, height, width = drawn_boxes(random, n, (h, w), self.scale, self.ratio, largest=(h, w))
        if not fits.all():
            low, high = self.ratio
            rows = h if w / h >= low else max(round(w / low), 1)
            columns = w if w / h <= high else max(round(h * high), 1)
            height[~fits], width[~fits] = min(rows, h), min(columns, w)
        top, left = (
            np.where(fits, random.integers(0, size - some + 1), (size - some) // 2)
            for size, some in ((h, height), (w, width))
        )
        oh, ow = self.size
        matrices, low_places, high_places = np.zeros((n, 2, 3)), np.empty((n, 2)), np.empty((n, 2))
        for axis, (first, some, outputs) in enumerate(((top, height, oh), (left, width, ow))):
            step = some / outputs
            matrices[:, axis, 1 - axis], matrices[:, axis, 2] = step, first + step / 2 - 0.5
            low_places[:, axis], high_places[:, axis] = first, first + some - 1
        places = places_of(matrices, low_places, high_places, oh, ow)
        return sampled(images, places, self.size, self.interpolation, np.zeros(c), backend)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``(c, *size)``."""
        return Resize(self.size).output_shape(image_shape)

    def for_targets(self, mask: bool) -> RandomResizedCrop:
        """The nearest pixels of masks, the same as of inputs for pictures."""
        return RandomResizedCrop(self.size, self.scale, self.ratio, "nearest") if mask else self

    def __repr__(self) -> str:
        return (
            f"RandomResizedCrop({self.size}, scale={self.scale}, ratio={self.ratio}, "
            f"interpolation={self.interpolation!r})"
        )


def _flip_and_crop(
    images: Array, top: np.ndarray, left: np.ndarray, mirror: np.ndarray, size: tuple[int, int], backend: Backend
) -> Array:
    top, left, mirror = (backend.asarray(values, np.int64) for values in (top, left, mirror))
    return backend.flip_and_crop(images, top, left, mirror, *size)
