"""Max and average pooling: a chunk is one plane, or several small ones.

Where windows are 1 or 2 columns apart, the outputs of a row are computed a vector at a time (``pool_rows.py``), from a
padded copy of the plane if there is padding; else, or where a window is as wide as the image, one by one. Maxima whose
places nobody wants are found a row and a column of a window at a time (``pool_separable.py``), where that is less.

roofline: one read of x and one write of y from memory (plus an int32 per output for the places of the maxima);
the kh kw operations an output are done in L1.
"""

from __future__ import annotations

import numpy as np

from ..geometry import Pool2dGeometry
from ..shared.windows import taps_inside
from . import pool_separable
from .bands import round_up
from .jit import Scratch, function, kernel
from .memory import empty
from .pool_rows import AVG_ROWS, MAX_ROWS, SPREAD_ROW, STEPS, avg_row, max_row, spread
from .simd import copy_run
from .sums import RUN_IN_ORDER, are_finite, window_sum

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d", "max_pool2d_backward", "max_pool2d_with_indices"]

# Of planes that are small, so many elements are a chunk.
CHUNK_ELEMENTS = 1 << 12
# Planes with fewer columns of outputs fill no vector: means are stored as they come, and maxima are made for
# SIDE_BY_SIDE outputs of several planes at a time.
FEW_COLUMNS, SIDE_BY_SIDE = 16, 64


@function
def lay_plane(image, start, h, w, pt, pl, padded, rows, columns, filler):
    """padded[row, column] = image[start + (row - pt) w + column - pl], or ``filler`` outside of the image."""
    for i in range(rows * columns):
        padded[np.uintp(i)] = filler
    for row in range(min(h, rows - pt)):
        copy_run(padded, (row + pt) * columns + pl, image, start + row * w, min(w, columns - pl))


@function
def lay_offsets(offsets, first, width, kh, kw, dh, dw):
    """Where the taps of a window are beside its first, in rows of ``width``."""
    for i in range(kh):
        for j in range(kw):
            offsets[first + i * kw + j] = i * dh * width + j * dw


@function
def largest_of(image, at, h, w, top, left, kh, kw, dh, dw):
    """The largest of a window's elements in the image, and its place there; -1 if the window has none."""
    value, found = -np.inf, -1
    for i in range(kh):
        for j in range(kw):
            r, c = top + i * dh, left + j * dw
            if r >= 0 and r < h and c >= 0 and c < w:
                candidate = image[at + r * w + c]
                # The first element counts even if it is minus infinity, and NaN above all but NaN.
                if candidate > value or found < 0 or (candidate != candidate and value == value):
                    value, found = candidate, r * w + c
    return value, found


@kernel
def _max_planes(chunk, x, y, indices, offsets, padded, routine, kh, kw, sh, sw, pt, pl, dh, dw, rows, columns):
    """``rows`` x ``columns`` is the size of a padded plane, if it takes one; 0 for outputs one by one.

    ``indices`` may be empty: then no places are asked for, and ``routine`` is one without.
    """
    h, w, oh, ow = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    image, largest, places = x.reshape(-1), y.reshape(-1), indices.reshape(-1)
    at_x = chunk * h * w
    if rows > 0:
        lay_offsets(offsets, 0, columns, kh, kw, dh, dw)
        lay_offsets(offsets, kh * kw, w, kh, kw, dh, dw)
        if padded.size > 0:
            lay_plane(image, at_x, h, w, pt, pl, padded, rows, columns, -np.inf)
    for row in range(oh):
        at, top = (chunk * oh + row) * ow, row * sh - pt
        if rows > 0:
            source = padded if padded.size > 0 else image[at_x:]
            max_row(
                routine, source, row * sh * columns, offsets, 0, offsets, kh * kw, kh * kw, largest, at, places, at,
                top * w - pl, ow,
            )  # fmt: skip
        # Padding is no larger than minus infinity, but may come before it.
        unclear = 0
        if padded.size > 0 and indices.size > 0:
            for column in range(ow):
                unclear += 1 if largest[np.uintp(at + column)] == -np.inf else 0
        if rows == 0 or unclear > 0:
            for column in range(ow):
                value, place = largest_of(image, at_x, h, w, top, column * sw - pl, kh, kw, dh, dw)
                largest[at + column] = value
                if indices.size > 0:
                    places[at + column] = place


