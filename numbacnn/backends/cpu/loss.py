"""Losses and accuracy: a chunk is a run of ROWS samples, whose sums are added in order afterwards.

roofline: memory, and small: one read of the logits. Losses are worked out in float64.
"""

from __future__ import annotations

import math

import numpy as np

from .runtime.allocator import empty, empty_like
from .runtime.captured import recorded
from .runtime.kernel import inlined, kernel
from .vector.blocks import block, blocks
from .vector.layout import flat, like

__all__ = [
    "count_correct",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "squared_error",
    "squared_error_backward",
]

ROWS = 64


@inlined
def _softmax_row(x, p):
    """p = softmax of x; returns the largest x and the logarithm of the sum of exp(x - largest)."""
    largest = -np.inf
    for j in range(x.size):
        largest = max(largest, np.float64(x[j]))
    total = 0.0
    for j in range(x.size):
        total += math.exp(np.float64(x[j]) - largest)
    for j in range(x.size):
        p[j] = math.exp(np.float64(x[j]) - largest) / total
    return largest, np.log(total)


@inlined
def _below(value, largest):
    """``value - largest``, never above 0; the comparison keeps it one number, where a sum of such differences would be
    taken apart into sums of large numbers.
    """
    difference = np.float64(value) - largest
    return 0.0 if difference > 0.0 else difference


@kernel
def _softmax_rows(chunk, x, p):
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, x.shape[0])):
        _softmax_row(x[i], p[i])


@kernel
def _cross_entropy_rows(chunk, sums, logits, labels, p, label_smoothing):
    """``sums`` come first so that ``label_smoothing`` is float64."""
    classes = logits.shape[1]
    total = 0.0
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, logits.shape[0])):
        largest, logarithm = _softmax_row(logits[i], p[i])
        total += (1 - label_smoothing) * (logarithm - _below(logits[i, labels[i]], largest))
        if label_smoothing > 0:
            for j in range(classes):
                total += label_smoothing / classes * (logarithm - _below(logits[i, j], largest))
    sums[chunk] = total


@kernel
def _cross_entropy_backward_rows(chunk, p, labels, dlogits, on, off, scale):
    """``on`` and ``off`` are the smoothed label's values at the class and elsewhere."""
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, p.shape[0])):
        for j in range(p.shape[1]):
            dlogits[i, j] = scale * (p[i, j] - (on if j == labels[i] else off))


@kernel
def _squared_error_blocks(chunk, prediction, target, sums):
    total = 0.0
    for i in block(chunk, prediction.size):
        difference = np.float64(prediction[i]) - np.float64(target[i])
        total += difference * difference
    sums[chunk] = total


@kernel
def _scaled_difference_blocks(chunk, a, b, difference, scale):
    for i in block(chunk, a.size):
        difference[i] = scale * (a[i] - b[i])


@kernel
def _correct_rows(chunk, logits, labels, counts):
    count = 0
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, logits.shape[0])):
        best = 0
        for j in range(1, logits.shape[1]):
            value, so_far = logits[i, j], logits[i, best]
            if value > so_far or (value != value and so_far == so_far):
                best = j
        count += best == labels[i]
    counts[chunk] = count


def softmax(x: np.ndarray) -> np.ndarray:
    p = empty_like(x)
    _softmax_rows(_runs(x), x, p)
    return p


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, label_smoothing: float, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    p, sums = empty_like(logits), empty((_runs(logits),), np.float64)
    _cross_entropy_rows(_runs(logits), sums, logits, labels, p, float(label_smoothing))
    return _total(sums, scale), p


def softmax_cross_entropy_backward(
    probabilities: np.ndarray, labels: np.ndarray, label_smoothing: float, scale: float
) -> np.ndarray:
    dlogits = empty_like(probabilities)
    off = label_smoothing / max(probabilities.shape[1], 1)
    _cross_entropy_backward_rows(
        _runs(probabilities), probabilities, labels, dlogits, float(1 - label_smoothing + off), float(off), float(scale)
    )
    return dlogits


def squared_error(prediction: np.ndarray, target: np.ndarray, scale: float = 1.0) -> np.ndarray:
    sums = empty((blocks(prediction),), np.float64)
    _squared_error_blocks(sums.size, flat(prediction), flat(like(target, prediction)), sums)
    return _total(sums, scale)


def squared_error_backward(prediction: np.ndarray, target: np.ndarray, scale: float) -> np.ndarray:
    difference = empty_like(prediction)
    _scaled_difference_blocks(
        blocks(prediction), flat(prediction), flat(like(target, prediction)), flat(difference), float(2 * scale)
    )
    return difference


def count_correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counts = empty((_runs(logits),), np.int64)
    _correct_rows(counts.size, logits, labels, counts)
    return _total(counts)


def _runs(x: np.ndarray) -> int:
    return -(-x.shape[0] // ROWS)


def _total(sums: np.ndarray, scale: float = 1) -> np.ndarray:
    total = empty((), sums.dtype)
    _write_total(total, sums, scale)
    return total


@recorded
def _write_total(total: np.ndarray, sums: np.ndarray, scale: float) -> None:
    total[...] = scale * sums.sum()
