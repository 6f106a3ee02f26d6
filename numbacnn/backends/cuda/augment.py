"""What is done to images before a network sees them: a thread per pixel of the result, which reads what it is made of.

roofline: memory, one read of x and one write of y.
"""

from __future__ import annotations

from ..contract import Array
from ..geometry import Pool2dGeometry
from . import pooling
from .runtime import device_array
from .runtime.kernel import kernel, loading_kernel, mapping
from .runtime.target import device_function, quotient, scalar, within

__all__ = ["flip_and_crop", "jitter_colors", "normalize_images"]


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