@kernel
def _max_side_by_side(
    chunk, x, y, indices, offsets, padded, largest, places, routine, side, pitch, kh, kw, sh, sw, pt, pl, dh, dw, rows,
    columns,
):  # fmt: skip
    """A chunk is ``side`` planes, laid ``pitch`` apart in one wide plane, so that rows of outputs fill vectors; else as
    above.
    """
    h, w, oh, ow = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    image, values, found = x.reshape(-1), y.reshape(-1), indices.reshape(-1)
    first = chunk * side
    here, width, slot = min(side, x.shape[0] * x.shape[1] - first), side * pitch, pitch // sw
    lay_offsets(offsets, 0, width, kh, kw, dh, dw)
    lay_offsets(offsets, kh * kw, w, kh, kw, dh, dw)
    for i in range(rows * width):
        padded[np.uintp(i)] = -np.inf
    for plane in range(here):
        for row in range(min(h, rows - pt)):
            to = (row + pt) * width + plane * pitch + pl
            copy_run(padded, to, image, ((first + plane) * h + row) * w, min(w, columns - pl))
    for row in range(oh):
        top = row * sh - pt
        max_row(
            routine, padded, row * sh * width, offsets, 0, offsets, kh * kw, kh * kw, largest, 0, places, 0,
            top * w - pl, here * slot,
        )  # fmt: skip
        for plane in range(here):
            at, source = ((first + plane) * oh + row) * ow, plane * slot
            copy_run(values, at, largest, source, ow)
            unclear = 0
            for column in range(ow if indices.size > 0 else 0):
                value = largest[np.uintp(source + column)]
                found[np.uintp(at + column)] = places[np.uintp(source + column)] - plane * pitch
                unclear += 1 if value == -np.inf else 0
            if unclear > 0:
                for column in range(ow):
                    value, place = largest_of(
                        image, (first + plane) * h * w, h, w, top, column * sw - pl, kh, kw, dh, dw
                    )
                    values[at + column], found[at + column] = value, place


@kernel
def _max_backward_planes(chunk, dy, indices, dx):
    size, outputs = dx.shape[2] * dx.shape[3], dy.shape[2] * dy.shape[3]
    image, slopes, places = dx.reshape(-1), dy.reshape(-1), indices.reshape(-1)
    image[chunk * size : (chunk + 1) * size] = 0
    for i in range(chunk * outputs, (chunk + 1) * outputs):
        place = np.int64(places[np.uintp(i)])
        if place >= 0:
            image[np.uintp(chunk * size + place)] += slopes[np.uintp(i)]


@kernel
def _avg_planes(
    chunk, x, y, offsets, padded, part, totals, counting_row, counting_column, routine, kh, kw, sh, sw, pt, pl, rows,
    columns,
):  # fmt: skip
    """``part`` and ``totals`` are a row of outputs each, for windows of more than RUN_IN_ORDER elements."""
    h, w, oh, ow = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    image, means = x.reshape(-1), y.reshape(-1)
    at_x, at_y = chunk * h * w, chunk * oh * ow
    if rows > 0:
        lay_offsets(offsets, 0, columns, kh, kw, 1, 1)
        if padded.size > 0:
            lay_plane(image, at_x, h, w, pt, pl, padded, rows, columns, 0.0)
        source = padded if padded.size > 0 else image[at_x:]
        for row in range(oh):
            at = np.uintp(at_y + row * ow)
            for tap in range(0, kh * kw, RUN_IN_ORDER):
                taps = min(RUN_IN_ORDER, kh * kw - tap)
                if totals.size == 0:
                    avg_row(routine, source, row * sh * columns, offsets, 0, taps, means, at, 1, ow)
                else:
                    avg_row(routine, source, row * sh * columns, offsets, tap, taps, part, 0, 1, ow)
                    for column in range(np.uintp(ow)):
                        totals[column] = part[column] + (totals[column] if tap > 0 else 0.0)
            for column in range(np.uintp(ow)):
                total = means[at + column] if totals.size == 0 else y.dtype.type(totals[column])
                means[at + column] = total / (counting_row[row] * counting_column[column])
        # A sum may be too large for the dtype where the mean is not.
        if are_finite(means, at_y, oh * ow):
            return
    for row in range(oh):
        first, end = max(row * sh - pt, 0), min(row * sh - pt + kh, h)
        for column in range(ow):
            left, right = max(column * sw - pl, 0), min(column * sw - pl + kw, w)
            total = window_sum(image, at_x, w, first, end, left, right)
            means[at_y + row * ow + column] = total / (np.float64(counting_row[row]) * counting_column[column])


