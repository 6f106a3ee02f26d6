"""Optimiser steps, in place, a thread per element. Settings and the step's count are read on the device.

roofline: memory. SGD reads parameter and gradient and writes the parameter (12 bytes an element in float32), with
momentum 20; Adam 28. A norm reads its arrays once, clipping reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Array
from .block.reduce import CHUNK, THREADS, add_parts, block_sum
from .runtime import device_array
from .runtime.kernel import block_kernel, kernel, mapping
from .runtime.target import cuda, scalar, sqrt

__all__ = ["adam_step", "clip_scale", "global_norm", "sgd_step"]

ADAM_FACTORS = 9


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


@kernel
def _adam_factors(i, factors, step, settings, decoupled):
    """What the elements of a step share, worked out once, in float64."""
    lr, beta1, beta2, eps, weight_decay = settings[0], settings[1], settings[2], settings[3], settings[4]
    count = step[0]
    factors[0] = lr / (1.0 - beta1**count)
    factors[1] = sqrt(1.0 - beta2**count)
    factors[2] = beta1
    factors[3] = 1.0 - beta1
    factors[4] = beta2
    factors[5] = 1.0 - beta2
    factors[6] = eps
    factors[7] = 0.0 if decoupled else weight_decay
    factors[8] = 1.0 - lr * weight_decay if decoupled else 1.0


@kernel
def _adam(i, parameter, gradient, first_moment, second_moment, factors):
    p, first, second = parameter[i], first_moment[i], second_moment[i]
    g = gradient[i] + factors[7] * p
    first = factors[2] * first + factors[3] * g
    second = factors[4] * second + factors[5] * g * g
    denominator = sqrt(second) / factors[1] + factors[6]
    p = factors[8] * p - factors[0] * first / denominator
    first_moment[i] = first
    second_moment[i] = second
    parameter[i] = p


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
    _adam(parameter.size, parameter, gradient, first_moment, second_moment, factors)
