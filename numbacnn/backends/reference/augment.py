"""What is done to images before a network sees them: windows, warps, boxes of others, colours."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..shared import adjustments
from ..shared.sampling import FRACTION, FRACTION_BITS, HALF, UNIT

__all__ = [
    "adjust_images",
    "affine_images",
    "flip_and_crop",
    "jitter_colors",
    "mix_images",
    "normalize_images",
]


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


def affine_images(x: Array, places: Array, oh: int, ow: int, bilinear: bool, fill: Array) -> Array:
    """y (n, c, oh, ow): the pixel at each point's place, or what is between four."""
    n, c, h, w = x.shape
    y = np.empty((n, c, oh, ow), x.dtype)
    # Whatever is read beyond an image is a pixel of this frame.
    framed = np.empty((c, h + 2, w + 2), x.dtype)
    framed[...] = fill[:, None, None]
    column, row = np.arange(ow), np.arange(oh)[:, None]
    for image, result, table in zip(x, y, places, strict=True):
        framed[:, 1:-1, 1:-1] = image
        down, across = (
            np.clip(axis[0] * column + axis[1] * row + axis[2], axis[3], axis[4]) + (0 if bilinear else HALF)
            for axis in table
        )
        top, left = down >> FRACTION_BITS, across >> FRACTION_BITS
        if not bilinear:
            result[...] = _at(framed, top, left)
            continue
        v, u = ((at & FRACTION).astype(x.dtype) * x.dtype.type(UNIT) for at in (down, across))
        one = _between(_at(framed, top, left), _at(framed, top + 1, left), v)
        other = _between(_at(framed, top, left + 1), _at(framed, top + 1, left + 1), v)
        result[...] = _between(one, other, u)
    return y


def _at(framed: Array, row: Array, column: Array) -> Array:
    """Pixels (c, oh, ow), of which the one at (-1, -1) is the first of ``framed``."""
    c, h, w = framed.shape
    place = np.clip(row + 1, 0, h - 1) * w + np.clip(column + 1, 0, w - 1)
    return framed.reshape(c, h * w)[:, place]


def _between(a: Array, b: Array, weight: Array) -> Array:
    """``weight`` of the way from a to b; what weighs nothing does not count, even if it is infinite."""
    return np.where(weight > 0, (1 - weight) * a + weight * b, a)


def mix_images(x: Array, source: Array, index: Array, boxes: Array, weight: Array) -> Array:
    """y (n, c, h, w): x, but in the box of each image weight x + (1 - weight) source[index]."""
    y = x.copy()
    for image, which, (top, bottom, left, right), share in zip(y, index, boxes, weight, strict=True):
        box = image[:, top:bottom, left:right]
        other = np.broadcast_to(source[which], image.shape)[:, top:bottom, left:right]
        box[...] = _between(other, box, share)
    return y


def adjust_images(x: Array, kinds: Array, amounts: Array) -> Array:
    """y (n, c, h, w): to each image is done what its kind says."""
    y = x.copy()
    for image, kind, amount in zip(y, kinds, amounts, strict=True):
        if image.size:
            image[...] = _ADJUSTMENTS[int(kind)](image, amount)
    return y


def _brightened(image: Array, amount: Array) -> Array:
    return np.clip(amount * image, 0, 1)


def _colored(image: Array, amount: Array) -> Array:
    return image if len(image) == 1 else _blend(image, _gray_of(image), amount)


def _contrasted(image: Array, amount: Array) -> Array:
    return _blend(image, _gray_of(image).mean(dtype=np.float64).astype(image.dtype), amount)


def _sharpened(image: Array, amount: Array) -> Array:
    _, h, w = image.shape
    y = image.copy()
    if h > 2 and w > 2:
        blurred = 4 * image[:, 1:-1, 1:-1]
        for row, column in np.ndindex(3, 3):
            blurred += image[:, row : row + h - 2, column : column + w - 2]
        y[:, 1:-1, 1:-1] = _blend(image[:, 1:-1, 1:-1], blurred / 13, amount)
    return y


def _posterized(image: Array, amount: Array) -> Array:
    return np.clip(np.floor(image * amount), 0, amount - 1) / amount


def _solarized(image: Array, amount: Array) -> Array:
    return np.where(image >= amount, 1 - image, image)


def _autocontrasted(image: Array, amount: Array) -> Array:
    low, high = (least.reduce(image, axis=(1, 2), keepdims=True) for least in (np.fmin, np.fmax))
    several = high > low
    return np.where(several, np.clip((image - low) / np.where(several, high - low, 1), 0, 1), image)


def _equalized(image: Array, amount: Array) -> Array:
    y = image.copy()
    for plane in y:
        levels = np.clip(np.where(plane == plane, plane, 0) * plane.dtype.type(adjustments.TO_LEVELS), 0, 255).astype(
            np.int64
        )
        counts = np.bincount(levels[plane == plane], minlength=adjustments.LEVELS)
        step = (counts.sum() - counts[np.flatnonzero(counts).max(initial=0)]) // 255
        if step:
            before = np.cumsum(counts) - counts
            table = np.minimum((before + step // 2) // step, 255)
            plane[...] = np.where(plane == plane, table[levels].astype(plane.dtype) / plane.dtype.type(255), plane)
    return y


_ADJUSTMENTS = {
    adjustments.KEEP: lambda image, amount: image,
    adjustments.BRIGHTNESS: _brightened,
    adjustments.COLOR: _colored,
    adjustments.CONTRAST: _contrasted,
    adjustments.SHARPNESS: _sharpened,
    adjustments.POSTERIZE: _posterized,
    adjustments.SOLARIZE: _solarized,
    adjustments.AUTOCONTRAST: _autocontrasted,
    adjustments.EQUALIZE: _equalized,
}


def _blend(image: Array, other: Array, amount: Array) -> Array:
    return np.clip(amount * image + (1 - amount) * other, 0, 1)


def _gray_of(image: Array) -> Array:
    """(1, h, w), of an image of 1 or 3 channels."""
    return image if len(image) == 1 else _gray(image[None])[0]
