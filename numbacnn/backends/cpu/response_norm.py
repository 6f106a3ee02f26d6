"""Local response normalisation: a row has the channels of a pixel, and a chunk is some rows.

What is not of images lies plane by plane, and a row has the planes of a sample, in which neighbouring channels are
``inner`` elements apart: the same loops do for both. What is summed lies in rows with zeros on both sides, so that a
window is summed one neighbour at a time for all elements of a chunk, from the first cache.

roofline: memory, two arrays read or written more than the result's own and its argument: forward reads x and writes y
and scale, backward reads dy, x and scale and writes dx. There are some 30 operations an element, a third of them of the
power, which is made of fourth roots.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..shared.response import quarters, reach
from .runtime.allocator import empty_like
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .vector.layout import channels_last, images
from .vector.simd import clear
from .vector.transcendental import inverse_fourth_root

__all__ = ["local_response_norm", "local_response_norm_backward"]

# Elements of a chunk, if a row has no more: as many as the first cache holds of all arrays.
CHUNK = 1 << 11
# What lies between has normal powers.
SMALLEST, LARGEST = 1e-30, 1e30


class _Rows(NamedTuple):
    """Rows of ``row`` elements, ``part`` of them in a chunk; a window has ``before`` and ``after`` neighbours."""

    row: int
    inner: int
    part: int
    before: int
    after: int
    quarters: int


@inlined
def find_factors(factors, scale, first, count, beta, of_quarters):
    """factors[i] = scale[first + i] ** -beta for i < count."""
    at, size, real = np.uintp(first), np.uintp(count), scale.dtype.type
    if of_quarters < 0:
        for i in range(size):
            factors[i] = scale[at + i] ** -beta
        return
    one, unusual, power = real(1), real(0), of_quarters % 4
    for i in range(size):
        value = scale[at + i]
        unusual += real(0) if value > real(SMALLEST) and value < real(LARGEST) else one
    if power == 0:
        for i in range(size):
            factors[i] = one
    elif unusual > 0:
        for i in range(size):
            root = np.sqrt(scale[at + i])
            factors[i] = (one / np.sqrt(root) if power != 2 else one) / (root if power != 1 else one)
    elif power == 1:
        for i in range(size):
            factors[i] = inverse_fourth_root(scale[at + i])
    elif power == 2:
        for i in range(size):
            root = inverse_fourth_root(scale[at + i])
            factors[i] = root * root
    else:
        for i in range(size):
            root = inverse_fourth_root(scale[at + i])
            factors[i] = root * root * root
    for _ in range(of_quarters // 4):
        for i in range(size):
            factors[i] /= scale[at + i]


@inlined
def sum_windows(sums, padded, p):
    """sums[i], of the window that begins at padded[i], in all rows and between them."""
    size = np.uintp(sums.size - (p.before + p.after) * p.inner)
    for i in range(size):
        sums[i] = padded[i]
    for neighbour in range(1, p.before + p.after + 1):
        shift = np.uintp(neighbour * p.inner)
        for i in range(size):
            sums[i] += padded[i + shift]


@inlined
def normalize_block(x, y, scale, padded, sums, factors, first, count, factor, beta, k, p):
    at, apart, real = np.uintp(first), p.row + (p.before + p.after) * p.inner, x.dtype.type
    for row in range(count // p.row):
        source, target = at + np.uintp(row * p.row), np.uintp(row * apart + p.before * p.inner)
        for i in range(np.uintp(p.row)):
            padded[target + i] = x[source + i] * x[source + i]
    sum_windows(sums, padded, p)
    for row in range(count // p.row):
        target, source = at + np.uintp(row * p.row), np.uintp(row * apart)
        for i in range(np.uintp(p.row)):
            scale[target + i] = real(k) + real(factor) * sums[source + i]
    find_factors(factors, scale, first, count, beta, p.quarters)
    for i in range(np.uintp(count)):
        y[at + i] = x[at + i] * factors[i]


@kernel
def _normalize_rows(chunk, x, y, scale, work, factor, beta, k, p):
    size, width = p.part * p.row, p.part * (p.row + (p.before + p.after) * p.inner)
    padded, sums, factors = work[:width], work[width : 2 * width], work[2 * width :]
    clear(padded, 0, width)
    first = chunk * size
    normalize_block(x, y, scale, padded, sums, factors, first, min(size, x.size - first), factor, beta, k, p)


@inlined
def find_gradients(dy, x, scale, dx, padded, sums, factors, first, count, factor, beta, p):
    at, apart, real = np.uintp(first), p.row + (p.before + p.after) * p.inner, x.dtype.type
    find_factors(factors, scale, first, count, beta, p.quarters)
    for row in range(count // p.row):
        source, of_row, target = at + np.uintp(row * p.row), np.uintp(row * p.row), np.uintp(row * apart)
        target += np.uintp(p.before * p.inner)
        for i in range(np.uintp(p.row)):
            padded[target + i] = dy[source + i] * factors[of_row + i] * x[source + i] / scale[source + i]
    sum_windows(sums, padded, p)
    for row in range(count // p.row):
        target, of_row, source = at + np.uintp(row * p.row), np.uintp(row * p.row), np.uintp(row * apart)
        for i in range(np.uintp(p.row)):
            dx[target + i] = dy[target + i] * factors[of_row + i] - real(factor) * x[target + i] * sums[source + i]


@kernel
def _backward_rows(chunk, dy, x, scale, dx, work, factor, beta, p):
    """``factor`` is 2 alpha beta / size; ``before`` and ``after`` are those of the windows that an element is in."""
    size, width = p.part * p.row, p.part * (p.row + (p.before + p.after) * p.inner)
    padded, sums, factors = work[:width], work[width : 2 * width], work[2 * width :]
    clear(padded, 0, width)
    first = chunk * size
    find_gradients(dy, x, scale, dx, padded, sums, factors, first, min(size, x.size - first), factor, beta, p)


@cached_launches
def local_response_norm(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> tuple[np.ndarray, np.ndarray]:
    of_x = _in_order(x)
    y, scale = empty_like(of_x), empty_like(of_x)
    rows = _rows(x, beta, *reach(size))
    _normalize_rows(
        _chunks(x, rows), of_x.reshape(-1), y.reshape(-1), scale.reshape(-1), _work(rows, x.dtype),
        alpha / size, float(beta), float(k), rows,
    )  # fmt: skip
    return _as_given(y, x), _as_given(scale, x)


@cached_launches
def local_response_norm_backward(
    dy: np.ndarray, x: np.ndarray, scale: np.ndarray, size: int, alpha: float, beta: float
) -> np.ndarray:
    of_dy, of_x, of_scale = _in_order(dy), _in_order(x), _in_order(scale)
    dx = empty_like(of_dy)
    before, after = reach(size)
    rows = _rows(x, beta, after, before)
    _backward_rows(
        _chunks(x, rows), of_dy.reshape(-1), of_x.reshape(-1), of_scale.reshape(-1), dx.reshape(-1),
        _work(rows, x.dtype), 2 * alpha * beta / size, float(beta), rows,
    )  # fmt: skip
    return _as_given(dx, x)


def _rows(x: np.ndarray, beta: float, before: int, after: int) -> _Rows:
    inner = 1 if x.ndim == 4 else math.prod(x.shape[2:])
    row, most = x.shape[1] * inner, x.shape[1]
    return _Rows(row, inner, max(1, CHUNK // max(row, 1)), min(before, most), min(after, most), quarters(beta))


def _work(rows: _Rows, dtype: np.dtype) -> Scratch:
    """For two chunks of rows with their margins, and one without."""
    margins = (rows.before + rows.after) * rows.inner
    return Scratch(rows.part * (3 * rows.row + 2 * margins), dtype)


def _chunks(x: np.ndarray, rows: _Rows) -> int:
    return -(-x.size // max(rows.part * rows.row, 1))


def _in_order(x: np.ndarray) -> np.ndarray:
    """Images with the channels last, all else as it is."""
    return channels_last(x) if x.ndim == 4 else x


def _as_given(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The reverse of :func:`_in_order`."""
    return images(y) if x.ndim == 4 else y
