"""Losses of each element: a thread per element, four at a time; blocks' sums are added up in a second launch.

roofline: memory, one read of each argument, one write of what is not a sum. Losses are worked out in float64.
"""

from __future__ import annotations

import numpy as np

from ..contract import Array, PointwiseLoss
from ..shared.losses import KINDS, formulas
from .block.reduce import CHUNK, THREADS, block_sum
from .loss import or_other, scaled_total
from .runtime import device_array
from .runtime.kernel import block_kernel, mapping
from .runtime.target import cuda, device_function, exp, log1p

__all__ = ["pointwise_loss", "pointwise_loss_backward", "pointwise_loss_sum"]

loss_of, slope_of = formulas(device_function, exp, log1p)


@device_function
def _loss_at(i, x, target, weight, positive, parameter, options):
    kind, has_weight, has_positive = options
    factor = np.float64(weight[i]) if has_weight else 1.0
    more = np.float64(positive[i]) if has_positive else 1.0
    return factor * loss_of(kind, np.float64(parameter), np.float64(x[i]), np.float64(target[i]), more)


@mapping
def _losses(i, x, target, weight, positive, parameter, options):
    return _loss_at(i, x, target, weight, positive, parameter, options)


@block_kernel(THREADS)
def _loss_sums(block, thread, partial, x, target, weight, positive, parameter, count, options):
    sums = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(block * CHUNK + thread, min((block + 1) * CHUNK, count), THREADS):
        total += _loss_at(i, x, target, weight, positive, parameter, options)
    total = block_sum(thread, total, sums)
    if thread == 0:
        partial[block] = total


@mapping
def _slopes(i, dy, x, target, weight, positive, parameter, scale, options, has_dy):
    kind, has_weight, has_positive = options
    factor = np.float64(scale) * (np.float64(weight[i]) if has_weight else 1.0)
    factor *= np.float64(dy[i]) if has_dy else 1.0
    more = np.float64(positive[i]) if has_positive else 1.0
    return factor * slope_of(kind, np.float64(parameter), np.float64(x[i]), np.float64(target[i]), more)


def pointwise_loss(
    prediction: Array,
    target: Array,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: Array | None = None,
    positive_weight: Array | None = None,
) -> Array:
    losses = device_array.new(prediction.shape, prediction.dtype)
    given, options = _pointwise(prediction, target, kind, weight, positive_weight)
    _losses(losses.size, losses, *given, float(parameter), options)
    return losses


def pointwise_loss_sum(
    prediction: Array,
    target: Array,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: Array | None = None,
    positive_weight: Array | None = None,
    scale: float = 1.0,
) -> Array:
    partial = device_array.new((-(-prediction.size // CHUNK),), np.float64)
    given, options = _pointwise(prediction, target, kind, weight, positive_weight)
    _loss_sums(partial.size, partial, *given, float(parameter), prediction.size, options)
    return scaled_total(partial, np.float64, scale)


def pointwise_loss_backward(
    dy: Array | None,
    prediction: Array,
    target: Array,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: Array | None = None,
    positive_weight: Array | None = None,
    scale: float = 1.0,
) -> Array:
    dx = device_array.new(prediction.shape, prediction.dtype)
    given, options = _pointwise(prediction, target, kind, weight, positive_weight)
    numbers = (float(parameter), float(scale))
    _slopes(dx.size, dx, or_other(dy, prediction), *given, *numbers, options, int(dy is not None))
    return dx


def _pointwise(
    prediction: Array, target: Array, kind: PointwiseLoss, weight: Array | None, positive_weight: Array | None
) -> tuple[tuple[Array, ...], tuple[int, ...]]:
    """The arrays and the options that kernels of pointwise losses take."""
    arrays = (prediction, target, or_other(weight, prediction), or_other(positive_weight, prediction))
    return arrays, (KINDS[kind], int(weight is not None), int(positive_weight is not None))
