"""Max and average pooling: a thread per element of the result, or per few neighbours in a row of a gradient.

Backward passes gather, too: each pixel looks at the windows that it can be in, so nothing is added by two threads at
once and the order of additions is that of the windows. Neighbouring pixels look at the same ones, so that a thread
works out once where they are and reads each once. Small windows have kernels of their own, whose loops are unrolled and
without branches (what is outside is replaced by what is not, and not used): then the loads of a window are under way
together.

roofline: memory, one read of x and one write of y (plus an int32 per output for the places of the maxima); that
windows overlap is a matter of the caches. A GPU has time for some five instructions a byte: hence divisions by what the
host has prepared, indices of 32 bits, and kernels that do not ask whether a window is inside where all of them are.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..contract import AnyPool2dGeometry, Array
from ..geometry import AdaptivePool2dGeometry, Pool2dGeometry
from ..shared import windows
from .block.reduce import THREADS, lane_bits, lane_of, lanes_sum, row_blocks
from .runtime import device_array
from .runtime.kernel import THREADS as MAPPING_THREADS
from .runtime.kernel import Kernel, block_kernel, mapping
from .runtime.target import (
    MAX_VECTOR,
    cuda,
    device_function,
    divided,
    divisor,
    quotient,
    scalar,
    vector_store,
    within,
    word,
)

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
]

# Loops are unrolled over windows of so many elements, and over so many windows that a thread of a gradient looks at.
MAX_UNROLLED = 9
MAX_UNROLLED_WINDOWS = 18

_Across = tuple[int, int, int, int]
"""Which windows the neighbours of a group are in, where the stride divides their number, so that it is the same in
every group: the stride; the first window, of group 0; where the group begins in it; how many columns a window extends
over. Zeros where it is not the same.
"""
_ANYWHERE: _Across = (0, 0, 0, 0)

taps_inside = device_function(windows.taps_inside)


@device_function
def _adaptive_window(o, outputs, size):
    """``shared.windows.adaptive_window`` in 32 bits: where it begins, and how many inputs it has."""
    first = quotient(o * size, outputs)
    return first, quotient((o + 1) * size + outputs - 1, outputs) - first


@device_function
def _first_window(position, before, extent, stride, by_stride):
    """The first window, of all that begin at ``o * stride - before``, that has not ended before ``position``."""
    return divided(max(word(position + before - extent + stride), word(0)), by_stride)


@device_function
def _place_of(i, height, by_height, width, by_width):
    """Plane, row and column of element ``i``; ``by_height`` and ``by_width`` are divisors."""
    line = divided(i, by_width)
    plane = divided(line, by_height)
    return plane, word(line - plane * height), word(i - line * width)


@device_function
def _window_size(row, column, g):
    """What a window's sum is divided by; ``g`` holds what :func:`_counting` gives."""
    kh, kw, sh, sw, pt, pl, top, bottom, left, right, common = g
    if common:
        return common
    rows = taps_inside(row * sh - pt, kh, top, bottom)
    return rows * taps_inside(column * sw - pl, kw, left, right)


@device_function
def _clamped(position, size):
    return min(max(position, word(0)), word(size - 1))


