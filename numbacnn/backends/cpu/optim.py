"""Optimiser steps, in place, a chunk a run of elements.

roofline: memory. SGD reads parameter and gradient and writes the parameter (12 bytes an element in float32), with
momentum 20; Adam 28. A norm reads its arrays once, clipping reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .runtime.allocator import empty
from .runtime.captured import recorded
from .runtime.kernel import kernel
from .vector.blocks import block, blocks

__all__ = ["adam_step", "clip_scale", "global_norm", "sgd_step"]


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


@kernel
def _adam_blocks(chunk, parameter, gradient, first_moment, second_moment, step, settings, decoupled):
    number, count = parameter.dtype.type, np.float64(step[0])
    lr, beta1, beta2, decay = settings[0], settings[1], settings[2], settings[4]
    step_size = number(lr / (1.0 - math.pow(beta1, count)))
    root_correction, eps = number(math.sqrt(1.0 - math.pow(beta2, count))), number(settings[3])
    keep_first, take_first, keep_second, take_second = (
        number(beta1),
        number(1.0 - beta1),
        number(beta2),
        number(1.0 - beta2),
    )
    weight_decay = number(0.0 if decoupled else decay)
    shrink = number(1.0 - lr * decay if decoupled else 1.0)
    for i in block(chunk, parameter.size):
        g = gradient[i] + weight_decay * parameter[i]
        first_moment[i] = keep_first * first_moment[i] + take_first * g
        second_moment[i] = keep_second * second_moment[i] + take_second * g * g
        denominator = np.sqrt(second_moment[i]) / root_correction + eps
        parameter[i] = shrink * parameter[i] - step_size * first_moment[i] / denominator


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
    arrays = (array.reshape(-1) for array in (parameter, gradient, first_moment, second_moment, step))
    _adam_blocks(blocks(parameter), *arrays, settings, int(decoupled))
