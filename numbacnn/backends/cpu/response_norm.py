"""Local response normalisation: a row has the channels of a pixel, and a chunk is some rows.

Of usual powers and windows a row goes through registers (``vector/response_rows.py``). What is left does with any: it
is summed in rows with zeros on both sides, so that no window asks where its row ends. What is not of images lies plane
by plane, and a row has the planes of a sample, in which neighbouring channels are ``inner`` elements apart.

roofline: memory, two arrays read or written more than the result's own and its argument: forward reads x and writes y
and scale, backward reads dy, x and scale and writes dx. There are 30 to 40 operations an element. In registers forward
reaches 88 % of the memory's rate, and backward 77 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..shared.response import quarters, reach
from .runtime.allocator import empty_like
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .runtime.microkernel import Microkernel
from .vector.layout import channels_last, images
from .vector.response_rows import (
    LARGEST,
    MAX_REACH,
    SMALLEST,
    differentiate_rows,
    gradients_of,
    normalize_rows,
    values_of,
)
from .vector.simd import clear, copy_run
from .vector.transcendental import inverse_fourth_root
from .vector.window_sums import WINDOW_SUMS, sum_windows

__all__ = ["local_response_norm", "local_response_norm_backward"]

# Elements of a chunk, if a row has no more: as many as the first cache holds of all arrays.
CHUNK = 1 << 11


class _Rows(NamedTuple):
    """Rows of ``row`` elements, ``part`` of them in a chunk; a window has ``before`` and ``after`` neighbours."""

    summing: Microkernel
    fused: Microkernel
    is_fused: int
    row: int
    inner: int
    part: int
    before: int
    after: int
    quarters: int


@inlined
def power_of(root, one, quarters):
    """root ** (quarters % 4), ``one`` being 1 in its dtype."""
    return (root if quarters % 2 == 1 else one) * (root * root if quarters % 4 >= 2 else one)


@inlined
def careful_power(value, one, quarters):
    """value ** -(quarters % 4 / 4), of any value."""
    root, power = np.sqrt(value), quarters % 4
    if power == 0:
        return one
    return (one / np.sqrt(root) if power != 2 else one) / (root if power != 1 else one)


@inlined
def find_factors(factors, scale, first, count, beta, quarters):
    """factors[i] = scale[first + i] ** -beta for i < count, of any numbers."""
    at, size, one = np.uintp(first), np.uintp(count), scale.dtype.type(1)
    for i in range(size):
        if quarters < 0:
            factors[i] = scale[at + i] ** -beta
        else:
            factors[i] = careful_power(scale[at + i], one, quarters)
    for _ in range(quarters // 4):
        for i in range(size):
            factors[i] /= scale[at + i]


@inlined
def apart_in(p):
    """How far rows are apart that have margins of zeros."""
    return p.row + (p.before + p.after) * p.inner


@inlined
def slide(x, padded, rows, p):
    """Each element becomes the sum of the window around it, in rows between whose copies there are zeros."""
    apart, margin = apart_in(p), p.before * p.inner
    for row in range(rows):
        copy_run(padded, row * apart + margin, x, row * p.row, p.row)
    sum_windows(p.summing, padded, 0, apart, x, 0, rows, p.row, p.before + p.after + 1, p.inner)


@inlined
def normalize_block(x, y, scale, padded, sums, first, count, factor, beta, k, p):
    at, real = np.uintp(first), x.dtype.type
    for i in range(np.uintp(count)):
        sums[i] = x[at + i] * x[at + i]
    slide(sums, padded, count // p.row, p)
    one, unusual = real(1), real(0)
    for i in range(np.uintp(count)):
        value = real(k) + real(factor) * sums[i]
        scale[at + i] = value
        unusual += real(0) if value > real(SMALLEST) and value < real(LARGEST) else one
        y[at + i] = x[at + i] * power_of(inverse_fourth_root(value), one, p.quarters)
    if unusual > 0 or not 0 <= p.quarters < 4:
        find_factors(sums, scale, first, count, beta, p.quarters)
        for i in range(np.uintp(count)):
            y[at + i] = x[at + i] * sums[i]


@kernel
def _normalize_rows(chunk, x, y, scale, work, factor, beta, k, p):
    size, width = p.part * p.row, p.part * apart_in(p)
    first = chunk * size
    here = min(size, x.size - first)
    if p.is_fused:
        work[0], work[1] = factor, k
        normalize_rows(p.fused, x, first, y, first, scale, first, work, 0, here // p.row, p.row)
    if not p.is_fused or work[2] != 0:
        padded, sums = work[:width], work[width : width + size]
        clear(padded, 0, width)
        normalize_block(x, y, scale, padded, sums, first, here, factor, beta, k, p)


@inlined
def find_gradients(dy, x, scale, dx, padded, sums, factors, first, count, factor, beta, p):
    at, real = np.uintp(first), x.dtype.type
    one, unusual = real(1), real(0)
    for i in range(np.uintp(count)):
        value = scale[at + i]
        unusual += real(0) if value > real(SMALLEST) and value < real(LARGEST) else one
        root = inverse_fourth_root(value)
        gradient = dy[at + i] * power_of(root, one, p.quarters)
        factors[i] = gradient
        sums[i] = gradient * x[at + i] * ((root * root) * (root * root))
    if unusual > 0 or not 0 <= p.quarters < 4:
        find_factors(factors, scale, first, count, beta, p.quarters)
        for i in range(np.uintp(count)):
            factors[i] *= dy[at + i]
            sums[i] = factors[i] * x[at + i] / scale[at + i]
    slide(sums, padded, count // p.row, p)
    for i in range(np.uintp(count)):
        dx[at + i] = factors[i] - real(factor) * x[at + i] * sums[i]


@kernel
def _backward_rows(chunk, dy, x, scale, dx, work, factor, beta, p):
    """``factor`` is 2 alpha beta / size; ``before`` and ``after`` are those of the windows that an element is in."""
    size, width = p.part * p.row, p.part * apart_in(p)
    first = chunk * size
    here = min(size, x.size - first)
    if p.is_fused:
        work[0] = factor
        differentiate_rows(p.fused, dy, first, x, first, scale, first, dx, first, work, 0, here // p.row, p.row)
    if not p.is_fused or work[2] != 0:
        padded, sums, factors = work[:width], work[width : width + size], work[width + size :]
        clear(padded, 0, width)
        find_gradients(dy, x, scale, dx, padded, sums, factors, first, here, factor, beta, p)


@cached_launches
def local_response_norm(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> tuple[np.ndarray, np.ndarray]:
    of_x = _in_order(x)
    y, scale = empty_like(of_x), empty_like(of_x)
    rows = _rows(x, beta, values_of, *reach(size))
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
    rows = _rows(x, beta, gradients_of, after, before)
    _backward_rows(
        _chunks(x, rows), of_dy.reshape(-1), of_x.reshape(-1), of_scale.reshape(-1), dx.reshape(-1),
        _work(rows, x.dtype), 2 * alpha * beta / size, float(beta), rows,
    )  # fmt: skip
    return _as_given(dx, x)


def _rows(x: np.ndarray, beta: float, fused: Callable[..., Microkernel], before: int, after: int) -> _Rows:
    inner = 1 if x.ndim == 4 else math.prod(x.shape[2:])
    row, most, power = x.shape[1] * inner, x.shape[1], quarters(beta)
    is_fused = inner == 1 and max(before, after) <= MAX_REACH and 0 <= power < 4
    return _Rows(
        WINDOW_SUMS, fused(before, after, power) if is_fused else WINDOW_SUMS, int(is_fused), row, inner,
        max(1, CHUNK // max(row, 1)), min(before, most), min(after, most), power,
    )  # fmt: skip


def _work(rows: _Rows, dtype: np.dtype) -> Scratch:
    """For a chunk of rows with their margins, and two without; no less than the three numbers of a fused one."""
    margins = (rows.before + rows.after) * rows.inner
    return Scratch(rows.part * (3 * rows.row + margins) + 3, dtype)


def _chunks(x: np.ndarray, rows: _Rows) -> int:
    return -(-x.size // max(rows.part * rows.row, 1))


def _in_order(x: np.ndarray) -> np.ndarray:
    """Images with the channels last, all else as it is."""
    return channels_last(x) if x.ndim == 4 else x


def _as_given(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The reverse of :func:`_in_order`."""
    return images(y) if x.ndim == 4 else y
