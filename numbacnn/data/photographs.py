"""Image files as the pixels that a model reads."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from ..files import user_path
from .colors import Normalize
from .picture import as_channels, as_fit, check_pillow, read_picture

__all__ = ["CROP_PCT", "INTERPOLATION", "NORMALIZE", "photographs", "read_image"]

INTERPOLATION, CROP_PCT = "bicubic", 0.875
"""How :func:`photographs` brings an image to its size, in the words of `read_image` and `image_folder`."""

_MEAN, _STD = 127, 128

NORMALIZE = Normalize([_MEAN / 255] * 3, [_STD / 255] * 3)
"""What :func:`photographs` does to pixels in 0..1, for batches that a loader makes."""


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


def photographs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], size: int | tuple[int, int] = 224
) -> np.ndarray:
    """Image files as ``models.efficientnet_lite0(pretrained=True)`` reads them.

    That is how the evaluation of its training read them: scaled, by a bicubic filter, to just cover 8/7 of ``size``, in
    colour, cut to ``size`` in the centre, and (pixel - 127) / 128. For batches of a loader, of uint8, the last is
    ``Normalize([127 / 255] * 3, [128 / 255] * 3)``.

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
        >>> x.shape, x[0, :, 0, 0].tolist()
        ((1, 3, 224, 224), [-0.9921875, -0.9921875, 1.0])
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    images = [read_image(path, size, 3, INTERPOLATION, CROP_PCT) for path in several]
    if not images:
        raise ValueError("`paths` [] must name at least one file")
    return (np.stack(images).astype(np.float32) - _MEAN) / np.float32(_STD)
