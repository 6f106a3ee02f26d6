"""Batch normalisation of x (n, c, ...): sums per channel (``block/reduce.py``), then a thread per few neighbours.

The variance is made from sums of x - s and (x - s)^2 in float64, s being the channel's first element. Of N numbers of
which s is one, sum (x - s)^2 is at most N + 1 times sum (x - mean)^2, so that taking the former's share of the mean
away leaves at least the relative accuracy N 1e-16, however far from zero the mean is; one read of x is enough.

roofline: memory. Training reads x twice and writes once, its backward pass reads dy and x twice and writes once. What
the sums have read last is what is read first then, so that of arrays no larger than the cache most is there.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..contract import Activation, Array
from ..shared.activations import ACTIVATIONS
from .block.pointwise import activate
from .block.reduce import THREADS, ChannelSums, add_parts
from .runtime import device_array
from .runtime.kernel import THREADS as MAPPING_THREADS
from .runtime.kernel import Kernel, block_kernel, mapping
from .runtime.target import (
    MAX_VECTOR,
    cuda,
    device_function,
    divided,
    divisor,
    scalar,
    sqrt,
    vector_load,
    vector_store,
    word,
)

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
def _moments(value, other_value, center):
    difference = np.float64(value) - center
    return difference, difference * difference


@device_function
def _mean(x, centers, channel, length):
    return np.float64(centers[channel])


@device_function
def _gradient_sums(gradient, value, center):
    gradient = np.float64(gradient)
    return gradient, gradient * (np.float64(value) - center)


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
def _channel_and_places(i, g):
    """Of group ``i`` of elements of (n, c, length), counted from the last one: its channel, and where it is there and
    in an array with ``more`` groups a sample.
    """
    last, c, by_c, by_length, more = g
    group = word(last - i)
    plane = divided(group, by_length)
    sample = divided(plane, by_c)
    return word(plane - sample * c), group, word(group + sample * more)


@functools.cache
def _normalize_kernel(count: int, activation: int) -> Kernel:
    """For groups of ``count`` elements of a channel. The last one comes first, which a cache may still have of sums."""
    load, store = vector_load(count), vector_store(count)

    @device_function
    def normalized(value, center, scale, offset, x):
        return activate(activation, (value - center) * scale + offset, x)

    def read(i, y, x, weight, bias, mean, inverse_std, g):
        channel, _, place = _channel_and_places(i, g)
        values = load(x, np.int64(place) * count)
        return values, mean[channel], weight[channel] * inverse_std[channel], bias[channel]

    def normalize(i, found, y, x, weight, bias, mean, inverse_std, g):
        (a, b, c, d), center, scale, offset = found
        _, group, _ = _channel_and_places(i, g)
        results = (
            normalized(a, center, scale, offset, x),
            normalized(b, center, scale, offset, x),
            normalized(c, center, scale, offset, x),
            normalized(d, center, scale, offset, x),
        )
        store(y, np.int64(group) * count, results)

    name = f"{__name__}.normalize-by-{count}-{activation}"
    return Kernel(normalize, "loading", MAPPING_THREADS, name, load=read)


@functools.cache
def _train_gradient_kernel(count: int) -> Kernel:
    """For groups of ``count`` elements of a channel, as :func:`_normalize_kernel`."""
    load, store = vector_load(count), vector_store(count)

    @device_function
    def gradient(dy, value, center, scale, mean_dy, mean_product):
        return scale * (dy - mean_dy - (value - center) * mean_product)

    def read(i, dx, dy, x, mean, coefficients, g):
        channel, group, place = _channel_and_places(i, g)
        c = g[1]
        given, values = load(dy, np.int64(group) * count), load(x, np.int64(place) * count)
        of_channel = coefficients[channel], coefficients[c + channel], coefficients[2 * c + channel]
        return given, values, mean[channel], of_channel

    def train_gradient(i, found, dx, dy, x, mean, coefficients, g):
        (dy0, dy1, dy2, dy3), (x0, x1, x2, x3), center, (scale, mean_dy, mean_product) = found
        _, group, _ = _channel_and_places(i, g)
        results = (
            gradient(dy0, x0, center, scale, mean_dy, mean_product),
            gradient(dy1, x1, center, scale, mean_dy, mean_product),
            gradient(dy2, x2, center, scale, mean_dy, mean_product),
            gradient(dy3, x3, center, scale, mean_dy, mean_product),
        )
        store(dx, np.int64(group) * count, results)

    name = f"{__name__}.train_gradient-by-{count}"
    return Kernel(train_gradient, "loading", MAPPING_THREADS, name, load=read)


@functools.cache
def _eval_gradient_kernel(count: int) -> Kernel:
    """For groups of ``count`` elements of a channel."""
    load, store = vector_load(count), vector_store(count)

    def read(i, dx, dy, coefficients, g):
        channel, group, _ = _channel_and_places(i, g)
        return load(dy, np.int64(group) * count), coefficients[channel]

    def eval_gradient(i, found, dx, dy, coefficients, g):
        (a, b, c, d), scale = found
        _, group, _ = _channel_and_places(i, g)
        store(dx, np.int64(group) * count, (scale * a, scale * b, scale * c, scale * d))

    name = f"{__name__}.eval_gradient-by-{count}"
    return Kernel(eval_gradient, "loading", MAPPING_THREADS, name, load=read)


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
    _normalize(y, x, weight, bias, mean, inverse_std, activation)
    return y, mean, variance, inverse_std


def batch_norm_train_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    dweight, dbias, coefficients = _backward_per_channel(dy, x, weight, mean, inverse_std)
    dx = device_array.new(dy.shape, dy.dtype)
    count, groups, g = _geometry(dx, x)
    _train_gradient_kernel(count)(groups, dx, device_array.aligned(dy), device_array.aligned(x), mean, coefficients, g)
    return dx, dweight, dbias


def batch_norm_eval(
    x: Array, weight: Array, bias: Array, mean: Array, variance: Array, eps: float, activation: Activation = None
) -> tuple[Array, Array]:
    y, inverse_std = (
        device_array.new((x.shape[0], weight.size, *x.shape[2:]), x.dtype),
        device_array.new(weight.shape, x.dtype),
    )
    _inverse_root(inverse_std.size, inverse_std, variance, float(eps))
    _normalize(y, x, weight, bias, mean, inverse_std, activation)
    return y, inverse_std


def batch_norm_eval_backward(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    dweight, dbias, coefficients = _backward_per_channel(dy, x, weight, mean, inverse_std)
    dx = device_array.new(dy.shape, dy.dtype)
    count, groups, g = _geometry(dx, dx)
    _eval_gradient_kernel(count)(groups, dx, device_array.aligned(dy), coefficients, g)
    return dx, dweight, dbias


def update_running_average(average: Array, value: Array, momentum: float, correction: float) -> None:
    _averaged(average.size, average, average, value, float(1 - momentum), float(momentum * correction))


def _sizes(x: Array) -> tuple[int, int, int]:
    """Samples, channels, and elements of a channel of a sample."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _geometry(y: Array, x: Array) -> tuple[int, int, tuple[int, ...]]:
    """For results y, when the first channels of x are as many: elements to a group, the number of groups, and what
    :func:`_channel_and_places` needs.
    """
    _, c, length = _sizes(y)
    count = math.gcd(length, MAX_VECTOR)
    groups, more = y.size // count, (x.shape[1] - c) * length // count
    return count, groups, (groups - 1, c, divisor(max(c, 1)), divisor(max(length // count, 1)), more)


def _normalize(
    y: Array, x: Array, weight: Array, bias: Array, mean: Array, inverse_std: Array, activation: Activation
) -> None:
    count, groups, g = _geometry(y, x)
    kernel = _normalize_kernel(count, ACTIVATIONS[activation])
    kernel(groups, y, device_array.aligned(x), weight, bias, mean, inverse_std, g)


def _backward_per_channel(
    dy: Array, x: Array, weight: Array, mean: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    """dweight, dbias, and the coefficients of :func:`_finish_backward`."""
    n, c, length = _sizes(dy)
    dweight, dbias, coefficients = (device_array.new(shape, x.dtype) for shape in ((c,), (c,), (3, c)))
    partial, parts = _backward_sums.partial(dy, x, mean, n, c, length, c, x.shape[1])
    _finish_backward(c, partial, weight, inverse_std, dweight, dbias, coefficients, (n, c, length, parts))
    return dweight, dbias, coefficients
