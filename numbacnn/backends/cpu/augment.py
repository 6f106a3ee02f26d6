"""What is done to images before a network sees them: a chunk is a plane, some rows or, for colours, an image.

roofline: memory, one read of x and one write of y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..shared import sampling
from ..shared.adjustments import (
    AUTOCONTRAST,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    EQUALIZE,
    LEVELS,
    POSTERIZE,
    SHARPNESS,
    SOLARIZE,
    TO_LEVELS,
)
from ..shared.sampling import FRACTION, FRACTION_BITS, HALF, UNIT
from .runtime.allocator import empty, empty_like
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .spatial import between
from .vector.blocks import BLOCK
from .vector.layout import channels_last, contiguous, images, neighbours
from .vector.simd import copy_run, flattened

__all__ = [
    "adjust_images",
    "affine_images",
    "flip_and_crop",
    "jitter_colors",
    "mix_images",
    "normalize_images",
]

place = inlined(sampling.place)


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


@kernel
def _nearest_rows(chunk, x, y, places, fill, of, rows):
    """A chunk is ``rows`` rows of y, ``of`` images of which make one. One read and one write of a pixel, as far as the
    points of a row lie in a row of x; where they run down the columns, lines of x come from the second cache.
    """
    h, w, size, oh, ow = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    source, target, table = flattened(x), flattened(y), flattened(places)
    for line in range(chunk * rows, min((chunk + 1) * rows, y.shape[0] * oh)):
        plane, row = line // oh, line % oh
        first, t, at = plane % of, np.uintp(plane // of * 10), line * ow * size
        for column in range(ow):
            down = place(table[t], table[t + 1], table[t + 2], table[t + 3], table[t + 4], column, row)
            across = place(table[t + 5], table[t + 6], table[t + 7], table[t + 8], table[t + 9], column, row)
            top, left = (down + HALF) >> FRACTION_BITS, (across + HALF) >> FRACTION_BITS
            to = np.uintp(at + column * size)
            if top >= 0 and top < h and left >= 0 and left < w:
                a = np.uintp(((plane * h + top) * w + left) * size)
                for i in range(np.uintp(size)):
                    target[to + i] = source[a + i]
            else:
                for i in range(np.uintp(size)):
                    target[to + i] = fill[np.uintp(first) + i]


@inlined
def _pixel(source, plane, top, left, h, w, size, i, beyond):
    inside = top >= 0 and top < h and left >= 0 and left < w
    return source[np.uintp(((plane * h + top) * w + left) * size + i)] if inside else beyond


@kernel
def _bilinear_rows(chunk, x, y, places, fill, of, rows):
    """As :func:`_nearest_rows`. The four pixels around a point are a matter of L1; some 30 operations for each of them
    are what bounds it.
    """
    h, w, size, oh, ow = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    source, target, table = flattened(x), flattened(y), flattened(places)
    real = x.dtype.type
    for line in range(chunk * rows, min((chunk + 1) * rows, y.shape[0] * oh)):
        plane, row = line // oh, line % oh
        first, t, at = plane % of, np.uintp(plane // of * 10), line * ow * size
        for column in range(ow):
            down = place(table[t], table[t + 1], table[t + 2], table[t + 3], table[t + 4], column, row)
            across = place(table[t + 5], table[t + 6], table[t + 7], table[t + 8], table[t + 9], column, row)
            top, left = down >> FRACTION_BITS, across >> FRACTION_BITS
            v, u = real(down & FRACTION) * real(UNIT), real(across & FRACTION) * real(UNIT)
            to = at + column * size
            if top >= 0 and top < h - 1 and left >= 0 and left < w - 1:
                a = np.uintp(((plane * h + top) * w + left) * size)
                b, c = a + np.uintp(size), a + np.uintp(w * size)
                d = c + np.uintp(size)
                for i in range(np.uintp(size)):
                    one, other = between(source[a + i], source[c + i], v), between(source[b + i], source[d + i], v)
                    target[np.uintp(to) + i] = between(one, other, u)
            else:
                for i in range(size):
                    beyond = fill[first + i]
                    a = _pixel(source, plane, top, left, h, w, size, i, beyond)
                    b = _pixel(source, plane, top, left + 1, h, w, size, i, beyond)
                    c = _pixel(source, plane, top + 1, left, h, w, size, i, beyond)
                    d = _pixel(source, plane, top + 1, left + 1, h, w, size, i, beyond)
                    target[np.uintp(to + i)] = between(between(a, c, v), between(b, d, v), u)


@inlined
def _mix_run(target, x, source, at, start, count, share):
    for i in range(np.uintp(count)):
        target[np.uintp(at) + i] = between(source[np.uintp(start) + i], x[np.uintp(at) + i], share)


@kernel
def _mix_rows(chunk, x, source, index, boxes, weight, y, of, rows):
    """A chunk is ``rows`` rows of y; ``source`` has the height and width of x, or 1."""
    h, w, size, sh, sw = x.shape[1], x.shape[2], x.shape[3], source.shape[1], source.shape[2]
    image, other, target = flattened(x), flattened(source), flattened(y)
    for line in range(chunk * rows, min((chunk + 1) * rows, y.shape[0] * h)):
        plane, row, start = line // h, line % h, line * w * size
        n, first, end = plane // of, start, start
        if row >= boxes[n, 0] and row < boxes[n, 1]:
            first, end = start + boxes[n, 2] * size, start + boxes[n, 3] * size
        copy_run(target, start, image, start, first - start)
        copy_run(target, end, image, end, start + w * size - end)
        there = (index[n] * of + plane % of) * sh * sw * size
        if sh == h and sw == w:
            _mix_run(target, image, other, first, there + row * w * size + first - start, end - first, weight[n])
        else:
            for at in range(first, end, size):
                _mix_run(target, image, other, at, there, size, weight[n])


@inlined
def _mixed(value, other, amount):
    """``amount`` of a value, and what is missing to 1 of another, within 0..1."""
    return _clipped(amount * value + (type(value)(1) - amount) * other)


@inlined
def _gray_at(x, i, channels):
    """Of the pixel whose first number is the i-th."""
    real = x.dtype.type
    if channels == 1:
        return x[i]
    return real(0.2989) * x[i] + real(0.587) * x[i + np.uintp(1)] + real(0.114) * x[i + np.uintp(2)]


@inlined
def _color(x, y, amount):
    for i in range(np.uintp(0), np.uintp(x.size), np.uintp(3)):
        j, k = i + np.uintp(1), i + np.uintp(2)
        gray = _gray_at(x, i, 3)
        y[i], y[j], y[k] = _mixed(x[i], gray, amount), _mixed(x[j], gray, amount), _mixed(x[k], gray, amount)


@inlined
def _contrast(x, y, channels, amount):
    total = 0.0
    for i in range(0, x.size, channels):
        total += _gray_at(x, np.uintp(i), channels)
    mean = x.dtype.type(total / max(x.size // channels, 1))
    for i in range(np.uintp(x.size)):
        y[i] = _mixed(x[i], mean, amount)


@inlined
def _sharpness(x, y, w, channels, amount):
    line, real = w * channels, x.dtype.type
    copy_run(y, 0, x, 0, x.size)
    for start in range(line, x.size - line, line):
        for i in range(np.uintp(start + channels), np.uintp(start + line - channels)):
            above, below, step = i - np.uintp(line), i + np.uintp(line), np.uintp(channels)
            around = x[above - step] + x[above] + x[above + step] + x[i - step] + x[i + step]
            around += x[below - step] + x[below] + x[below + step]
            y[i] = _mixed(x[i], (around + real(5) * x[i]) / real(13), amount)


@inlined
def _autocontrast(x, y, channels):
    real = x.dtype.type
    for c in range(channels):
        low, high = real(np.inf), real(-np.inf)
        for i in range(c, x.size, channels):
            value = x[np.uintp(i)]
            low = value if value < low else low
            high = value if value > high else high
        if high > low:
            for i in range(c, x.size, channels):
                y[np.uintp(i)] = _clipped((x[np.uintp(i)] - low) / (high - low))
        else:
            for i in range(c, x.size, channels):
                y[np.uintp(i)] = x[np.uintp(i)]


@inlined
def _level(value):
    """0 for NaN, which is none."""
    scaled = value * type(value)(TO_LEVELS)
    return np.int64(scaled) if scaled > 0 and scaled < LEVELS - 1 else (LEVELS - 1 if scaled > 0 else 0)


@inlined
def _equalize(x, y, channels, table):
    real = x.dtype.type
    for c in range(channels):
        for k in range(LEVELS):
            table[k] = 0
        for i in range(c, x.size, channels):
            value = x[np.uintp(i)]
            if value == value:
                table[_level(value)] += 1
        total, largest = 0, 0
        for k in range(LEVELS):
            total += table[k]
            largest = table[k] if table[k] else largest
        step, before = (total - largest) // (LEVELS - 1), 0
        for k in range(LEVELS):
            count = table[k]
            table[k] = min((before + step // 2) // max(step, 1), LEVELS - 1)
            before += count
        for i in range(c, x.size, channels):
            value = x[np.uintp(i)]
            is_mapped = step > 0 and value == value
            y[np.uintp(i)] = real(table[_level(value)]) / real(LEVELS - 1) if is_mapped else value


@kernel
def _adjust_images(chunk, x, y, kinds, amounts, table):
    """A chunk is an image. What has to be known of an image or a channel first takes another read of x, from the cache
    where an image fits. Memory bounds what is done to each number alone and to pixels with their neighbours; the ends
    of channels, whose numbers are apart, take a few cycles for each number, and levels, which are counted one by one,
    some ten.
    """
    w, channels, kind, amount = x.shape[2], x.shape[3], kinds[chunk], amounts[chunk]
    size = x.shape[1] * w * channels
    source = flattened(x)[chunk * size : (chunk + 1) * size]
    target = flattened(y)[chunk * size : (chunk + 1) * size]
    one = amounts.dtype.type(1)
    if kind == BRIGHTNESS:
        for i in range(np.uintp(size)):
            target[i] = _clipped(amount * source[i])
    elif kind == COLOR and channels == 3:
        _color(source, target, amount)
    elif kind == CONTRAST:
        _contrast(source, target, channels, amount)
    elif kind == SHARPNESS:
        _sharpness(source, target, w, channels, amount)
    elif kind == POSTERIZE:
        for i in range(np.uintp(size)):
            target[i] = min(max(np.floor(source[i] * amount), one - one), amount - one) / amount
    elif kind == SOLARIZE:
        for i in range(np.uintp(size)):
            target[i] = one - source[i] if source[i] >= amount else source[i]
    elif kind == AUTOCONTRAST:
        _autocontrast(source, target, channels)
    elif kind == EQUALIZE:
        _equalize(source, target, channels, table)
    else:
        copy_run(target, 0, source, 0, size)


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


@cached_launches
def affine_images(x: np.ndarray, places: np.ndarray, oh: int, ow: int, bilinear: bool, fill: np.ndarray) -> np.ndarray:
    pixels, of = neighbours(x)
    y = empty((pixels.shape[0], oh, ow, pixels.shape[3]), x.dtype)
    rows = _rows_of_chunk(y)
    sampled = _bilinear_rows if bilinear else _nearest_rows
    sampled(-(-y.shape[0] * oh // rows) if y.size else 0, pixels, y, places, fill, of, rows)
    return _as_given(y, of, (*x.shape[:2], oh, ow))


@cached_launches
def mix_images(
    x: np.ndarray, source: np.ndarray, index: np.ndarray, boxes: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    pixels, of = neighbours(x)
    m, c, h, w = source.shape
    others = channels_last(source) if of == 1 else contiguous(source).reshape(m * c, h, w, 1)
    y = empty(pixels.shape, x.dtype)
    rows = _rows_of_chunk(y)
    chunks = -(-y.shape[0] * y.shape[1] // rows) if y.size else 0
    _mix_rows(chunks, pixels, others, index, boxes, weight, y, of, rows)
    return _as_given(y, of, x.shape)


@cached_launches
def adjust_images(x: np.ndarray, kinds: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    pixels = channels_last(x)
    y = empty(pixels.shape, x.dtype)
    _adjust_images(len(x) if y.size else 0, pixels, y, kinds, amounts, Scratch(LEVELS, np.dtype(np.int64)))
    return images(y)


def _rows_of_chunk(y: np.ndarray) -> int:
    return max(1, BLOCK // max(y.shape[2] * y.shape[3], 1))


def _as_given(y: np.ndarray, of: int, shape: Sequence[int]) -> np.ndarray:
    """``y`` in the shape of images, lying as those that :func:`neighbours` was given."""
    return images(y) if of == 1 else y.reshape(shape)
