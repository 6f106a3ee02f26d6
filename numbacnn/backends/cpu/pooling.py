"""Max and average pooling: a chunk is one plane, the taps of the window outside, the output row inside.

roofline: one read of x and one write of y from memory (plus an int32 per output for the places of the maxima);
the kh kw operations an output are done in L1.
reached (bench.kernels), of the copy bandwidth: average 23 %, its backward pass 13 %, maximum 5 %, its backward pass
22 %. A stride of 2 keeps the row loops from using whole vectors.
"""

from __future__ import annotations

import numpy as np

from ..geometry import Pool2dGeometry
from ..shared.windows import taps_inside
from .jit import kernel
from .memory import empty
from .rows import add_strided, add_to_strided
from .windows import output_range

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d", "max_pool2d_backward"]


@kernel
def _max_planes(chunk, x, y, indices, kh, kw, sh, sw, pt, pl, dh, dw):
    h, w = x.shape[2], x.shape[3]
    oh, ow = y.shape[2], y.shape[3]
    n, c = chunk // x.shape[1], chunk % x.shape[1]
    for row in range(oh):
        largest, places = y[n, c, row], indices[n, c, row]
        largest[:] = -np.inf
        places[:] = -1
        for i in range(kh):
            source_row = row * sh + i * dh - pt
            if source_row < 0 or source_row >= h:
                continue
            for j in range(kw):
                offset = j * dw - pl
                first, end = output_range(offset, sw, w, ow)
                source = x[n, c, source_row, first * sw + offset :]
                for column in range(end - first):
                    value, so_far = source[column * sw], largest[first + column]
                    # The first element of the image counts even if it is minus infinity, and NaN above all but NaN.
                    if value > so_far or places[first + column] < 0 or (value != value and so_far == so_far):
                        largest[first + column] = value
                        places[first + column] = source_row * w + (first + column) * sw + offset


@kernel
def _max_backward_planes(chunk, dy, indices, dx):
    n, c = chunk // dx.shape[1], chunk % dx.shape[1]
    image = dx[n, c].reshape(-1)
    image[:] = 0
    for row in range(dy.shape[2]):
        for column in range(dy.shape[3]):
            place = indices[n, c, row, column]
            if place >= 0:
                image[place] += dy[n, c, row, column]


@kernel
def _avg_planes(chunk, x, y, counting_row, counting_column, kh, kw, sh, sw, pt, pl):
    h, w = x.shape[2], x.shape[3]
    oh, ow = y.shape[2], y.shape[3]
    n, c = chunk // x.shape[1], chunk % x.shape[1]
    image, one = x[n, c].reshape(-1), x.dtype.type(1)
    for row in range(oh):
        sums = y[n, c, row]
        sums[:] = 0
        for i in range(kh):
            source_row = row * sh + i - pt
            if source_row < 0 or source_row >= h:
                continue
            for j in range(kw):
                first, end = output_range(j - pl, sw, w, ow)
                add_strided(sums, first, one, image, source_row * w + first * sw + j - pl, sw, end - first)
        for column in range(ow):
            sums[column] /= counting_row[row] * counting_column[column]


@kernel
def _avg_backward_planes(chunk, dy, dx, counting_row, counting_column, kh, kw, sh, sw, pt, pl):
    h, w = dx.shape[2], dx.shape[3]
    oh, ow = dy.shape[2], dy.shape[3]
    n, c = chunk // dx.shape[1], chunk % dx.shape[1]
    image, one = dx[n, c].reshape(-1), dx.dtype.type(1)
    image[:] = 0
    share = np.empty(ow, dy.dtype)
    for row in range(oh):
        for column in range(ow):
            share[column] = dy[n, c, row, column] / (counting_row[row] * counting_column[column])
        for i in range(kh):
            target_row = row * sh + i - pt
            if target_row < 0 or target_row >= h:
                continue
            for j in range(kw):
                first, end = output_range(j - pl, sw, w, ow)
                add_to_strided(image, target_row * w + first * sw + j - pl, sw, one, share, first, end - first)


def max_pool2d(x: np.ndarray, geometry: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
    g = geometry
    y, indices = empty(g.y_shape, x.dtype), empty(g.y_shape, np.int32)
    _max_planes(g.n * g.c, x, y, indices, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
    return y, indices


def max_pool2d_backward(dy: np.ndarray, indices: np.ndarray, geometry: Pool2dGeometry) -> np.ndarray:
    dx = empty(geometry.x_shape, dy.dtype)
    _max_backward_planes(geometry.n * geometry.c, dy, indices, dx)
    return dx


def avg_pool2d(x: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool) -> np.ndarray:
    g = geometry
    y = empty(g.y_shape, x.dtype)
    counts = _window_sizes(g, count_include_pad, x.dtype)
    _avg_planes(g.n * g.c, x, y, *counts, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl)
    return y


def avg_pool2d_backward(dy: np.ndarray, geometry: Pool2dGeometry, count_include_pad: bool) -> np.ndarray:
    g = geometry
    dx = empty(g.x_shape, dy.dtype)
    counts = _window_sizes(g, count_include_pad, dy.dtype)
    _avg_backward_planes(g.n * g.c, dy, dx, *counts, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl)
    return dx


def _window_sizes(g: Pool2dGeometry, count_include_pad: bool, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Rows (oh,) and columns (ow,) that count in each window: of the padded image, or of the image alone."""
    around = (g.pt, g.pb, g.pl, g.pr) if count_include_pad else (0, 0, 0, 0)
    rows = [taps_inside(row * g.sh - g.pt, g.kh, -around[0], g.h + around[1]) for row in range(g.oh)]
    columns = [taps_inside(column * g.sw - g.pl, g.kw, -around[2], g.w + around[3]) for column in range(g.ow)]
    return np.array(rows, dtype), np.array(columns, dtype)
