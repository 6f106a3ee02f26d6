"""Image files as the pixels that a model reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ... import backends
from ...files import user_path
from ..transforms.colors import Normalize
from .picture import Fit, as_channels, as_fit, check_pillow, fitted, read_picture

__all__ = ["PHOTOGRAPHS", "Preprocessing", "photographs", "read_image"]

_NAMES = ("channels", "interpolation", "crop_pct", "mean", "std")
"""Of what a configuration says besides "image_size"."""


def read_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    interpolation: str = "bilinear",
    crop_pct: float = 1.0,
) -> np.ndarray:
    """One image file, as :func:`image_folder` reads each of its files, which says what is taken and what is refused.

    Args:
        path: the file; ``~`` is the home folder.
        size: height and width that it is brought to, at least 1; an int for both. None for its own.
        channels, interpolation, crop_pct: as in :func:`image_folder`.

    Returns:
        Pixels (channels, h, w) uint8.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: there is no such file.
        DataFileError: it cannot be read as an image.
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "sea.png")
        ...     Image.new("RGB", (40, 30), "blue").save(path)
        ...     image = read_image(path, size=8)
        >>> image.shape, image[:, 4, 4].tolist()
        ((3, 8, 8), [0, 0, 255])
    """
    check_pillow("read_image")
    fit = as_fit(size, interpolation, crop_pct)
    channels = as_channels(channels)
    path = user_path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    return np.ascontiguousarray(read_picture(path, fit, channels))


@dataclass(frozen=True)
class Preprocessing:
    """How a model's images are read and brought to the numbers that it was trained on, the same at every place.

    A loader does it in two parts: ``data.image_folder(root, **preprocessing.reading)`` reads pixels, and the transform
    ``preprocessing.normalize`` comes last. Called with images, it does both.

    Args:
        size, channels, interpolation, crop_pct: as in :func:`image_folder`; ``size`` is a pair afterwards.
        mean, std: a number, or one for each channel, which they are afterwards: pixels in 0..1 minus ``mean``, divided
            by ``std``, above 0.

    Raises:
        TypeError, ValueError: arguments of another type or out of range.

    Example:
        >>> preprocessing = Preprocessing(8, mean=0.5, std=0.25)
        >>> x = preprocessing(np.full((3, 20, 30), 255, np.uint8))
        >>> x.shape, x.dtype.name, float(x.max())
        ((1, 3, 8, 8), 'float32', 2.0)
        >>> preprocessing.normalize
        Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    """

    size: int | tuple[int, int]
    channels: int = 3
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        fit, channels = as_fit(self.size, self.interpolation, self.crop_pct), as_channels(self.channels)
        if fit is None:
            raise ValueError("`size` None must be an int or a pair of them")
        each = [
            (value,) * channels if isinstance(value, (int, float)) else tuple(value) for value in (self.mean, self.std)
        ]
        normalize = Normalize(*each)
        normalize.output_shape((channels, *fit.size))
        for name, value in (*fit._asdict().items(), ("mean", normalize.mean), ("std", normalize.std)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """What a model's configuration says: the inverse of :meth:`config`; what it does not say is as by default.

        KeyError without "image_size".
        """
        size = config["image_size"]
        named = {name: config[name] for name in _NAMES if name in config}
        return cls(tuple(size) if isinstance(size, list) else size, **named)

    def config(self) -> dict[str, Any]:
        """As JSON has it, with the names that `save_pretrained` and other packages know."""
        height, width = self._fit.size
        values = {name: getattr(self, name) for name in _NAMES}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"image_size": height if height == width else [height, width], **listed}

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of :func:`image_folder`, :func:`read_image` and `ImageFiles`."""
        return {name: getattr(self, name) for name in ("size", "channels", "interpolation", "crop_pct")}

    @property
    def normalize(self) -> Normalize:
        """What is done to pixels in 0..1: the last transform of a loader."""
        return Normalize(*self._mean_and_std)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the model reads."""
        return self.channels, *self._fit.size

    def read(self, images: Any) -> np.ndarray[Any, Any]:
        """The pixels of images, (n, channels, h, w) uint8, in the size that the model reads.

        Args:
            images: the path of a file, or several; or pixels (c, h, w) or (n, c, h, w) of uint8, of any size.

        Raises:
            ImportError, FileNotFoundError, DataFileError: as :func:`read_image`.
            TypeError, ValueError: pixels of another dtype or shape, no images.
        """
        if isinstance(images, np.ndarray):
            return self._brought(images)
        paths = [images] if isinstance(images, (str, os.PathLike)) else list(images)
        if not paths:
            raise ValueError("`paths` [] must name at least one file")
        return np.stack([read_image(path, **self.reading) for path in paths])

    def __call__(self, images: Any) -> np.ndarray[Any, Any]:
        """What the model reads of ``images``, as :meth:`read` takes them: (n, channels, h, w) float32."""
        host = backends.get("reference")
        x = host.gather_images(self.read(images), slice(None))
        return np.asarray(self.normalize(x, np.random.default_rng(0), host))

    def _brought(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if pixels.dtype != np.uint8:
            raise TypeError(f"`images` of dtype {pixels.dtype} must be uint8, pixels in 0..255")
        if pixels.ndim not in (3, 4) or pixels.shape[-3] != self.channels:
            raise ValueError(f"`images` of shape {pixels.shape} must be (n, {self.channels}, h, w) or one such image")
        pixels = pixels.reshape(-1, *pixels.shape[-3:])
        if pixels.shape[2:] == self.size and self.crop_pct == 1:
            return pixels
        check_pillow("Preprocessing")
        return np.stack([fitted(image, self._fit) for image in pixels])

    @property
    def _fit(self) -> Fit:
        fit = as_fit(self.size, self.interpolation, self.crop_pct)
        assert fit is not None
        return fit

    @property
    def _mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return tuple(np.atleast_1d(self.mean).tolist()), tuple(np.atleast_1d(self.std).tolist())


PHOTOGRAPHS = Preprocessing(224, interpolation="bicubic", crop_pct=0.875, mean=[127 / 255] * 3, std=[128 / 255] * 3)
"""What :func:`photographs` does."""


def photographs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], size: int | tuple[int, int] = 224
) -> np.ndarray:
    """Image files as ``models.efficientnet_lite0(pretrained=True)`` reads them.

    That is how the evaluation of its training read them: scaled, by a bicubic filter, to just cover 8/7 of ``size``, in
    colour, cut to ``size`` in the centre, and (pixel - 127) / 128. ``data.PHOTOGRAPHS`` is that as a `Preprocessing`.

    Args:
        paths: a file, or several; see :func:`read_image`.
        size: height and width, at least 1; an int for both.

    Returns:
        (n, 3, h, w) float32 in about -1..1.

    Raises:
        ImportError, FileNotFoundError, DataFileError, TypeError, ValueError: as :func:`read_image`.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "sea.png")
        ...     Image.new("RGB", (40, 30), "blue").save(path)
        ...     x = photographs([path])
        >>> x.shape, x[0, :, 0, 0].astype(float).round(4).tolist()
        ((1, 3, 224, 224), [-0.9922, -0.9922, 1.0])
    """
    return replace(PHOTOGRAPHS, size=size)(paths)
