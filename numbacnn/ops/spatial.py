"""Images of another size: padded, resampled, with pixels made of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import backends
from ..backends import Array, Backend
from ..backends.geometry import Resampling
from ..backends.shared.resampling import resampled_taps
from .arguments import (
    LARGEST_SIZE,
    check_shape,
    common_dtype,
    flag,
    integer,
    memoized,
    number,
    one_of,
    pair,
    real_array,
    real_number,
    shape_of,
)
from .call_cache import cached_call
from .padding import padded_shape, sides

__all__ = [
    "channel_shuffle",
    "interpolate2d",
    "interpolate2d_backward",
    "pad2d",
    "pad2d_backward",
    "pad_channels",
    "pixel_shuffle",
    "pixel_unshuffle",
]

INTERPOLATIONS = {"nearest": "nearest", "bilinear": "linear"}


@cached_call
def pad2d(
    x: Any, padding: Any, mode: str = "constant", value: float = 0.0, *, backend: str | Backend | None = None
) -> Array:
    """Images with something around them.

    Args:
        x: Images (n, c, h, w); n may be 0. float64 stays, everything else becomes float32.
        padding: An int for all sides, or, in PyTorch's order, (left, right, top, bottom). A negative one cuts rows or
            columns off, of which one has to remain.
        mode: What is around the image: ``"constant"``, ``value``; ``"reflect"``, the image in a mirror at the outer
            pixels' centres, which takes less padding than there are pixels; ``"replicate"``, the nearest pixel;
            ``"circular"``, the image again, which takes no more padding than there are pixels.
        value: Of the padding in mode ``"constant"``, any number; infinity and NaN, too.
        backend: A backend or its name; the default backend if None.

    Returns:
        ``y`` (n, c, h + top + bottom, w + left + right).

    Raises:
        ValueError: For padding that does not fit the image, an unknown mode, the wrong number of axes.
        TypeError: For an array that is not real, and for bools and floats in place of ints.

    Example:
        >>> pad2d([[[[1, 2, 3]]]], (2, 1, 0, 0), "reflect", backend="reference")
        array([[[[3., 2., 1., 2., 3., 2.]]]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    padded_shape(x.shape, padding, mode)
    value = real_number("value", value)
    return backend.pad2d(backend.asarray(x, common_dtype(x)), _pads(padding), mode, value)


def pad2d_backward(
    dy: Any, x_shape: Any, padding: Any, mode: str = "constant", *, backend: str | Backend | None = None
) -> Array:
    """``dx`` (n, c, h, w): for each pixel of x the sum of the ``dy`` that are copies of it.

    The other arguments are those of the :func:`pad2d` call; ValueError for a ``dy`` of another shape than its result.
    """
    backend = backends.get(backend)
    y_shape = padded_shape(x_shape, padding, mode)
    dy = _cotangent(dy, y_shape, x_shape, backend)
    return backend.pad2d_backward(dy, tuple(x_shape), _pads(padding), mode)


@memoized
def _pads(padding: Any) -> tuple[int, int, int, int]:
    """In the order of the backends: top, bottom, left, right."""
    left, right, top, bottom = sides("padding", padding)
    return top, bottom, left, right


@cached_call
def pad_channels(x: Any, padding: Any, *, backend: str | Backend | None = None) -> Array:
    """x (n, c, ...) -> y (n, before + c + after, ...): channels of zeros before and after those of x.

    ``padding`` is an int for both ends or a pair (before, after); a negative one cuts channels off, of which one has to
    remain. The gradient is the same function with the numbers of the opposite sign. ValueError for padding that does
    not fit, TypeError for what is no ints.

    >>> pad_channels([[[1], [2], [3]]], (-1, 2), backend="reference").ravel()
    array([2., 3., 0., 0.], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend)
    y_shape = channel_padded_shape(x.shape, padding)
    x = backend.asarray(x, common_dtype(x))
    before, after = channel_sides("padding", padding)
    kept = x.shape[1] + min(before, 0) + min(after, 0)
    if kept < x.shape[1] or kept == y_shape[1]:
        x = backend.take_channels(x, max(-before, 0), kept)
    if kept == y_shape[1]:
        return x
    y = backend.empty(y_shape, x.dtype)
    backend.fill_zero(y)
    backend.put_channels(y, x, max(before, 0))
    return y


@cached_call
def interpolate2d(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """Images of another size, larger or smaller, by PyTorch's rules.

    Args:
        x: Images (n, c, h, w), of at least one pixel; n may be 0. float64 stays, everything else becomes float32.
        size: (oh, ow) of the result, at least 1; an int for both.
        scale_factor: In place of ``size``: how many pixels a pixel becomes, above 0, a number or a pair (vertical,
            horizontal). ``oh = floor(h * scale_factor)``, and points are exactly so far apart, also where that leaves a
            part of the last pixel over.
        mode: ``"nearest"``: output i is pixel ``floor(i / scale)``. ``"bilinear"``: output i is at pixel
            ``(i + 1/2) / scale - 1/2``, between the four pixels around it, the border repeated. Neither is smoothed
            where the image becomes smaller.
        align_corners: For ``"bilinear"``: whether the corners of the result are the corner pixels of x; None for not.
        backend: A backend or its name; the default backend if None.

    Returns:
        ``y`` (n, c, oh, ow).

    Raises:
        ValueError: Unless there is one of ``size`` and ``scale_factor``; for sizes below 1, an unknown mode, corners in
            mode ``"nearest"``, the wrong number of axes.
        TypeError: For an array that is not real, and for settings of the wrong kind.

    Example:
        >>> interpolate2d([[[[0, 1]]]], (1, 4), mode="bilinear", backend="reference")
        array([[[[0.  , 0.25, 0.75, 1.  ]]]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    axes = resamplings(x.shape, size, scale_factor, mode, align_corners)
    return backend.resample2d(backend.asarray(x, common_dtype(x)), *axes)


def interpolate2d_backward(
    dy: Any,
    x_shape: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx`` (n, c, h, w): for each pixel of x the sum of the ``dy`` that were made of it, by its weight in them.

    The other arguments are those of the :func:`interpolate2d` call; ValueError for a ``dy`` of another shape than its
    result.
    """
    backend = backends.get(backend)
    rows, columns = resamplings(x_shape, size, scale_factor, mode, align_corners)
    dy = _cotangent(dy, (*x_shape[:2], rows.outputs, columns.outputs), x_shape, backend)
    return backend.resample2d_backward(dy, rows, columns)


@memoized
def resamplings(
    x_shape: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> tuple[Resampling, Resampling]:
    """The axes of :func:`interpolate2d`, rows and columns, with its errors.

    >>> [axis.outputs for axis in resamplings((1, 1, 5, 7), scale_factor=1.5)]
    [7, 10]
    """
    shape = shape_of("x_shape", x_shape, "n, c, h, w")
    corners = check_interpolation(size, scale_factor, mode, align_corners)
    if 0 in shape[2:]:
        raise ValueError(f"`x` {shape} must have images of at least one pixel")
    if size is not None:
        scales, outputs = (0.0, 0.0), pair("size", size)
    else:
        scales = scale_pair("scale_factor", scale_factor)
        outputs = math.floor(shape[2] * scales[0]), math.floor(shape[3] * scales[1])
        if min(outputs) < 1:
            raise ValueError(f"`scale_factor` {scale_factor!r} leaves nothing of the images of `x` {shape}")
    rows, columns = (
        Resampling(pixels, points, INTERPOLATIONS[mode], corners, scale)
        for pixels, points, scale in zip(shape[2:], outputs, scales, strict=True)
    )
    return rows, columns


def pixels_seen(axis: Resampling) -> list[tuple[int, int]]:
    """The first and the last pixel that each point of ``axis`` is made of.

    >>> pixels_seen(Resampling(2, 4, "linear"))
    [(0, 0), (0, 1), (0, 1), (1, 1)]
    """
    taps = resampled_taps(axis.size, axis.outputs, axis.mode, axis.align_corners, axis.scale)
    first = taps[0].sources
    last = first.copy()
    for tap in taps[1:]:
        last[tap.outputs] = tap.sources
    return list(zip(first.tolist(), last.tolist(), strict=True))


def check_interpolation(size: Any, scale_factor: Any, mode: str, align_corners: bool | None) -> bool:
    """ValueError for settings that do not go together; whether corners are aligned."""
    one_of("mode", mode, INTERPOLATIONS)
    if (size is None) == (scale_factor is None):
        raise ValueError(f"one of `size` {size!r} and `scale_factor` {scale_factor!r} must be given, the other None")
    if align_corners is None:
        return False
    if mode == "nearest":
        raise ValueError(f"`align_corners` {align_corners!r} must be None for `mode` 'nearest'")
    return flag("align_corners", align_corners)


def scale_pair(name: str, value: Any) -> tuple[float, float]:
    """``value``, a number above 0 for both axes or a pair (vertical, horizontal), as a pair of floats.

    >>> scale_pair("scale_factor", 2), scale_pair("scale_factor", (0.5, 3))
    ((2.0, 2.0), (0.5, 3.0))
    """
    entries = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(entries) != 2:
        raise ValueError(f"`{name}` {value!r} must be a number or a pair of numbers, not {len(entries)} entries")
    first, second = (number(name, entry, 0) for entry in entries)
    if 0 in (first, second):
        raise ValueError(f"`{name}` {value!r} must be above 0")
    return first, second


@cached_call
def pixel_shuffle(x: Any, upscale_factor: int, *, backend: str | Backend | None = None) -> Array:
    """Pixels made of channels: x (n, c r^2, h, w) -> y (n, c, h r, w r), r the ``upscale_factor``.

    ``y[n, c, h r + i, w r + j] = x[n, c r^2 + i r + j, h, w]``. Shi et al. 2016 ("Real-time single image and video
    super-resolution using an efficient sub-pixel convolutional neural network"). The gradient is
    :func:`pixel_unshuffle` of that of y. ValueError unless r^2 divides the channels.

    >>> pixel_shuffle([[[[1]], [[2]], [[3]], [[4]]]], 2, backend="reference")
    array([[[[1., 2.],
             [3., 4.]]]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    pixel_shuffled_shape(x.shape, upscale_factor)
    (n, channels, h, w), r = x.shape, int(upscale_factor)
    x = backend.asarray(x, common_dtype(x))
    split = ((n,), (channels // r**2, r, r), (h,), (w,))
    return backend.rearrange(x, split, ((0,), (1,), (4, 2), (5, 3)))


@cached_call
def pixel_unshuffle(x: Any, downscale_factor: int, *, backend: str | Backend | None = None) -> Array:
    """Channels made of pixels, the inverse of :func:`pixel_shuffle`: x (n, c, h r, w r) -> y (n, c r^2, h, w).

    The gradient is :func:`pixel_shuffle` of that of y. ValueError unless r, the ``downscale_factor``, divides height
    and width.
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    pixel_unshuffled_shape(x.shape, downscale_factor)
    (n, channels, h, w), r = x.shape, int(downscale_factor)
    x = backend.asarray(x, common_dtype(x))
    split = ((n,), (channels,), (h // r, r), (w // r, r))
    return backend.rearrange(x, split, ((0,), (1, 3, 5), (2,), (4,)))


@cached_call
def channel_shuffle(x: Any, groups: int, *, backend: str | Backend | None = None) -> Array:
    """The channels of x (n, c, ...) in another order: one of each of ``groups`` groups, then the next of each.

    Zhang et al. 2018 ("ShuffleNet"). The gradient is the same function with ``c / groups`` groups. ValueError unless
    the groups divide the channels.

    >>> channel_shuffle([[[1], [2], [3], [4], [5], [6]]], 2, backend="reference").ravel()
    array([1., 4., 2., 5., 3., 6.], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend)
    shape = channel_shuffled_shape(x.shape, groups)
    x, groups = backend.asarray(x, common_dtype(x)), int(groups)
    if len(shape) != 4:
        x = backend.reshape(x, (*shape[:2], math.prod(shape[2:])))
    split = ((shape[0],), (groups, shape[1] // groups), *((size,) for size in x.shape[2:]))
    joined = ((0,), (2, 1), *((axis,) for axis in range(3, len(split) + 1)))
    return backend.reshape(backend.rearrange(x, split, joined), shape)


def channel_sides(name: str, value: Any) -> tuple[int, int]:
    """``value``, an int for both ends of the channels or a pair (before, after), also below 0."""
    return pair(name, value, -LARGEST_SIZE)


@memoized
def channel_padded_shape(x_shape: Any, padding: Any) -> tuple[int, ...]:
    """The shape of the result of :func:`pad_channels`, with its errors."""
    before, after = channel_sides("padding", padding)
    shape = _with_channels(x_shape)
    if shape[1] + min(before, 0) + min(after, 0) < 1:
        raise ValueError(f"`padding` {padding!r} must leave some of the {shape[1]} channels of `x` {shape}")
    return (shape[0], before + shape[1] + after, *shape[2:])


@memoized
def pixel_shuffled_shape(x_shape: Any, upscale_factor: int) -> tuple[int, ...]:
    """The shape of the result of :func:`pixel_shuffle`, with its errors."""
    n, channels, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    r = integer("upscale_factor", upscale_factor, 1)
    if channels % r**2:
        raise ValueError(
            f"the square of `upscale_factor` {r} must divide the {channels} channels of `x` {tuple(x_shape)}"
        )
    return n, channels // r**2, h * r, w * r


@memoized
def pixel_unshuffled_shape(x_shape: Any, downscale_factor: int) -> tuple[int, ...]:
    """The shape of the result of :func:`pixel_unshuffle`, with its errors."""
    n, channels, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    r = integer("downscale_factor", downscale_factor, 1)
    if h % r or w % r:
        raise ValueError(f"`downscale_factor` {r} must divide height and width of `x` {tuple(x_shape)}")
    return n, channels * r**2, h // r, w // r


@memoized
def channel_shuffled_shape(x_shape: Any, groups: int) -> tuple[int, ...]:
    """The shape of the result of :func:`channel_shuffle`, with its errors."""
    groups = integer("groups", groups, 1)
    shape = _with_channels(x_shape)
    if shape[1] % groups:
        raise ValueError(f"`groups` {groups} must divide the {shape[1]} channels of `x` {tuple(x_shape)}")
    return shape


def _with_channels(x_shape: Any) -> tuple[int, ...]:
    if len(x_shape) < 2:
        raise ValueError(f"`x` {tuple(x_shape)} must have 2 or more axes (n, c, ...)")
    return shape_of("x_shape", x_shape, ", ".join("n" * len(x_shape)))


def _cotangent(dy: Any, y_shape: Sequence[int], x_shape: Any, backend: Backend) -> Array:
    dy = real_array("dy", dy, backend)
    check_shape("dy", dy, y_shape, f"of the result for x {tuple(x_shape)}")
    return backend.asarray(dy, common_dtype(dy))
