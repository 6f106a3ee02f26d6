"""Images of another size: padded, resampled, pixels made of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import Array
from ..geometry import Resampling
from ..shared.rearranging import rearranged_shape
from ..shared.resampling import (
    Taps,
    linear_sources,
    nearest_sources,
    padded_sources,
    padded_taps,
    resampled_taps,
)

__all__ = ["pad2d", "pad2d_backward", "rearrange", "resample2d", "resample2d_backward"]

Pads = tuple[int, int, int, int]


def pad2d(x: Array, pads: Pads, mode: str, value: float) -> Array:
    """y (n, c, h + top + bottom, w + left + right)."""
    top, bottom, left, right = pads
    rows, columns = padded_sources(x.shape[2], top, bottom, mode), padded_sources(x.shape[3], left, right, mode)
    y = np.full((*x.shape[:2], len(rows), len(columns)), value, x.dtype)
    row_at, column_at = np.flatnonzero(rows >= 0)[:, None], np.flatnonzero(columns >= 0)
    y[:, :, row_at, column_at] = x[:, :, rows[row_at], columns[column_at]]
    return y


def pad2d_backward(dy: Array, x_shape: Sequence[int], pads: Pads, mode: str) -> Array:
    """dx (n, c, h, w): each dy goes to the pixel that it is a copy of."""
    top, bottom, left, right = pads
    _, _, h, w = x_shape
    return _spread(dy, x_shape, padded_taps(h, top, bottom, mode), padded_taps(w, left, right, mode))


def resample2d(x: Array, rows: Resampling, columns: Resampling) -> Array:
    """y (n, c, rows.outputs, columns.outputs)."""
    if rows.mode == "nearest":
        above = nearest_sources(rows.size, rows.outputs, rows.scale)
        left = nearest_sources(columns.size, columns.outputs, columns.scale)
        return x.take(above, axis=2).take(left, axis=3)
    above, below, down = _linear(rows, x)
    left, right, across = _linear(columns, x)
    between = _between(x.take(above, axis=2), x.take(below, axis=2), down[:, None])
    return _between(between.take(left, axis=3), between.take(right, axis=3), across)


def _linear(axis: Resampling, x: Array) -> tuple[Array, Array, Array]:
    before, after, weight = linear_sources(axis.size, axis.outputs, axis.align_corners, axis.scale)
    return before, after, weight.astype(x.dtype)


def _between(a: Array, b: Array, weight: Array) -> Array:
    """``weight`` of the way from a to b: what weighs nothing does not count, even if it is infinite."""
    return np.where(weight > 0, (1 - weight) * a + weight * b, a)


def resample2d_backward(dy: Array, rows: Resampling, columns: Resampling) -> Array:
    """dx (n, c, rows.size, columns.size): each dy goes to the pixels that it was made of, by their weights."""
    shape = (*dy.shape[:2], rows.size, columns.size)
    return _spread(dy, shape, resampled_taps(*rows), resampled_taps(*columns))


def _spread(dy: Array, x_shape: Sequence[int], rows: Sequence[Taps], columns: Sequence[Taps]) -> Array:
    dx = np.zeros(x_shape)
    for row in rows:
        for column in columns:
            weighted = row.weights[:, None] * column.weights * dy[:, :, row.outputs[:, None], column.outputs]
            places: Any = np.s_[:, :, row.sources[:, None], column.sources]
            np.add.at(dx, places, weighted)
    return dx.astype(dy.dtype)


def rearrange(x: Array, split: Sequence[Sequence[int]], joined: Sequence[Sequence[int]]) -> Array:
    """x with its axes split into parts of these sizes, and axes joined of the parts with these numbers."""
    parts = x.reshape([size for axis in split for size in axis])
    turned = parts.transpose([part for axis in joined for part in axis])
    return np.array(turned, order="C").reshape(rearranged_shape(split, joined))
