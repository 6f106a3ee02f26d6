"""Group normalisation of x (n, c, ...): Wu and He, ECCV 2018. Layer and instance normalisation are made of it."""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array

__all__ = ["group_norm", "group_norm_backward"]


def group_norm(
    x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
) -> tuple[Array, Array, Array, Array]:
    """y, and of each group of channels of a sample mean, biased variance, 1/sqrt(variance + eps)."""
    of_groups = _of_groups(x, groups)
    mean = _mean(of_groups)
    variance = _mean(np.square(of_groups - mean[:, :, None], dtype=np.float64))
    inverse_std = 1 / np.sqrt(variance + eps)
    mean, variance, inverse_std = (statistic.astype(x.dtype) for statistic in (mean, variance, inverse_std))
    y = _normalized(x, mean, inverse_std, groups)
    if weight is not None:
        y = _per_channel(weight, x) * y
    if bias is not None:
        y = y + _per_channel(bias, x)
    return y, mean, variance, inverse_std


def group_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, inverse_std: Array, groups: int
) -> tuple[Array, Array | None, Array | None]:
    """dx, through the statistics, and where there is a weight dweight and dbias.

    With x^ the normalised x and g = weight dy: ``dx = 1 / std * (g - mean(g) - x^ mean(g x^))``, means per group.
    """
    x_hat = _normalized(x, mean, inverse_std, groups)
    gradient = _of_groups(dy if weight is None else _per_channel(weight, x) * dy, groups)
    of_x_hat = _of_groups(x_hat, groups)
    mean_gradient = _mean(gradient).astype(x.dtype)[:, :, None]
    mean_product = _mean(gradient * of_x_hat).astype(x.dtype)[:, :, None]
    dx = inverse_std[:, :, None] * (gradient - mean_gradient - of_x_hat * mean_product)
    if weight is None:
        return dx.reshape(x.shape), None, None
    return dx.reshape(x.shape), _channel_sum(dy * x_hat).astype(x.dtype), _channel_sum(dy).astype(x.dtype)


def _of_groups(x: Array, groups: int) -> Array:
    """x as (n, groups, the elements of a group)."""
    return x.reshape(x.shape[0], groups, math.prod(x.shape[1:]) // groups)


def _per_channel(values: Array, x: Array) -> Array:
    """``values`` (c,) in a shape that meets the channels of x."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _normalized(x: Array, mean: Array, inverse_std: Array, groups: int) -> Array:
    return ((_of_groups(x, groups) - mean[:, :, None]) * inverse_std[:, :, None]).reshape(x.shape)


def _mean(of_groups: Array) -> Array:
    """The float64 mean of each group, 0 where there is nothing."""
    return of_groups.sum(axis=2, dtype=np.float64) / max(of_groups.shape[2], 1)


def _channel_sum(x: Array) -> Array:
    """The float64 sum over batch and positions."""
    return x.sum(axis=(0, *range(2, x.ndim)), dtype=np.float64)
