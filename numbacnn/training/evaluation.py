"""Evaluation: loss, accuracy and other figures of a model over all batches of a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.grad_mode import evaluating
from ..ops.parts import as_tuple, each_of
from ..sharding import Ranks
from .metrics import Metric, MetricSums, RunningMean, on_backend

if TYPE_CHECKING:
    from ..nn import Layer, Loss

__all__ = ["evaluate"]


def evaluate(
    model: Layer,
    loader: Iterable[tuple[Any, Any]],
    loss: Loss,
    metrics: Sequence[Metric] = (),
    on_batch: Callable[[Any, Any], None] | None = None,
    *,
    group: Ranks | None = None,
) -> tuple[float, float]:
    """Average loss and accuracy (0 to 1) of ``model`` over the batches of ``loader``, in evaluation mode.

    Targets may be whatever ``loss`` compares predictions with; the inputs of a model of several are a tuple. The
    accuracy is NaN where targets are neither the numbers of classes (n,), with predictions (n, classes), nor their
    probabilities (n, classes), with `CrossEntropyLoss`. A loss that is a mean counts for as many samples as its batch
    has. Each of ``metrics`` begins again, and has the value of all batches afterwards. Of each batch ``on_batch`` is
    called with prediction and targets, arrays of the model's backend that are its to keep. Then every layer is in the
    mode it was in.

    With a ``group`` of processes, see `numbacnn.distributed.init`, each computes some of the batches, and all get the
    figures of all batches, which are added up in the order of these: to the same bits for any number of processes.
    ``on_batch``, which all of them have or none, is called in each, for all batches in their order.

    Raises:
        ValueError: ``loader`` gives no samples.
    """
    totals, average = MetricSums(model.backend), RunningMean()
    for metric in metrics:
        metric.prepare(model.backend)
        metric.reset()
    with evaluating(model):
        if group is None:
            for batch in loader:
                prediction, target = _add(model, batch, loss, totals, metrics)
                if on_batch is not None:
                    on_batch(prediction, target)
            average.add(*totals.read())
        else:
            _evaluate_together(model, loader, loss, totals, metrics, on_batch, average, group)
    if not average.examples:
        raise ValueError("`loader` gives no samples to evaluate the model on")
    return average.loss, average.accuracy


def _add(model: Layer, batch: tuple[Any, Any], loss: Loss, totals: MetricSums, metrics: Sequence[Metric]) -> Any:
    """Take in a batch; prediction and target."""
    x, y = (on_backend(part, model.backend) for part in batch)
    prediction = model.forward(*as_tuple(x))
    totals.add(loss, prediction, y)
    for metric in metrics:
        metric.update(prediction, y)
    return prediction, y


def _evaluate_together(
    model: Layer,
    loader: Iterable[tuple[Any, Any]],
    loss: Loss,
    totals: MetricSums,
    metrics: Sequence[Metric],
    on_batch: Callable[[Any, Any], None] | None,
    average: RunningMean,
    group: Ranks,
) -> None:
    """Have the sums of all batches, one batch after the other, of which each process computes one at a time."""
    backend = model.backend
    buffers = [each for metric in metrics for each in metric.buffers()]
    sums = [np.array(each.backend.to_numpy(each.value)) for each in buffers]
    own, is_over = _own_batches(loader, group), False
    while not is_over:
        batch, figures = next(own, None), None
        if batch is not None:
            for metric in metrics:
                metric.reset()
            pair = _add(model, batch, loss, totals, metrics)
            added = [np.array(each.backend.to_numpy(each.value)) for each in buffers]
            shown = None if on_batch is None else [each_of(part, backend.to_numpy) for part in pair]
            figures = totals.read(), added, shown
        for found in group.gather_metrics(figures):
            if found is None:
                is_over = True
                continue
            read, added, shown = found
            average.add(*read)
            sums = [total + addition for total, addition in zip(sums, added, strict=True)]
            if on_batch is not None:
                on_batch(*(on_backend(part, backend) for part in shown))
    for each, total in zip(buffers, sums, strict=True):
        each.backend.assign(each.value, each.backend.asarray(total))


def _own_batches(loader: Any, group: Ranks) -> Iterator[tuple[Any, Any]]:
    """The batches that are this process's, of which the others are not even read, if possible."""
    if hasattr(loader, "batches") and hasattr(loader, "__len__"):
        yield from loader.batches(range(group.rank, len(loader), group.size))
    else:
        yield from (batch for i, batch in enumerate(loader) if i % group.size == group.rank)
