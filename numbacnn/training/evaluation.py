"""Evaluation: loss, accuracy and other figures of a model over all batches of a loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.grad_mode import evaluating
from ..ops.parts import as_tuple
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
    *,
    group: Ranks | None = None,
) -> tuple[float, float]:
    """Average loss and accuracy (0 to 1) of ``model`` over the batches of ``loader``, in evaluation mode.

    Targets may be whatever ``loss`` compares predictions with; the inputs of a model of several are a tuple. The
    accuracy is NaN where targets are neither the numbers of classes (n,), with predictions (n, classes), nor their
    probabilities (n, classes), with `CrossEntropyLoss`. A loss that is a mean counts for as many samples as its batch
    has. Each of ``metrics`` begins again, and has the value of all batches afterwards. Then every layer is in the mode
    it was in.

    With a ``group`` of processes, see `numbacnn.distributed.init`, each computes some of the batches, and all get the
    figures of all batches, which are added up in the order of these: to the same bits for any number of processes.

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
                _add(model, batch, loss, totals, metrics)
            average.add(*totals.read())
        else:
            found: dict[int, _Figures] = {}
            for number, batch in _own_batches(loader, group):
                for metric in metrics:
                    metric.reset()
                _add(model, batch, loss, totals, metrics)
                found[number] = (
                    totals.read(),
                    [np.array(each.backend.to_numpy(each.value)) for metric in metrics for each in metric.buffers()],
                )
            _add_up(group.gather_metrics(found), average, metrics)
    if not average.examples:
        raise ValueError("`loader` gives no samples to evaluate the model on")
    return average.loss, average.accuracy


_Figures = tuple[tuple[float, float, int], list[np.ndarray[Any, Any]]]
"""Of a batch: loss, right answers and samples, and the sums of metrics."""


def _add(model: Layer, batch: tuple[Any, Any], loss: Loss, totals: MetricSums, metrics: Sequence[Metric]) -> None:
    x, y = (on_backend(part, model.backend) for part in batch)
    prediction = model.forward(*as_tuple(x))
    totals.add(loss, prediction, y)
    for metric in metrics:
        metric.update(prediction, y)


def _own_batches(loader: Any, group: Ranks) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """The batches that are this process's, with their numbers, of which the others are not even read, if possible."""
    if hasattr(loader, "batches") and hasattr(loader, "__len__"):
        own = range(group.rank, len(loader), group.size)
        yield from zip(own, loader.batches(own), strict=True)
    else:
        yield from ((i, batch) for i, batch in enumerate(loader) if i % group.size == group.rank)


def _add_up(every: list[dict[int, _Figures]], average: RunningMean, metrics: Sequence[Metric]) -> None:
    """Have the sums of all batches, one batch after the other."""
    found = {number: figures for own in every for number, figures in own.items()}
    buffers = [each for metric in metrics for each in metric.buffers()]
    for metric in metrics:
        metric.reset()
    for _, (totals, sums) in sorted(found.items(), key=lambda item: item[0]):
        average.add(*totals)
        for each, addition in zip(buffers, sums, strict=True):
            each.backend.accumulate(each.value, each.backend.asarray(addition))
