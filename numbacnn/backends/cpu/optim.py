"""Optimiser steps, in place, a chunk a run of elements.

roofline: memory. SGD reads parameter and gradient and writes the parameter (12 bytes an element in float32), with
momentum 20, as Lion, RMSprop and Adagrad; Adam and NAdam 28. A norm reads its arrays once, clipping reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .runtime.allocator import empty
from .runtime.captured import recorded
from .runtime.kernel import inlined, kernel
from .vector.blocks import block, blocks

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


# Settings are read by the kernels, so that a captured step follows them and is not cut in two to ask for them.


@kernel
def _sgd_blocks(chunk, parameter, gradient, settings):
    number = parameter.dtype.type
    lr, weight_decay = number(settings[0]), number(settings[2])
    for i in block(chunk, parameter.size):
        parameter[i] -= lr * (gradient[i] + weight_decay * parameter[i])


@kernel
def _momentum_blocks(chunk, parameter, gradient, velocity, settings, nesterov):
    number = parameter.dtype.type
    lr, momentum, weight_decay = number(settings[0]), number(settings[1]), number(settings[2])
    for i in block(chunk, parameter.size):
        g = gradient[i] + weight_decay * parameter[i]
        velocity[i] = momentum * velocity[i] + g
        parameter[i] -= lr * (g + momentum * velocity[i] if nesterov else velocity[i])


# What the elements of a step share is worked out before, in float64, and read from memory: seen together, LLVM would
# make g + beta (m - g) of beta m + (1 - beta) g, which is NaN for an infinite g.


@inlined
def _moment_factors(factors, step, settings, decoupled):
    """Those that Adam and NAdam have in common."""
    lr, beta1, beta2, weight_decay = settings[0], settings[1], settings[2], settings[4]
    factors[2] = math.sqrt(1.0 - math.pow(beta2, np.float64(step[0])))
    factors[3] = settings[3]
    factors[4] = beta1
    factors[5] = 1.0 - beta1
    factors[6] = beta2
    factors[7] = 1.0 - beta2
    factors[8] = 0.0 if decoupled else weight_decay
    factors[9] = 1.0 - lr * weight_decay if decoupled else 1.0


@kernel
def _adam_factors(chunk, factors, step, settings, decoupled):
    factors[0] = settings[0] / (1.0 - math.pow(settings[1], np.float64(step[0])))
    factors[1] = 0.0
    _moment_factors(factors, step, settings, decoupled)


@kernel
def _nadam_factors(chunk, factors, mu_product, step, settings, decoupled):
    lr, half, decay, count = settings[0], 0.5 * settings[1], settings[5], np.float64(step[0])
    mu = settings[1] - half * math.pow(0.96, count * decay)
    mu_next = settings[1] - half * math.pow(0.96, (count + 1.0) * decay)
    product = mu_product[0] * mu
    mu_product[0] = product
    factors[0] = lr * mu_next / (1.0 - product * mu_next)
    factors[1] = lr * (1.0 - mu) / (1.0 - product)
    _moment_factors(factors, step, settings, decoupled)


@kernel
def _moment_blocks(chunk, parameter, gradient, first_moment, second_moment, factors):
    of_moment, of_gradient, root_correction, eps = factors[0], factors[1], factors[2], factors[3]
    keep_first, take_first, keep_second, take_second = factors[4], factors[5], factors[6], factors[7]
    weight_decay, shrink = factors[8], factors[9]
    for i in block(chunk, parameter.size):
        g = gradient[i] + weight_decay * parameter[i]
        first_moment[i] = keep_first * first_moment[i] + take_first * g
        second_moment[i] = keep_second * second_moment[i] + take_second * g * g
        denominator = np.sqrt(second_moment[i]) / root_correction + eps
        parameter[i] = shrink * parameter[i] - (of_moment * first_moment[i] + of_gradient * g) / denominator


@kernel
def _rmsprop_factors(chunk, factors, settings):
    factors[0] = settings[0]
    factors[1] = settings[1]
    factors[2] = 1.0 - settings[1]
    factors[3] = settings[2]
    factors[4] = settings[3]
    factors[5] = settings[4]


@kernel
def _adagrad_factors(chunk, factors, step, settings):
    factors[0] = settings[0] / (1.0 + (np.float64(step[0]) - 1.0) * settings[1])
    factors[1] = 1.0
    factors[2] = 1.0
    factors[3] = settings[2]
    factors[4] = settings[3]
    factors[5] = 0.0


@kernel
def _root_blocks(chunk, parameter, gradient, squares, factors):
    lr, keep, take, eps, weight_decay = factors[0], factors[1], factors[2], factors[3], factors[4]
    for i in block(chunk, parameter.size):
        g = gradient[i] + weight_decay * parameter[i]
        squares[i] = keep * squares[i] + take * g * g
        parameter[i] -= lr * (g / (np.sqrt(squares[i]) + eps))


@kernel
def _long_root_blocks(chunk, parameter, gradient, squares, mean, buffer, factors):
    """With a mean to take off, a buffer for momentum, or both: what there is not has no elements."""
    lr, keep, take, eps, weight_decay = factors[0], factors[1], factors[2], factors[3], factors[4]
    momentum, zero = factors[5], parameter.dtype.type(0)
    for i in block(chunk, parameter.size):
        g = gradient[i] + weight_decay * parameter[i]
        squares[i] = keep * squares[i] + take * g * g
        variance = squares[i]
        if mean.size:
            mean[i] = keep * mean[i] + take * g
            variance -= mean[i] * mean[i]
            variance = zero if variance < zero else variance
        step = g / (np.sqrt(variance) + eps)
        if buffer.size:
            step += momentum * buffer[i]
            buffer[i] = step
        parameter[i] -= lr * step


@kernel
def _lion_factors(chunk, factors, settings):
    lr, beta1, beta2 = settings[0], settings[1], settings[2]
    factors[0] = lr
    factors[1] = beta1
    factors[2] = 1.0 - beta1
    factors[3] = beta2
    factors[4] = 1.0 - beta2
    factors[5] = 1.0 - lr * settings[3]


@kernel
def _lion_blocks(chunk, parameter, gradient, first_moment, factors):
    length, keep_now, take_now, keep, take = factors[0], factors[1], factors[2], factors[3], factors[4]
    shrink, zero = factors[5], parameter.dtype.type(0)
    for i in block(chunk, parameter.size):
        direction = keep_now * first_moment[i] + take_now * gradient[i]
        # NaN is neither, and stays.
        step = length if direction > zero else (-length if direction < zero else direction)
        first_moment[i] = keep * first_moment[i] + take * gradient[i]
        parameter[i] = shrink * parameter[i] - step


@kernel
def _square_blocks(chunk, x, sums):
    total = 0.0
    for i in block(chunk, x.size):
        value = np.float64(x[i])
        total += value * value
    sums[chunk] = total


@kernel
def _clip_blocks(chunk, norm, x, max_norm):
    factor = max_norm / (norm[0] + 1e-6)
    if not factor >= 1:
        scale = x.dtype.type(factor)
        for i in block(chunk, x.size):
            x[i] *= scale


@kernel
def _divide_blocks(chunk, divisor, x):
    by = x.dtype.type(divisor[0])
    for i in block(chunk, x.size):
        x[i] /= by


def global_norm(arrays: Sequence[np.ndarray]) -> np.ndarray:
    norm = empty((), np.float64)
    _write_norm(norm, arrays)
    return norm


@recorded
def _write_norm(norm: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
    total = 0.0
    for array in arrays:
        sums = np.empty(blocks(array))
        _square_blocks(sums.size, array.reshape(-1), sums)
        total += sums.sum()
    norm[...] = np.sqrt(total)


def clip_scale(target: np.ndarray, norm: np.ndarray, max_norm: float) -> None:
    # The norm, of float64, comes first: that is what numbers are passed as.
    _clip_blocks(blocks(target), norm.reshape(1), target.reshape(-1), float(max_norm))


def divide(target: np.ndarray, divisor: np.ndarray) -> None:
    _divide_blocks(blocks(target), divisor.reshape(1), target.reshape(-1))


def sgd_step(
    parameter: np.ndarray, gradient: np.ndarray, velocity: np.ndarray | None, settings: np.ndarray, nesterov: bool
) -> None:
    count, flat, flat_gradient = blocks(parameter), parameter.reshape(-1), gradient.reshape(-1)
    if velocity is None:
        _sgd_blocks(count, flat, flat_gradient, settings)
    else:
        _momentum_blocks(count, flat, flat_gradient, velocity.reshape(-1), settings, int(nesterov))


def adam_step(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    step: np.ndarray,
    settings: np.ndarray,
    decoupled: bool,
) -> None:
    factors = empty((ADAM_FACTORS,), parameter.dtype)
    _adam_factors(1, factors, step.reshape(1), settings, int(decoupled))
    _moment_blocks(blocks(parameter), *_flat(parameter, gradient, first_moment, second_moment), factors)


def nadam_step(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    mu_product: np.ndarray,
    step: np.ndarray,
    settings: np.ndarray,
    decoupled: bool,
) -> None:
    factors = empty((ADAM_FACTORS,), parameter.dtype)
    _nadam_factors(1, factors, mu_product.reshape(1), step.reshape(1), settings, int(decoupled))
    _moment_blocks(blocks(parameter), *_flat(parameter, gradient, first_moment, second_moment), factors)


def rmsprop_step(
    parameter: np.ndarray,
    gradient: np.ndarray,
    square_average: np.ndarray,
    gradient_average: np.ndarray | None,
    momentum_buffer: np.ndarray | None,
    settings: np.ndarray,
) -> None:
    factors = empty((ROOT_FACTORS,), parameter.dtype)
    _rmsprop_factors(1, factors, settings)
    count, arrays = blocks(parameter), _flat(parameter, gradient, square_average)
    if gradient_average is None and momentum_buffer is None:
        _root_blocks(count, *arrays, factors)
    else:
        none = np.empty(0, parameter.dtype)
        others = (none if array is None else array for array in (gradient_average, momentum_buffer))
        _long_root_blocks(count, *arrays, *_flat(*others), factors)


def adagrad_step(
    parameter: np.ndarray, gradient: np.ndarray, square_sum: np.ndarray, step: np.ndarray, settings: np.ndarray
) -> None:
    factors = empty((ROOT_FACTORS,), parameter.dtype)
    _adagrad_factors(1, factors, step.reshape(1), settings)
    _root_blocks(blocks(parameter), *_flat(parameter, gradient, square_sum), factors)


def lion_step(parameter: np.ndarray, gradient: np.ndarray, first_moment: np.ndarray, settings: np.ndarray) -> None:
    factors = empty((LION_FACTORS,), parameter.dtype)
    _lion_factors(1, factors, settings)
    _lion_blocks(blocks(parameter), *_flat(parameter, gradient, first_moment), factors)


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1) for array in arrays]
