"""What is done to images before a network sees them: flipping, cropping, normalizing, colours."""

from __future__ import annotations

import numpy as np

from ..contract import Array

__all__ = ["flip_and_crop", "jitter_colors", "normalize_images"]


def flip_and_crop(x: Array, top: Array, left: Array, mirror: Array, oh: int, ow: int) -> Array:
    """y (n, c, oh, ow): of each image the window that begins at its top and left, left-right reversed where mirror."""
    n, c, h, w = x.shape
    y = np.zeros((n, c, oh, ow), x.dtype)
    for image, window, first_row, first_column, reverse in zip(x, y, top, left, mirror, strict=True):
        rows, columns = _inside(first_row, oh, h), _inside(first_column, ow, w)
        part = image[:, rows, columns]
        target = window[..., ::-1] if reverse else window
        row, column = rows.start - first_row, columns.start - first_column
        target[:, row : row + part.shape[1], column : column + part.shape[2]] = part
    return y


def normalize_images(x: Array, mean: Array, std: Array) -> Array:
    """y (n, c, h, w) = (x - mean) / std, channel by channel."""
    return (x - mean[:, None, None]) / std[:, None, None]


def _inside(first: int, count: int, size: int) -> slice:
    """What of ``first .. first + count - 1`` is in ``0 .. size - 1``."""
    return slice(min(max(first, 0), size), max(min(first + count, size), 0))


def jitter_colors(x: Array, brightness: Array, contrast: Array, saturation: Array, hue: Array) -> Array:
    """y (n, 3, h, w): torchvision's adjust_brightness, _contrast, _saturation and _hue, one after the other."""
    brightness, contrast, saturation, hue = (f[:, None, None, None] for f in (brightness, contrast, saturation, hue))
    y = np.clip(brightness * x, 0, 1)
    mean = _gray(y).sum(axis=(2, 3), keepdims=True, dtype=np.float64) / max(x.shape[2] * x.shape[3], 1)
    mean = mean.astype(x.dtype)
    y = np.clip(contrast * y + (1 - contrast) * mean, 0, 1)
    y = np.clip(saturation * y + (1 - saturation) * _gray(y), 0, 1)
    r, g, b = y[:, 0], y[:, 1], y[:, 2]
    value = y.max(axis=1)
    chroma = value - y.min(axis=1)
    divisor = np.where(chroma == 0, 1, chroma)
    # The place on the circle of colours, red at 0, green at 2, blue at 4, back at red at 6.
    place = np.where(value == r, (g - b) / divisor, np.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor))
    distance = np.stack([(place + 6 * hue[:, 0] + shift) % 6 for shift in (5, 3, 1)], axis=1)
    return value[:, None] - chroma[:, None] * np.clip(np.minimum(distance, 4 - distance), 0, 1)


def _gray(x: Array) -> Array:
    """(n, 1, h, w)"""
    return x.dtype.type(0.2989) * x[:, :1] + x.dtype.type(0.587) * x[:, 1:2] + x.dtype.type(0.114) * x[:, 2:]
