"""Batch normalisation of x (n, c, ...): Ioffe and Szegedy, ICML 2015. Everything per channel is (c,)."""

from __future__ import annotations

import math

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
    variance = _channel_mean(np.square(x - _per_channel(mean, x), dtype=np.float64))
    inverse_std = 1 / np.sqrt(variance + eps)
    mean, variance, inverse_std = (statistic.astype(x.dtype) for statistic in (mean, variance, inverse_std))
    y = _per_channel(weight, x) * _normalized(x, mean, inverse_std) + _per_channel(bias, x)
    return activate(y, activation), mean, variance, inverse_std


def batch_norm_train_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    """dx, dweight, dbias, through the batch statistics.

    With x^ the normalised x: ``dx = weight / std * (dy - mean(dy) - x^ mean(dy x^))``, means per channel.
    """
    x_hat = _normalized(x[:, : weight.size], mean, inverse_std)
    mean_dy, mean_dy_x_hat = _channel_mean(dy).astype(x.dtype), _channel_mean(dy * x_hat).astype(x.dtype)
    dx = _per_channel(weight * inverse_std, x) * (
        dy - _per_channel(mean_dy, x) - x_hat * _per_channel(mean_dy_x_hat, x)
    )
    return dx, _channel_sum(dy * x_hat).astype(x.dtype), _channel_sum(dy).astype(x.dtype)


def batch_norm_eval(
    x: Array, weight: Array, bias: Array, mean: Array, variance: Array, eps: float, activation: Activation = None
) -> tuple[Array, Array]:
    """y with given statistics, activated, 1/sqrt(variance + eps)."""
    inverse_std = 1 / np.sqrt(variance + eps)
    y = _per_channel(weight, x) * _normalized(x[:, : weight.size], mean, inverse_std) + _per_channel(bias, x)
    return activate(y, activation), inverse_std


def batch_norm_eval_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    """dx, dweight, dbias, the statistics being constants."""
    x_hat = _normalized(x[:, : weight.size], mean, inverse_std)
    dx = _per_channel(weight * inverse_std, x) * dy
    return dx, _channel_sum(dy * x_hat).astype(x.dtype), _channel_sum(dy).astype(x.dtype)


def update_running_average(average: Array, value: Array, momentum: float, correction: float) -> None:
    """In place: ``average = (1 - momentum) * average + momentum * correction * value``."""
    average[...] = (1 - momentum) * average + momentum * correction * value


def _per_channel(values: Array, x: Array) -> Array:
    """``values`` (c,) in a shape that meets the channels of x."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _normalized(x: Array, mean: Array, inverse_std: Array) -> Array:
    return (x - _per_channel(mean, x)) * _per_channel(inverse_std, x)


def _channel_sum(x: Array) -> Array:
    """The float64 sum over batch and positions."""
    return x.sum(axis=(0, *range(2, x.ndim)), dtype=np.float64)


def _channel_mean(x: Array) -> Array:
    """The float64 mean over batch and positions, 0 where there are none."""
    return _channel_sum(x) / max(x.shape[0] * math.prod(x.shape[2:]), 1)
