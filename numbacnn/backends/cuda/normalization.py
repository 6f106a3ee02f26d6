"""Batch normalisation of x (n, c, ...): sums per channel (``block/reduce.py``), then a thread per element.

The variance is made from sums of x - s and (x - s)^2 in float64, s being the channel's first element. Of N numbers of
which s is one, sum (x - s)^2 is at most N + 1 times sum (x - mean)^2, so that taking the former's share of the mean
away leaves at least the relative accuracy N 1e-16, however far from zero the mean is; one read of x is enough.

roofline: memory. Training reads x twice and writes once, its backward pass reads dy and x twice and writes once.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Activation, Array
from ..shared.activations import ACTIVATIONS
from .block.pointwise import activate
from .block.reduce import THREADS, ChannelSums, add_parts
from .runtime import device_array
from .runtime.kernel import block_kernel, mapping
from .runtime.target import cuda, device_function, quotient, scalar, sqrt

__all__ = [
    "batch_norm_eval",
    "batch_norm_eval_backward",
    "batch_norm_train",
    "batch_norm_train_backward",
    "update_running_average",
]


@device_function
def _first_element(x, centers, channel, length):
    first = np.float64(x[channel * length])
    # An infinite one would leave nothing but NaN of the others.
    return first if first - first == 0.0 else 0.0


@device_function
def _moments(x, other, center, place, other_place):
    difference = np.float64(x[place]) - center
    return difference, difference * difference


@device_function
def _mean(x, centers, channel, length):
    return np.float64(centers[channel])


@device_function
def _gradient_sums(dy, x, center, place, x_place):
    gradient = np.float64(dy[place])
    return gradient, gradient * (np.float64(x[x_place]) - center)


moment_sums = ChannelSums("moments", _moments, _first_element)
_backward_sums = ChannelSums("batch_norm_backward", _gradient_sums, _mean)


@block_kernel(THREADS)
def finish_moments(block, thread, partial, x, mean, variance, inverse_std, eps, g):
    """Block is the channel; what is stored is rounded to the dtype."""
    n, c, length, parts = g
    first_sums = cuda.shared.array(THREADS, np.float64)
    second_sums = cuda.shared.array(THREADS, np.float64)
    first = add_parts(thread, partial, block * parts, parts, first_sums)
    second = add_parts(thread, partial, (c + block) * parts, parts, second_sums)
    if thread == 0:
        count = np.float64(max(n * length, 1))
        origin = _first_element(x, x, block, length) if parts else 0.0
        difference = first / count
        # The smallest sums can come out below zero; NaN is not below.
        biased = (second - first * difference) / count
        biased = 0.0 if biased < 0.0 else biased
        mean[block] = origin + difference
        variance[block] = biased
        inverse_std[block] = 1.0 / sqrt(biased + eps)


@block_kernel(THREADS)
def _finish_backward(block, thread, partial, weight, inverse_std, dweight, dbias, coefficients, g):
    """``coefficients`` (3, c) are weight / std, the mean of dy, and that of dy x_hat over std."""
    n, c, length, parts = g
    first_sums = cuda.shared.array(THREADS, np.float64)
    second_sums = cuda.shared.array(THREADS, np.float64)
    total = add_parts(thread, partial, block * parts, parts, first_sums)
    total_scaled = add_parts(thread, partial, (c + block) * parts, parts, second_sums)
    if thread == 0:
        count = np.float64(max(n * length, 1))
        scale = np.float64(inverse_std[block])
        # Nothing has the variance 0, and without eps an infinite scale.
        total_scaled = total_scaled * scale if parts else 0.0
        dbias[block] = total
        dweight[block] = total_scaled
        coefficients[block] = np.float64(weight[block]) * scale
        coefficients[c + block] = total / count
        coefficients[2 * c + block] = total_scaled / count * scale


@device_function
def _channel_and_place(i, g):
    """Of an element of (n, c, length): its channel, and where it is in an array with ``more`` elements a sample."""
    c, length, more = g
    plane = quotient(i, length)
    sample = quotient(plane, c)
    return plane - sample * c, i + sample * more


@mapping
def _normalized(i, x, weight, bias, mean, inverse_std, g, activation):
    channel, place = _channel_and_place(i, g)
    value = (x[place] - mean[channel]) * (weight[channel] * inverse_std[channel]) + bias[channel]
    return activate(activation, value, x)


@mapping
def _train_gradient(i, dy, x, mean, coefficients, g):
    channel, place = _channel_and_place(i, g)
    c = g[0]
    centred = dy[i] - coefficients[c + channel] - (x[place] - mean[channel]) * coefficients[2 * c + channel]
    return coefficients[channel] * centred


@mapping
def _eval_gradient(i, dy, coefficients, g):
    return coefficients[_channel_and_place(i, g)[0]] * dy[i]


@mapping
def _inverse_root(i, variance, eps):
    return scalar(variance, 1) / sqrt(variance[i] + eps)


@mapping
def _averaged(i, average, value, keep, take):
    return keep * average[i] + take * value[i]


def batch_norm_train(
    x: Array, weight: Array, bias: Array, eps: float, activation: Activation = None
) -> tuple[Array, Array, Array, Array]:
    n, channels, length = _sizes(x)
    c = weight.size
    y = device_array.new((n, c, *x.shape[2:]), x.dtype)
    mean, variance, inverse_std = (device_array.new((c,), x.dtype) for _ in range(3))
    partial, parts = moment_sums.partial(x, x, x, n, c, length, channels, channels)
    finish_moments(c, partial, x, mean, variance, inverse_std, float(eps), (n, c, length, parts))
    _normalized(y.size, y, x, weight, bias, mean, inverse_std, _geometry(x, c), ACTIVATIONS[activation])
    return y, mean, variance, inverse_std


def batch_norm_train_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    dweight, dbias, coefficients = _backward_per_channel(dy, x, weight, mean, inverse_std)
    dx = device_array.new(dy.shape, dy.dtype)
    _train_gradient(dx.size, dx, dy, x, mean, coefficients, _geometry(x, weight.size))
    return dx, dweight, dbias


def batch_norm_eval(
    x: Array, weight: Array, bias: Array, mean: Array, variance: Array, eps: float, activation: Activation = None
) -> tuple[Array, Array]:
    y, inverse_std = (
        device_array.new((x.shape[0], weight.size, *x.shape[2:]), x.dtype),
        device_array.new(weight.shape, x.dtype),
    )
    _inverse_root(inverse_std.size, inverse_std, variance, float(eps))
    _normalized(y.size, y, x, weight, bias, mean, inverse_std, _geometry(x, weight.size), ACTIVATIONS[activation])
    return y, inverse_std


def batch_norm_eval_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    dweight, dbias, coefficients = _backward_per_channel(dy, x, weight, mean, inverse_std)
    dx = device_array.new(dy.shape, dy.dtype)
    _eval_gradient(dx.size, dx, dy, coefficients, _geometry(x, weight.size))
    return dx, dweight, dbias


def update_running_average(average: Array, value: Array, momentum: float, correction: float) -> None:
    _averaged(average.size, average, average, value, float(1 - momentum), float(momentum * correction))


def _sizes(x: Array) -> tuple[int, int, int]:
    """Samples, channels, and elements of a channel of a sample."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _geometry(x: Array, c: int) -> tuple[int, int, int]:
    """For :func:`_channel_and_place`, when the first ``c`` channels of x count."""
    _, channels, length = _sizes(x)
    return c, length, (channels - c) * length


def _backward_per_channel(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    """dweight, dbias, and the coefficients of :func:`_finish_backward`."""
    n, c, length = _sizes(dy)
    dweight, dbias, coefficients = (device_array.new(shape, x.dtype) for shape in ((c,), (c,), (3, c)))
    partial, parts = _backward_sums.partial(dy, x, mean, n, c, length, c, x.shape[1])
    _finish_backward(c, partial, weight, inverse_std, dweight, dbias, coefficients, (n, c, length, parts))
    return dweight, dbias, coefficients
