"""Losses of each element, whose kinds shared/losses.py describes. Sums are float64."""

from __future__ import annotations

import numpy as np

from ..contract import Array, PointwiseLoss

__all__ = ["pointwise_loss", "pointwise_loss_backward", "pointwise_loss_sum"]


def pointwise_loss(
    prediction: Array,
    target: Array,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: Array | None = None,
    positive_weight: Array | None = None,
) -> Array:
    """The loss of each element."""
    losses = _weighted_losses(prediction, target, kind, parameter, weight, positive_weight)
    return np.asarray(losses, prediction.dtype)


def pointwise_loss_sum(
    prediction: Array,
    target: Array,
    kind: PointwiseLoss,
    parameter: float = 0.0,
    weight: Array | None = None,
    positive_weight: Array | None = None,
    scale: float = 1.0,
) -> Array:
    """scale times the sum of the losses (shape (), float64)."""
    return np.array(scale * _weighted_losses(prediction, target, kind, parameter, weight, positive_weight).sum())


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
    """scale dy weight times the derivative, which is 0 where there is none."""
    x, t = prediction.astype(np.float64), target.astype(np.float64)
    difference = x - t
    if kind == "squared":
        slope = 2 * difference
    elif kind == "smooth_l1":
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(np.abs(difference) < parameter, difference / parameter, np.sign(difference))
    elif kind == "huber":
        slope = np.where(np.abs(difference) <= parameter, difference, parameter * np.sign(difference))
    else:
        e = np.exp(-np.abs(x))
        slope = (1 - t) - _positive_factor(t, positive_weight) * np.where(x > 0, e, 1) / (1 + e)
    factors = [scale * slope, *(array for array in (dy, weight) if array is not None)]
    return np.asarray(np.prod(np.broadcast_arrays(*factors), axis=0), prediction.dtype)


def _weighted_losses(
    prediction: Array,
    target: Array,
    kind: PointwiseLoss,
    parameter: float,
    weight: Array | None,
    positive_weight: Array | None,
) -> Array:
    """In float64."""
    x, t = prediction.astype(np.float64), target.astype(np.float64)
    difference = x - t
    size = np.abs(difference)
    if kind == "squared":
        losses = np.square(difference)
    elif kind == "smooth_l1":
        with np.errstate(divide="ignore", invalid="ignore"):
            losses = np.where(size < parameter, np.square(difference) / (2 * parameter), size - parameter / 2)
    elif kind == "huber":
        losses = np.where(size <= parameter, np.square(difference) / 2, parameter * (size - parameter / 2))
    else:
        # log(1 + exp(-x)) is -log sigmoid(x), and -log(1 - sigmoid(x)) is that plus x.
        losses = (1 - t) * x + _positive_factor(t, positive_weight) * np.logaddexp(0, -x)
    return losses if weight is None else weight * losses


def _positive_factor(target: Array, positive_weight: Array | None) -> Array:
    return 1.0 if positive_weight is None else 1 + (positive_weight.astype(np.float64) - 1) * target
