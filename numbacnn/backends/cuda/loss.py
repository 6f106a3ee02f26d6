"""Losses of classes and accuracy: neighbouring threads share a row of the logits.

Blocks' sums are added up in a second launch.

Of images a row is a pixel, whose classes are a plane apart; it has a thread of its own, so that neighbouring threads
read neighbours.

roofline: memory, and small: the logits are read three times, twice from the caches. Losses are worked out in float64.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array, Reduction
from . import memory
from .block.reduce import THREADS, block_sum, lanes_sum
from .block.softmax import first_of, row_of, rows_along, softmax_row
from .runtime import device_array
from .runtime.kernel import block_kernel, mapping
from .runtime.target import cuda, device_function, log, quotient, scalar

__all__ = [
    "count_classes",
    "count_correct",
    "largest_classes",
    "nll_loss",
    "nll_loss_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]


@device_function
def _cost(share, logits, place, largest, logarithm):
    """Of ``share`` of a class: none of nothing, where the logarithm of a probability of 0 would make NaN of it."""
    return share * (logarithm - (np.float64(logits[place]) - largest)) if share != 0.0 else 0.0


@device_function
def _share(target, weight, j, smoothing, classes, has_weight):
    """What class j has of the loss, ``target`` being its probability."""
    share = (1.0 - smoothing) * np.float64(target) + smoothing / np.float64(classes)
    return share * np.float64(weight[j]) if has_weight else share


@device_function
def _add_to_parts(block, thread, partial, losses, loss, counted, counts, has_losses, row, blocks, scratch):
    """The loss of a row, in one of its threads, where ``counts``."""
    if counts and has_losses:
        losses[row] = loss
    loss = block_sum(thread, loss if counts else 0.0, scratch)
    counted = block_sum(thread, counted if counts else 0.0, scratch)
    if thread == 0:
        partial[block] = loss
        partial[blocks + block] = counted


@block_kernel(THREADS)
def _cross_entropy_rows(block, thread, partial, p, logits, labels, weight, losses, smoothing, g, options):
    """``partial``, losses and then the labels' weights, comes first so that ``smoothing`` is float64."""
    scratch = cuda.shared.array(THREADS, np.float64)
    classes, lanes, step = g[1], 1 << g[2], g[3]
    blocks, has_weight, has_losses, ignore_index = options
    row, first, lane, count = row_of(block, thread, g)
    largest, total = softmax_row(p, logits, first, step, count, thread, lane, lanes, scratch)
    logarithm = log(total) if count else 0.0
    label = labels[row] if count else ignore_index
    loss, counted = 0.0, 0.0
    if smoothing > 0.0 and label != ignore_index:
        j = lane
        while j < count:
            share = smoothing / np.float64(classes) * (np.float64(weight[j]) if has_weight else 1.0)
            loss += _cost(share, logits, first + j * step, largest, logarithm)
            j += lanes
    loss = lanes_sum(thread, lane, lanes, loss, scratch)
    if label != ignore_index and lane == 0:
        if label >= 0 and label < classes:
            counted = np.float64(weight[label]) if has_weight else 1.0
            loss += _cost((1.0 - smoothing) * counted, logits, first + label * step, largest, logarithm)
        else:
            loss = math.nan
    counts = count > 0 and lane == 0
    _add_to_parts(block, thread, partial, losses, loss, counted, counts, has_losses, row, blocks, scratch)


@block_kernel(THREADS)
def _soft_target_rows(block, thread, partial, p, logits, target, weight, losses, smoothing, g, options):
    """As :func:`_cross_entropy_rows`, the targets being rows of probabilities."""
    scratch = cuda.shared.array(THREADS, np.float64)
    classes, lanes, step = g[1], 1 << g[2], g[3]
    blocks, has_weight, has_losses, _ = options
    row, first, lane, count = row_of(block, thread, g)
    largest, total = softmax_row(p, logits, first, step, count, thread, lane, lanes, scratch)
    logarithm = log(total) if count else 0.0
    loss = 0.0
    j = lane
    while j < count:
        place = first + j * step
        share = _share(target[place], weight, j, smoothing, classes, has_weight)
        loss += _cost(share, logits, place, largest, logarithm)
        j += lanes
    loss = lanes_sum(thread, lane, lanes, loss, scratch)
    counts = count > 0 and lane == 0
    _add_to_parts(block, thread, partial, losses, loss, 1.0, counts, has_losses, row, blocks, scratch)


