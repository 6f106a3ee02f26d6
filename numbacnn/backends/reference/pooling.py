"""Max and average pooling, one tap of the window at a time; sums are float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..contract import AnyPool2dGeometry, Array
from ..geometry import AdaptivePool2dGeometry, Pool2dGeometry
from ..shared.windows import adaptive_window
from .windows import tap_view

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
]


def max_pool2d(x: Array, geometry: AnyPool2dGeometry) -> Array:
    """y: the largest element of each window."""
    return max_pool2d_with_indices(x, geometry)[0]


def max_pool2d_with_indices(x: Array, geometry: AnyPool2dGeometry) -> tuple[Array, Array]:
    """y and, int32 and of its shape, where in its h*w plane each maximum was first found; -1 in a window of padding."""
    if isinstance(geometry, AdaptivePool2dGeometry):
        return _adaptive_maxima(x, geometry)
    g = geometry
    padded = np.pad(x, ((0, 0), (0, 0), *_padding(g)), constant_values=-np.inf)
    positions = np.arange(g.h * g.w, dtype=np.int32).reshape(g.h, g.w)
    positions = np.pad(positions, _padding(g), constant_values=-1)
    y = np.full(g.y_shape, -np.inf, x.dtype)
    indices = np.full(g.y_shape, -1, np.int32)
    for i, j in np.ndindex(g.kh, g.kw):
        value = tap_view(padded, i, j, g)
        position = np.broadcast_to(tap_view(positions, i, j, g), g.y_shape)
        # The first element of the image counts even if it is minus infinity, and NaN above everything but NaN.
        above = (indices == -1) | (value > y) | (np.isnan(value) & ~np.isnan(y))
        above &= position >= 0
        np.copyto(y, value, where=above)
        np.copyto(indices, position, where=above)
    return y, indices


def max_pool2d_backward(dy: Array, indices: Array, geometry: AnyPool2dGeometry) -> Array:
    """dx (n, c, h, w): each dy goes to the element that was the maximum."""
    g = geometry
    dx = np.zeros((g.n * g.c, g.h * g.w))
    elements = indices.reshape(g.n * g.c, g.oh * g.ow)
    planes = np.broadcast_to(np.arange(g.n * g.c)[:, None], elements.shape)
    found = elements >= 0
    # Not dx[...] += dy, which would keep one dy of the windows that share a maximum.
    np.add.at(dx, (planes[found], elements[found]), dy.reshape(elements.shape)[found])
    return dx.reshape(g.x_shape).astype(dy.dtype)


def avg_pool2d(x: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None) -> Array:
    """y: window sums over ``divisor`` or else the window's size."""
    g = geometry
    total = np.zeros(g.y_shape)
    if isinstance(g, AdaptivePool2dGeometry):
        for i, j, rows, columns in _adaptive_windows(g):
            total[:, :, i, j] = x[:, :, rows, columns].sum(axis=(2, 3), dtype=np.float64)
    else:
        padded = np.pad(x, ((0, 0), (0, 0), *_padding(g)))
        for i, j in np.ndindex(g.kh, g.kw):
            total += tap_view(padded, i, j, g)
    return (total / _window_sizes(g, count_include_pad, divisor)).astype(x.dtype)


def avg_pool2d_backward(
    dy: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
) -> Array:
    """dx (n, c, h, w): each dy, divided as its window was, goes to every element of the window."""
    g = geometry
    share = dy / _window_sizes(g, count_include_pad, divisor).astype(np.float64)
    if isinstance(g, AdaptivePool2dGeometry):
        dx = np.zeros(g.x_shape)
        for i, j, rows, columns in _adaptive_windows(g):
            dx[:, :, rows, columns] += share[:, :, i : i + 1, j : j + 1]
        return dx.astype(dy.dtype)
    (top, bottom), (left, right) = _padding(g)
    dpadded = np.zeros((g.n, g.c, g.h + top + bottom, g.w + left + right))
    for i, j in np.ndindex(g.kh, g.kw):
        dpadded_tap = tap_view(dpadded, i, j, g)
        dpadded_tap += share
    return np.ascontiguousarray(dpadded[:, :, top : top + g.h, left : left + g.w], dy.dtype)


def _adaptive_windows(g: AdaptivePool2dGeometry) -> Iterator[tuple[int, int, slice, slice]]:
    """Of each output its row and column, and the rows and columns of its window."""
    for i, j in np.ndindex(g.oh, g.ow):
        yield i, j, slice(*adaptive_window(i, g.oh, g.h)), slice(*adaptive_window(j, g.ow, g.w))


def _adaptive_maxima(x: Array, g: AdaptivePool2dGeometry) -> tuple[Array, Array]:
    y, indices = np.empty(g.y_shape, x.dtype), np.empty(g.y_shape, np.int32)
    positions = np.arange(g.h * g.w, dtype=np.int32).reshape(g.h, g.w)
    for i, j, rows, columns in _adaptive_windows(g):
        values, places = x[:, :, rows, columns], positions[rows, columns].reshape(-1)
        flat = values.reshape(g.n, g.c, places.size)
        first = flat.argmax(axis=2)  # of NaN, if there is one
        y[:, :, i, j] = np.take_along_axis(flat, first[..., None], axis=2)[..., 0]
        indices[:, :, i, j] = places[first]
    return y, indices


def _padding(geometry: Pool2dGeometry) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns that windows touch around the image: with ``ceil_mode`` they may reach beyond the padding."""
    g = geometry
    below = (g.oh - 1) * g.sh + g.dh * (g.kh - 1) + 1 - g.pt - g.h
    right = (g.ow - 1) * g.sw + g.dw * (g.kw - 1) + 1 - g.pl - g.w
    return (g.pt, max(below, 0)), (g.pl, max(right, 0))


def _window_sizes(geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None) -> Array:
    """What the sum of each window is divided by (oh, ow): how many of its elements count, at least 1, or ``divisor``.

    They are those inside the image or, with ``count_include_pad``, inside the padded image; never those beyond.
    """
    g = geometry
    if divisor is not None:
        return np.full((g.oh, g.ow), divisor)
    if isinstance(g, AdaptivePool2dGeometry):
        sizes = [
            (rows.stop - rows.start) * (columns.stop - columns.start) for _, _, rows, columns in _adaptive_windows(g)
        ]
        return np.array(sizes).reshape(g.oh, g.ow)
    rows = _taps_inside(g.h, g.oh, g.kh, g.sh, g.dh, g.pt, g.pb, count_include_pad)
    columns = _taps_inside(g.w, g.ow, g.kw, g.sw, g.dw, g.pl, g.pr, count_include_pad)
    return np.maximum(rows[:, None] * columns, 1)


def _taps_inside(
    size: int, windows: int, kernel: int, stride: int, dilation: int, before: int, after: int, padding_counts: bool
) -> Array:
    position = np.arange(windows)[:, None] * stride + np.arange(kernel) * dilation - before
    lowest, end = (-before, size + after) if padding_counts else (0, size)
    return ((position >= lowest) & (position < end)).sum(axis=1)
