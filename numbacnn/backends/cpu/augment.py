"""What is done to images before a network sees them: a chunk is one plane or, for colours, one image.

roofline: memory, one read of x and one write of y.
"""

from __future__ import annotations

import numpy as np

from .runtime.allocator import empty, empty_like
from .runtime.kernel import inlined, kernel
from .vector.layout import contiguous

__all__ = ["flip_and_crop", "jitter_colors", "normalize_images"]


@kernel
def _crop_planes(chunk, x, y, top, left, mirror):
    h, w, ow = x.shape[2], x.shape[3], y.shape[3]
    n, c = chunk // x.shape[1], chunk % x.shape[1]
    for row in range(y.shape[2]):
        source_row, target = top[n] + row, y[n, c, row]
        if source_row < 0 or source_row >= h:
            target[:] = 0
            continue
        source = x[n, c, source_row]
        for column in range(ow):
            source_column = left[n] + (ow - 1 - column if mirror[n] else column)
            inside = source_column >= 0 and source_column < w
            target[column] = source[source_column] if inside else x.dtype.type(0)


@kernel
def _normalize_planes(chunk, x, mean, std, y):
    c = chunk % mean.size
    for i in range(x.shape[1]):
        y[chunk, i] = (x[chunk, i] - mean[c]) / std[c]


@inlined
def _clipped(value):
    """Within 0..1; NaN stays."""
    zero, one = type(value)(0), type(value)(1)
    return zero if value < zero else one if value > one else value


@inlined
def _gray(image, i):
    real = image.dtype.type
    return real(0.2989) * image[0, i] + real(0.587) * image[1, i] + real(0.114) * image[2, i]


@inlined
def _share(place, shift):
    """How much of its chroma a colour takes from a channel; ``place`` is between -4 and 8."""
    real = type(place)
    distance = place + real(shift + 6)
    distance -= real(6) * np.floor(distance / real(6))
    return _clipped(min(distance, real(4) - distance))


@kernel
def _jitter_images(chunk, x, y, brightness, contrast, saturation, hue):
    image, one = y[chunk], x.dtype.type(1)
    pixels = image.shape[1]
    for c in range(3):
        for i in range(pixels):
            image[c, i] = _clipped(brightness[chunk] * x[chunk, c, i])
    total = 0.0
    for i in range(pixels):
        total += _gray(image, i)
    mean = x.dtype.type(total / max(pixels, 1))
    for i in range(pixels):
        for c in range(3):
            image[c, i] = _clipped(contrast[chunk] * image[c, i] + (one - contrast[chunk]) * mean)
        gray = (one - saturation[chunk]) * _gray(image, i)
        r = _clipped(saturation[chunk] * image[0, i] + gray)
        g = _clipped(saturation[chunk] * image[1, i] + gray)
        b = _clipped(saturation[chunk] * image[2, i] + gray)
        value = max(r, g, b)
        chroma = value - min(r, g, b)
        divisor = one if chroma == 0 else chroma
        # The place on the circle of colours, red at 0, green at 2, blue at 4, back at red at 6.
        if value == r:
            place = (g - b) / divisor
        elif value == g:
            place = (b - r) / divisor + x.dtype.type(2)
        else:
            place = (r - g) / divisor + x.dtype.type(4)
        place += x.dtype.type(6) * hue[chunk]
        image[0, i] = value - chroma * _share(place, 5)
        image[1, i] = value - chroma * _share(place, 3)
        image[2, i] = value - chroma * _share(place, 1)


def flip_and_crop(x: np.ndarray, top: np.ndarray, left: np.ndarray, mirror: np.ndarray, oh: int, ow: int) -> np.ndarray:
    x = contiguous(x)
    n, c = x.shape[:2]
    y = empty((n, c, oh, ow), x.dtype)
    _crop_planes(n * c, x, y, top, left, mirror)
    return y


def normalize_images(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    x = contiguous(x)
    n, c, h, w = x.shape
    y = empty_like(x)
    _normalize_planes(n * c, x.reshape(n * c, h * w), mean, std, y.reshape(n * c, h * w))
    return y


def jitter_colors(
    x: np.ndarray, brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray, hue: np.ndarray
) -> np.ndarray:
    x = contiguous(x)
    n, _, h, w = x.shape
    y = empty_like(x)
    _jitter_images(n, x.reshape(n, 3, h * w), y.reshape(n, 3, h * w), brightness, contrast, saturation, hue)
    return y