@block_kernel(THREADS)
def _nll_rows(block, thread, partial, x, labels, weight, losses, g, options):
    """As :func:`_cross_entropy_rows`, x being the logarithms, a thread to each row."""
    scratch = cuda.shared.array(THREADS, np.float64)
    rows, classes, step = g
    blocks, has_weight, has_losses, ignore_index = options
    row = block * THREADS + thread
    label = labels[row] if row < rows else ignore_index
    loss, counted = 0.0, 0.0
    if label != ignore_index:
        if label >= 0 and label < classes:
            counted = np.float64(weight[label]) if has_weight else 1.0
            if counted != 0.0:
                loss = -counted * np.float64(x[first_of(row, classes, step) + label * step])
        else:
            loss = math.nan
    _add_to_parts(block, thread, partial, losses, loss, counted, row < rows, has_losses, row, blocks, scratch)


@block_kernel(THREADS)
def _reduce(block, thread, loss, scale, partial, g):
    """In one block: the sums of both halves of ``partial``, and what comes of them."""
    sums = cuda.shared.array(THREADS, np.float64)
    count, is_mean, has_loss = g
    total, counted = 0.0, 0.0
    for i in range(thread, count, THREADS):
        total += partial[i]
        counted += partial[count + i]
    total = block_sum(thread, total, sums)
    counted = block_sum(thread, counted, sums)
    if thread == 0:
        # What a division by 0 gives is written out, for Python's raises.
        factor = (1.0 / counted if counted != 0.0 else math.inf) if is_mean else 1.0
        scale[0] = factor
        if has_loss:
            loss[0] = factor * total


@device_function
def _row_and_class(i, classes, step):
    """Of element ``i`` of the logits."""
    plane = quotient(i, step)
    image = quotient(plane, classes)
    return image * step + i - plane * step, plane - image * classes


@mapping
def _cross_entropy_gradient(i, scale, p, labels, weight, of_all, smoothing, g):
    classes, step, of_each, has_weight, ignore_index = g
    row, j = _row_and_class(i, classes, step)
    label = labels[row]
    if label == ignore_index:
        return scalar(p, 0)
    off, on = smoothing / scalar(p, classes), scalar(p, 1) - smoothing
    summed = on + smoothing
    if has_weight:
        if label >= 0 and label < classes:
            on *= weight[label]
        summed = on
        if smoothing > scalar(p, 0):
            summed += off * scalar(p, of_all[0])
            off *= weight[j]
    share = on + off if j == label else off
    return scalar(p, scale[row if of_each else 0]) * (summed * p[i] - share)


@block_kernel(THREADS)
def _soft_target_gradient(block, thread, scale, dlogits, p, target, weight, smoothing, g, options):
    scratch = cuda.shared.array(THREADS, np.float64)
    classes, lanes, step = g[1], 1 << g[2], g[3]
    of_each, has_weight = options
    row, first, lane, count = row_of(block, thread, g)
    summed = 0.0
    j = lane
    while j < count:
        summed += _share(target[first + j * step], weight, j, smoothing, classes, has_weight)
        j += lanes
    summed = lanes_sum(thread, lane, lanes, summed, scratch)
    j = lane
    while j < count:
        place = first + j * step
        share = _share(target[place], weight, j, smoothing, classes, has_weight)
        dlogits[place] = np.float64(scale[row if of_each else 0]) * (summed * np.float64(p[place]) - share)
        j += lanes


@mapping
def _nll_gradient(i, scale, labels, weight, g):
    classes, step, of_each, has_weight, ignore_index = g
    row, j = _row_and_class(i, classes, step)
    if labels[row] != j or j == ignore_index:
        return 0.0
    share = np.float64(weight[j]) if has_weight else 1.0
    return -share * np.float64(scale[row if of_each else 0]) if share != 0.0 else 0.0


