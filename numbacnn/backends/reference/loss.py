"""Losses and accuracy: logits (n, classes), labels (n,) int64 in 0..classes-1. Sums are float64."""

from __future__ import annotations

import numpy as np

from ..contract import Array

__all__ = [
    "count_correct",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "squared_error",
    "squared_error_backward",
]


def softmax(x: Array) -> Array:
    """exp(x - max) over its sum, along the last axis of x (n, classes)."""
    e = np.exp(x - _row_maximum(x), dtype=np.float64)
    return (e / e.sum(axis=1, keepdims=True)).astype(x.dtype)


def softmax_cross_entropy(
    logits: Array, labels: Array, label_smoothing: float, scale: float = 1.0
) -> tuple[Array, Array]:
    """scale times the summed loss (shape (), float64) and the probabilities (n, classes).

    A sample's loss is ``-sum of target * log softmax``, the target as in :func:`softmax_cross_entropy_backward`.
    """
    centred = logits.astype(np.float64) - _row_maximum(logits)
    log_probabilities = centred - np.log(np.exp(centred).sum(axis=1, keepdims=True))
    loss = -(1 - label_smoothing) * log_probabilities[np.arange(len(labels)), labels].sum()
    # Without smoothing a class of probability 0 costs nothing; 0 times its logarithm would be NaN.
    if label_smoothing:
        loss -= label_smoothing / max(logits.shape[1], 1) * log_probabilities.sum()
    return np.array(scale * loss), softmax(logits)


def softmax_cross_entropy_backward(probabilities: Array, labels: Array, label_smoothing: float, scale: float) -> Array:
    """scale * (probabilities - target), where target is the one-hot label smoothed.

    ``target = (1 - label_smoothing) * one_hot + label_smoothing / classes``: Szegedy et al., CVPR 2016.
    """
    classes = probabilities.shape[1]
    target = np.full(probabilities.shape, label_smoothing / max(classes, 1), probabilities.dtype)
    target[np.arange(len(labels)), labels] += 1 - label_smoothing
    return scale * (probabilities - target)


def squared_error(prediction: Array, target: Array, scale: float = 1.0) -> Array:
    """scale times the summed squared difference (shape (), float64)."""
    return np.array(scale * np.square(prediction.astype(np.float64) - target).sum())


def squared_error_backward(prediction: Array, target: Array, scale: float) -> Array:
    """2 scale (prediction - target)."""
    return np.asarray(2 * scale * (prediction - target), prediction.dtype)


def count_correct(logits: Array, labels: Array) -> Array:
    """How many rows have their first maximum at the label (shape (), int64)."""
    best = logits.argmax(axis=1) if logits.size else np.full(len(labels), -1)
    return np.array((best == labels).sum(), dtype=np.int64)


def _row_maximum(x: Array) -> Array:
    return x.max(axis=1, keepdims=True, initial=-np.inf)
