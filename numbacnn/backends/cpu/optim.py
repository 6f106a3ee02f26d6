"""Optimiser steps, in place, a chunk a run of elements.

roofline: memory. SGD reads parameter and gradient and writes the parameter (12 bytes an element in float32), with
momentum 20; Adam 28. A norm reads its arrays once, clipping reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .elementwise import block, blocks
from .graph import in_place
from .jit import kernel
from .memory import empty

__all__ = ["adam_step", "clip_scale", "global_norm", "sgd_step"]


@kernel
def _sgd_blocks(chunk, parameter, gradient, lr, weight_decay):
    for i in block(chunk, parameter.size):
        parameter[i] -= lr * (gradient[i] + weight_decay * parameter[i])


@kernel
def _momentum_blocks(chunk, parameter, gradient, velocity, lr, momentum, nesterov, weight_decay):
    for i in block(chunk, parameter.size):
        g = gradient[i] + weight_decay * parameter[i]
        velocity[i] = momentum * velocity[i] + g
        parameter[i] -= lr * (g + momentum * velocity[i] if nesterov else velocity[i])


@kernel
def _adam_blocks(
    chunk,
    parameter,
    gradient,
    first_moment,
    second_moment,
    step_size,
    root_correction,
    keep_first,
    take_first,
    keep_second,
    take_second,
    eps,
    weight_decay,
    shrink,
):
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
def _scale_blocks(chunk, x, factor):
    for i in block(chunk, x.size):
        x[i] *= factor


def global_norm(arrays: Sequence[np.ndarray]) -> np.ndarray:
    norm = empty((), np.float64)
    _write_norm(norm, arrays)
    return norm


@in_place
def _write_norm(norm: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
    total = 0.0
    for array in arrays:
        sums = np.empty(blocks(array))
        _square_blocks(sums.size, array.reshape(-1), sums)
        total += sums.sum()
    norm[...] = np.sqrt(total)


@in_place
def clip_scale(target: np.ndarray, norm: np.ndarray, max_norm: float) -> None:
    factor = max_norm / (float(norm) + 1e-6)
    if not factor >= 1:
        _scale_blocks(blocks(target), target.reshape(-1), factor)


@in_place
def sgd_step(
    parameter: np.ndarray, gradient: np.ndarray, velocity: np.ndarray | None, settings: np.ndarray, nesterov: bool
) -> None:
    lr, momentum, weight_decay = settings.tolist()
    count, flat, slope = blocks(parameter), parameter.reshape(-1), gradient.reshape(-1)
    if velocity is None:
        _sgd_blocks(count, flat, slope, lr, weight_decay)
    else:
        _momentum_blocks(count, flat, slope, velocity.reshape(-1), lr, momentum, nesterov, weight_decay)


@in_place
def adam_step(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    step: np.ndarray,
    settings: np.ndarray,
    decoupled: bool,
) -> None:
    count = int(step)
    lr, beta1, beta2, eps, weight_decay = settings.tolist()
    _adam_blocks(
        blocks(parameter),
        parameter.reshape(-1),
        gradient.reshape(-1),
        first_moment.reshape(-1),
        second_moment.reshape(-1),
        lr / (1 - beta1**count),
        float(np.sqrt(1 - beta2**count)),
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        eps,
        0.0 if decoupled else weight_decay,
        1 - lr * weight_decay if decoupled else 1.0,
    )