@device_function
def _comes_before(value, place, other, other_place):
    """Whether a number is the maximum rather than another: NaN is above all others, the first of equals counts."""
    if value != value:
        return other == other or place < other_place
    return value > other or (value == other and place < other_place)


@block_kernel(THREADS)
def _correct_rows(block, thread, partial, logits, labels, k, ignore_index, g):
    """``partial`` counts in float64, which is exact; so are the classes counted that come before the label's."""
    sums = cuda.shared.array(THREADS, np.float64)
    classes, lanes, step = g[1], 1 << g[2], g[3]
    row, first, lane, count = row_of(block, thread, g)
    label = labels[row] if count else -1
    is_label = label >= 0 and label < classes and label != ignore_index
    before = 0.0
    if is_label:
        of_label = np.float64(logits[first + label * step])
        j = lane
        while j < count:
            if _comes_before(np.float64(logits[first + j * step]), j, of_label, label):
                before += 1.0
            j += lanes
    before = lanes_sum(thread, lane, lanes, before, sums)
    correct = 1.0 if is_label and lane == 0 and before < np.float64(k) else 0.0
    correct = block_sum(thread, correct, sums)
    if thread == 0:
        partial[block] = correct


@block_kernel(THREADS)
def _largest_rows(block, thread, largest_class, logits, labels, ignore_index, g):
    """The class of the largest logit, -1 where the label is none."""
    values = cuda.shared.array(THREADS, np.float64)
    places = cuda.shared.array(THREADS, np.int64)
    classes, lanes, step = g[1], 1 << g[2], g[3]
    row, first, lane, count = row_of(block, thread, g)
    largest, place = -math.inf, classes
    j = lane
    while j < count:
        value = np.float64(logits[first + j * step])
        if _comes_before(value, j, largest, place):
            largest, place = value, j
        j += lanes
    values[thread], places[thread] = largest, place
    cuda.syncthreads()
    half = lanes >> 1
    while half > 0:
        if lane < half:
            other = thread + half
            if _comes_before(values[other], places[other], values[thread], places[thread]):
                values[thread], places[thread] = values[other], places[other]
        cuda.syncthreads()
        half >>= 1
    if count and lane == 0:
        label = labels[row]
        is_label = label >= 0 and label < classes and label != ignore_index
        largest_class[row] = places[thread] if is_label else -1


@block_kernel(THREADS)
def _count_pairs(block, thread, counts, largest, labels, rows, classes):
    """A block is a class, for which it reads all rows: little beside the logits, and no two blocks add to one count."""
    sums = cuda.shared.array(THREADS, np.float64)
    of_label, of_largest, of_both = 0.0, 0.0, 0.0
    for i in range(thread, rows, THREADS):
        best = largest[i]
        is_label, is_largest = best >= 0 and labels[i] == block, best == block
        of_label += 1.0 if is_label else 0.0
        of_largest += 1.0 if is_largest else 0.0
        of_both += 1.0 if is_label and is_largest else 0.0
    of_label = block_sum(thread, of_label, sums)
    of_largest = block_sum(thread, of_largest, sums)
    of_both = block_sum(thread, of_both, sums)
    if thread == 0:
        counts[block] = of_label
        counts[classes + block] = of_largest
        counts[2 * classes + block] = of_both


@block_kernel(THREADS)
def _finish(block, thread, result, partial, count, scale):
    """In one block: result = scale * the sum of partial."""
    sums = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(thread, count, THREADS):
        total += partial[i]
    total = block_sum(thread, total, sums)
    if thread == 0:
        result[0] = scale * total


def softmax_cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, Array, Array]:
    p, losses = device_array.new(logits.shape, logits.dtype), _of_positions(logits, reduction)
    blocks, sizes = rows_along(logits.shape, 1)
    partial = device_array.new((2 * blocks,), np.float64)
    options = (blocks, int(weight is not None), int(losses is not None), ignore_index)
    rows = _soft_target_rows if target.shape == logits.shape else _cross_entropy_rows
    given = (logits, target, or_other(weight, logits), or_other(losses, logits))
    rows(blocks, partial, p, *given, float(label_smoothing), sizes, options)
    loss, scale = _reduced(partial, losses, reduction)
    return loss, p, scale


