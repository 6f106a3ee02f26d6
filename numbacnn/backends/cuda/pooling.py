"""Max and average pooling: a thread per element of the result, which reads what it is made of.

Backward passes gather, too: each pixel looks at the windows that it can be in, so nothing is added by two threads at
once and the order of additions is that of the windows. Small windows have kernels of their own, whose loops are
unrolled and without branches (what is outside is replaced by what is not, and not used): then the loads of a window are
under way together.

roofline: memory, one read of x and one write of y (plus an int32 per output for the places of the maxima); that windows
overlap is a matter of the caches.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..contract import AnyPool2dGeometry, Array
from ..geometry import AdaptivePool2dGeometry, Pool2dGeometry
from ..shared import windows
from .block.reduce import THREADS, lane_bits, lane_of, lanes_sum, row_blocks
from .runtime import device_array
from .runtime.kernel import THREADS as MAPPING_THREADS
from .runtime.kernel import Kernel, block_kernel, mapping
from .runtime.target import cuda, device_function, quotient, scalar

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
]

MAX_UNROLLED = 9

taps_inside = device_function(windows.taps_inside)


@device_function
def _adaptive_window(o, outputs, size):
    """``shared.windows.adaptive_window`` in 32 bits: where it begins, and how many inputs it has."""
    first = quotient(o * size, outputs)
    return first, quotient((o + 1) * size + outputs - 1, outputs) - first


@device_function
def _first_window(position, before, extent, stride):
    """The first window, of all that begin at ``o * stride - before``, that has not ended before ``position``."""
    return quotient(max(position + before - extent + stride, 0), stride)


@device_function
def _window_size(row, column, g):
    """What a window's sum is divided by; ``g`` holds what :func:`_counting` gives."""
    kh, kw, sh, sw, pt, pl, top, bottom, left, right, divisor = g
    if divisor:
        return divisor
    rows = taps_inside(row * sh - pt, kh, top, bottom)
    return rows * taps_inside(column * sw - pl, kw, left, right)


@functools.cache
def _max_kernel(kh: int, kw: int, with_places: bool, adaptive: bool) -> Kernel:
    """For windows of kh x kw, or of any size for (0, 0); without places ``indices`` is any array."""

    def max_pool(i, y, x, indices, g):
        h, w, oh, ow, rows, columns, sh, sw, pt, pl, dh, dw = g
        line = quotient(i, ow)
        plane = quotient(line, oh)
        top, left = (line - plane * oh) * sh - pt, (i - line * ow) * sw - pl
        if adaptive:
            top, rows = _adaptive_window(line - plane * oh, oh, h)
            left, columns = _adaptive_window(i - line * ow, ow, w)
        start = plane * h * w
        least = scalar(x, -math.inf)
        largest, found = least, -1
        for u in range(kh if kh else rows):
            row = top + u * dh
            for v in range(kw if kw else columns):
                column = left + v * dw
                inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
                place = row * w + column
                value = x[start + (place if inside else 0)]
                # The first element of the image counts even if it is minus infinity, and NaN above all but NaN.
                above = (value > largest) | (found < 0) | ((value != value) & (largest == largest))
                largest = value if inside & above else largest
                found = place if inside & above else found
        y[i] = largest
        if with_places:
            indices[i] = found

    name = f"{__name__}.max_pool-{_kind(kh, kw, adaptive)}{'-places' if with_places else ''}"
    return Kernel(max_pool, "kernel", MAPPING_THREADS, name)


@functools.cache
def _max_backward_kernel(reach_h: int, reach_w: int, adaptive: bool) -> Kernel:
    """For pixels that are in at most reach_h x reach_w windows, or in any number of them for (0, 0)."""

    def max_pool_backward(i, dy, indices, g):
        h, w, oh, ow, rows, columns, extent_h, extent_w, sh, sw, pt, pl = g
        line = quotient(i, w)
        plane = quotient(line, h)
        row, column = line - plane * h, i - line * w
        place = row * w + column
        top, left = _first_window(row, pt, extent_h, sh), _first_window(column, pl, extent_w, sw)
        if adaptive:
            top, rows = _adaptive_window(row, h, oh)
            left, columns = _adaptive_window(column, w, ow)
        total = scalar(dy, 0)
        for u in range(reach_h if reach_h else rows):
            for v in range(reach_w if reach_w else columns):
                inside = (top + u < oh) & (left + v < ow)
                window = (plane * oh + top + u) * ow + left + v if inside else 0
                gradient = dy[window]
                total += gradient if inside & (indices[window] == place) else scalar(dy, 0)
        return total

    name = f"{__name__}.max_pool_backward-{_kind(reach_h, reach_w, adaptive)}"
    return Kernel(max_pool_backward, "mapping", MAPPING_THREADS, name)


