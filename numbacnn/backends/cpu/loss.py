"""Losses of classes and accuracy: a chunk is a run of ROWS positions, whose sums are added in order afterwards.

A position is a row of logits, its classes: those of a pixel are neighbours in memory, so images are such rows too.

roofline: memory, one read of each argument, one write of what is not a sum. Where there are exponentials these bound
it, one for each class, in float64 as all losses and sums.
"""

from __future__ import annotations

import numpy as np

from ..contract import Reduction
from .runtime.allocator import empty, empty_like
from .runtime.kernel import inlined, kernel
from .runtime.launch_cache import cached_launches
from .vector.blocks import fill_zero
from .vector.layout import images, pixels
from .vector.transcendental import exp

__all__ = [
    "count_classes",
    "count_correct",
    "largest_classes",
    "nll_loss",
    "nll_loss_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]

ROWS = 64


@inlined
def _softmax_row(x, p):
    """p = softmax of x; returns the largest x and the logarithm of the sum of exp(x - largest)."""
    largest = -np.inf
    for j in range(np.uintp(x.size)):
        largest = max(largest, np.float64(x[j]))
    total = 0.0
    for j in range(np.uintp(x.size)):
        exponential = exp(np.float64(x[j]) - largest)
        total += exponential
        p[j] = exponential
    for j in range(np.uintp(x.size)):
        p[j] = np.float64(p[j]) / total
    return largest, np.log(total)


@inlined
def _below(value, largest):
    """``value - largest``, never above 0; the comparison keeps it one number, where a sum of such differences would be
    taken apart into sums of large numbers.
    """
    difference = np.float64(value) - largest
    return 0.0 if difference > 0.0 else difference


@kernel
def _cross_entropy_rows(chunk, sums, logits, labels, weight, p, losses, label_smoothing, ignore_index):
    """``sums`` (2, chunks), of losses and of the labels' weights, come first so that ``label_smoothing`` is float64.

    A weight without elements is 1 for each class; losses without elements are not asked for.
    """
    classes = logits.shape[1]
    total, counted = 0.0, 0.0
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, logits.shape[0])):
        largest, logarithm = _softmax_row(logits[i], p[i])
        label, loss = labels[i], 0.0
        if label != ignore_index:
            if label < 0 or label >= classes:
                loss = np.nan
            else:
                share = np.float64(weight[label]) if weight.size > 0 else 1.0
                counted += share
                share *= 1.0 - label_smoothing
                # Where nothing is asked of a class, one of probability 0 costs nothing.
                if share != 0.0:
                    loss = share * (logarithm - _below(logits[i, label], largest))
                if label_smoothing > 0.0:
                    for j in range(classes):
                        share = (
                            label_smoothing / np.float64(classes) * (np.float64(weight[j]) if weight.size > 0 else 1.0)
                        )
                        if share != 0.0:
                            loss += share * (logarithm - _below(logits[i, j], largest))
        if losses.size > 0:
            losses[i] = loss
        total += loss
    sums[0, chunk], sums[1, chunk] = total, counted


@inlined
def _share(target, weight, j, label_smoothing, classes):
    """What class j has of the loss, ``target`` being its probability."""
    share = (1.0 - label_smoothing) * np.float64(target) + label_smoothing / np.float64(classes)
    return share * np.float64(weight[j]) if weight.size > 0 else share


@kernel
def _soft_target_rows(chunk, sums, logits, target, weight, p, losses, label_smoothing):
    """As :func:`_cross_entropy_rows`, the targets being rows of probabilities."""
    classes = logits.shape[1]
    total, counted = 0.0, 0.0
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, logits.shape[0])):
        largest, logarithm = _softmax_row(logits[i], p[i])
        loss = 0.0
        for j in range(classes):
            share = _share(target[i, j], weight, j, label_smoothing, classes)
            if share != 0.0:
                loss += share * (logarithm - _below(logits[i, j], largest))
        if losses.size > 0:
            losses[i] = loss
        total += loss
        counted += 1.0
    sums[0, chunk], sums[1, chunk] = total, counted


@kernel
def _nll_rows(chunk, sums, x, labels, weight, losses, ignore_index):
    """As :func:`_cross_entropy_rows`, x being the logarithms."""
    total, counted = 0.0, 0.0
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, x.shape[0])):
        label, loss = labels[i], 0.0
        if label != ignore_index:
            if label < 0 or label >= x.shape[1]:
                loss = np.nan
            else:
                share = np.float64(weight[label]) if weight.size > 0 else 1.0
                counted += share
                if share != 0.0:
                    loss = -share * np.float64(x[i, label])
        if losses.size > 0:
            losses[i] = loss
        total += loss
    sums[0, chunk], sums[1, chunk] = total, counted