@functools.cache
def _max_kernel(kh: int, kw: int, with_places: bool, adaptive: bool, edge: str) -> Kernel:
    """For windows of kh x kw, or of any size for (0, 0); ``edge`` is what :func:`_edge` gives.

    Without places ``indices`` is any array.
    """
    clamped, checked = edge == "clamped", edge == "checked"

    def max_pool(i, y, x, indices, g):
        h, w, oh, ow, by_oh, by_ow, rows, columns, sh, sw, pt, pl, dh, dw = g
        plane, window_row, window_column = _place_of(i, oh, by_oh, ow, by_ow)
        top, left = word(window_row * sh - pt), word(window_column * sw - pl)
        if adaptive:
            top, rows = _adaptive_window(window_row, oh, h)
            left, columns = _adaptive_window(window_column, ow, w)
        start = word(plane * h * w)
        largest, found = scalar(x, -math.inf), word(-1)
        for u in range(kh if kh else rows):
            row = word(top + u * dh)
            row = _clamped(row, h) if clamped else row
            for v in range(kw if kw else columns):
                column = word(left + v * dw)
                column = _clamped(column, w) if clamped else column
                inside = within(row, h) & within(column, w) if checked else True
                place = word(row * w + column)
                value = x[word(start + _clamped(row, h) * w + _clamped(column, w)) if checked else word(start + place)]
                # The first element of the image counts even if it is minus infinity, and NaN above all but NaN.
                first = found < 0 if checked else u + v == 0
                above = (first | (not value <= largest)) & (largest == largest) & inside
                largest = value if above else largest
                found = place if above else found
        y[i] = largest
        if with_places:
            indices[i] = found

    places = "-places" if with_places else ""
    return Kernel(max_pool, "kernel", MAPPING_THREADS, f"{__name__}.max_pool-{_kind(kh, kw, adaptive)}{places}-{edge}")