def softmax_cross_entropy_backward(
    scale: Array,
    probabilities: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Array:
    p, weights = probabilities, or_other(weight, probabilities)
    dlogits = device_array.new(p.shape, p.dtype)
    of_each, has_weight = int(len(scale.shape) > 0), int(weight is not None)
    blocks, sizes = rows_along(p.shape, 1)
    if target.shape == p.shape:
        options = (of_each, has_weight)
        _soft_target_gradient(blocks, scale, dlogits, p, target, weights, float(label_smoothing), sizes, options)
        return dlogits
    # Which only a smoothed target asks for.
    of_all = p if weight is None else scaled_total(weight, np.float64, 1.0)
    given = (scale, p, target, weights, of_all, float(label_smoothing))
    sizes_and_options = (p.shape[1], math.prod(p.shape[2:]), of_each, has_weight, ignore_index)
    _cross_entropy_gradient(dlogits.size, dlogits, *given, sizes_and_options)
    return dlogits


def nll_loss(
    x: Array,
    labels: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> tuple[Array, Array]:
    losses = _of_positions(x, reduction)
    blocks = -(-labels.size // THREADS)
    partial = device_array.new((2 * blocks,), np.float64)
    options = (blocks, int(weight is not None), int(losses is not None), ignore_index)
    sizes = (labels.size, x.shape[1], math.prod(x.shape[2:]))
    _nll_rows(blocks, partial, x, labels, or_other(weight, x), or_other(losses, x), sizes, options)
    return _reduced(partial, losses, reduction)


def nll_loss_backward(
    scale: Array, x: Array, labels: Array, weight: Array | None = None, ignore_index: int = -100
) -> Array:
    dx = device_array.new(x.shape, x.dtype)
    of_each, has_weight = int(len(scale.shape) > 0), int(weight is not None)
    options = (x.shape[1], math.prod(x.shape[2:]), of_each, has_weight, ignore_index)
    _nll_gradient(dx.size, dx, scale, labels, or_other(weight, dx), options)
    return dx


def count_correct(logits: Array, labels: Array, k: int = 1, ignore_index: int = -100) -> Array:
    blocks, sizes = rows_along(logits.shape, 1)
    partial = device_array.new((blocks,), np.float64)
    _correct_rows(blocks, partial, logits, labels, k, ignore_index, sizes)
    return scaled_total(partial, np.int64, 1.0)


def largest_classes(x: Array) -> Array:
    blocks, sizes = rows_along(x.shape, 1)
    largest = memory.zeros((x.shape[0], *x.shape[2:]), np.int64)
    # The kernel asks whether the label is a class, and 0 is one.
    if x.size:
        _largest_rows(blocks, largest, x, largest, -1, sizes)
    return largest


def count_classes(logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    blocks, sizes = rows_along(logits.shape, 1)
    classes = logits.shape[1]
    largest, counts = device_array.new((labels.size,), np.int64), device_array.new((3, classes), np.int64)
    _largest_rows(blocks, largest, logits, labels, ignore_index, sizes)
    _count_pairs(classes, counts, largest, labels, labels.size, classes)
    return counts


def or_other(x: Array | None, other: Array) -> Array:
    """What kernels take for ``x``, and do not read, where there is none."""
    return other if x is None else x


def _of_positions(x: Array, reduction: Reduction) -> Array | None:
    """For a loss of each position, where these are asked for."""
    return device_array.new((x.shape[0], *x.shape[2:]), x.dtype) if reduction == "none" else None


def _reduced(partial: Array, losses: Array | None, reduction: Reduction) -> tuple[Array, Array]:
    """The loss and the scale."""
    scale = device_array.new((), np.float64)
    loss = device_array.new((), np.float64) if losses is None else losses
    g = (partial.size // 2, int(reduction == "mean"), int(losses is None))
    _reduce(1, loss if losses is None else scale, scale, partial, g)
    return loss, scale


def scaled_total(partial: Array, dtype: type, scale: float) -> Array:
    result = device_array.new((), dtype)
    _finish(1, result, partial, partial.size, float(scale))
    return result
