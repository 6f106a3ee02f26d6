"""Transforms that move pixels by matrices: turned, moved, scaled and sheared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends import Array, Backend
from ...backends.shared.sampling import places_of
from ...ops.arguments import flag
from .arguments import fill_values, interpolation_name, number_range, point, shares, shears
from .transform import ImageShape

__all__ = ["RandomAffine", "RandomRotation", "inverse_affine", "sampled", "warped"]


class RandomRotation:
    """Turn each image about a point by an angle of its own, counter-clockwise, as torchvision's RandomRotation.

    Args:
        degrees: the least and the largest angle, uniform between these; a number for -degrees and degrees.
        interpolation: "nearest" or "bilinear".
        expand: False, for the images of a batch keep one size.
        center: the point, (x, y) in pixels from the corner at the top left; None for the middle, (w / 2, h / 2).
        fill: what there is beyond the image, a number or one for each channel.

    Example:
        >>> from numbacnn.backends import get
        >>> images = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
        >>> RandomRotation((90, 90))(images, np.random.default_rng(0), get("reference"))[0, 0]
        array([[1., 3.],
               [0., 2.]], dtype=float32)
    """

    def __init__(
        self,
        degrees: float | tuple[float, float],
        interpolation: str = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: float | Sequence[float] = 0,
    ) -> None:
        self.degrees = number_range("degrees", degrees)
        self.interpolation = interpolation_name(interpolation)
        if flag("expand", expand):
            raise ValueError("`expand` True must be False: the images of a batch are of one size")
        self.center = None if center is None else point("center", center)
        self.fill = fill_values(fill)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        degrees = random.uniform(*self.degrees, images.shape[0])
        matrices = inverse_affine(images.shape, degrees=-degrees, center=self.center)
        return warped(images, matrices, backend, self.interpolation, self.fill)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        return image_shape

    def for_targets(self, mask: bool) -> RandomRotation:
        """The nearest pixels of masks, the same as of inputs for pictures."""
        return RandomRotation(self.degrees, center=self.center) if mask else self

    def __repr__(self) -> str:
        return (
            f"RandomRotation({self.degrees}, interpolation={self.interpolation!r}, center={self.center}, "
            f"fill={self.fill})"
        )


class RandomAffine:
    """Turn, move, scale and shear each image about a point, as torchvision's RandomAffine.

    For each image an angle, a translation, a scale and two shears are drawn, all uniform.

    Args:
        degrees: the least and the largest angle, clockwise; a number for -degrees and degrees.
        translate: how far at most, as shares of the width and of the height, 0 to 1; whole pixels.
        scale: the least and the largest factor, above 0; None for 1.
        shear: of the x axis the least and the largest angle, or those of x and then those of y; a number for -shear and
            shear of x; None for no shear.
        interpolation: "nearest" or "bilinear".
        fill: what there is beyond the image, a number or one for each channel.
        center: the point, (x, y) in pixels from the corner at the top left; None for the middle, (w / 2, h / 2).

    Example:
        >>> RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1)).output_shape((3, 32, 32))
        (3, 32, 32)
    """

    def __init__(
        self,
        degrees: float | tuple[float, float],
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "nearest",
        fill: float | Sequence[float] = 0,
        center: Sequence[float] | None = None,
    ) -> None:
        self.degrees = number_range("degrees", degrees)
        self.translate = None if translate is None else shares("translate", translate)
        self.scale = None if scale is None else number_range("scale", scale, above=0.0)
        self.shear = None if shear is None else shears("shear", shear)
        self.interpolation = interpolation_name(interpolation)
        self.fill = fill_values(fill)
        self.center = None if center is None else point("center", center)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        n, _, h, w = images.shape
        degrees = random.uniform(*self.degrees, n)
        right, down = (
            np.rint(random.uniform(-most * size, most * size, n))
            for most, size in zip(self.translate or (0.0, 0.0), (w, h), strict=True)
        )
        scale = random.uniform(*(self.scale or (1.0, 1.0)), n)
        shear_x, shear_y = (random.uniform(*limits, n) for limits in self.shear or ((0.0, 0.0), (0.0, 0.0)))
        matrices = inverse_affine(images.shape, degrees, (right, down), scale, (shear_x, shear_y), self.center)
        return warped(images, matrices, backend, self.interpolation, self.fill)

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        return image_shape

    def for_targets(self, mask: bool) -> RandomAffine:
        """The nearest pixels of masks, the same as of inputs for pictures."""
        shear = None if self.shear is None else [limit for limits in self.shear for limit in limits]
        return RandomAffine(self.degrees, self.translate, self.scale, shear, center=self.center) if mask else self

    def __repr__(self) -> str:
        return (
            f"RandomAffine({self.degrees}, translate={self.translate}, scale={self.scale}, shear={self.shear}, "
            f"interpolation={self.interpolation!r}, fill={self.fill}, center={self.center})"
        )


def inverse_affine(
    shape: Sequence[int],
    degrees: Any = 0.0,
    translate: tuple[Any, Any] = (0.0, 0.0),
    scale: Any = 1.0,
    shear: tuple[Any, Any] = (0.0, 0.0),
    center: tuple[float, float] | None = None,
) -> np.ndarray:
    """What :func:`places_of` takes, (n, 2, 3): where each point of the images (n, c, h, w) that result comes from.

    As torchvision's ``affine``: turned clockwise by ``degrees``, moved to the right and down by ``translate``, and
    sheared along x and y by the degrees ``shear``, each a number or one for each image, about ``center`` (x, y), by
    default the middle; (0, 0) is the corner at the top left.
    """
    n, _, h, w = shape
    turn, x, y = (np.radians(np.broadcast_to(angle, n)) for angle in (degrees, *shear))
    a, b = np.cos(turn - y) / np.cos(y), -np.cos(turn - y) * np.tan(x) / np.cos(y) - np.sin(turn)
    c, d = np.sin(turn - y) / np.cos(y), -np.sin(turn - y) * np.tan(x) / np.cos(y) + np.cos(turn)
    # The inverse of the matrix, whose determinant is 1, of pixels' centres.
    inverse = np.empty((n, 2, 3))
    inverse[:, 0, 0], inverse[:, 0, 1] = -c / scale, a / scale
    inverse[:, 1, 0], inverse[:, 1, 1] = d / scale, -b / scale
    middle_x, middle_y = (w - 1) / 2, (h - 1) / 2
    if center is not None:
        middle_x, middle_y = center[0] - 0.5, center[1] - 0.5
    back_x, back_y = middle_x + translate[0], middle_y + translate[1]
    inverse[:, 0, 2] = middle_y - inverse[:, 0, 0] * back_x - inverse[:, 0, 1] * back_y
    inverse[:, 1, 2] = middle_x - inverse[:, 1, 0] * back_x - inverse[:, 1, 1] * back_y
    return inverse


def warped(
    images: Array,
    matrices: np.ndarray,
    backend: Backend,
    interpolation: str = "nearest",
    fill: float | tuple[float, ...] = 0.0,
) -> Array:
    """Images of the same shape, each of whose points comes from where the matrices (n, 2, 3) say."""
    _, c, h, w = images.shape
    if isinstance(fill, tuple) and len(fill) != c:
        raise ValueError(f"`fill` {fill} must be one number, or one for each of the {c} channels")
    # The pixels of the frame around the image are what is beyond it.
    places = places_of(matrices, np.array([-1, -1]), np.array([h, w]), h, w)
    return sampled(images, places, (h, w), interpolation, np.broadcast_to(fill, c), backend)


def sampled(
    images: Array, places: np.ndarray, size: tuple[int, int], interpolation: str, fill: np.ndarray, backend: Backend
) -> Array:
    """Images (n, c, *size) of the points that ``places`` says, beyond the images ``fill`` (c,)."""
    images = backend.asarray(images)
    fill = backend.asarray(fill, images.dtype)
    return backend.affine_images(images, backend.asarray(places), *size, interpolation == "bilinear", fill)
