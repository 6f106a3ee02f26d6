"""One image file, decoded by Pillow, as the pixels that a data set holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from ...ops.arguments import integer, number, one_of, pair
from .opening import DataFileError, open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Fit", "as_channels", "as_fit", "check_pillow", "decoded", "fitted", "read_mask", "read_picture"]

_MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""

_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "GIF", "TIFF", "WEBP")
"""What is decoded, whatever the name ends in, as many collections have files of another format than their name says.

Others, some of which start programs of the system's, are never tried.
"""

_ORIENTATION = 0x0112  # the tag of EXIF

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


class Fit(NamedTuple):
    """The size that an image is brought to, and how."""

    size: tuple[int, int]
    """Height and width."""
    interpolation: str
    crop_pct: float


def as_fit(size: Any, interpolation: Any, crop_pct: Any) -> Fit | None:
    """What the arguments of these names say, once they are checked; None for a ``size`` of None."""
    interpolation = one_of("interpolation", interpolation, _INTERPOLATIONS)
    share = number("crop_pct", crop_pct, 0, 1)
    if share == 0:
        raise ValueError(f"`crop_pct` {crop_pct!r} must be above 0")
    if size is None:
        if share != 1:
            raise ValueError(f"`crop_pct` {crop_pct!r} must be 1 without a `size` to cut the image to")
        return None
    return Fit(pair("size", size), interpolation, share)


def as_channels(channels: Any) -> int:
    """The argument ``channels`` if it is 1 or 3."""
    if integer("channels", channels) not in _MODES:
        raise ValueError(f"`channels` {channels} must be 1 or 3")
    return int(channels)


def check_pillow(function: str) -> None:
    """ImportError, which names the ``function`` that needs it, unless Pillow is installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{function} needs Pillow: pip install "numbacnn[data]"') from error


def read_picture(path: Path, fit: Fit | None, channels: int) -> np.ndarray:
    """An image (channels, h, w) uint8, upright and brought to the size of ``fit``, or of its own.

    Raises:
        DataFileError: it cannot be read: it is no regular file or of no format that is known, damaged, has more pixels
            than ``PIL.Image.MAX_IMAGE_PIXELS``, or pixels that are not of 8 or 16 bits.
    """
    with _reading(path), open_regular(path) as opened:
        return _pixels(opened, fit, channels)


def decoded(content: bytes, name: str, fit: Fit | None, channels: int) -> np.ndarray:
    """What :func:`read_picture` reads of a file with this ``content``, which errors call ``name``."""
    with _reading(name):
        return _pixels(BytesIO(content), fit, channels)


def _pixels(opened: BinaryIO, fit: Fit | None, channels: int) -> np.ndarray:
    from PIL import Image

    with Image.open(opened, formats=_FORMATS) as file:
        _check_pixels(file.size, Image.MAX_IMAGE_PIXELS)
        file.load()
        image = _upright(_eight_bits(file), _orientation(file))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # without this step Pillow warns
        image = image.convert(_MODES[channels])
        if fit is not None:
            image = _fitted(image, fit)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def read_mask(path: Path) -> np.ndarray:
    """The numbers of a mask (h, w) uint8, upright: those of a palette's colours, or grey.

    Colours that are all grey are taken for that, as many programs write grey so.

    Raises:
        DataFileError: it cannot be read, as of :func:`read_picture`; it is a JPEG, which changes numbers; it has
            colours or numbers above 255.
    """
    from PIL import Image

    with _reading(path), open_regular(path) as opened, Image.open(opened, formats=_FORMATS) as file:
        if file.format == "JPEG":
            raise ValueError("JPEG does not keep the numbers of a mask; it must be a PNG or the like")
        _check_pixels(file.size, Image.MAX_IMAGE_PIXELS)
        file.load()
        numbers = np.asarray(_upright(file, _orientation(file)))
        if numbers.ndim == 3:
            grey = numbers[..., :1] if file.mode == "LA" else numbers[..., :3]
            if file.mode not in ("LA", "RGB", "RGBA") or (grey != grey[..., :1]).any():
                raise ValueError("it has colours; the pixels of a mask must be grey or have a palette")
            numbers = grey[..., 0]
        if numbers.size and not 0 <= numbers.min() <= numbers.max() <= 255:
            raise ValueError(f"it holds {numbers.max()}; the numbers of a mask must be in 0..255")
    return numbers.astype(np.uint8)


def fitted(pixels: np.ndarray, fit: Fit) -> np.ndarray:
    """An image (channels, h, w) or (h, w) uint8, brought to the size of ``fit``."""
    from PIL import Image

    grey = pixels.ndim == 2 or len(pixels) == 1
    image = Image.fromarray(pixels.reshape(pixels.shape[-2:]) if grey else pixels.transpose(1, 2, 0))
    found = np.asarray(_fitted(image, fit))
    return found.reshape(*pixels.shape[:-2], *fit.size) if grey else found.transpose(2, 0, 1)


def _fitted(image: Image, fit: Fit) -> Image:
    from PIL import Image, ImageOps

    method = Image.Resampling[fit.interpolation.upper()]
    return ImageOps.fit(image, fit.size[::-1], method, (1 - fit.crop_pct) / 2)


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Whatever goes wrong is an error that names the file."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:
        raise _unreadable(path, f"it is none of {', '.join(_FORMATS)}, or its first bytes are damaged") from error
    except Exception as error:  # broken images raise errors of many types
        raise _unreadable(path, " ".join(str(error).split()) or type(error).__name__) from error


def _unreadable(path: Path | str, reason: str) -> DataFileError:
    return DataFileError(f"{str(path)!r} cannot be read as an image: {reason}")


def _check_pixels(size: tuple[int, int], most: int | None) -> None:
    """Refuse an image by what its header says, before memory is taken for it."""
    width, height = size
    if most is not None and width * height > most:
        raise ValueError(
            f"its height and width {height, width} are {height * width} pixels; there must be at most {most}, "
            "PIL.Image.MAX_IMAGE_PIXELS"
        )


def _eight_bits(file: Image) -> Image:
    """The image with the upper 8 bits of grey of 16 bits, which Pillow's conversions would take for white above 255."""
    from PIL import Image

    # PPM, and PNG before Pillow 10.3, give 16 bits as integers of 32.
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(file) >> 8).astype(np.uint8))
    if file.mode.startswith("I") or file.mode == "F":
        raise ValueError(f"its pixels are of mode {file.mode}, they must have 8 or 16 bits without a sign")
    return file


def _orientation(file: Image) -> object:
    """What EXIF or XMP say was done to the upright image; 1, nothing, where that cannot be read."""
    try:
        return file.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises errors of many types
        return 1


def _upright(image: Image, orientation: object) -> Image:
    """The image turned, and nothing else: ``ImageOps.exif_transpose`` writes the EXIF data anew, which may fail."""
    from PIL.Image import Transpose

    turns = (
        *(Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE),
        *(Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90),
    )
    if isinstance(orientation, int) and 2 <= orientation <= 8:
        return image.transpose(turns[orientation - 2])
    return image