@kernel
def _reduce(chunk, loss, scale, sums, mean):
    total, counted = 0.0, 0.0
    for i in range(sums.shape[1]):
        total += sums[0, i]
        counted += sums[1, i]
    factor = np.float64(1.0) / counted if mean else 1.0
    scale[0] = factor
    if loss.size > 0:
        loss[0] = factor * total


@kernel
def _cross_entropy_backward_rows(chunk, scale, p, labels, weight, dlogits, label_smoothing, ignore_index):
    """``scale`` has one element, or one for each row."""
    classes = p.shape[1]
    off = label_smoothing / np.float64(classes)
    off_weights = label_smoothing > 0.0 and weight.size > 0
    of_all = label_smoothing
    if off_weights:
        of_all = 0.0
        for j in range(classes):
            of_all += off * np.float64(weight[j])
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, p.shape[0])):
        label = labels[i]
        if label == ignore_index:
            for j in range(classes):
                dlogits[i, j] = 0
        else:
            factor = np.float64(scale[i] if scale.size > 1 else scale[0])
            is_class = label >= 0 and label < classes
            on = (1.0 - label_smoothing) * (np.float64(weight[label]) if is_class and weight.size > 0 else 1.0)
            summed = on + of_all
            if off_weights:
                for j in range(classes):
                    dlogits[i, j] = factor * (summed * np.float64(p[i, j]) - off * np.float64(weight[j]))
            else:
                for j in range(classes):
                    dlogits[i, j] = factor * (summed * np.float64(p[i, j]) - off)
            if is_class:
                share = on + off * (np.float64(weight[label]) if off_weights else 1.0)
                dlogits[i, label] = factor * (summed * np.float64(p[i, label]) - share)


@kernel
def _soft_target_backward_rows(chunk, scale, p, target, weight, dlogits, label_smoothing):
    classes = p.shape[1]
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, p.shape[0])):
        factor = np.float64(scale[i] if scale.size > 1 else scale[0])
        summed = 0.0
        for j in range(classes):
            summed += _share(target[i, j], weight, j, label_smoothing, classes)
        for j in range(classes):
            share = _share(target[i, j], weight, j, label_smoothing, classes)
            dlogits[i, j] = factor * (summed * np.float64(p[i, j]) - share)


@kernel
def _nll_backward_rows(chunk, scale, labels, weight, dx, ignore_index):
    classes = dx.shape[1]
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, dx.shape[0])):
        label = labels[i]
        for j in range(classes):
            dx[i, j] = 0
        if label != ignore_index and label >= 0 and label < classes:
            share = np.float64(weight[label]) if weight.size > 0 else 1.0
            if share != 0.0:
                dx[i, label] = -share * np.float64(scale[i] if scale.size > 1 else scale[0])


@kernel
def _add_up(chunk, total, numbers, scale):
    added = numbers.dtype.type(0)
    for i in range(numbers.size):
        added += numbers[i]
    total[0] = scale * added


@kernel
def _correct_rows(chunk, logits, labels, counts, k, ignore_index):
    """How many classes come before the label's: of larger logits, of equal ones the first, NaN above all."""
    count = 0
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, logits.shape[0])):
        label = labels[i]
        if label >= 0 and label < logits.shape[1] and label != ignore_index:
            of_label, before = logits[i, label], 0
            for j in range(logits.shape[1]):
                value = logits[i, j]
                is_larger = value > of_label or (value != value and of_label == of_label)
                is_equal = value == of_label or (value != value and of_label != of_label)
                before += is_larger or (is_equal and j < label)
            count += before < k
    counts[chunk] = count


@kernel
def _largest_rows(chunk, logits, labels, largest, ignore_index):
    """The class of the largest logit, -1 where the label is none."""
    for i in range(chunk * ROWS, min((chunk + 1) * ROWS, logits.shape[0])):
        best = 0
        for j in range(1, logits.shape[1]):
            value, so_far = logits[i, j], logits[i, best]
            if value > so_far or (value != value and so_far == so_far):
                best = j
        is_label = labels[i] >= 0 and labels[i] < logits.shape[1] and labels[i] != ignore_index
        largest[i] = best if is_label else -1


@kernel
def _count_pairs(chunk, largest, labels, counts):
    """In one chunk, for it is little beside the logits."""
    for row in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            counts[row, j] = 0
    for i in range(labels.size):
        if largest[i] >= 0:
            counts[0, labels[i]] += 1
            counts[1, largest[i]] += 1
            if labels[i] == largest[i]:
                counts[2, labels[i]] += 1


