"""Images of another size: a thread per element of the result, which reads what it is made of.

Where rows and columns come from, and backwards who reads them, are tables, made once and then kept on the device.

roofline: memory, one read of x and one write of y; tables and the pixels that several threads read are a matter of the
caches.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import Array
from ..geometry import Resampling
from ..shared import resampling
from ..shared.rearranging import nested_loops, rearranged_shape
from .runtime import device_array
from .runtime.kernel import mapping
from .runtime.target import device_function, quotient, scalar

__all__ = ["pad2d", "pad2d_backward", "rearrange", "resample2d", "resample2d_backward"]

Pads = tuple[int, int, int, int]

# More terms than these, of a row or a column, are added up in float64.
SHORT_SUM = 16
# Axes whose tables are kept.
MAX_TABLES = 512


@mapping
def _taken(i, x, rows, columns, value, g):
    h, w, oh, ow = g
    line = quotient(i, ow)
    plane = quotient(line, oh)
    row, column = rows[line - plane * oh], columns[i - line * ow]
    return x[(plane * h + row) * w + column] if row >= 0 and column >= 0 else value


@device_function
def between(a, b, weight, x):
    """``weight`` of the way from a to b; what weighs nothing does not count, even if it is infinite."""
    return (scalar(x, 1) - weight) * a + weight * b if weight > scalar(x, 0) else a


@mapping
def _blended(i, x, above, below, down, left, right, across, g):
    h, w, oh, ow = g
    line = quotient(i, ow)
    plane = quotient(line, oh)
    row, column = line - plane * oh, i - line * ow
    upper, lower = (plane * h + above[row]) * w, (plane * h + below[row]) * w
    first, second = left[column], right[column]
    one = between(x[upper + first], x[lower + first], down[row], x)
    other = between(x[upper + second], x[lower + second], down[row], x)
    return between(one, other, across[column], x)


@mapping
def _gathered(i, dy, row_starts, row_outputs, row_weights, column_starts, column_outputs, column_weights, g):
    """A pixel's sum over the columns that read it, and then over rows, in the dtype of the weights."""
    h, w, oh, ow = g
    line = quotient(i, w)
    plane = quotient(line, h)
    row, column = line - plane * h, i - line * w
    total = scalar(row_weights, 0)
    for k in range(row_starts[row], row_starts[row + 1]):
        start, part = (plane * oh + row_outputs[k]) * ow, scalar(row_weights, 0)
        for m in range(column_starts[column], column_starts[column + 1]):
            part += column_weights[m] * dy[start + column_outputs[m]]
        total += row_weights[k] * part
    return scalar(dy, total)


@mapping
def _rearranged(i, x, g):
    """``g`` holds the lengths of the inner five of six nested loops, and how far apart what they read of x is."""
    l1, l2, l3, l4, l5, s0, s1, s2, s3, s4, s5 = g
    i4 = quotient(i, l5)
    i3 = quotient(i4, l4)
    i2 = quotient(i3, l3)
    i1 = quotient(i2, l2)
    i0 = quotient(i1, l1)
    place = i0 * s0 + (i1 - i0 * l1) * s1 + (i2 - i1 * l2) * s2
    return x[place + (i3 - i2 * l3) * s3 + (i4 - i3 * l4) * s4 + (i - i4 * l5) * s5]


def pad2d(x: Array, pads: Pads, mode: str, value: float) -> Array:
    top, bottom, left, right = pads
    n, c, h, w = x.shape
    y = device_array.new((n, c, h + top + bottom, w + left + right), x.dtype)
    rows, columns = _padded_sources(h, top, bottom, mode), _padded_sources(w, left, right, mode)
    _taken(y.size, y, x, rows, columns, float(value), (h, w, *y.shape[2:]))
    return y


def pad2d_backward(dy: Array, x_shape: Sequence[int], pads: Pads, mode: str) -> Array:
    top, bottom, left, right = pads
    if mode == "constant":
        return pad2d(dy, (-top, -bottom, -left, -right), mode, 0.0)
    h, w = x_shape[2:]
    return _gather(dy, _padded_readers, (h, top, bottom, mode), (w, left, right, mode))


def resample2d(x: Array, rows: Resampling, columns: Resampling) -> Array:
    y = device_array.new((*x.shape[:2], rows.outputs, columns.outputs), x.dtype)
    sizes = (rows.size, columns.size, rows.outputs, columns.outputs)
    if rows.mode == "nearest":
        _taken(y.size, y, x, _nearest_sources(rows), _nearest_sources(columns), 0.0, sizes)
    else:
        _blended(y.size, y, x, *_linear_sources(rows, x.dtype), *_linear_sources(columns, x.dtype), sizes)
    return y


def resample2d_backward(dy: Array, rows: Resampling, columns: Resampling) -> Array:
    return _gather(dy, _resampled_readers, rows, columns)


def _gather(dy: Array, readers: Any, rows: Any, columns: Any) -> Array:
    """``readers(*axis)`` are the readers of the pixels of each axis."""
    of_rows, of_columns = readers(*rows), readers(*columns)
    h, w = len(of_rows.starts) - 1, len(of_columns.starts) - 1
    dx = device_array.new((*dy.shape[:2], h, w), dy.dtype)
    wide = np.dtype(np.float64) if max(of_rows.most, of_columns.most) > SHORT_SUM else dy.dtype
    tables = (*_on_device(readers, rows, wide), *_on_device(readers, columns, wide))
    _gathered(dx.size, dx, dy, *tables, (h, w, *dy.shape[2:]))
    return dx


def rearrange(x: Array, split: Sequence[Sequence[int]], joined: Sequence[Sequence[int]]) -> Array:
    y = device_array.new(rearranged_shape(split, joined), x.dtype)
    lengths, steps = nested_loops(split, joined, range(len(split)), range(len(joined)))
    _rearranged(y.size, y, x, (*lengths[1:], *steps))
    return y


@functools.lru_cache(MAX_TABLES)
def _padded_sources(size: int, before: int, after: int, mode: str) -> Array:
    return _uploaded(resampling.padded_sources(size, before, after, mode))


@functools.lru_cache(MAX_TABLES)
def _nearest_sources(axis: Resampling) -> Array:
    return _uploaded(resampling.nearest_sources(axis.size, axis.outputs, axis.scale))


@functools.lru_cache(MAX_TABLES)
def _linear_sources(axis: Resampling, dtype: np.dtype) -> tuple[Array, ...]:
    before, after, weight = resampling.linear_sources(axis.size, axis.outputs, axis.align_corners, axis.scale)
    return _uploaded(before), _uploaded(after), _uploaded(weight.astype(dtype))


@functools.lru_cache(MAX_TABLES)
def _padded_readers(size: int, before: int, after: int, mode: str) -> resampling.Readers:
    return resampling.readers(size, resampling.padded_taps(size, before, after, mode))


@functools.lru_cache(MAX_TABLES)
def _resampled_readers(*axis: Any) -> resampling.Readers:
    return resampling.readers(axis[0], resampling.resampled_taps(*axis))


@functools.lru_cache(MAX_TABLES)
def _on_device(readers: Any, axis: Any, dtype: np.dtype) -> tuple[Array, ...]:
    starts, outputs, weights = readers(*axis)
    return _uploaded(starts), _uploaded(outputs), _uploaded(weights.astype(dtype))


def _uploaded(table: np.ndarray) -> Array:
    return device_array.uploaded(np.ascontiguousarray(table))
