"""What the shards of a batch begin with, and leave.

What a shard leaves is of three kinds. Gradients, losses and what metrics count begin at zero in each shard and are
added up. Running averages begin at what they were before the batch, and become the mean of what the shards made of
them, each with the weight of its samples. Counters go on by as much as in the shard that counted most.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.layer import Layer
from ..nn.state import Buffer, Parameter, StepCounter
from .accumulation import Accumulation, not_optimized
from .gradient_pieces import OnBackend
from .lockstep import Attributes
from .metrics import Metric, MetricSums

if TYPE_CHECKING:
    from ..optim import Optimizer

__all__ = ["ShardState", "Sums"]

DRAWS_BITS = 40
"""A layer's random numbers are drawn by the number of its pass, whose bits from this one on are the shard's."""


class Sums:
    """What one shard, or a node of several, comes to."""

    def __init__(self, gradients: OnBackend, figures: OnBackend, averages: OnBackend, counts: Any, passes: Any):
        self.gradients = gradients
        self.figures = figures
        self.averages = averages
        """Times the samples, float64."""
        self.counts = counts
        self.passes = passes

    def add(self, other: Sums) -> Sums:
        """Take in the sums of the shards that follow."""
        for (backend, left), (_, right) in zip(self.gradients, other.gradients, strict=True):
            backend.accumulate(left, right)
        return self.add_few(other)

    def add_few(self, other: Sums) -> Sums:
        """:meth:`add`, but for gradients."""
        for name in ("figures", "averages"):
            for (backend, left), (_, right) in zip(getattr(self, name), getattr(other, name), strict=True):
                backend.accumulate(left, right)
        self.counts = self.counts + other.counts
        self.passes = np.maximum(self.passes, other.passes)
        return self


class ShardState:
    """What shards begin with, and leave."""

    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        accumulation: Accumulation,
        totals: MetricSums,
        metrics: Sequence[Metric],
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._accumulation = accumulation
        self._totals = totals
        self._sums = [each for metric in metrics for each in metric.buffers()]
        self._not_optimized = not_optimized(model, optimizer)
        self.gradients: OnBackend = optimizer.flat_gradients()
        buffers = [buffer for _, buffer in model.named_buffers()]
        self.buffers: list[Buffer] = [buffer for buffer in buffers if buffer.dtype.kind == "f"]
        self._counters = [buffer for buffer in buffers if buffer.dtype.kind != "f"]
        self._drawing = [layer for layer in dict.fromkeys(model.layers()) if layer.seed is not None]
        # Before the batch.
        self._gradients_before = _copies(self.gradients) if accumulation.batches else None
        self._figures_before = _copies(self.figures)
        self._buffers_before = [buffer.backend.copy(buffer.value) for buffer in self.buffers]
        self._counters_before = [np.array(each.backend.to_numpy(each.value)) for each in self._counters]
        self._draws_before = [layer.calls for layer in self._drawing]
        self._counts_before = (*totals.counts, accumulation.is_finite)
        self._first_draws: list[int] = []

    @property
    def figures(self) -> OnBackend:
        """Sums that are not of the optimizer's gradients, where they are."""
        backend = self.model.backend
        return [
            *((backend, array) for array in (self._accumulation.divisor, *self._totals.arrays)),
            *((each.backend, each.value) for each in self._sums),
            *((parameter.backend, parameter.grad) for parameter in self._not_optimized),
        ]

    def attributes(self, gradients: OnBackend | None) -> Attributes:
        """What a shard changes: as it is or, with ``gradients`` of its own, for a shard that has all for itself."""
        parameters, buffers, counters, others = self._owners
        objects = [*parameters, *buffers, *counters, *others, self._totals, self]
        if gradients is None:
            return Attributes(objects)
        places = {id(parameter): place for parameter, place in self.optimizer.places_in(gradients)}
        for each in self._not_optimized:
            places[id(each)] = each.backend.zeros(each.shape, each.dtype)
        values: list[dict[str, Any]] = [
            *({**vars(each), "_grad": places.get(id(each), vars(each)["_grad"])} for each in parameters),
            *({**vars(each), "_value": each.backend.copy(each.value)} for each in buffers),
            *(vars(StepCounter(counter.value)) for counter in counters),
            *(dict(vars(each)) for each in others),
            self._totals.copied_attributes(),
            {**vars(self), "gradients": gradients},
        ]
        return Attributes(objects, values)

    @cached_property
    def _owners(self) -> tuple[list[Parameter], list[Buffer], list[StepCounter], list[Any]]:
        """What has attributes that a shard changes, apart from the sums of losses and this."""
        parameters = dict.fromkeys([*self.model.parameters(), *self.optimizer.parameters])
        buffers = dict.fromkeys([*self.buffers, *self._counters, *self._sums, *self._accumulation.buffers])
        layers = self.model.layers()
        counters = dict.fromkeys(counter for layer in layers for _, counter in layer._members(StepCounter))
        return [*parameters], [*buffers], [*counters], [*layers, self._accumulation]

    def begin(self, number: int) -> None:
        """Be where each shard begins, but for gradients."""
        for backend, array in self.figures:
            backend.fill_zero(array)
        self._restore_buffers()
        self._first_draws = [before + (number << DRAWS_BITS) for before in self._draws_before]
        for layer, first in zip(self._drawing, self._first_draws, strict=True):
            layer.calls = first
        self._totals.counts = 0, True
        self._accumulation.begin_shard()

    def end(self, samples: int) -> Sums:
        """What a shard of so many samples left."""
        averages = []
        for buffer in self.buffers:
            on = buffer.backend
            weighted = on.zeros(buffer.shape, np.float64)
            on.accumulate(weighted, on.asarray(buffer.value, np.float64), float(samples))
            averages.append((on, weighted))
        examples, is_counted = self._totals.counts
        draws = [layer.calls - first for layer, first in zip(self._drawing, self._first_draws, strict=True)]
        counted = [
            np.ravel(each.backend.to_numpy(each.value) - before)
            for each, before in zip(self._counters, self._counters_before, strict=True)
        ]
        return Sums(
            self.gradients,
            _copies(self.figures),
            averages,
            np.array([examples, not is_counted, not self._accumulation.is_finite], np.int64),
            np.concatenate([np.array(draws, np.int64), *counted]),
        )

    def finish(self, sums: Sums, samples: int) -> None:
        """Have the sums of all shards, on top of what was there before the batch."""
        if self._gradients_before is not None:
            self._put(self.gradients, self._gradients_before, sums.gradients)
        elif sums.gradients is not self.gradients:
            for (backend, target), (_, source) in zip(self.gradients, sums.gradients, strict=True):
                backend.assign(target, source)
        self._put(self.figures, self._figures_before, sums.figures)
        divisors = {each.backend: each.backend.asarray(np.array(samples, np.float64)) for each in self.buffers}
        for buffer, (backend, weighted) in zip(self.buffers, sums.averages, strict=True):
            backend.divide(weighted, divisors[backend])
            backend.assign(buffer.value, backend.asarray(weighted, buffer.dtype))
        counted = sums.passes[len(self._drawing) :]
        for each, before in zip(self._counters, self._counters_before, strict=True):
            own, counted = counted[: before.size], counted[before.size :]
            each.value = before + own.reshape(before.shape)
        for layer, calls, draws in zip(self._drawing, self._draws_before, sums.passes.tolist(), strict=False):
            layer.calls = calls + draws
        examples, is_counted, is_finite = self._counts_before
        more, uncounted, not_finite = sums.counts.tolist()
        self._totals.counts = examples + more, is_counted and not uncounted
        self._accumulation.is_finite = is_finite and not not_finite

    def restore(self) -> None:
        """Be where the batch began, but for gradients."""
        for (backend, target), (_, source) in zip(self.figures, self._figures_before, strict=True):
            backend.assign(target, source)
        self._restore_buffers()
        for layer, calls in zip(self._drawing, self._draws_before, strict=True):
            layer.calls = calls
        *counts, is_finite = self._counts_before
        self._totals.counts = (counts[0], bool(counts[1]))
        self._accumulation.is_finite = is_finite

    def _restore_buffers(self) -> None:
        for buffer, before in zip(self.buffers, self._buffers_before, strict=True):
            buffer.backend.assign(buffer.value, before)
        for each, earlier in zip(self._counters, self._counters_before, strict=True):
            each.value = earlier

    @staticmethod
    def _put(targets: OnBackend, before: OnBackend, more: OnBackend) -> None:
        for (backend, target), (_, former), (_, addition) in zip(targets, before, more, strict=True):
            backend.accumulate(former, addition)
            backend.assign(target, former)


def _copies(arrays: OnBackend) -> OnBackend:
    return [(backend, backend.copy(array)) for backend, array in arrays]