@functools.cache
def _avg_kernel(kh: int, kw: int, adaptive: bool) -> Kernel:
    """For windows of kh x kw, or of any size for (0, 0)."""

    @device_function
    def window_sum(x, start, top, left, h, w, rows, columns, zero):
        """In the dtype of ``zero``."""
        total = zero
        for u in range(kh if kh else rows):
            row = top + u
            for v in range(kw if kw else columns):
                column = left + v
                inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
                value = x[start + (row * w + column if inside else 0)]
                total += value if inside else zero
        return total

    def avg_pool(i, x, g, counting):
        h, w, oh, ow, rows, columns, sh, sw, pt, pl = g
        line = quotient(i, ow)
        plane = quotient(line, oh)
        window_row, window_column = line - plane * oh, i - line * ow
        top, left = window_row * sh - pt, window_column * sw - pl
        start = plane * h * w
        size = _window_size(window_row, window_column, counting)
        if adaptive:
            top, rows = _adaptive_window(window_row, oh, h)
            left, columns = _adaptive_window(window_column, ow, w)
            size = counting[-1] if counting[-1] else rows * columns
        if kh:
            total = window_sum(x, start, top, left, h, w, rows, columns, scalar(x, 0))
            # A sum may be too large for the dtype where the mean is not.
            if total > -math.inf and total < math.inf:
                return total / scalar(x, size)
        total = window_sum(x, start, top, left, h, w, rows, columns, 0.0)
        return scalar(x, total / np.float64(size))

    return Kernel(avg_pool, "mapping", MAPPING_THREADS, f"{__name__}.avg_pool-{_kind(kh, kw, adaptive)}")


@mapping
def _shares(i, dy, oh, ow, counting):
    """What an output's gradient gives to each element of its window."""
    line = quotient(i, ow)
    return dy[i] / scalar(dy, _window_size(line - quotient(line, oh) * oh, i - line * ow, counting))


@mapping
def _adaptive_shares(i, dy, h, w, oh, ow, divisor):
    line = quotient(i, ow)
    _, rows = _adaptive_window(line - quotient(line, oh) * oh, oh, h)
    _, columns = _adaptive_window(i - line * ow, ow, w)
    return dy[i] / scalar(dy, divisor if divisor else rows * columns)


@functools.cache
def _avg_backward_kernel(reach_h: int, reach_w: int, adaptive: bool) -> Kernel:
    """For pixels that are in at most reach_h x reach_w windows, or in any number of them for (0, 0)."""

    def avg_pool_backward(i, shares, g):
        h, w, oh, ow, rows, columns, kh, kw, sh, sw, pt, pl = g
        line = quotient(i, w)
        plane = quotient(line, h)
        row, column = line - plane * h, i - line * w
        top, left = _first_window(row, pt, kh, sh), _first_window(column, pl, kw, sw)
        if adaptive:
            top, rows = _adaptive_window(row, h, oh)
            left, columns = _adaptive_window(column, w, ow)
        total = scalar(shares, 0)
        for u in range(reach_h if reach_h else rows):
            begins_above = adaptive | ((top + u) * sh - pt <= row)
            for v in range(reach_w if reach_w else columns):
                begins_before = adaptive | ((left + v) * sw - pl <= column)
                inside = (top + u < oh) & (left + v < ow) & begins_above & begins_before
                share = shares[(plane * oh + top + u) * ow + left + v if inside else 0]
                total += share if inside else scalar(shares, 0)
        return total

    name = f"{__name__}.avg_pool_backward-{_kind(reach_h, reach_w, adaptive)}"
    return Kernel(avg_pool_backward, "mapping", MAPPING_THREADS, name)


def _kind(rows: int, columns: int, adaptive: bool) -> str:
    """How a kernel's name tells what it was made for."""
    return "adaptive" if adaptive else f"{rows}x{columns}"


@block_kernel(THREADS)
def _plane_means(block, thread, y, x, g):
    """Neighbouring threads add up a plane."""
    planes, size, bits, divisor = g
    sums = cuda.shared.array(THREADS, np.float64)
    plane, lane = lane_of(block, thread, bits)
    lanes = 1 << bits
    total = 0.0
    if plane < planes:
        i = lane
        while i < size:
            total += x[plane * size + i]
            i += lanes
    total = lanes_sum(thread, lane, lanes, total, sums)
    if plane < planes and lane == 0:
        y[plane] = total / np.float64(divisor)


def max_pool2d(x: Array, geometry: AnyPool2dGeometry) -> Array:
    y = device_array.new(geometry.y_shape, x.dtype)
    _find_maxima(x, geometry, y, None)
    return y


