"""RandAugment: a few operations, drawn for each image, of one strength."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...backends import Array, Backend
from ...backends.shared import adjustments
from ...ops.arguments import integer
from .affine import inverse_affine, warped
from .arguments import fill_values, interpolation_name
from .transform import ImageShape

__all__ = ["RandAugment"]

OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
_ADJUSTMENTS = {
    "Brightness": adjustments.BRIGHTNESS,
    "Color": adjustments.COLOR,
    "Contrast": adjustments.CONTRAST,
    "Sharpness": adjustments.SHARPNESS,
    "Posterize": adjustments.POSTERIZE,
    "Solarize": adjustments.SOLARIZE,
    "AutoContrast": adjustments.AUTOCONTRAST,
    "Equalize": adjustments.EQUALIZE,
}


class RandAugment:
    """Do ``num_ops`` operations to each image in 0..1, of 1 or 3 channels, drawn anew for each, all of one strength.

    The fourteen operations of torchvision's RandAugment, with its strengths: the image itself, shear and translation
    along x and y, rotation, brightness, color, contrast, sharpness, posterization, solarization, automatic contrast and
    equalization. Where an operation has two directions, each is as likely. Cubuk et al. 2020 ("RandAugment: Practical
    automated data augmentation with a reduced search space").

    Args:
        num_ops: one after the other, at least 0.
        magnitude: the strength, 0 to ``num_magnitude_bins - 1``.
        num_magnitude_bins: how many strengths there are, at least 2; the last one shears by 0.3, translates by 150/331
            of the image, rotates by 30 degrees, changes factors by 0.9, leaves 4 bits, and inverts everything.
        interpolation: "nearest" or "bilinear".
        fill: what there is beyond the image, a number or one for each channel.

    Raises:
        ValueError: when it is called, if the images have neither 1 nor 3 channels.

    Example:
        >>> RandAugment(num_ops=2, magnitude=9).output_shape((3, 32, 32))
        (3, 32, 32)
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: str = "nearest",
        fill: float | Sequence[float] = 0,
    ) -> None:
        self.num_ops = integer("num_ops", num_ops)
        self.num_magnitude_bins = integer("num_magnitude_bins", num_magnitude_bins, 2)
        self.magnitude = integer("magnitude", magnitude, 0, self.num_magnitude_bins - 1)
        self.interpolation = interpolation_name(interpolation)
        self.fill = fill_values(fill)

    def __call__(self, images: Array, random: np.random.Generator, backend: Backend) -> Array:
        """Images of the same shape."""
        self.output_shape(images.shape[1:])
        n = images.shape[0]
        images = backend.asarray(images) if self.num_ops else backend.copy(images)
        for _ in range(self.num_ops):
            chosen = random.integers(0, len(OPERATIONS), n)
            sign = np.where(random.random(n) < 0.5, -1.0, 1.0)
            # Each image has one of the two, and in the other it stays as it is.
            matrices = self._matrices(images.shape, chosen, sign)
            images = warped(images, matrices, backend, self.interpolation, self.fill)
            kinds, amounts = self._adjustments(chosen, sign)
            kinds, amounts = backend.asarray(kinds, np.int64), backend.asarray(amounts, images.dtype)
            images = backend.adjust_images(images, kinds, amounts)
        return images

    def _matrices(self, shape: Sequence[int], chosen: np.ndarray, sign: np.ndarray) -> np.ndarray:
        _, _, h, w = shape
        strength = sign * (self.magnitude / (self.num_magnitude_bins - 1))

        def of(name: str, most: float) -> np.ndarray:
            return np.where(chosen == OPERATIONS.index(name), most * strength, 0.0)

        shear = [np.degrees(np.arctan(of(name, 0.3))) for name in ("ShearX", "ShearY")]
        moved = [np.trunc(of(name, 150 / 331 * size)) for name, size in (("TranslateX", w), ("TranslateY", h))]
        matrices = inverse_affine(shape, shear=(shear[0], shear[1]), center=(0.0, 0.0))
        rest = inverse_affine(shape, -of("Rotate", 30.0), (moved[0], moved[1]))
        is_sheared = (chosen == OPERATIONS.index("ShearX")) | (chosen == OPERATIONS.index("ShearY"))
        return np.where(is_sheared[:, None, None], matrices, rest)

    def _adjustments(self, chosen: np.ndarray, sign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kinds and amounts of :mod:`.adjustments`."""
        strength = self.magnitude / (self.num_magnitude_bins - 1)
        kinds = np.array([_ADJUSTMENTS.get(name, adjustments.KEEP) for name in OPERATIONS])[chosen]
        amounts = 1 + 0.9 * strength * sign
        amounts[kinds == adjustments.POSTERIZE] = 2 ** round(8 - 4 * strength)
        amounts[kinds == adjustments.SOLARIZE] = 1 - strength
        return kinds, amounts

    def output_shape(self, image_shape: ImageShape) -> ImageShape:
        """``image_shape``."""
        if image_shape[0] not in (1, 3):
            raise ValueError(f"images of shape {tuple(image_shape)} must have 1 or 3 channels for RandAugment")
        return image_shape

    def __repr__(self) -> str:
        return (
            f"RandAugment({self.num_ops}, {self.magnitude}, num_magnitude_bins={self.num_magnitude_bins}, "
            f"interpolation={self.interpolation!r}, fill={self.fill})"
        )