@kernel
def _avg_backward_planes(
    chunk, dy, dx, counting_row, counting_column, routine, kh, kw, sh, sw, pt, pl, first, end, covered,
):  # fmt: skip
    """``covered``: windows leave no element of the image out and do not overlap, so that nothing needs a zero first."""
    h, w, oh, ow = dx.shape[2], dx.shape[3], dy.shape[2], dy.shape[3]
    image, slopes = dx.reshape(-1), dy.reshape(-1)
    at_x = chunk * h * w
    if covered == 0:
        image[at_x : at_x + h * w] = 0
    for row in range(oh):
        top, at = row * sh - pt, (chunk * oh + row) * ow
        if end > first:
            for r in range(max(top, 0), min(top + kh, h)):
                start = at_x + r * w + first * sw - pl
                spread(routine, slopes, at + first, image, start, np.int64(counting_row[row]) * kw, end - first)
        for column in range(ow - max(end - first, 0)):
            column += end - first if column >= first else 0
            left = column * sw - pl
            share = slopes[at + column] / (counting_row[row] * counting_column[column])
            for r in range(max(top, 0), min(top + kh, h)):
                for c in range(at_x + r * w + max(left, 0), at_x + r * w + min(left + kw, w)):
                    image[np.uintp(c)] += share


@function
def quad_rows(plane, row, x, y):
    """Where the two rows of windows begin in x, flat, and where their row of outputs does in y."""
    h, w, oh, ow = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    top = np.uintp((plane * h + 2 * row) * w)
    return top, top + np.uintp(w), np.uintp((plane * oh + row) * ow)


@kernel
def _avg_quads(chunk, x, y, planes):
    """2 x 2 windows side by side, all of them within the image; a chunk is ``planes`` planes."""
    image, means, quarter = x.reshape(-1), y.reshape(-1), y.dtype.type(0.25)
    h, w, oh, ow = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    for plane in range(chunk * planes, min((chunk + 1) * planes, x.shape[0] * x.shape[1])):
        for row in range(oh):
            top, below, at = quad_rows(plane, row, x, y)
            for column in range(np.uintp(ow)):
                left = column + column
                right = left + np.uintp(1)
                total = image[top + left] + image[top + right] + image[below + left] + image[below + right]
                means[at + column] = quarter * total
        if are_finite(means, plane * oh * ow, oh * ow):
            continue
        for row in range(oh):
            for column in range(ow):
                total = window_sum(image, plane * h * w, w, 2 * row, 2 * row + 2, 2 * column, 2 * column + 2)
                means[(plane * oh + row) * ow + column] = 0.25 * total


@kernel
def _avg_quads_backward(chunk, dy, dx, planes):
    """The adjoint of :func:`_avg_quads`, where the windows cover the image."""
    image, slopes, quarter = dx.reshape(-1), dy.reshape(-1), dy.dtype.type(0.25)
    for plane in range(chunk * planes, min((chunk + 1) * planes, dx.shape[0] * dx.shape[1])):
        for row in range(dy.shape[2]):
            top, below, at = quad_rows(plane, row, dx, dy)
            for column in range(np.uintp(dy.shape[3])):
                left, share = column + column, quarter * slopes[at + column]
                right = left + np.uintp(1)
                image[top + left] = share
                image[top + right] = share
                image[below + left] = share
                image[below + right] = share


