"""Optimiser steps, in place, a thread per element. Settings and the step's count are read on the device.

roofline: memory. SGD reads parameter and gradient and writes the parameter (12 bytes an element in float32), with
momentum 20; Adam 28.
reached: not measured on a GPU yet.
"""

from __future__ import annotations

from ..contract import Array
from . import memory
from .jit import kernel, mapping
from .target import scalar, sqrt

__all__ = ["adam_step", "sgd_step"]

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
    factors = memory.new((ADAM_FACTORS,), parameter.dtype)
    _adam_factors(1, factors, step, settings, int(decoupled))
    _adam(parameter.size, parameter, gradient, first_moment, second_moment, factors)
