"""Group normalisation of x (n, c, ...): the numbers of a group are one run of memory, normalised as a channel of one
sample is by batch normalisation; then a thread per element.

roofline: memory. Forward reads x twice and writes once. Backward reads dy and x twice and writes once; with a weight
the normalised x is written, and read with dy, for the sums over samples.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from .block.reduce import CHUNK, THREADS, ChannelSums, add_parts, block_sum, no_center
from .normalization import finish_moments, moment_sums
from .runtime import device_array
from .runtime.kernel import block_kernel, mapping
from .runtime.target import cuda, device_function, divided, divisor, quotient, word

__all__ = ["group_norm", "group_norm_backward"]


@device_function
def _channel_and_group(i, of):
    """Of element ``i``; ``of`` is what :func:`_prepared` gives."""
    by_length, c, by_c, by_channels = of
    plane = divided(i, by_length)
    return word(plane - divided(plane, by_c) * c), divided(plane, by_channels)


@mapping
def _normalized(i, x, weight, bias, mean, inverse_std, of, given):
    """``given`` says whether there are a weight and a bias."""
    has_weight, has_bias = given
    channel, group = _channel_and_group(i, of)
    value = (x[i] - mean[group]) * inverse_std[group]
    if has_weight:
        value *= weight[channel]
    if has_bias:
        value += bias[channel]
    return value


@mapping
def _x_hat(i, x, mean, inverse_std, by_size):
    group = divided(i, by_size)
    return (x[i] - mean[group]) * inverse_std[group]


@block_kernel(THREADS)
def _add_group(block, thread, partial, dy, x, weight, mean, g):
    """Of a part of a group, the sums of weight dy and of weight dy (x - mean)."""
    groups, channels, length, parts, units, has_weight = g
    first_sums = cuda.shared.array(THREADS, np.float64)
    second_sums = cuda.shared.array(THREADS, np.float64)
    unit = quotient(block, parts)
    size = channels * length
    start, end = (block - unit * parts) * CHUNK, min((block - unit * parts + 1) * CHUNK, size)
    first_channel = (unit - quotient(unit, groups) * groups) * channels
    center = np.float64(mean[unit])
    first, second = 0.0, 0.0
    for i in range(start + thread, end, THREADS):
        place = unit * size + i
        gradient = np.float64(dy[place])
        if has_weight:
            gradient *= np.float64(weight[first_channel + quotient(i, length)])
        first += gradient
        second += gradient * (np.float64(x[place]) - center)
    first = block_sum(thread, first, first_sums)
    second = block_sum(thread, second, second_sums)
    if thread == 0:
        partial[block] = first
        partial[units * parts + block] = second


@block_kernel(THREADS)
def _finish_group(block, thread, partial, inverse_std, coefficients, size, parts, units):
    """``coefficients`` (2, n groups) are the mean of weight dy, and that of weight dy x_hat over std."""
    first_sums = cuda.shared.array(THREADS, np.float64)
    second_sums = cuda.shared.array(THREADS, np.float64)
    total = add_parts(thread, partial, block * parts, parts, first_sums)
    total_scaled = add_parts(thread, partial, (units + block) * parts, parts, second_sums)
    if thread == 0:
        scale = np.float64(inverse_std[block])
        coefficients[block] = total / size
        coefficients[units + block] = total_scaled * scale / size * scale


@mapping
def _gradient(i, dy, x, weight, mean, inverse_std, coefficients, of, units, has_weight):
    channel, group = _channel_and_group(i, of)
    gradient = dy[i]
    if has_weight:
        gradient *= weight[channel]
    centred = gradient - coefficients[group] - (x[i] - mean[group]) * coefficients[units + group]
    return inverse_std[group] * centred


@device_function
def _products(gradient, x_hat, center):
    gradient = np.float64(gradient)
    return gradient, gradient * np.float64(x_hat)


_parameter_sums = ChannelSums("group_norm_backward", _products, no_center)


@block_kernel(THREADS)
def _finish_parameters(block, thread, partial, dweight, dbias, c, parts):
    first_sums = cuda.shared.array(THREADS, np.float64)
    second_sums = cuda.shared.array(THREADS, np.float64)
    total = add_parts(thread, partial, block * parts, parts, first_sums)
    total_scaled = add_parts(thread, partial, (c + block) * parts, parts, second_sums)
    if thread == 0:
        dbias[block] = total
        dweight[block] = total_scaled


def group_norm(
    x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
) -> tuple[Array, Array, Array, Array]:
    n, c, *positions = x.shape
    length, units = math.prod(positions), n * groups
    size = c // groups * length
    y = device_array.new(x.shape, x.dtype)
    mean, variance, inverse_std = (device_array.new((n, groups), x.dtype) for _ in range(3))
    partial, parts = moment_sums.partial(x, x, x, 1, units, size)
    finish_moments(units, partial, x, mean, variance, inverse_std, float(eps), (1, units, size, parts))
    given = (x if weight is None else weight, x if bias is None else bias)
    are_given = int(weight is not None), int(bias is not None)
    _normalized(y.size, y, x, *given, mean, inverse_std, _prepared(length, c, c // groups), are_given)
    return y, mean, variance, inverse_std


def group_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, inverse_std: Array, groups: int
) -> tuple[Array, Array | None, Array | None]:
    n, c, *positions = x.shape
    length, units, channels = math.prod(positions), n * groups, c // groups
    size, has_weight = channels * length, int(weight is not None)
    given = x if weight is None else weight
    parts = -(-size // CHUNK)
    dx, coefficients = device_array.new(x.shape, x.dtype), device_array.new((2, units), x.dtype)
    partial = device_array.new((2, units, parts), np.float64)
    _add_group(units * parts, partial, dy, x, given, mean, (groups, channels, length, parts, units, has_weight))
    _finish_group(units if parts else 0, partial, inverse_std, coefficients, size, parts, units)
    of = _prepared(length, c, channels)
    _gradient(dx.size, dx, dy, x, given, mean, inverse_std, coefficients, of, units, has_weight)
    if weight is None:
        return dx, None, None
    x_hat, dweight, dbias = (device_array.new(shape, x.dtype) for shape in (x.shape, (c,), (c,)))
    _x_hat(x_hat.size, x_hat, x, mean, inverse_std, divisor(max(size, 1)))
    partial, parts = _parameter_sums.partial(dy, x_hat, x, n, c, length)
    _finish_parameters(c, partial, dweight, dbias, c, parts)
    return dx, dweight, dbias


def _prepared(length: int, c: int, channels: int) -> tuple[int, int, int, int]:
    """For :func:`_channel_and_group`: positions of a channel, channels, and channels of a group."""
    return divisor(max(length, 1)), c, divisor(max(c, 1)), divisor(max(channels, 1))
