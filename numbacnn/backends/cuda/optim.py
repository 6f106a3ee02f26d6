"""Optimiser steps, in place, a thread per element. Settings and the step's count are read on the device.

roofline: memory. SGD reads parameter and gradient and writes the parameter (12 bytes an element in float32), with
momentum 20, as Lion, RMSprop and Adagrad; Adam and NAdam 28. A norm reads its arrays once, clipping reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Array
from .block.reduce import CHUNK, THREADS, add_parts, block_sum
from .runtime import device_array
from .runtime.kernel import block_kernel, kernel, mapping
from .runtime.target import cuda, device_function, scalar, sqrt

__all__ = [
    "adagrad_step",
    "adam_step",
    "clip_scale",
    "divide",
    "global_norm",
    "lion_step",
    "nadam_step",
    "rmsprop_step",
    "sgd_step",
]

ADAM_FACTORS, ROOT_FACTORS, LION_FACTORS = 10, 6, 6


@mapping
def _sgd(i, parameter, gradient, settings):
    lr, weight_decay = scalar(parameter, settings[0]), scalar(parameter, settings[2])
    return parameter[i] - lr * (gradient[i] + weight_decay * parameter[i])


@kernel
def _momentum(i, parameter, gradient, velocity, settings, nesterov):
    lr, momentum = scalar(parameter, settings[0]), scalar(parameter, settings[1])
    p, v = parameter[i], velocity[i]
    g = gradient[i] + scalar(parameter, settings[2]) * p
    v = momentum * v + g
    velocity[i] = v
    parameter[i] = p - lr * (g + momentum * v if nesterov else v)


# What the elements of a step share, worked out once, in float64.


@device_function
def _moment_factors(factors, step, settings, decoupled):
    """Those that Adam and NAdam have in common."""
    lr, beta1, beta2, weight_decay = settings[0], settings[1], settings[2], settings[4]
    factors[2] = sqrt(1.0 - beta2 ** step[0])
    factors[3] = settings[3]
    factors[4] = beta1
    factors[5] = 1.0 - beta1
    factors[6] = beta2
    factors[7] = 1.0 - beta2
    factors[8] = 0.0 if decoupled else weight_decay
    factors[9] = 1.0 - lr * weight_decay if decoupled else 1.0


@kernel
def _adam_factors(i, factors, step, settings, decoupled):
    factors[0] = settings[0] / (1.0 - settings[1] ** step[0])
    factors[1] = 0.0
    _moment_factors(factors, step, settings, decoupled)


@kernel
def _nadam_factors(i, factors, mu_product, step, settings, decoupled):
    lr, half, decay, count = settings[0], 0.5 * settings[1], settings[5], np.float64(step[0])
    mu = settings[1] - half * 0.96 ** (count * decay)
    mu_next = settings[1] - half * 0.96 ** ((count + 1.0) * decay)
    product = mu_product[0] * mu
    mu_product[0] = product
    factors[0] = lr * mu_next / (1.0 - product * mu_next)
    factors[1] = lr * (1.0 - mu) / (1.0 - product)
    _moment_factors(factors, step, settings, decoupled)


@kernel
def _moments(i, parameter, gradient, first_moment, second_moment, factors):
    p, first, second = parameter[i], first_moment[i], second_moment[i]
    g = gradient[i] + factors[8] * p
    first = factors[4] * first + factors[5] * g
    second = factors[6] * second + factors[7] * g * g
    denominator = sqrt(second) / factors[2] + factors[3]
    p = factors[9] * p - (factors[0] * first + factors[1] * g) / denominator
    first_moment[i] = first
    second_moment[i] = second
    parameter[i] = p


@kernel
def _rmsprop_factors(i, factors, settings):
    factors[0] = settings[0]
    factors[1] = settings[1]
    factors[2] = 1.0 - settings[1]
    factors[3] = settings[2]
    factors[4] = settings[3]
    factors[5] = settings[4]


@kernel
def _adagrad_factors(i, factors, step, settings):
    factors[0] = settings[0] / (1.0 + (np.float64(step[0]) - 1.0) * settings[1])
    factors[1] = 1.0
    factors[2] = 1.0
    factors[3] = settings[2]
    factors[4] = settings[3]
    factors[5] = 0.0


@kernel
def _roots(i, parameter, gradient, squares, mean, buffer, factors, centered, with_momentum):
    """Where there is no mean to take off, or no buffer for momentum, those are any arrays."""
    p, s = parameter[i], squares[i]
    g = gradient[i] + factors[4] * p
    s = factors[1] * s + factors[2] * g * g
    squares[i] = s
    if centered:
        m = factors[1] * mean[i] + factors[2] * g
        mean[i] = m
        s -= m * m
        zero = scalar(s, 0.0)
        s = zero if s < zero else s
    step = g / (sqrt(s) + factors[3])
    if with_momentum:
        step += factors[5] * buffer[i]
        buffer[i] = step
    parameter[i] = p - factors[0] * step


@kernel
def _lion_factors(i, factors, settings):
    lr, beta1, beta2 = settings[0], settings[1], settings[2]
    factors[0] = lr
    factors[1] = beta1
    factors[2] = 1.0 - beta1
    factors[3] = beta2
    factors[4] = 1.0 - beta2
    factors[5] = 1.0 - lr * settings[3]


@kernel
def _lion(i, parameter, gradient, first_moment, factors):
    p, g, m, length = parameter[i], gradient[i], first_moment[i], factors[0]
    direction = factors[1] * m + factors[2] * g
    zero = scalar(direction, 0.0)
    # NaN is neither, and stays.
    step = length if direction > zero else (-length if direction < zero else direction)
    first_moment[i] = factors[3] * m + factors[4] * g
    parameter[i] = factors[5] * p - step


@block_kernel(THREADS)
def _square_chunks(block, thread, partial, x, first, count):
    """partial[first + block] = the sum of squares of a chunk of x."""
    sums = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(block * CHUNK + thread, min((block + 1) * CHUNK, count), THREADS):
        value = np.float64(x[i])
        total += value * value
    total = block_sum(thread, total, sums)
    if thread == 0:
        partial[first + block] = total


@block_kernel(THREADS)
def _finish_norm(block, thread, norm, partial, count):
    sums = cuda.shared.array(THREADS, np.float64)
    total = add_parts(thread, partial, 0, count, sums)
    if thread == 0:
        norm[0] = sqrt(total)


@kernel
def _clip_factor(i, factor, norm, max_norm):
    """Worked out once, in float64; comparing in this way lets NaN through."""
    ratio = max_norm / (norm[0] + 1e-6)
    factor[0] = 1.0 if ratio >= 1.0 else ratio


@mapping
def _scaled(i, x, factor):
    return x[i] * factor[0]


@kernel
def _rounded(i, divisor, number):
    divisor[0] = number[0]


@mapping
def _divided(i, x, divisor):
    return x[i] / divisor[0]


def global_norm(arrays: Sequence[Array]) -> Array:
    chunks = [-(-array.size // CHUNK) for array in arrays]
    partial = device_array.new((sum(chunks),), np.float64)
    first = 0
    for array, count in zip(arrays, chunks, strict=True):
        _square_chunks(count, partial, array, first, array.size)
        first += count
    norm = device_array.new((), np.float64)
    _finish_norm(1, norm, partial, partial.size)
    return norm


def clip_scale(target: Array, norm: Array, max_norm: float) -> None:
    factor = device_array.new((1,), target.dtype)
    _clip_factor(1, factor, norm, float(max_norm))
    _scaled(target.size, target, target, factor)


def divide(target: Array, divisor: Array) -> None:
    rounded = device_array.new((1,), target.dtype)
    _rounded(1, rounded, divisor)
    _divided(target.size, target, target, rounded)


def sgd_step(parameter: Array, gradient: Array, velocity: Array | None, settings: Array, nesterov: bool) -> None:
    if velocity is None:
        _sgd(parameter.size, parameter, parameter, gradient, settings)
    else:
        _momentum(parameter.size, parameter, gradient, velocity, settings, int(nesterov))


def adam_step(
    parameter: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    step: Array,
    settings: Array,
    decoupled: bool,
) -> None:
    factors = device_array.new((ADAM_FACTORS,), parameter.dtype)
    _adam_factors(1, factors, step, settings, int(decoupled))
    _moments(parameter.size, parameter, gradient, first_moment, second_moment, factors)


def nadam_step(
    parameter: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    mu_product: Array,
    step: Array,
    settings: Array,
    decoupled: bool,
) -> None:
    factors = device_array.new((ADAM_FACTORS,), parameter.dtype)
    _nadam_factors(1, factors, mu_product, step, settings, int(decoupled))
    _moments(parameter.size, parameter, gradient, first_moment, second_moment, factors)


def rmsprop_step(
    parameter: Array,
    gradient: Array,
    square_average: Array,
    gradient_average: Array | None,
    momentum_buffer: Array | None,
    settings: Array,
) -> None:
    factors = device_array.new((ROOT_FACTORS,), parameter.dtype)
    _rmsprop_factors(1, factors, settings)
    _root_step(parameter, gradient, square_average, gradient_average, momentum_buffer, factors)


def adagrad_step(parameter: Array, gradient: Array, square_sum: Array, step: Array, settings: Array) -> None:
    factors = device_array.new((ROOT_FACTORS,), parameter.dtype)
    _adagrad_factors(1, factors, step, settings)
    _root_step(parameter, gradient, square_sum, None, None, factors)


def _root_step(
    parameter: Array, gradient: Array, squares: Array, mean: Array | None, buffer: Array | None, factors: Array
) -> None:
    others = [squares if array is None else array for array in (mean, buffer)]
    flags = (int(mean is not None), int(buffer is not None))
    _roots(parameter.size, parameter, gradient, squares, *others, factors, *flags)


def lion_step(parameter: Array, gradient: Array, first_moment: Array, settings: Array) -> None:
    factors = device_array.new((LION_FACTORS,), parameter.dtype)
    _lion_factors(1, factors, settings)
    _lion(parameter.size, parameter, gradient, first_moment, factors)