@cached_launches
def softmax_cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = pixels(logits)
    p, sums = empty_like(rows), empty((2, _runs(rows)), np.float64)
    losses = _of_positions(logits, reduction)
    arguments = (_or_none(weight, logits), p, losses.reshape(-1), float(label_smoothing))
    if target.shape == logits.shape:
        _soft_target_rows(_runs(rows), sums, rows, pixels(target), *arguments)
    else:
        _cross_entropy_rows(_runs(rows), sums, rows, target.reshape(-1), *arguments, ignore_index)
    loss, scale = _reduced(sums, losses, reduction)
    return loss, _from_rows(p, logits), scale


@cached_launches
def softmax_cross_entropy_backward(
    scale: np.ndarray,
    probabilities: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> np.ndarray:
    p = pixels(probabilities)
    dlogits, factors, weights = empty_like(p), scale.reshape(-1), _or_none(weight, probabilities)
    if target.shape == probabilities.shape:
        arguments = (pixels(target), weights, dlogits, float(label_smoothing))
        _soft_target_backward_rows(_runs(p), factors, p, *arguments)
    else:
        arguments = (target.reshape(-1), weights, dlogits, float(label_smoothing))
        _cross_entropy_backward_rows(_runs(p), factors, p, *arguments, ignore_index)
    return _from_rows(dlogits, probabilities)


@cached_launches
def nll_loss(
    x: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> tuple[np.ndarray, np.ndarray]:
    rows = pixels(x)
    losses, sums = _of_positions(x, reduction), empty((2, _runs(rows)), np.float64)
    weights = _or_none(weight, x)
    _nll_rows(_runs(rows), sums, rows, labels.reshape(-1), weights, losses.reshape(-1), ignore_index)
    return _reduced(sums, losses, reduction)


@cached_launches
def nll_loss_backward(
    scale: np.ndarray, x: np.ndarray, labels: np.ndarray, weight: np.ndarray | None = None, ignore_index: int = -100
) -> np.ndarray:
    dx = empty((labels.size, x.shape[1]), x.dtype)
    _nll_backward_rows(_runs(dx), scale.reshape(-1), labels.reshape(-1), _or_none(weight, x), dx, ignore_index)
    return _from_rows(dx, x)


@cached_launches
def count_correct(logits: np.ndarray, labels: np.ndarray, k: int = 1, ignore_index: int = -100) -> np.ndarray:
    rows = pixels(logits)
    counts = empty((_runs(rows),), np.int64)
    _correct_rows(counts.size, rows, labels.reshape(-1), counts, k, ignore_index)
    return scaled_total(counts)


@cached_launches
def largest_classes(x: np.ndarray) -> np.ndarray:
    rows = pixels(x)
    largest = empty((rows.shape[0],), np.int64)
    # The kernel asks whether the label is a class, and 0 is one.
    fill_zero(largest)
    if x.size:
        _largest_rows(_runs(rows), rows, largest, largest, -1)
    return largest.reshape(x.shape[0], *x.shape[2:])


@cached_launches
def count_classes(logits: np.ndarray, labels: np.ndarray, ignore_index: int = -100) -> np.ndarray:
    rows, of_all = pixels(logits), labels.reshape(-1)
    largest, counts = empty((of_all.size,), np.int64), empty((3, logits.shape[1]), np.int64)
    _largest_rows(_runs(rows), rows, of_all, largest, ignore_index)
    _count_pairs(1, largest, of_all, counts)
    return counts


def _runs(x: np.ndarray) -> int:
    return -(-x.shape[0] // ROWS)


def _or_none(x: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    """What kernels take for ``x``: without elements, where there is none."""
    return empty((0,), other.dtype) if x is None else x


def _of_positions(x: np.ndarray, reduction: Reduction) -> np.ndarray:
    """For a loss of each position, where these are asked for."""
    return empty((x.shape[0], *x.shape[2:]) if reduction == "none" else (0,), x.dtype)


def _from_rows(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of :func:`pixels`, the reverse, in the shape of ``x``."""
    return rows if x.ndim == 2 else images(rows.reshape(x.shape[0], *x.shape[2:], x.shape[1]))


def _reduced(sums: np.ndarray, losses: np.ndarray, reduction: Reduction) -> tuple[np.ndarray, np.ndarray]:
    """The loss and the scale."""
    loss, scale = losses if reduction == "none" else empty((), np.float64), empty((), np.float64)
    of_all = empty((0,), np.float64) if reduction == "none" else loss.reshape(1)
    _reduce(1, of_all, scale.reshape(1), sums, int(reduction == "mean"))
    return loss, scale


def scaled_total(numbers: np.ndarray, scale: float = 1) -> np.ndarray:
    total = empty((), numbers.dtype)
    _add_up(1, total.reshape(1), numbers, float(scale) if numbers.dtype == np.float64 else int(scale))
    return total
