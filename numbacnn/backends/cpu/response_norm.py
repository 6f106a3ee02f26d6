"""Local response normalisation: a row has the channels of a pixel, and a chunk is some rows.

What is not of images lies plane by plane, and a row has the planes of a sample, in which neighbouring channels are
``inner`` elements apart: the same loops do for both. A window is summed one neighbour at a time, for all elements of a
row, from the first cache.

roofline: memory, two arrays read or written more than the result's own and its argument: forward reads x and writes y
and scale, backward reads dy, x and scale and writes dx. The power 3/4 is three roots, in vectors.
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

__all__ = ["local_response_norm", "local_response_norm_backward"]

# Elements of a chunk, if a row has no more: as many as the first cache holds of all arrays.
CHUNK = 1 << 11


class _Rows(NamedTuple):
    """Rows of ``row`` elements, ``part`` of them in a chunk; a window has ``before`` and ``after`` neighbours."""

    row: int
    inner: int
    part: int
    before: int
    after: int
    quarters: int


@inlined
def raise_to(powers, scale, first, count, beta, of_quarters):
    """powers[i] = scale[first + i] ** beta for i < count."""
    at, size = np.uintp(first), np.uintp(count)
    if of_quarters < 0:
        for i in range(size):
            powers[i] = scale[at + i] ** beta
        return
    for i in range(size):
        powers[i] = 1
    for _ in range(of_quarters // 4):
        for i in range(size):
            powers[i] *= scale[at + i]
    if of_quarters & 2:
        for i in range(size):
            powers[i] *= np.sqrt(scale[at + i])
    if of_quarters & 1:
        for i in range(size):
            powers[i] *= np.sqrt(np.sqrt(scale[at + i]))


@kernel
def _normalize_rows(chunk, x, y, scale, powers, factor, beta, k, p):
    first = chunk * p.part * p.row
    count = min(p.part * p.row, x.size - first)
    at = np.uintp(first)
    for i in range(np.uintp(count)):
        scale[at + i] = 0
    for start in range(first, first + count, max(p.row, 1)):
        for neighbour in range(-p.before, p.after + 1):
            shift = neighbour * p.inner
            target, source = np.uintp(start + max(0, -shift)), np.uintp(start + max(0, shift))
            for i in range(np.uintp(max(0, p.row - abs(shift)))):
                scale[target + i] += x[source + i] * x[source + i]
    for i in range(np.uintp(count)):
        scale[at + i] = k + factor * scale[at + i]
    raise_to(powers, scale, first, count, beta, p.quarters)
    for i in range(np.uintp(count)):
        y[at + i] = x[at + i] / powers[i]


@kernel
def _backward_rows(chunk, dy, x, scale, dx, work, factor, beta, p):
    """``factor`` is 2 alpha beta / size; ``before`` and ``after`` are those of the windows that an element is in."""
    first = chunk * p.part * p.row
    count = min(p.part * p.row, x.size - first)
    at, half = np.uintp(first), work.size // 3
    powers, products, sums = work[:half], work[half : 2 * half], work[2 * half :]
    raise_to(powers, scale, first, count, beta, p.quarters)
    for i in range(np.uintp(count)):
        products[i] = dy[at + i] / powers[i] * x[at + i] / scale[at + i]
        sums[i] = 0
    for start in range(0, count, max(p.row, 1)):
        for neighbour in range(-p.before, p.after + 1):
            shift = neighbour * p.inner
            target, source = np.uintp(start + max(0, -shift)), np.uintp(start + max(0, shift))
            for i in range(np.uintp(max(0, p.row - abs(shift)))):
                sums[target + i] += products[source + i]
    for i in range(np.uintp(count)):
        dx[at + i] = dy[at + i] / powers[i] - factor * x[at + i] * sums[i]


@cached_launches
def local_response_norm(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> tuple[np.ndarray, np.ndarray]:
    of_x = _in_order(x)
    y, scale = empty_like(of_x), empty_like(of_x)
    rows = _rows(x, beta, *reach(size))
    _normalize_rows(
        _chunks(x, rows), of_x.reshape(-1), y.reshape(-1), scale.reshape(-1), Scratch(rows.part * rows.row, x.dtype),
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
        Scratch(3 * rows.part * rows.row, x.dtype), 2 * alpha * beta / size, float(beta), rows,
    )  # fmt: skip
    return _as_given(dx, x)


def _rows(x: np.ndarray, beta: float, before: int, after: int) -> _Rows:
    inner = 1 if x.ndim == 4 else math.prod(x.shape[2:])
    row, most = x.shape[1] * inner, x.shape[1]
    return _Rows(row, inner, max(1, CHUNK // max(row, 1)), min(before, most), min(after, most), quarters(beta))


def _chunks(x: np.ndarray, rows: _Rows) -> int:
    return -(-x.size // max(rows.part * rows.row, 1))


def _in_order(x: np.ndarray) -> np.ndarray:
    """Images with the channels last, all else as it is."""
    return channels_last(x) if x.ndim == 4 else x


def _as_given(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The reverse of :func:`_in_order`."""
    return images(y) if x.ndim == 4 else y
