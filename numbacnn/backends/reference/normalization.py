"""Batch normalisation of x (n, c, l): Ioffe and Szegedy, ICML 2015. Everything per channel is (c,)."""

from __future__ import annotations

import numpy as np

from ..contract import Activation, Array
from .elementwise import activate

__all__ = [
    "batch_norm_eval",
    "batch_norm_eval_backward",
    "batch_norm_train",
    "batch_norm_train_backward",
    "update_running_average",
]


def batch_norm_train(
    x: Array, weight: Array, bias: Array, eps: float, activation: Activation = None
) -> tuple[Array, Array, Array, Array]:
    """y, activated, batch mean, biased batch variance, 1/sqrt(variance + eps)."""
    x = x[:, : weight.size]
    mean = _channel_mean(x)
    variance = _channel_mean(np.square(x - mean[:, None], dtype=np.float64))
    inverse_std = 1 / np.sqrt(variance + eps)
    mean, variance, inverse_std = (statistic.astype(x.dtype) for statistic in (mean, variance, inverse_std))
    y = weight[:, None] * _normalized(x, mean, inverse_std) + bias[:, None]
    return activate(y, activation), mean, variance, inverse_std


def batch_norm_train_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    """dx, dweight, dbias, through the batch statistics.

    With x^ the normalised x: ``dx = weight / std * (dy - mean(dy) - x^ mean(dy x^))``, means per channel.
    """
    x_hat = _normalized(x[:, : weight.size], mean, inverse_std)
    mean_dy, mean_dy_x_hat = _channel_mean(dy).astype(x.dtype), _channel_mean(dy * x_hat).astype(x.dtype)
    dx = (weight * inverse_std)[:, None] * (dy - mean_dy[:, None] - x_hat * mean_dy_x_hat[:, None])
    return dx, _channel_sum(dy * x_hat).astype(x.dtype), _channel_sum(dy).astype(x.dtype)


def batch_norm_eval(
    x: Array, weight: Array, bias: Array, mean: Array, variance: Array, eps: float, activation: Activation = None
) -> tuple[Array, Array]:
    """y with given statistics, activated, 1/sqrt(variance + eps)."""
    inverse_std = 1 / np.sqrt(variance + eps)
    y = weight[:, None] * _normalized(x[:, : weight.size], mean, inverse_std) + bias[:, None]
    return activate(y, activation), inverse_std


def batch_norm_eval_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    """dx, dweight, dbias, the statistics being constants."""
    x_hat = _normalized(x[:, : weight.size], mean, inverse_std)
    dx = (weight * inverse_std)[:, None] * dy
    return dx, _channel_sum(dy * x_hat).astype(x.dtype), _channel_sum(dy).astype(x.dtype)


def update_running_average(average: Array, value: Array, momentum: float, correction: float) -> None:
    """In place: ``average = (1 - momentum) * average + momentum * correction * value``."""
    average[...] = (1 - momentum) * average + momentum * correction * value


def _normalized(x: Array, mean: Array, inverse_std: Array) -> Array:
    return (x - mean[:, None]) * inverse_std[:, None]


def _channel_sum(x: Array) -> Array:
    """The float64 sum over batch and positions."""
    return x.sum(axis=(0, 2), dtype=np.float64)


def _channel_mean(x: Array) -> Array:
    """The float64 mean over batch and positions, 0 where there are none."""
    return _channel_sum(x) / max(x.shape[0] * x.shape[2], 1)