def max_pool2d_with_indices(x: Array, geometry: AnyPool2dGeometry) -> tuple[Array, Array]:
    y, indices = device_array.new(geometry.y_shape, x.dtype), device_array.new(geometry.y_shape, np.int32)
    _find_maxima(x, geometry, y, indices)
    return y, indices


def _find_maxima(x: Array, g: AnyPool2dGeometry, y: Array, indices: Array | None) -> None:
    if isinstance(g, AdaptivePool2dGeometry):
        kernel = _max_kernel(0, 0, indices is not None, True)
        sizes = (g.h, g.w, g.oh, g.ow, 0, 0, 1, 1, 0, 0, 1, 1)
    else:
        kernel = _max_kernel(*_unrolled(g.kh, g.kw), indices is not None, False)
        sizes = (g.h, g.w, g.oh, g.ow, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
    kernel(y.size, y, x, y if indices is None else indices, sizes)


def max_pool2d_backward(dy: Array, indices: Array, geometry: AnyPool2dGeometry) -> Array:
    g = geometry
    dx = device_array.new(g.x_shape, dy.dtype)
    if isinstance(g, AdaptivePool2dGeometry):
        _max_backward_kernel(0, 0, True)(dx.size, dx, dy, indices, (g.h, g.w, g.oh, g.ow, 0, 0, 1, 1, 1, 1, 0, 0))
        return dx
    extent = (g.dh * (g.kh - 1) + 1, g.dw * (g.kw - 1) + 1)
    reach = _reach(g, extent)
    sizes = (g.h, g.w, g.oh, g.ow, *reach, *extent, g.sh, g.sw, g.pt, g.pl)
    _max_backward_kernel(*_unrolled(*reach), False)(dx.size, dx, dy, indices, sizes)
    return dx


def avg_pool2d(x: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None) -> Array:
    g = geometry
    y = device_array.new(g.y_shape, x.dtype)
    if isinstance(g, AdaptivePool2dGeometry):
        _avg_kernel(0, 0, True)(y.size, y, x, (g.h, g.w, g.oh, g.ow, 0, 0, 1, 1, 0, 0), (*_ALL_COUNT, divisor or 0))
        return y
    if (g.kh, g.kw, g.oh, g.ow, g.pt, g.pl) == (g.h, g.w, 1, 1, 0, 0):
        # Global pooling: neighbouring threads that walk along different planes would share no load.
        bits = lane_bits(g.h * g.w)
        _plane_means(row_blocks(y.size, bits), y, x, (y.size, g.h * g.w, bits, divisor or g.h * g.w))
        return y
    sizes = (g.h, g.w, g.oh, g.ow, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl)
    _avg_kernel(*_unrolled(g.kh, g.kw), False)(y.size, y, x, sizes, _counting(g, count_include_pad, divisor))
    return y


def avg_pool2d_backward(
    dy: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
) -> Array:
    g = geometry
    shares, dx = device_array.new(dy.shape, dy.dtype), device_array.new(g.x_shape, dy.dtype)
    if isinstance(g, AdaptivePool2dGeometry):
        _adaptive_shares(dy.size, shares, dy, g.h, g.w, g.oh, g.ow, divisor or 0)
        _avg_backward_kernel(0, 0, True)(dx.size, dx, shares, (g.h, g.w, g.oh, g.ow, 0, 0, 1, 1, 1, 1, 0, 0))
        return dx
    _shares(dy.size, shares, dy, g.oh, g.ow, _counting(g, count_include_pad, divisor))
    reach = _reach(g, (g.kh, g.kw))
    sizes = (g.h, g.w, g.oh, g.ow, *reach, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl)
    _avg_backward_kernel(*_unrolled(*reach), False)(dx.size, dx, shares, sizes)
    return dx


def _unrolled(rows: int, columns: int) -> tuple[int, int]:
    """The numbers of steps that a kernel is made for; none of them if they are many."""
    return (rows, columns) if rows * columns <= MAX_UNROLLED else (0, 0)


def _reach(g: Pool2dGeometry, extent: tuple[int, int]) -> tuple[int, int]:
    """The most windows that a pixel is in, down and across; no more than there are."""
    return max(1, min(-(-extent[0] // g.sh), g.oh)), max(1, min(-(-extent[1] // g.sw), g.ow))


def _counting(g: Pool2dGeometry, count_include_pad: bool, divisor: int | None) -> tuple[int, ...]:
    """What :func:`_window_size` needs: the windows, and where elements count, in the padded image or in the image."""
    top, bottom, left, right = (g.pt, g.pb, g.pl, g.pr) if count_include_pad else (0, 0, 0, 0)
    return g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, -top, g.h + bottom, -left, g.w + right, divisor or 0


_ALL_COUNT = (1, 1, 1, 1, 0, 0, 0, 1, 0, 1)
"""The same of adaptive windows, whose elements all count, without the divisor."""