def max_pool2d(x: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
    y = empty(geometry.y_shape, x.dtype)
    _find_maxima(x, geometry, y, np.empty((0, 0, 0, 0), np.int32))
    return y


def max_pool2d_with_indices(x: np.ndarray, geometry: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
    y, indices = empty(geometry.y_shape, x.dtype), empty(geometry.y_shape, np.int32)
    _find_maxima(x, geometry, y, indices)
    return y, indices


def _find_maxima(x: np.ndarray, g: Pool2dGeometry, y: np.ndarray, indices: np.ndarray) -> None:
    """Where ``indices`` is empty nobody wants them."""
    with_places = indices.size > 0
    rows, columns = _padded_size(g)
    if not with_places and pool_separable.applies(g):
        pool_separable.find_maxima(x, g, y, _planes_of_chunk(g))
        return
    if rows and g.ow < FEW_COLUMNS:
        pitch = round_up(columns, g.sw)
        side = max(1, SIDE_BY_SIDE * g.sw // pitch)
        outputs = side * pitch // g.sw
        _max_side_by_side(
            -(-g.n * g.c // side), x, y, indices, Scratch(2 * g.kh * g.kw, np.dtype(np.int64)),
            # Outputs between the planes, which nobody wants, look beyond the last one.
            Scratch(rows * side * pitch + g.kw * g.dw, x.dtype), Scratch(outputs, x.dtype),
            Scratch(outputs, np.dtype(np.int32)), MAX_ROWS[g.sw, with_places], side, pitch, g.kh, g.kw, g.sh, g.sw,
            g.pt, g.pl, g.dh, g.dw, rows, columns,
        )  # fmt: skip
        return
    _max_planes(
        g.n * g.c, x, y, indices, Scratch(2 * g.kh * g.kw, np.dtype(np.int64)), _padded(g, x.dtype),
        MAX_ROWS[g.sw if g.sw in STEPS else 1, with_places], g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw, rows,
        columns,
    )  # fmt: skip


def max_pool2d_backward(dy: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
    dx = empty(geometry.x_shape, dy.dtype)
    _max_backward_planes(geometry.n * geometry.c, dy, indices, dx)
    return dx


def avg_pool2d(x: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool) -> np.ndarray:
    g = geometry
    y = empty(g.y_shape, x.dtype)
    if _is_quads(g):
        planes = _planes_of_chunk(g)
        _avg_quads(-(-g.n * g.c // planes), x, y, planes)
        return y
    rows, columns = _padded_size(g)
    outputs = g.ow if rows and g.kh * g.kw > RUN_IN_ORDER else 0
    _avg_planes(
        g.n * g.c, x, y, Scratch(g.kh * g.kw, np.dtype(np.int64)), _padded(g, x.dtype), Scratch(outputs, x.dtype),
        Scratch(outputs, np.dtype(np.float64)),
        *_window_sizes(g, count_include_pad, x.dtype), AVG_ROWS.get(g.sw, AVG_ROWS[1]), g.kh, g.kw, g.sh, g.sw, g.pt,
        g.pl, rows, columns,
    )  # fmt: skip
    return y


def avg_pool2d_backward(dy: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool) -> np.ndarray:
    g = geometry
    dx = empty(g.x_shape, dy.dtype)
    if _is_quads(g) and (g.h, g.w) == (2 * g.oh, 2 * g.ow) and g.ow < FEW_COLUMNS:
        planes = _planes_of_chunk(g)
        _avg_quads_backward(-(-g.n * g.c // planes), dy, dx, planes)
        return dx
    pairs = g.kw == g.sw == 2 and g.kh <= g.sh
    covered = pairs and (g.kh, g.pt, g.pl) == (g.sh, 0, 0) and (g.oh * g.sh, g.ow * g.sw) == (g.h, g.w)
    _avg_backward_planes(
        g.n * g.c, dy, dx, *_window_sizes(g, count_include_pad, dy.dtype), SPREAD_ROW, g.kh, g.kw, g.sh, g.sw, g.pt,
        g.pl, *(_inner(g) if pairs else (0, 0)), int(covered),
    )  # fmt: skip
    return dx


def _is_quads(g: Pool2dGeometry) -> bool:
    """Whether every window is 2 x 2 pixels of the image, and meets no other."""
    inside = (g.pt, g.pl) == (0, 0) and 2 * g.oh <= g.h and 2 * g.ow <= g.w
    return g.kh == g.kw == g.sh == g.sw == 2 and inside


def _planes_of_chunk(g: Pool2dGeometry) -> int:
    return max(1, CHUNK_ELEMENTS // (g.h * g.w))


def _padded_size(g: Pool2dGeometry) -> tuple[int, int]:
    """Rows and columns that the windows of all outputs reach over, or zeros where no routine computes them."""
    if g.sw not in STEPS or g.ow == 1:
        return 0, 0
    return (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1, _columns(g) if _is_padded(g) else g.w


def _padded(g: Pool2dGeometry, dtype: np.dtype) -> Scratch | np.ndarray:
    rows, columns = _padded_size(g)
    return Scratch(rows * columns if _is_padded(g) else 0, dtype)


def _is_padded(g: Pool2dGeometry) -> bool:
    rows = (g.oh - 1) * g.sh + (g.kh - 1) * g.dh + 1
    return g.pt > 0 or g.pl > 0 or rows > g.h or _columns(g) > g.w


def _columns(g: Pool2dGeometry) -> int:
    return (g.ow - 1) * g.sw + (g.kw - 1) * g.dw + 1


def _inner(g: Pool2dGeometry) -> tuple[int, int]:
    """The columns of y whose windows lie inside of the image."""
    first = min(-(-g.pl // g.sw), g.ow)
    end = min((g.w - 1 + g.pl - (g.kw - 1) * g.dw) // g.sw + 1, g.ow)
    return first, max(first, end)


def _window_sizes(g: Pool2dGeometry, count_include_pad: bool, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Rows (oh,) and columns (ow,) that count in each window: of the padded image, or of the image alone."""
    around = (g.pt, g.pb, g.pl, g.pr) if count_include_pad else (0, 0, 0, 0)
    rows = [taps_inside(row * g.sh - g.pt, g.kh, -around[0], g.h + around[1]) for row in range(g.oh)]
    columns = [taps_inside(column * g.sw - g.pl, g.kw, -around[2], g.w + around[3]) for column in range(g.ow)]
    return np.array(rows, dtype), np.array(columns, dtype)
