"""Losses of classes and accuracy: logits (n, classes, ...), labels int64 without that axis. Sums are float64."""

from __future__ import annotations

import numpy as np

from ..contract import Array, Reduction
from .softmaxes import softmax

__all__ = [
    "count_classes",
    "count_correct",
    "largest_classes",
    "nll_loss",
    "nll_loss_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, Array, Array]:
    """The loss, the probabilities and the scale: -sum of target * log softmax, of the target of :func:`_shares`."""
    centred = logits.astype(np.float64) - _row_maximum(logits)
    log_probabilities = centred - np.log(np.exp(centred).sum(axis=1, keepdims=True))
    shares = _shares(logits.shape, target, weight, ignore_index, label_smoothing)
    counts = np.ones(_positions(logits)) if target.shape == logits.shape else _of_labels(target, weight, ignore_index)
    loss, scale = _reduced(shares, log_probabilities, counts, reduction, logits.dtype)
    return loss, softmax(logits, 1), scale


def softmax_cross_entropy_backward(
    scale: Array,
    probabilities: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Array:
    """The derivative of log softmax is one-hot - probabilities: scale * (sum of shares * probabilities - shares)."""
    p = probabilities.astype(np.float64)
    shares = _shares(p.shape, target, weight, ignore_index, label_smoothing)
    gradient = _by_position(scale) * (shares.sum(axis=1, keepdims=True) * p - shares)
    if target.shape != p.shape:
        gradient = np.where(np.expand_dims(target == ignore_index, 1), 0, gradient)
    return gradient.astype(probabilities.dtype)


def nll_loss(
    x: Array,
    labels: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> tuple[Array, Array]:
    """The loss, -weight x at the labels, and the scale."""
    counts = _of_labels(labels, weight, ignore_index)
    shares = _shares(x.shape, labels, weight, ignore_index, 0.0)
    return _reduced(shares, x.astype(np.float64), counts, reduction, x.dtype)


def nll_loss_backward(
    scale: Array, x: Array, labels: Array, weight: Array | None = None, ignore_index: int = -100
) -> Array:
    """-scale weight at the labels, 0 elsewhere."""
    shares = _shares(x.shape, labels, weight, ignore_index, 0.0)
    return np.where(shares == 0, 0, -_by_position(scale) * shares).astype(x.dtype)


def largest_classes(x: Array) -> Array:
    """The first maximum along the classes, NaN being the largest."""
    return x.argmax(axis=1) if x.size else np.zeros((x.shape[0], *x.shape[2:]), np.int64)


def count_correct(logits: Array, labels: Array, k: int = 1, ignore_index: int = -100) -> Array:
    """How many labels have fewer than k classes before them (shape (), int64): of larger logits, or equal and first."""
    classes = logits.shape[1]
    is_label = (labels >= 0) & (labels < classes) & (labels != ignore_index)
    if not is_label.any():
        return np.array(0, np.int64)
    places = np.expand_dims(np.where(is_label, labels, 0), 1)
    of_label = np.take_along_axis(logits, places, axis=1)
    nan, label_nan = np.isnan(logits), np.isnan(of_label)
    numbers = np.arange(classes).reshape(1, classes, *[1] * (logits.ndim - 2))
    is_larger = (logits > of_label) | (nan & ~label_nan)
    is_equal = (logits == of_label) | (nan & label_nan)
    before = (is_larger | (is_equal & (numbers < places))).sum(axis=1)
    return np.array((is_label & (before < k)).sum(), np.int64)


def count_classes(logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    """Of each class: positions with that label, with its logit the first maximum, and with both (3, classes)."""
    classes = logits.shape[1]
    counts = np.zeros((3, classes), np.int64)
    is_label = (labels >= 0) & (labels < classes) & (labels != ignore_index)
    if is_label.any():
        truth, best = labels[is_label], logits.argmax(axis=1)[is_label]
        for row, of_class in enumerate((truth, best, truth[truth == best])):
            counts[row] = np.bincount(of_class, minlength=classes)
    return counts


def _row_maximum(x: Array) -> Array:
    return x.max(axis=1, keepdims=True, initial=-np.inf)


def _shares(
    shape: tuple[int, ...], target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
) -> Array:
    """What each class has of a position's loss, in float64: its target, smoothed (Szegedy et al., CVPR 2016)."""
    classes = shape[1]
    by_class = np.ones(classes) if weight is None else weight.astype(np.float64)
    weights = by_class.reshape(1, classes, *[1] * (len(shape) - 2))
    if target.shape == shape:
        return weights * ((1 - label_smoothing) * target.astype(np.float64) + label_smoothing / max(classes, 1))
    numbers = np.arange(classes).reshape(weights.shape)
    one_hot = numbers == np.expand_dims(target, 1)
    shares = np.where(one_hot, (1 - label_smoothing) * weights, 0)
    if label_smoothing:
        shares = shares + label_smoothing / max(classes, 1) * weights
    return np.where(np.expand_dims(target == ignore_index, 1), 0, shares)


def _of_labels(labels: Array, weight: Array | None, ignore_index: int) -> Array:
    """The weight of each label, 0 of one that is ignored."""
    is_counted = labels != ignore_index
    if weight is None:
        return is_counted.astype(np.float64)
    return np.where(is_counted, weight.astype(np.float64)[np.where(is_counted, labels, 0)], 0)


def _reduced(
    shares: Array, logarithms: Array, counts: Array, reduction: Reduction, dtype: np.dtype
) -> tuple[Array, Array]:
    """The loss and the scale; a share of 0 costs nothing, whatever it is of."""
    with np.errstate(invalid="ignore"):
        losses = -np.where(shares == 0, 0, shares * logarithms).sum(axis=1)
    scale = _scale(counts, reduction)
    with np.errstate(invalid="ignore"):
        loss = losses.astype(dtype) if reduction == "none" else np.array(scale * losses.sum())
    return loss, scale


def _scale(counts: Array, reduction: Reduction) -> Array:
    with np.errstate(divide="ignore"):
        return np.array(np.float64(1) / counts.sum() if reduction == "mean" else 1.0)


def _positions(x: Array) -> tuple[int, ...]:
    return (x.shape[0], *x.shape[2:])


def _by_position(scale: Array) -> Array:
    return np.expand_dims(scale, 1).astype(np.float64) if scale.ndim else scale