@functools.cache
def _max_backward_kernel(count: int, seen: tuple[int, int], across: _Across, adaptive: bool, dtype: Any) -> Kernel:
    """For ``count`` neighbours that are in at most as many windows as ``seen`` says, in any number for (0, 0)."""
    store = vector_store(count)
    rows_seen, columns_seen = seen
    stride, first, _, _ = across

    def max_pool_backward(i, dx, dy, indices, g):
        h, w, oh, ow, by_h, groups, by_groups, rows, columns, extent_h, extent_w, sh, sw, by_sh, by_sw, pt, pl = g
        plane, row, group = _place_of(i, h, by_h, groups, by_groups)
        column = word(group * count)
        place = word(row * w + column)
        top = _first_window(row, pt, extent_h, sh, by_sh)
        left = word(group * (count // stride) + first) if stride else _first_window(column, pl, extent_w, sw, by_sw)
        if adaptive:
            top, rows = _adaptive_window(row, h, oh)
            left, columns = _adaptive_window(column, w, ow)
        total = cuda.local.array(MAX_VECTOR, dtype)
        for k in range(MAX_VECTOR):
            total[k] = 0
        for u in range(rows_seen if rows_seen else rows):
            for v in range(columns_seen if columns_seen else columns):
                inside = within(top + u, oh) & within(left + v, ow)
                window = word((plane * oh + top + u) * ow + left + v) if inside else word(0)
                gradient = dy[window]
                gradient = gradient if inside else scalar(dy, 0)
                found = word(indices[window] - place)
                for k in range(count):
                    total[k] += gradient if found == k else scalar(dy, 0)
        store(dx, i * count, (total[0], total[1], total[2], total[3]))

    name = f"{__name__}.max_pool_backward-{_kind(*seen, adaptive)}x{count}-{_words(across)}"
    return Kernel(max_pool_backward, "kernel", MAPPING_THREADS, name)


def _window_sum(kh: int, kw: int, whole: bool) -> Any:
    """The sum of a window of kh x kw, or of any size for (0, 0), in the dtype of ``zero``."""

    @device_function
    def window_sum(x, start, top, left, h, w, rows, columns, zero):
        total = zero
        first = start + word(top * w + left)
        for u in range(kh if kh else rows):
            row = word(top + u)
            for v in range(kw if kw else columns):
                if whole:
                    total += x[first + u * w + v]
                else:
                    column = word(left + v)
                    value = x[word(start + _clamped(row, h) * w + _clamped(column, w))]
                    total += value if within(row, h) & within(column, w) else zero
        return total

    return window_sum


@functools.cache
def _avg_kernel(kh: int, kw: int, adaptive: bool, whole: bool, uniform: bool) -> Kernel:
    """For windows of kh x kw, or of any size for (0, 0), all of them inside if ``whole``, alike if ``uniform``."""
    quick_sum, long_sum = _window_sum(kh, kw, whole), _window_sum(0, 0, False)

    def avg_pool(i, y, x, g, counting):
        h, w, oh, ow, by_oh, by_ow, rows, columns, sh, sw, pt, pl = g
        plane, window_row, window_column = _place_of(i, oh, by_oh, ow, by_ow)
        top, left = word(window_row * sh - pt), word(window_column * sw - pl)
        start = word(plane * h * w)
        size = counting[-1] if uniform else _window_size(window_row, window_column, counting)
        if adaptive:
            top, rows = _adaptive_window(window_row, oh, h)
            left, columns = _adaptive_window(window_column, ow, w)
            size = counting[-1] if counting[-1] else rows * columns
        if kh:
            total = quick_sum(x, start, top, left, h, w, rows, columns, scalar(x, 0))
            # A sum may be too large for the dtype where the mean is not.
            if total > -math.inf and total < math.inf:
                y[i] = total / scalar(x, size)
                return
        total = long_sum(x, start, top, left, h, w, rows, columns, 0.0)
        y[i] = scalar(x, total / np.float64(size))

    alike = f"{'-whole' if whole else ''}{'-uniform' if uniform else ''}"
    return Kernel(avg_pool, "kernel", MAPPING_THREADS, f"{__name__}.avg_pool-{_kind(kh, kw, adaptive)}{alike}")


@mapping
def _shares(i, dy, oh, by_oh, ow, by_ow, counting):
    """What an output's gradient gives to each element of its window."""
    _, row, column = _place_of(i, oh, by_oh, ow, by_ow)
    return dy[i] / scalar(dy, _window_size(row, column, counting))


@mapping
def _adaptive_shares(i, dy, h, w, oh, by_oh, ow, by_ow, divided_by):
    _, row, column = _place_of(i, oh, by_oh, ow, by_ow)
    _, rows = _adaptive_window(row, oh, h)
    _, columns = _adaptive_window(column, ow, w)
    return dy[i] / scalar(dy, divided_by if divided_by else rows * columns)


@functools.cache
def _avg_backward_kernel(count: int, seen: tuple[int, int], across: _Across, adaptive: bool, dtype: Any) -> Kernel:
    """As :func:`_max_backward_kernel`."""
    store = vector_store(count)
    rows_seen, columns_seen = seen
    stride, first, begins, extent = across

    def avg_pool_backward(i, dx, dy, share, g):
        h, w, oh, ow, by_h, groups, by_groups, rows, columns, kh, kw, sh, sw, by_sh, by_sw, pt, pl = g
        plane, row, group = _place_of(i, h, by_h, groups, by_groups)
        column = word(group * count)
        top = _first_window(row, pt, kh, sh, by_sh)
        left = word(group * (count // stride) + first) if stride else _first_window(column, pl, kw, sw, by_sw)
        if adaptive:
            top, rows = _adaptive_window(row, h, oh)
            left, columns = _adaptive_window(column, w, ow)
        total = cuda.local.array(MAX_VECTOR, dtype)
        for k in range(MAX_VECTOR):
            total[k] = 0
        for u in range(rows_seen if rows_seen else rows):
            has_row = within(top + u, oh) & (adaptive | within(row + pt - (top + u) * sh, kh))
            for v in range(columns_seen if columns_seen else columns):
                inside = has_row & within(left + v, ow)
                gradient = dy[word((plane * oh + top + u) * ow + left + v) if inside else word(0)]
                gradient = share * gradient if inside else scalar(dy, 0)
                for k in range(count):
                    if stride:
                        has_column = 0 <= begins - v * stride + k < extent
                    else:
                        has_column = adaptive | within(column + pl - (left + v) * sw + k, kw)
                    total[k] += gradient if has_column else scalar(dy, 0)
        store(dx, i * count, (total[0], total[1], total[2], total[3]))

    name = f"{__name__}.avg_pool_backward-{_kind(*seen, adaptive)}x{count}-{_words(across)}"
    return Kernel(avg_pool_backward, "kernel", MAPPING_THREADS, name)


def _words(numbers: tuple[int, ...]) -> str:
    return "_".join(map(str, numbers))


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
    places = indices is not None
    if isinstance(g, AdaptivePool2dGeometry):
        kernel = _max_kernel(0, 0, places, True, "whole")
        sizes = (*_outputs(g), 0, 0, 1, 1, 0, 0, 1, 1)
    else:
        kernel = _max_kernel(*_unrolled(g.kh, g.kw, MAX_UNROLLED), places, False, _edge(g))
        sizes = (*_outputs(g), g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
    kernel(y.size, y, x, y if indices is None else indices, sizes)


def max_pool2d_backward(dy: Array, indices: Array, geometry: AnyPool2dGeometry) -> Array:
    g = geometry
    dx = device_array.new(g.x_shape, dy.dtype)
    if isinstance(g, AdaptivePool2dGeometry):
        _max_backward_kernel(1, (0, 0), _ANYWHERE, True, dy.dtype)(dx.size, dx, dy, indices, _adaptive_inputs(g))
        return dx
    count, seen, across, sizes = _inputs(g, g.dh * (g.kh - 1) + 1, g.dw * (g.kw - 1) + 1)
    _max_backward_kernel(count, seen, across, False, dy.dtype)(dx.size // count, dx, dy, indices, sizes)
    return dx


def avg_pool2d(x: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None) -> Array:
    g = geometry
    y = device_array.new(g.y_shape, x.dtype)
    if isinstance(g, AdaptivePool2dGeometry):
        sizes = (*_outputs(g), 0, 0, 1, 1, 0, 0)
        _avg_kernel(0, 0, True, False, False)(y.size, y, x, sizes, (*_ALL_COUNT, divisor or 0))
        return y
    if (g.kh, g.kw, g.oh, g.ow, g.pt, g.pl) == (g.h, g.w, 1, 1, 0, 0):
        # Global pooling: neighbouring threads that walk along different planes would share no load.
        bits = lane_bits(g.h * g.w)
        _plane_means(row_blocks(y.size, bits), y, x, (y.size, g.h * g.w, bits, divisor or g.h * g.w))
        return y
    counting = _counting(g, count_include_pad, divisor)
    unrolled, whole = _unrolled(g.kh, g.kw, MAX_UNROLLED), _inside(g, 0, 0, 0, 0)
    kernel = _avg_kernel(*unrolled, False, whole, counting[-1] != 0)
    kernel(y.size, y, x, (*_outputs(g), g.kh, g.kw, g.sh, g.sw, g.pt, g.pl), counting)
    return y


def avg_pool2d_backward(
    dy: Array, geometry: AnyPool2dGeometry, count_include_pad: bool, divisor: int | None = None
) -> Array:
    g = geometry
    dx = device_array.new(g.x_shape, dy.dtype)
    if isinstance(g, AdaptivePool2dGeometry):
        shares = device_array.new(dy.shape, dy.dtype)
        _, _, oh, ow, by_oh, by_ow = _outputs(g)
        _adaptive_shares(dy.size, shares, dy, g.h, g.w, oh, by_oh, ow, by_ow, divisor or 0)
        _avg_backward_kernel(1, (0, 0), _ANYWHERE, True, dy.dtype)(dx.size, dx, shares, 1.0, _adaptive_inputs(g))
        return dx
    counting = _counting(g, count_include_pad, divisor)
    shares, common = dy, counting[-1]
    if not common:
        shares = device_array.new(dy.shape, dy.dtype)
        _, _, oh, ow, by_oh, by_ow = _outputs(g)
        _shares(dy.size, shares, dy, oh, by_oh, ow, by_ow, counting)
    count, seen, across, sizes = _inputs(g, g.kh, g.kw)
    kernel = _avg_backward_kernel(count, seen, across, False, dy.dtype)
    kernel(dx.size // count, dx, shares, 1 / (common or 1), sizes)
    return dx


def _unrolled(rows: int, columns: int, most: int) -> tuple[int, int]:
    """The numbers of steps that a kernel is made for; none of them if they are many."""
    return (rows, columns) if rows * columns <= most else (0, 0)


def _outputs(g: AnyPool2dGeometry) -> tuple[int, ...]:
    """For kernels with a thread per output: the sizes of x and y, and the divisors that are those of y."""
    return g.h, g.w, g.oh, g.ow, divisor(g.oh), divisor(g.ow)


def _adaptive_inputs(g: AdaptivePool2dGeometry) -> tuple[int, ...]:
    """What a backward kernel needs, for one element to a thread."""
    return g.h, g.w, g.oh, g.ow, divisor(g.h), g.w, divisor(g.w), 0, 0, 1, 1, 1, 1, divisor(1), divisor(1), 0, 0


def _inputs(g: Pool2dGeometry, extent_h: int, extent_w: int) -> tuple[int, tuple[int, int], _Across, tuple[int, ...]]:
    """Elements to a thread of a backward kernel, what it is made for besides, and the sizes that it needs."""
    count = math.gcd(g.w, MAX_VECTOR)
    across = _ANYWHERE
    if count % g.sw == 0:
        first = -((extent_w - 1 - g.pl) // g.sw)
        across = g.sw, first, g.pl - first * g.sw, extent_w
    rows, columns = _seen(1, extent_h, g.sh, g.pt, g.oh), _seen(count, extent_w, g.sw, g.pl, g.ow)
    groups = g.w // count
    sizes = (g.h, g.w, g.oh, g.ow, divisor(g.h), groups, divisor(groups), rows, columns, extent_h, extent_w)
    strides = (g.sh, g.sw, divisor(g.sh), divisor(g.sw), g.pt, g.pl)
    return count, _unrolled(rows, columns, MAX_UNROLLED_WINDOWS), across, (*sizes, *strides)


def _seen(count: int, extent: int, stride: int, before: int, outputs: int) -> int:
    """The most windows that ``count`` neighbours are in, of which the first is at a multiple of ``count``."""
    starts = range(before, before + stride, math.gcd(count, stride))
    most = max((start + count - 1) // stride + (extent - 1 - start) // stride + 1 for start in starts)
    return max(1, most) if count % stride == 0 else max(1, min(most, outputs))


def _inside(g: Pool2dGeometry, top: int, bottom: int, left: int, right: int) -> bool:
    """Whether all windows are inside of the image with so many rows and columns around it."""
    last_row, last_column = (g.oh - 1) * g.sh - g.pt + (g.kh - 1) * g.dh, (g.ow - 1) * g.sw - g.pl + (g.kw - 1) * g.dw
    return g.pt <= top and last_row < g.h + bottom and g.pl <= left and last_column < g.w + right


def _edge(g: Pool2dGeometry) -> str:
    """How a window meets the edges of the image.

    ``"whole"``: none does. ``"clamped"``: each has neighbouring elements of which one is inside, so that one outside
    may be replaced by the nearest inside, which is another of the same window: no maximum changes, nor where it is
    found first. ``"checked"``: any other.
    """
    if _inside(g, 0, 0, 0, 0):
        return "whole"
    some_inside = g.pt < g.kh and g.pl < g.kw and (g.oh - 1) * g.sh - g.pt < g.h and (g.ow - 1) * g.sw - g.pl < g.w
    return "clamped" if g.dh == g.dw == 1 and some_inside else "checked"


def _counting(g: Pool2dGeometry, count_include_pad: bool, common: int | None) -> tuple[int, ...]:
    """What :func:`_window_size` needs: the windows, where elements count, in the padded image or in the image, and last
    the number of those that count in each window, ``common`` if given; 0 where it is not the same in all.
    """
    top, bottom, left, right = (g.pt, g.pb, g.pl, g.pr) if count_include_pad else (0, 0, 0, 0)
    if common is None:
        common = g.kh * g.kw if _inside(g, top, bottom, left, right) else 0
    return g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, -top, g.h + bottom, -left, g.w + right, common


_ALL_COUNT = (1, 1, 1, 1, 0, 0, 0, 1, 0, 1)
"""The same of adaptive windows, whose elements all count, without their number."""
