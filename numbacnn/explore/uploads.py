"""Files that are dropped on the page, as the pixels that a model reads: limits first, then the package's readers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..command_line import one_line
from ..data import DataFileError, Preprocessing
from ..data.readers.picture import as_fit, check_pillow, decoded

__all__ = ["MOST_BYTES", "UploadError", "pixels_of"]

MOST_BYTES = 32 << 20
"""Of a file. The largest photographs of cameras have about as many."""
LONGEST_NAME = 80


class UploadError(ValueError):
    """What is wrong with a file, said to the one who dropped it; ``status`` is HTTP's number for it."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def pixels_of(content: bytes, name: str, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """The image in a file as the model reads it, (channels, h, w) uint8.

    Args:
        content: the bytes of the file.
        name: what it is called where it comes from, which messages repeat.
        preprocessing: the model's.

    Raises:
        UploadError: the file is empty, too large, no image, damaged, or has too many pixels, which is found before
            memory is taken for them.
    """
    check_pillow("explore")
    from PIL.Image import MAX_IMAGE_PIXELS, DecompressionBombError, DecompressionBombWarning

    # A browser gives the name alone, but nobody has to be a browser.
    name = os.path.basename(name.replace("\\", "/")).strip()[:LONGEST_NAME] or "the file"
    if not content:
        raise UploadError(f"{name!r} is empty")
    if len(content) > MOST_BYTES:
        raise UploadError(f"{name!r} has more than {MOST_BYTES >> 20} MiB, the most that is taken", 413)
    reading = preprocessing.reading
    fit = as_fit(reading["size"], reading["interpolation"], reading["crop_pct"])
    try:
        return np.ascontiguousarray(decoded(content, name, fit, reading["channels"]))
    except DataFileError as error:
        if isinstance(error.__cause__, (DecompressionBombError, DecompressionBombWarning)):
            raise UploadError(
                f"{name!r} has too many pixels: at most {MAX_IMAGE_PIXELS:,} are taken, width times height"
            ) from error
        raise UploadError(one_line(error)) from error
