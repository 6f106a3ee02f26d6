"""Batch normalisation: a chunk is one channel of x (n, c, l), summed plane by plane in order (``sums.py``).

Arrays keep their own numbers of channels: x may have more than are normalised.

roofline: memory. Training reads x three times (mean, variance, result) and writes once; a channel that fits the
cache is read from memory once. Its backward pass reads dy and x twice and writes once. The activation that follows is
computed plane by plane, in L1.
"""

from __future__ import annotations

import numpy as np

from ..contract import Activation
from ..shared.activations import ACTIVATIONS
from .elementwise import activate, activation_of, block, blocks
from .graph import prepared
from .jit import function, kernel
from .memory import empty, empty_like
from .sums import sum_rows, sums_of

__all__ = [
    "batch_norm_eval",
    "batch_norm_eval_backward",
    "batch_norm_train",
    "batch_norm_train_backward",
    "update_running_average",
]


@function
def _square(x, other, center):
    return (x - center) * (x - center), type(x)(0)


@function
def _gradient(dy, x, center):
    return dy, dy * (x - center)


_square_sums, _gradient_sums = sums_of(_square), sums_of(_gradient)


@kernel
def _train_channels(chunk, x, weight, bias, y, mean, variance, inverse_std, activating, activation, eps):
    n, c, length = x.shape[0], chunk, x.shape[2]
    count, values = max(n * length, 1), x.reshape(-1)
    at, apart = c * length, x.shape[1] * length
    center = y.dtype.type(sum_rows(values, at, apart, n, length) / count)
    # Squares of differences, not a difference of squares, which would lose a small variance beside a large mean.
    total, _ = _square_sums(values, at, apart, values, at, apart, center, n, length)
    # Of the variance in float64, which may be too large for the dtype where its root is not.
    scale = y.dtype.type(1 / np.sqrt(total / count + eps))
    mean[c], variance[c], inverse_std[c] = center, total / count, scale
    factor, activated = weight[c] * scale, y.reshape(-1)
    for i in range(n):
        for p in range(length):
            y[i, c, p] = (x[i, c, p] - center) * factor + bias[c]
        if activation > 0:
            activate(activating, activated, (i * y.shape[1] + c) * length, length, activation)


@kernel
def _backward_channels(chunk, dy, x, weight, mean, inverse_std, dx, dweight, dbias, training):
    """dx = weight inverse_std dy or, ``training``, weight inverse_std (dy - mean(dy) - x_hat mean(dy x_hat))."""
    n, c, length = x.shape[0], chunk, x.shape[2]
    slopes, values = dy.reshape(-1), x.reshape(-1)
    center, scale = mean[c], inverse_std[c]
    total, total_scaled = _gradient_sums(
        slopes, c * length, dy.shape[1] * length, values, c * length, x.shape[1] * length, center, n, length
    )
    # Nothing has the variance 0, and without eps an infinite scale.
    if n * length > 0:
        total_scaled *= scale
    dbias[c], dweight[c] = total, total_scaled
    factor = weight[c] * scale
    if not training:
        for i in range(n):
            for p in range(length):
                dx[i, c, p] = factor * dy[i, c, p]
        return
    count = max(n * length, 1)
    shift = dx.dtype.type(total / count)
    slope = dx.dtype.type(total_scaled / count) * scale
    for i in range(n):
        for p in range(length):
            dx[i, c, p] = factor * (dy[i, c, p] - shift - (x[i, c, p] - center) * slope)


@kernel
def _invert_channels(chunk, variance, inverse_std, eps):
    one = inverse_std.dtype.type(1)
    for c in range(variance.size):
        inverse_std[c] = one / np.sqrt(variance[c] + eps)


@kernel
def _average_blocks(chunk, average, value, keep, take):
    for i in block(chunk, average.size):
        average[i] = keep * average[i] + take * value[i]


@kernel
def _eval_planes(chunk, x, weight, bias, mean, inverse_std, y, activating, activation):
    i, c = chunk // weight.size, chunk % weight.size
    factor = weight[c] * inverse_std[c]
    for p in range(x.shape[2]):
        y[i, c, p] = (x[i, c, p] - mean[c]) * factor + bias[c]
    if activation > 0:
        activate(activating, y.reshape(-1), chunk * x.shape[2], x.shape[2], activation)


def batch_norm_train(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, activation: Activation = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    y = empty((x.shape[0], weight.size, x.shape[2]), x.dtype)
    mean, variance, inverse_std = (np.empty_like(weight) for _ in range(3))
    _train_channels(
        weight.size, x, weight, bias, y, mean, variance, inverse_std, activation_of, ACTIVATIONS[activation], float(eps)
    )  # fmt: skip
    return y, mean, variance, inverse_std


def batch_norm_train_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _backward(dy, x, weight, mean, inverse_std, training=True)


def batch_norm_eval(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float,
    activation: Activation = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    y = empty((x.shape[0], weight.size, x.shape[2]), x.dtype)
    inverse_std = prepared(variance, lambda: _inverse_std(variance, eps))
    _eval_planes(
        x.shape[0] * weight.size, x, weight, bias, mean, inverse_std, y, activation_of, ACTIVATIONS[activation]
    )  # fmt: skip
    return y, inverse_std


def _inverse_std(variance: np.ndarray, eps: float) -> np.ndarray:
    inverse_std = empty_like(variance)
    _invert_channels(1, variance, inverse_std, float(eps))
    return inverse_std


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
    dx, dweight, dbias = empty_like(dy), np.empty_like(weight), np.empty_like(weight)
    _backward_channels(weight.size, dy, x, weight, mean, inverse_std, dx, dweight, dbias, training)
    return dx, dweight, dbias
