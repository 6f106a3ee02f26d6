"""Batch normalisation of a matrix of pixels: channels are columns, and a chunk is some of the rows.

Sums over rows are made as ``vector/sums.py`` makes them, and those of chunks, whose number depends on sizes alone,
added up in their order. Rows of few channels are taken several at a time, as one wide row, so that they fill vectors.
Arrays keep their own numbers of channels: x may have more than are normalised.

roofline: memory. Training reads x twice (mean and variance, result) and writes once. Its backward pass reads dy and
x twice and writes once. The activation that follows is computed in L1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..contract import Activation
from ..shared.activations import ACTIVATIONS
from .runtime.allocator import empty, empty_like
from .runtime.captured import fold_constant
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .runtime.microkernel import Microkernel
from .vector.activations import activate, activation_of
from .vector.blocks import block, blocks
from .vector.column_sums import RowShares, total_of
from .vector.layout import of_pixels, pixels
from .vector.row_maps import GRADIENT, NORMALIZED, SCALED, map_all, map_block, repeat
from .vector.row_sums import GRADIENTS, MOMENTS, add_gradients, find_moments, merge_moments
from .vector.simd import flattened

__all__ = [
    "batch_norm_eval",
    "batch_norm_eval_backward",
    "batch_norm_train",
    "batch_norm_train_backward",
    "update_running_average",
]

# Elements that are activated when they have been written.
ACTIVATED = 1 << 11


@kernel
def _find_moments(chunk, x, moments, center, sums, totals, microkernel, columns, part, times):
    """moments[0][chunk, column], the means, and moments[1], sums of squares about them."""
    first, means, squares = chunk * part, moments[0], moments[1]
    find_moments(
        microkernel, flattened(x), first * x.shape[1], x.shape[1], center, sums, totals, min(part, x.shape[0] - first),
        columns, times,
    )  # fmt: skip
    for j in range(columns):
        means[chunk * columns + j] = totals[j]
        squares[chunk * columns + j] = totals[totals.size // 2 + j]


@inlined
def normalize(x, at, row, y, to, wide, rows, columns, times, p):
    """y = (x - mean) scale + bias, activated; rows of y are ``columns`` apart, those of x ``row``.

    ``wide`` has the means of a wide row, its scales and its biases.
    """
    some = max(1, ACTIVATED // max(times * columns, 1)) * times
    for start in range(0, rows, some):
        here, source, target = min(some, rows - start), at + start * row, to + start * columns
        map_block(
            p.normalizing, x, source, row, x, source, row, y, target, wide, times * columns, here, columns, times
        )  # fmt: skip
        if p.activation > 0:
            activate(p.activating, y, target, here * columns, p.activation)


class _Forward(NamedTuple):
    """What forward passes are told: rows of a chunk, and of a wide row."""

    normalizing: Microkernel
    activating: Microkernel | int
    activation: int
    part: int
    times: int


class _Backward(NamedTuple):
    mapping: Microkernel
    part: int
    times: int


@kernel
def _train_rows(chunk, x, moments, weight, bias, y, mean, variance, inverse_std, wide, totals, eps, p):
    """Every chunk works out the statistics of all channels, and the first one writes them down."""
    columns, first = weight.size, chunk * p.part
    means, of_squares = moments[0], moments[1]
    size = p.times * columns
    wide_mean, wide_scale, wide_bias = wide[:size], wide[size : 2 * size], wide[2 * size : 3 * size]
    count = max(x.shape[0], 1)
    for j in range(columns):
        totals[j], totals[columns + j] = means[j], of_squares[j]
    for at in range(1, means.size // max(columns, 1)):
        merge_moments(
            at * p.part, totals[:columns], totals[columns:], 0, min(p.part, x.shape[0] - at * p.part), means,
            of_squares, at * columns, columns,
        )  # fmt: skip
    for j in range(columns):
        wide_mean[j], squares = totals[j], totals[columns + j] / count
        # Of the variance in float64, which may be too large for the dtype where its root is not.
        inverse = y.dtype.type(1 / np.sqrt(squares + eps))
        wide_scale[j], wide_bias[j] = weight[j] * inverse, bias[j]
        if chunk == 0:
            mean[j], variance[j], inverse_std[j] = wide_mean[j], squares, inverse
    repeat(wide_mean, columns, p.times)
    repeat(wide_scale, columns, p.times)
    repeat(wide_bias, columns, p.times)
    rows = min(p.part, x.shape[0] - first)
    normalize(
        flattened(x), first * x.shape[1], x.shape[1], flattened(y), first * columns, wide, rows, columns, p.times, p
    )  # fmt: skip


@kernel
def _eval_rows(chunk, x, weight, bias, mean, inverse_std, y, wide, p):
    columns, first = weight.size, chunk * p.part
    size = p.times * columns
    wide_mean, wide_scale, wide_bias = wide[:size], wide[size : 2 * size], wide[2 * size : 3 * size]
    for j in range(columns):
        wide_mean[j], wide_scale[j], wide_bias[j] = mean[j], weight[j] * inverse_std[j], bias[j]
    repeat(wide_mean, columns, p.times)
    repeat(wide_scale, columns, p.times)
    repeat(wide_bias, columns, p.times)
    normalize(
        flattened(x), first * x.shape[1], x.shape[1], flattened(y), first * columns, wide,
        min(p.part, x.shape[0] - first), columns, p.times, p,
    )  # fmt: skip


@kernel
def _sum_gradients(chunk, dy, x, mean, partials, scaled_partials, center, sums, totals, microkernel, part, times):
    """partials[chunk, column] of dy, and of dy times the difference of x from the mean."""
    columns, first = mean.size, chunk * part
    rows = min(part, x.shape[0] - first)
    dy_values, values, row = flattened(dy), flattened(x), x.shape[1]
    for j in range(columns):
        center[j] = mean[j]
    repeat(center, columns, times)
    half = totals.size // 2
    add_gradients(
        microkernel, dy_values, first * columns, values, first * row, row, center, sums, totals, rows, columns, times
    )  # fmt: skip
    for j in range(columns):
        partials[chunk * columns + j], scaled_partials[chunk * columns + j] = totals[j], totals[half + j]


@kernel
def _backward_rows(chunk, dy, x, of_dy, of_scaled, weight, mean, inverse_std, dx, dweight, dbias, wide, p):
    """dx = weight inverse_std dy or, in training, weight inverse_std (dy - mean(dy) - x_hat mean(dy x_hat))."""
    columns, first = weight.size, chunk * p.part
    size = p.times * columns
    wide_scale, wide_mean = wide[:size], wide[size : 2 * size]
    mean_dy, mean_product = wide[2 * size : 3 * size], wide[3 * size : 4 * size]
    count = max(x.shape[0], 1)
    for j in range(columns):
        total, total_scaled, scale = total_of(of_dy, columns, j), total_of(of_scaled, columns, j), inverse_std[j]
        # Nothing has the variance 0, and without eps an infinite scale.
        if x.shape[0] > 0:
            total_scaled *= scale
        if chunk == 0:
            dbias[j], dweight[j] = total, total_scaled
        wide_scale[j], wide_mean[j] = weight[j] * scale, mean[j]
        mean_dy[j] = total / count * wide_scale[j]
        mean_product[j] = dx.dtype.type(total_scaled / count) * scale * wide_scale[j]
    repeat(wide_scale, columns, p.times)
    repeat(mean_dy, columns, p.times)
    repeat(mean_product, columns, p.times)
    repeat(wide_mean, columns, p.times)
    map_all(
        p.mapping, flattened(dy), first * columns, columns, flattened(x), first * x.shape[1], x.shape[1], flattened(dx),
        first * columns, wide, size, min(p.part, x.shape[0] - first), columns, p.times,
    )  # fmt: skip


@kernel
def _invert_channels(chunk, variance, inverse_std, eps):
    one = inverse_std.dtype.type(1)
    for c in range(variance.size):
        inverse_std[c] = one / np.sqrt(variance[c] + eps)


@kernel
def _average_blocks(chunk, average, value, keep, take):
    for i in block(chunk, average.size):
        average[i] = keep * average[i] + take * value[i]


@cached_launches
def batch_norm_train(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, activation: Activation = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    of_x, c = pixels(x), weight.size
    rows = RowShares(of_x, c)
    y = empty((of_x.shape[0], c), x.dtype)
    mean, variance, inverse_std = (np.empty_like(weight) for _ in range(3))
    moments = empty((2, rows.chunks * c), np.float64)
    _find_moments(
        rows.chunks, of_x, moments, rows.scratch(), rows.scratch(2), rows.totals(2), MOMENTS, c, rows.part, rows.times
    )  # fmt: skip
    _train_rows(
        rows.chunks, of_x, moments, weight, bias, y, mean, variance, inverse_std, rows.scratch(3),
        Scratch(2 * c, np.dtype(np.float64)), float(eps), _forward(rows, activation),
    )  # fmt: skip
    return of_pixels(y, x), mean, variance, inverse_std


@cached_launches
def batch_norm_train_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _backward(dy, x, weight, mean, inverse_std, training=True)


@cached_launches
def batch_norm_eval(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float,
    activation: Activation = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    of_x, c = pixels(x), weight.size
    rows = RowShares(of_x, c)
    y = empty((of_x.shape[0], c), x.dtype)
    inverse_std = fold_constant(variance, lambda: _inverse_std(variance, eps))
    _eval_rows(
        rows.chunks, of_x, weight, bias, mean, inverse_std, y, rows.scratch(3), _forward(rows, activation)
    )  # fmt: skip
    return of_pixels(y, x), inverse_std


def _forward(rows: RowShares, activation: Activation) -> _Forward:
    code = ACTIVATIONS[activation]
    return _Forward(NORMALIZED, activation_of(code), code, rows.part, rows.times)


def _inverse_std(variance: np.ndarray, eps: float) -> np.ndarray:
    inverse_std = empty_like(variance)
    _invert_channels(1, variance, inverse_std, float(eps))
    return inverse_std


@cached_launches
def batch_norm_eval_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _backward(dy, x, weight, mean, inverse_std, training=False)


def update_running_average(average: np.ndarray, value: np.ndarray, momentum: float, correction: float) -> None:
    _average_blocks(
        blocks(average), average.reshape(-1), value.reshape(-1), float(1 - momentum), float(momentum * correction)
    )


def _backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse_std: np.ndarray, training: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dy_values, of_x, c = pixels(dy), pixels(x), weight.size
    rows = RowShares(of_x, c)
    of_dy, of_scaled = rows.partials(c), rows.partials(c)
    dx, dweight, dbias = empty(dy_values.shape, dy.dtype), np.empty_like(weight), np.empty_like(weight)
    _sum_gradients(
        rows.chunks, dy_values, of_x, mean, of_dy, of_scaled, rows.scratch(), rows.scratch(2), rows.totals(2),
        GRADIENTS, rows.part, rows.times,
    )  # fmt: skip
    _backward_rows(
        rows.chunks, dy_values, of_x, of_dy, of_scaled, weight, mean, inverse_std, dx, dweight, dbias, rows.scratch(4),
        _Backward(GRADIENT if training else SCALED, rows.part, rows.times),
    )  # fmt: skip
    return of_pixels(dx, dy), dweight, dbias
