"""What is done to images before a network sees them: a thread per pixel of the result, which reads what it is made of.

roofline: memory, one read of x and one write of y.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from ..geometry import Pool2dGeometry
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
from . import pooling
from .block.reduce import THREADS, block_sum
from .runtime import device_array
from .runtime.kernel import block_kernel, kernel, loading_kernel, mapping
from .runtime.target import cuda, device_function, quotient, scalar, within
from .spatial import between

__all__ = [
    "adjust_images",
    "affine_images",
    "flip_and_crop",
    "jitter_colors",
    "mix_images",
    "normalize_images",
]

place = device_function(sampling.place)


@mapping
def _cropped(i, x, top, left, mirror, g):
    channels, h, w, oh, ow = g
    line = quotient(i, ow)
    plane = quotient(line, oh)
    n = quotient(plane, channels)
    column = i - line * ow
    source_row = top[n] + line - plane * oh
    source_column = left[n] + (ow - 1 - column if mirror[n] else column)
    inside = within(source_row, h) and within(source_column, w)
    return x[(plane * h + source_row) * w + source_column] if inside else scalar(x, 0)


@device_function
def _channel(i, g):
    channels, size = g
    plane = quotient(i, size)
    return plane - quotient(plane, channels) * channels


def _element(i, y, x, mean, std, g):
    return x[i]


@loading_kernel(_element)
def _normalize(i, value, y, x, mean, std, g):
    channel = _channel(i, g)
    y[i] = (value - mean[channel]) / std[channel]


@device_function
def _clipped(value, x):
    """Within 0..1; NaN stays."""
    return scalar(x, 0) if value < scalar(x, 0) else scalar(x, 1) if value > scalar(x, 1) else value


@device_function
def _gray(r, g, b, x):
    return scalar(x, 0.2989) * r + scalar(x, 0.587) * g + scalar(x, 0.114) * b


@device_function
def _share(place, shift, x):
    """How much of its chroma a colour takes from a channel; ``place`` is between -4 and 8."""
    distance = place + scalar(x, shift + 6)
    distance -= scalar(x, 6) * scalar(x, int(distance * scalar(x, 1 / 6)))
    return _clipped(min(distance, scalar(x, 4) - distance), x)


@mapping
def _brightened(i, x, brightness, size):
    return _clipped(brightness[quotient(i, size)] * x[i], x)


@kernel
def _recolor(i, y, x, means, contrast, saturation, hue, size):
    """A pixel of three channels, ``size`` apart."""
    n = quotient(i, size)
    red = i + 2 * n * size
    green, blue = red + size, red + 2 * size
    r, g, b = x[red], x[green], x[blue]
    one, factor, keep = scalar(x, 1), contrast[n], saturation[n]
    gray = (one - factor) * _gray(means[3 * n], means[3 * n + 1], means[3 * n + 2], x)
    r, g, b = _clipped(factor * r + gray, x), _clipped(factor * g + gray, x), _clipped(factor * b + gray, x)
    gray = (one - keep) * _gray(r, g, b, x)
    r, g, b = _clipped(keep * r + gray, x), _clipped(keep * g + gray, x), _clipped(keep * b + gray, x)
    value = max(r, max(g, b))
    chroma = value - min(r, min(g, b))
    divisor = one if chroma == scalar(x, 0) else chroma
    # The place on the circle of colours, red at 0, green at 2, blue at 4, back at red at 6.
    if value == r:
        place = (g - b) / divisor
    elif value == g:
        place = (b - r) / divisor + scalar(x, 2)
    else:
        place = (r - g) / divisor + scalar(x, 4)
    place += scalar(x, 6) * hue[n]
    y[red] = value - chroma * _share(place, 5, x)
    y[green] = value - chroma * _share(place, 3, x)
    y[blue] = value - chroma * _share(place, 1, x)


@device_function
def _places(i, places, g):
    """The plane, the channel, and the places of row and column that point i of the result has."""
    channels, _, _, oh, ow = g
    line = quotient(i, ow)
    plane = quotient(line, oh)
    n = quotient(plane, channels)
    row, column, t = line - plane * oh, i - line * ow, 10 * n
    down = place(places[t], places[t + 1], places[t + 2], places[t + 3], places[t + 4], column, row)
    across = place(places[t + 5], places[t + 6], places[t + 7], places[t + 8], places[t + 9], column, row)
    return plane, plane - n * channels, down, across


@device_function
def _pixel(x, plane, row, column, h, w, beyond):
    inside = row >= 0 and row < h and column >= 0 and column < w
    return x[(plane * h + row) * w + column] if inside else beyond


@mapping
def _nearest(i, x, places, fill, g):
    plane, channel, down, across = _places(i, places, g)
    top, left = (down + HALF) >> FRACTION_BITS, (across + HALF) >> FRACTION_BITS
    return _pixel(x, plane, top, left, g[1], g[2], fill[channel])


@mapping
def _bilinear(i, x, places, fill, g):
    h, w = g[1], g[2]
    plane, channel, down, across = _places(i, places, g)
    top, left, beyond = down >> FRACTION_BITS, across >> FRACTION_BITS, fill[channel]
    v, u = scalar(x, down & FRACTION) * scalar(x, UNIT), scalar(x, across & FRACTION) * scalar(x, UNIT)
    one = between(_pixel(x, plane, top, left, h, w, beyond), _pixel(x, plane, top + 1, left, h, w, beyond), v, x)
    right = _pixel(x, plane, top, left + 1, h, w, beyond)
    other = between(right, _pixel(x, plane, top + 1, left + 1, h, w, beyond), v, x)
    return between(one, other, u, x)


@mapping
def _mixed_images(i, x, source, index, boxes, weight, g):
    """``step`` is 1 where ``source`` has the height and width of x, and 0 where it has one pixel."""
    channels, h, w, step = g
    line = quotient(i, w)
    plane = quotient(line, h)
    n = quotient(plane, channels)
    row, column = line - plane * h, i - line * w
    is_inside = row >= boxes[4 * n] and row < boxes[4 * n + 1]
    is_inside = is_inside and column >= boxes[4 * n + 2] and column < boxes[4 * n + 3]
    there = index[n] * channels + plane - n * channels
    other = (there * h + row) * w + column if step else there
    return between(source[other], x[i], weight[n], x) if is_inside else x[i]


@device_function
def _blend(value, other, amount, x):
    return _clipped(amount * value + (scalar(x, 1) - amount) * other, x)


@device_function
def _gray_at(x, first, size, channels, i):
    """Of pixel i of the image whose planes begin at ``first``, ``size`` apart."""
    at = first + i
    return x[at] if channels == 1 else _gray(x[at], x[at + size], x[at + 2 * size], x)


@device_function
def _sharpened(x, at, row, column, h, w, amount):
    if row == 0 or column == 0 or row == h - 1 or column == w - 1:
        return x[at]
    total = scalar(x, 4) * x[at]
    for u in range(3):
        for v in range(3):
            total += x[at + (u - 1) * w + v - 1]
    return _blend(x[at], total / scalar(x, 13), amount, x)


@device_function
def _level(value, x):
    """0 for NaN, which is none."""
    scaled = value * scalar(x, TO_LEVELS)
    if scaled > scalar(x, 0):
        return int(scaled) if scaled < scalar(x, LEVELS - 1) else LEVELS - 1
    return 0


@device_function
def _level_table(thread, x, first, size, counts):
    """The new level of each old one in ``counts``, shared memory; and whether there is any change.

    Each thread counts levels of its own, for which all read the plane, mostly from the cache, at one address at a time.
    """
    for level in range(thread, LEVELS, THREADS):
        count = 0
        for i in range(size):
            value = x[first + i]
            if value == value and _level(value, x) == level:
                count += 1
        counts[level] = count
    cuda.syncthreads()
    total, largest = 0, 0
    for level in range(LEVELS):
        total += counts[level]
        largest = counts[level] if counts[level] > 0 else largest
    cuda.syncthreads()
    step = quotient(total - largest, LEVELS - 1)
    if thread == 0 and step > 0:
        before = 0
        for level in range(LEVELS):
            count = counts[level]
            counts[level] = min(quotient(before + quotient(step, 2), step), LEVELS - 1)
            before += count
    cuda.syncthreads()
    return step > 0


@block_kernel(THREADS)
def _adjust(block, thread, y, x, kinds, amounts, g):
    """A block is a plane; what it has to know of the plane or of the image is found out first."""
    channels, h, w = g
    sums = cuda.shared.array(THREADS, np.float64)
    highs = cuda.shared.array(THREADS, np.float64)
    counts = cuda.shared.array(LEVELS, np.int32)
    n = quotient(block, channels)
    kind, amount, size = kinds[n], amounts[n], h * w
    first, of_image = block * size, n * channels * size
    mean, low, high, is_mapped = scalar(x, 0), scalar(x, math.inf), scalar(x, -math.inf), False
    if kind == CONTRAST:
        total = 0.0
        for i in range(thread, size, THREADS):
            total += np.float64(_gray_at(x, of_image, size, channels, i))
        mean = scalar(x, block_sum(thread, total, sums) / size)
    elif kind == AUTOCONTRAST:
        for i in range(thread, size, THREADS):
            value = x[first + i]
            low = value if value < low else low
            high = value if value > high else high
        sums[thread], highs[thread] = np.float64(low), np.float64(high)
        cuda.syncthreads()
        for i in range(THREADS):
            low = scalar(x, sums[i]) if sums[i] < low else low
            high = scalar(x, highs[i]) if highs[i] > high else high
    elif kind == EQUALIZE:
        is_mapped = _level_table(thread, x, first, size, counts)
    for i in range(thread, size, THREADS):
        value = x[first + i]
        result = value
        if kind == BRIGHTNESS:
            result = _clipped(amount * value, x)
        elif kind == COLOR and channels > 1:
            result = _blend(value, _gray_at(x, of_image, size, channels, i), amount, x)
        elif kind == CONTRAST:
            result = _blend(value, mean, amount, x)
        elif kind == SHARPNESS:
            row = quotient(i, w)
            result = _sharpened(x, first + i, row, i - row * w, h, w, amount)
        elif kind == POSTERIZE:
            level = value * amount
            if level == level:
                level = max(min(level, amount - scalar(x, 1)), scalar(x, 0))
                result = scalar(x, int(level)) / amount
        elif kind == SOLARIZE:
            result = scalar(x, 1) - value if value >= amount else value
        elif kind == AUTOCONTRAST and high > low:
            result = _clipped((value - low) / (high - low), x)
        elif kind == EQUALIZE and is_mapped and value == value:
            result = scalar(x, counts[_level(value, x)]) / scalar(x, LEVELS - 1)
        y[first + i] = result


def flip_and_crop(x: Array, top: Array, left: Array, mirror: Array, oh: int, ow: int) -> Array:
    n, c, h, w = x.shape
    y = device_array.new((n, c, oh, ow), x.dtype)
    _cropped(y.size, y, x, top, left, mirror, (c, h, w, oh, ow))
    return y


def normalize_images(x: Array, mean: Array, std: Array) -> Array:
    _, c, h, w = x.shape
    y = device_array.new(x.shape, x.dtype)
    _normalize(x.size, y, x, mean, std, (c, h * w))
    return y


def jitter_colors(x: Array, brightness: Array, contrast: Array, saturation: Array, hue: Array) -> Array:
    n, c, h, w = x.shape
    bright, y = device_array.new(x.shape, x.dtype), device_array.new(x.shape, x.dtype)
    if y.size:
        _brightened(x.size, bright, x, brightness, c * h * w)
        means = pooling.avg_pool2d(bright, Pool2dGeometry(n, c, h, w, h, w, 1, 1), True)
        _recolor(n * h * w, y, bright, means, contrast, saturation, hue, h * w)
    return y


def affine_images(x: Array, places: Array, oh: int, ow: int, bilinear: bool, fill: Array) -> Array:
    n, c, h, w = x.shape
    y = device_array.new((n, c, oh, ow), x.dtype)
    (_bilinear if bilinear else _nearest)(y.size, y, x, places, fill, (c, h, w, oh, ow))
    return y


def mix_images(x: Array, source: Array, index: Array, boxes: Array, weight: Array) -> Array:
    _, c, h, w = x.shape
    y = device_array.new(x.shape, x.dtype)
    is_whole = int(tuple(source.shape[2:]) == (h, w))
    _mixed_images(y.size, y, x, source, index, boxes, weight, (c, h, w, is_whole))
    return y


def adjust_images(x: Array, kinds: Array, amounts: Array) -> Array:
    n, c, h, w = x.shape
    y = device_array.new(x.shape, x.dtype)
    _adjust(n * c if y.size else 0, y, x, kinds, amounts, (c, h, w))
    return y
