"""Losses of each element: a chunk is a run of BLOCK elements, whose sums are added in order afterwards.

roofline: of squared, absolute and Huber's losses, memory: one read of each argument, one write of what is not a sum.
The logistic loss is bound by its exponential and its logarithm, in float64 as all losses and sums.
"""

from __future__ import annotations

import numpy as np

from ..contract import PointwiseLoss
from ..shared.losses import HUBER, KINDS, LOGISTIC, SMOOTH, SQUARED, formulas
from .loss import scaled_total
from .runtime.allocator import empty, empty_like
from .runtime.kernel import inlined, kernel
from .runtime.launch_cache import cached_launches
from .vector.blocks import block, blocks
from .vector.layout import flat, like
from .vector.transcendental import exp, log1p

__all__ = ["pointwise_loss", "pointwise_loss_backward", "pointwise_loss_sum"]

loss_of, slope_of = formulas(inlined, exp, log1p)


# The kinds are numbers that the compiler knows where these are called, which makes a loop of its own for each.


@inlined
def _write_losses(kind, chunk, losses, x, target, weight, positive, parameter):
    if weight.size == 0 and positive.size == 0:
        for i in block(chunk, x.size):
            losses[i] = loss_of(kind, parameter, np.float64(x[i]), np.float64(target[i]), 1.0)
    else:
        for i in block(chunk, x.size):
            factor = np.float64(weight[i]) if weight.size > 0 else 1.0
            more = np.float64(positive[i]) if positive.size > 0 else 1.0
            losses[i] = factor * loss_of(kind, parameter, np.float64(x[i]), np.float64(target[i]), more)


@inlined
def _sum_losses(kind, chunk, x, target, weight, positive, parameter):
    total = 0.0
    if weight.size == 0 and positive.size == 0:
        for i in block(chunk, x.size):
            total += loss_of(kind, parameter, np.float64(x[i]), np.float64(target[i]), 1.0)
    else:
        for i in block(chunk, x.size):
            factor = np.float64(weight[i]) if weight.size > 0 else 1.0
            more = np.float64(positive[i]) if positive.size > 0 else 1.0
            total += factor * loss_of(kind, parameter, np.float64(x[i]), np.float64(target[i]), more)
    return total


@inlined
def _write_slopes(kind, chunk, dy, x, target, weight, positive, dx, parameter, scale):
    if dy.size == 0 and weight.size == 0 and positive.size == 0:
        for i in block(chunk, x.size):
            dx[i] = scale * slope_of(kind, parameter, np.float64(x[i]), np.float64(target[i]), 1.0)
    else:
        for i in block(chunk, x.size):
            factor = scale * (np.float64(weight[i]) if weight.size > 0 else 1.0)
            factor *= np.float64(dy[i]) if dy.size > 0 else 1.0
            more = np.float64(positive[i]) if positive.size > 0 else 1.0
            dx[i] = factor * slope_of(kind, parameter, np.float64(x[i]), np.float64(target[i]), more)


@kernel
def _loss_blocks(chunk, losses, x, target, weight, positive, parameter, kind):
    if kind == SQUARED:
        _write_losses(SQUARED, chunk, losses, x, target, weight, positive, parameter)
    elif kind == SMOOTH:
        _write_losses(SMOOTH, chunk, losses, x, target, weight, positive, parameter)
    elif kind == HUBER:
        _write_losses(HUBER, chunk, losses, x, target, weight, positive, parameter)
    else:
        _write_losses(LOGISTIC, chunk, losses, x, target, weight, positive, parameter)


@kernel
def _loss_sum_blocks(chunk, sums, x, target, weight, positive, parameter, kind):
    """``sums`` come first so that ``parameter`` is float64."""
    if kind == SQUARED:
        sums[chunk] = _sum_losses(SQUARED, chunk, x, target, weight, positive, parameter)
    elif kind == SMOOTH:
        sums[chunk] = _sum_losses(SMOOTH, chunk, x, target, weight, positive, parameter)
    elif kind == HUBER:
        sums[chunk] = _sum_losses(HUBER, chunk, x, target, weight, positive, parameter)
    else:
        sums[chunk] = _sum_losses(LOGISTIC, chunk, x, target, weight, positive, parameter)


@kernel
def _loss_backward_blocks(chunk, dy, x, target, weight, positive, dx, parameter, scale, kind):
    if kind == SQUARED:
        _write_slopes(SQUARED, chunk, dy, x, target, weight, positive, dx, parameter, scale)
    elif kind == SMOOTH:
        _write_slopes(SMOOTH, chunk, dy, x, target, weight, positive, dx, parameter, scale)
    elif kind == HUBER:
        _write_slopes(HUBER, chunk, dy, x, target, weight, positive, dx, parameter, scale)
    else:
        _write_slopes(LOGISTIC, chunk, dy, x, target, weight, positive, dx, parameter, scale)


@cached_launches
def pointwise_loss(
    prediction: np.ndarray,
    target: np.ndarray,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: np.ndarray | None = None,
    positive_weight: np.ndarray | None = None,
) -> np.ndarray:
    losses = empty_like(prediction)
    arrays = [_alike(array, prediction) for array in (prediction, target, weight, positive_weight)]
    _loss_blocks(blocks(prediction), flat(losses), *arrays, float(parameter), KINDS[kind])
    return losses


@cached_launches
def pointwise_loss_sum(
    prediction: np.ndarray,
    target: np.ndarray,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: np.ndarray | None = None,
    positive_weight: np.ndarray | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    sums = empty((blocks(prediction),), np.float64)
    arrays = [_alike(array, prediction) for array in (prediction, target, weight, positive_weight)]
    _loss_sum_blocks(sums.size, sums, *arrays, float(parameter), KINDS[kind])
    return scaled_total(sums, scale)


@cached_launches
def pointwise_loss_backward(
    dy: np.ndarray | None,
    prediction: np.ndarray,
    target: np.ndarray,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: np.ndarray | None = None,
    positive_weight: np.ndarray | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    dx = empty_like(prediction)
    arrays = [_alike(array, prediction) for array in (dy, prediction, target, weight, positive_weight)]
    _loss_backward_blocks(blocks(prediction), *arrays, flat(dx), float(parameter), float(scale), KINDS[kind])
    return dx


def _alike(x: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    """What kernels take for ``x``: its elements in the order of memory of ``other``, or none, where there is no x."""
    return empty((0,), other.dtype) if x is None else flat(like(x, other))
