"""The sums over the shards of a batch, to the same bits whichever processes computed them.

What a shard leaves is of three kinds. Gradients, losses and what metrics count begin at zero in each shard and are
added up. Running averages begin at what they were before the batch, and become the mean of what the shards made of
them, each with the weight of its samples. Counters go on by as much as in the shard that counted most.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends
from ..backends import Array, Backend
from ..nn.layer import Layer
from ..nn.state import Buffer, Parameter, StepCounter
from ..sharding import Node, Ranks, ShardedBatch, add_up, own_nodes, own_shards, sum_of_nodes
from .accumulation import Accumulation, not_optimized
from .lockstep import Attributes, Lockstep
from .metrics import Metric, MetricSums

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..optim import Optimizer
    from .weight_average import WeightAverage

__all__ = ["ShardSums", "share_state"]

DRAWS_BITS = 40
"""A layer's random numbers are drawn by the number of its pass, whose bits from this one on are the shard's."""

_OnBackend = list[tuple[Backend, Array]]


def share_state(ranks: Ranks, model: Layer, optimizer: Optimizer, average: WeightAverage | None) -> None:
    """Let all processes begin with what the first one has."""
    if ranks.size == 1:
        return
    have: list[Any] = [model, optimizer, *([] if average is None else [average])]
    states = [each.state_dict() for each in have] if ranks.rank == 0 else None
    states, random = ranks.broadcast((states, model.random_state()))
    if ranks.rank:
        for each, state in zip(have, states, strict=True):
            each.load_state_dict(state)
        model.load_random_state(random)


class _Sums:
    """What one shard, or a node of several, comes to."""

    def __init__(self, gradients: _OnBackend, figures: _OnBackend, averages: _OnBackend, counts: Any, passes: Any):
        self.gradients = gradients
        self.figures = figures
        self.averages = averages
        """Times the samples, float64."""
        self.counts = counts
        self.passes = passes

    def add(self, other: _Sums) -> _Sums:
        """Take in the sums of the shards that follow."""
        for name in ("gradients", "figures", "averages"):
            for (backend, left), (_, right) in zip(getattr(self, name), getattr(other, name), strict=True):
                backend.accumulate(left, right)
        self.counts = self.counts + other.counts
        self.passes = np.maximum(self.passes, other.passes)
        return self


class ShardSums:
    """Of one batch after the other.

    Beside the gradients themselves, a process that has all of s shards holds at most log2(s) copies of them, one
    that has some of them at most twice as many, and one with a single shard none. Shards in lockstep have a copy each,
    but for the first one, and hold what they save for the backward pass at the same time. What is being exchanged comes
    on top, see `numbacnn.distributed.Group`.
    """

    def __init__(self, shards: int, ranks: Ranks | None) -> None:
        self.shards = shards
        self._ranks = ranks
        self.own = range(shards) if ranks is None else own_shards(shards, ranks.rank, ranks.size)
        self._spare: list[_OnBackend] = []

    def of(
        self,
        batch: ShardedBatch,
        compute: Callable[[Any, Any], None],
        model: Layer,
        optimizer: Optimizer,
        accumulation: Accumulation,
        totals: MetricSums,
        metrics: Sequence[Metric],
        in_lockstep: bool = False,
    ) -> None:
        """Compute the shards that are this process's, ``compute(x, y)``, and leave what all shards come to.

        ``batch`` has samples. Shards are computed one after the other or, ``in_lockstep``, side by side, so that layers
        can have sums over all of them. After an error sums are as before the batch, but for gradients.
        """
        state = _State(model, optimizer, accumulation, totals, metrics)
        if self._spare and not _are_alike(self._spare[0], state.gradients):
            self._spare.clear()
        parts = {number: (x, y) for number, x, y in batch.parts}
        latest: _Sums | None = None  # whose gradients are where those of the next shard will be

        def shard(number: int) -> _Sums | None:
            nonlocal latest
            if number not in parts:
                return None
            if latest is not None:
                latest.gradients = self._copied(latest.gradients)
            state.begin(number)
            x, y = parts.pop(number)
            compute(x, y)
            latest = state.end(_samples(x))
            return latest

        def add(left: _Sums, right: _Sums) -> _Sums:
            nonlocal latest
            if right is latest:
                latest = None
            left.add(right)
            if right.gradients is not state.gradients:
                self._spare.append(right.gradients)
            return left

        result: _Sums | None
        try:
            found: dict[Node, _Sums] = {}
            there = self._in_lockstep(parts, compute, state, batch, model).pop if in_lockstep else shard
            for node in own_nodes(self.shards, self.own, batch.samples):
                total = add_up(node, there, add)
                if total is not None:
                    found[node] = total
            if self._ranks is not None and self._ranks.size > 1:
                result = self._exchanged(found, batch, state)
            else:
                result = sum_of_nodes(found, self.shards, add)
        except BaseException:
            state.restore()
            raise
        assert result is not None
        state.finish(result, batch.samples)
        if result.gradients is not state.gradients:
            self._spare.append(result.gradients)

    def _in_lockstep(
        self,
        parts: dict[int, tuple[Any, Any]],
        compute: Callable[[Any, Any], None],
        state: _State,
        batch: ShardedBatch,
        model: Layer,
    ) -> dict[int, _Sums | None]:
        """What each shard comes to; None of those without samples."""

        def work(number: int, x: Any, y: Any) -> _Sums:
            state.begin(number)
            compute(x, y)
            return state.end(_samples(x))

        works: dict[int, tuple[Callable[[], _Sums], Attributes]] = {}
        for number, (x, y) in parts.items():
            own = state.attributes(self._copied(state.gradients) if works else None)
            works[number] = partial(work, number, x, y), own
        parts.clear()
        found = Lockstep(self.shards, self._ranks, batch.samples, model).run(works)
        return {number: found.get(number) for number in self.own}

    def _copied(self, gradients: _OnBackend) -> _OnBackend:
        if not self._spare:
            return [(backend, backend.copy(array)) for backend, array in gradients]
        spare = self._spare.pop()
        for (backend, target), (_, source) in zip(spare, gradients, strict=True):
            backend.assign(target, source)
        return spare

    def _exchanged(self, found: dict[Node, _Sums], batch: ShardedBatch, state: _State) -> _Sums:
        """The sums of all processes. Few numbers go to all of them, gradients piece by piece to one that adds them."""
        ranks = self._ranks
        assert ranks is not None
        few = {
            node: (_on_host(sums.figures), _on_host(sums.averages), sums.counts, sums.passes)
            for node, sums in found.items()
        }
        every = {node: sums for own in ranks.gather_metrics(few) for node, sums in own.items()}
        host = {
            node: _Sums([], _of_host(figures), _of_host(averages), counts, passes)
            for node, (figures, averages, counts, passes) in every.items()
        }
        result = sum_of_nodes(host, self.shards, _Sums.add)
        assert result is not None
        layout = [
            own_nodes(self.shards, own_shards(self.shards, rank, ranks.size), batch.samples)
            for rank in range(ranks.size)
        ]
        for i, (backend, gradient) in enumerate(state.gradients):
            nodes = {node: backend.to_numpy(sums.gradients[i][1]) for node, sums in found.items()}
            out = gradient if isinstance(gradient, np.ndarray) else np.empty(gradient.shape, gradient.dtype)
            ranks.sum_nodes(nodes, layout, self.shards, out)
            if out is not gradient:
                backend.assign(gradient, backend.asarray(out))
        for sums in found.values():
            if sums.gradients is not state.gradients:
                self._spare.append(sums.gradients)
        result.gradients = state.gradients
        result.figures = _like(state.figures, result.figures)
        result.averages = [
            (buffer.backend, buffer.backend.asarray(array))
            for buffer, (_, array) in zip(state.buffers, result.averages, strict=True)
        ]
        return result


class _State:
    """What shards begin with, and leave."""

    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        accumulation: Accumulation,
        totals: MetricSums,
        metrics: Sequence[Metric],
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._accumulation = accumulation
        self._totals = totals
        self._sums = [each for metric in metrics for each in metric.buffers()]
        self._not_optimized = not_optimized(model, optimizer)
        self.gradients: _OnBackend = optimizer.flat_gradients()
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
    def figures(self) -> _OnBackend:
        """Sums that are not of the optimizer's gradients, where they are."""
        backend = self._model.backend
        return [
            *((backend, array) for array in (self._accumulation.divisor, *self._totals.arrays)),
            *((each.backend, each.value) for each in self._sums),
            *((parameter.backend, parameter.grad) for parameter in self._not_optimized),
        ]

    def attributes(self, gradients: _OnBackend | None) -> Attributes:
        """What a shard changes: as it is or, with ``gradients`` of its own, for a shard that has all for itself."""
        parameters, buffers, counters, others = self._owners
        objects = [*parameters, *buffers, *counters, *others, self._totals, self]
        if gradients is None:
            return Attributes(objects)
        places = {id(parameter): place for parameter, place in self._optimizer.places_in(gradients)}
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
        parameters = dict.fromkeys([*self._model.parameters(), *self._optimizer.parameters])
        buffers = dict.fromkeys([*self.buffers, *self._counters, *self._sums, *self._accumulation.buffers])
        layers = self._model.layers()
        counters = dict.fromkeys(counter for layer in layers for _, counter in layer._members(StepCounter))
        return [*parameters], [*buffers], [*counters], [*layers, self._accumulation]

    def begin(self, number: int) -> None:
        """Be where each shard begins."""
        for backend, array in (*self.gradients, *self.figures):
            backend.fill_zero(array)
        self._restore_buffers()
        self._first_draws = [before + (number << DRAWS_BITS) for before in self._draws_before]
        for layer, first in zip(self._drawing, self._first_draws, strict=True):
            layer.calls = first
        self._totals.counts = 0, True
        self._accumulation.begin_shard()

    def end(self, samples: int) -> _Sums:
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
        return _Sums(
            self.gradients,
            _copies(self.figures),
            averages,
            np.array([examples, not is_counted, not self._accumulation.is_finite], np.int64),
            np.concatenate([np.array(draws, np.int64), *counted]),
        )

    def finish(self, sums: _Sums, samples: int) -> None:
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
    def _put(targets: _OnBackend, before: _OnBackend, more: _OnBackend) -> None:
        for (backend, target), (_, former), (_, addition) in zip(targets, before, more, strict=True):
            backend.accumulate(former, addition)
            backend.assign(target, former)


def _samples(x: Any) -> int:
    first = x[0] if isinstance(x, tuple) else x
    return int(first.shape[0])


def _copies(arrays: _OnBackend) -> _OnBackend:
    return [(backend, backend.copy(array)) for backend, array in arrays]


def _are_alike(some: _OnBackend, others: _OnBackend) -> bool:
    kinds = [[(backend, array.shape, array.dtype) for backend, array in each] for each in (some, others)]
    return kinds[0] == kinds[1]


def _on_host(arrays: _OnBackend) -> list[Any]:
    return [backend.to_numpy(array) for backend, array in arrays]


def _of_host(arrays: Sequence[Any]) -> _OnBackend:
    host = backends.get("reference")
    return [(host, array) for array in arrays]


def _like(targets: _OnBackend, arrays: _OnBackend) -> _OnBackend:
    return [(backend, backend.asarray(array)) for (backend, _), (_, array) in zip(targets, arrays, strict=True)]
