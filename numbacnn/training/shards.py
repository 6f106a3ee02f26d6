"""The sums over the shards of a batch, to the same bits whichever processes computed them.

What a shard leaves is of three kinds. Gradients, losses and what metrics count begin at zero in each shard and are
added up. Running averages begin at what they were before the batch, and become the mean of what the shards made of
them, each with the weight of its samples. Counters go on by as much as in the shard that counted most.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends
from ..nn.layer import Layer
from ..nn.state import Buffer, Parameter, StepCounter
from ..sharding import Node, Ranks, ShardedBatch, add_up, ahead_of_last, own_nodes, own_shards, sum_of_nodes
from .accumulation import Accumulation, not_optimized
from .gradient_pieces import BackwardOrder, GradientPieces, OnBackend, Piece, cut_gradients
from .lockstep import Attributes, Lockstep
from .metrics import Metric, MetricSums

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .weight_average import WeightAverage

__all__ = ["ShardState", "ShardSums", "share_state"]

DRAWS_BITS = 40
"""A layer's random numbers are drawn by the number of its pass, whose bits from this one on are the shard's."""

Compute = Callable[[Any, Any, bool, Callable[[BackwardOrder, int], None] | None], None]


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

    def __init__(self, gradients: OnBackend, figures: OnBackend, averages: OnBackend, counts: Any, passes: Any):
        self.gradients = gradients
        self.figures = figures
        self.averages = averages
        """Times the samples, float64."""
        self.counts = counts
        self.passes = passes

    def add(self, other: _Sums) -> _Sums:
        """Take in the sums of the shards that follow."""
        for (backend, left), (_, right) in zip(self.gradients, other.gradients, strict=True):
            backend.accumulate(left, right)
        return self.add_few(other)

    def add_few(self, other: _Sums) -> _Sums:
        """:meth:`add`, but for gradients."""
        for name in ("figures", "averages"):
            for (backend, left), (_, right) in zip(getattr(self, name), getattr(other, name), strict=True):
                backend.accumulate(left, right)
        self.counts = self.counts + other.counts
        self.passes = np.maximum(self.passes, other.passes)
        return self


class ShardSums:
    """Of one batch after the other.

    Beside the gradients themselves, a process that has all of s shards holds at most log2(s) - 1 copies of them, and
    log2(s) where shards are computed in pieces; one that has some of them at most twice as many, and one with a single
    shard none. Shards in lockstep have a copy each, but for the first one, and hold what they save for the backward
    pass at the same time. What is being exchanged comes on top, see `numbacnn.distributed.Group`.
    """

    def __init__(self, shards: int, ranks: Ranks | None) -> None:
        self.shards = shards
        self._ranks = ranks if ranks is not None and ranks.size > 1 else None
        self.own = range(shards) if ranks is None else own_shards(shards, ranks.rank, ranks.size)
        self._spare: list[OnBackend] = []
        self._pieces: list[Piece] = []
        self._pieces_of: Any = None

    @property
    def is_shared(self) -> bool:
        """Whether other processes have shards, too."""
        return self._ranks is not None

    def of(
        self, batch: ShardedBatch, compute: Compute, state: ShardState, in_pairs: bool, in_lockstep: bool = False
    ) -> None:
        """Compute the shards that are this process's, and leave what all shards come to.

        ``compute(x, y, adds, listener)`` leaves the gradients of one shard, whatever was there before or, where it
        ``adds`` them, on top of that; the listener, if there is one, is told, see `BackwardProgress`. ``in_pairs`` lets
        it add the second of two neighbours to the first, if a shard is computed at once. Shards are computed one after
        the other or, ``in_lockstep``, side by side, so that layers can have sums over all of them. ``batch`` has
        samples. After an error sums are as before the batch, but for gradients.
        """
        if self._spare and not _are_alike(self._spare[0], state.gradients):
            self._spare.clear()
        work = _Work(batch, compute, state, self._spare, in_pairs)
        result: _Sums | None
        try:
            if in_lockstep:
                work.compute_in_lockstep(Lockstep(self.shards, self._ranks, batch.samples, state.model))
            nodes = own_nodes(self.shards, self.own, batch.samples)
            if self._ranks is not None:
                result = self._exchanged(nodes, work, self._ranks)
            else:
                result = sum_of_nodes({node: work.total(node) for node in nodes}, self.shards, work.add)
        except BaseException:
            state.restore()
            raise
        assert result is not None
        state.finish(result, batch.samples)
        if result.gradients is not state.gradients:
            self._spare.append(result.gradients)

    def _exchanged(self, nodes: Sequence[Node], work: _Work, ranks: Ranks) -> _Sums:
        """The sums of all processes. Few numbers go to all of them, gradients piece by piece to one that adds them.

        A process computes the last of its shards with everything at hand that it is added to, so that a piece of the
        gradients can leave as soon as that shard has it.
        """
        state, samples = work.state, work.batch.samples
        layout = [
            own_nodes(self.shards, own_shards(self.shards, rank, ranks.size), samples) for rank in range(ranks.size)
        ]
        is_full = samples >= self.shards  # no shard is empty
        complete, last = (nodes[:-1], nodes[-1]) if nodes and is_full and not work.is_done else (nodes, None)
        found = {node: work.total(node) for node in complete}
        pieces = self._cut(state, ranks)
        if last is None:
            addends = GradientPieces(pieces, state.gradients, _gradients_of(found))
            addends.finish()
            ranks.sum_pieces(addends, layout, self.shards)
        else:
            before, number = ahead_of_last(last)
            neighbour = before.pop() if before and work.is_pair(before[-1][0], number) else None
            ahead = [work.total(node) for node in before]
            first = None if neighbour is None else work.total(neighbour)
            work.begin(number, adds=first is not None)
            addends = GradientPieces(
                pieces, state.gradients, _gradients_of(found), last, [sums.gradients for sums in ahead]
            )
            with _summed(addends, functools.partial(ranks.sum_pieces, addends, layout, self.shards), ranks.overlap):
                found[last] = work.compute(number, first is not None, addends.reached)
            if first is not None:
                found[last] = first.add_few(found[last])
            for sums in reversed(ahead):
                found[last] = sums.add_few(found[last])
                self._spare.append(sums.gradients)
        few = {
            node: (_on_host(sums.figures), _on_host(sums.averages), sums.counts, sums.passes)
            for node, sums in found.items()
        }
        self._spare += [found[node].gradients for node in complete if found[node].gradients is not state.gradients]
        every = {node: sums for own in ranks.gather_metrics(few) for node, sums in own.items()}
        host = {
            node: _Sums([], _of_host(figures), _of_host(averages), counts, passes)
            for node, (figures, averages, counts, passes) in every.items()
        }
        result = sum_of_nodes(host, self.shards, _Sums.add)
        assert result is not None
        result.gradients = state.gradients
        result.figures = _like(state.figures, result.figures)
        result.averages = [
            (buffer.backend, buffer.backend.asarray(array))
            for buffer, (_, array) in zip(state.buffers, result.averages, strict=True)
        ]
        return result

    def _cut(self, state: ShardState, ranks: Ranks) -> list[Piece]:
        if self._pieces_of != (cut_for := (state.optimizer, state.optimizer.version)):
            piece_bytes = ranks.piece_bytes([backend for backend, _ in state.gradients])
            self._pieces, self._pieces_of = cut_gradients(state.model, state.optimizer, piece_bytes), cut_for
        return self._pieces


@contextmanager
def _summed(addends: GradientPieces, work: Callable[[], None], overlap: bool) -> Iterator[None]:
    """``work`` sums up what the block makes: afterwards or, with ``overlap``, beside it, where there are pieces."""
    if not overlap or addends.count < 2:
        yield
        addends.finish()
        work()
        return
    with ThreadPoolExecutor(1, "numbacnn-exchange") as executor:
        done = executor.submit(work)
        try:
            yield
        except BaseException:
            addends.fail()
            raise
        addends.finish()
        done.result()


class _Work:
    """The shards of one batch, one after another; the gradients of the latest are where those of the next will be."""

    def __init__(
        self, batch: ShardedBatch, compute: Compute, state: ShardState, spare: list[OnBackend], in_pairs: bool
    ) -> None:
        self.batch = batch
        self.state = state
        self._compute = compute
        self._parts = {number: (x, y) for number, x, y in batch.parts}
        self._spare = spare
        self._in_pairs = in_pairs
        self._latest: _Sums | None = None
        self._found: dict[int, _Sums] = {}
        self.is_done = False
        """Whether all shards have been computed, side by side."""

    def compute_in_lockstep(self, lockstep: Lockstep) -> None:
        """Compute all shards, each with gradients of its own but the first."""

        def compute(number: int, x: Any, y: Any) -> _Sums:
            self.state.begin(number)
            self._compute(x, y, False, None)
            return self.state.end(_samples(x))

        works: dict[int, tuple[Callable[[], _Sums], Attributes]] = {}
        for number, (x, y) in self._parts.items():
            own = self.state.attributes(self._copied(self.state.gradients) if works else None)
            works[number] = functools.partial(compute, number, x, y), own
        self._parts.clear()
        self._found, self.is_done = lockstep.run(works), True

    def total(self, node: Node) -> _Sums:
        """What the shards of a node come to."""
        total = add_up(node, self._shard, self.add, self._pair)
        assert total is not None
        return total

    def is_pair(self, left: int, right: int) -> bool:
        """Whether two shards are neighbours in the tree, of which one can be added to the other as it is computed."""
        return self._in_pairs and right == left + 1 and {left, right} <= self._parts.keys()

    def _pair(self, left: int, right: int) -> _Sums | None:
        if not self.is_pair(left, right):
            return None
        self.begin(left)
        first = self.compute(left)
        self.begin(right, adds=True)
        self._latest = first.add_few(self.compute(right, adds=True))
        return first

    def _shard(self, number: int) -> _Sums | None:
        if number not in self._parts:
            return self._found.pop(number, None)
        self.begin(number)
        return self.compute(number)

    def begin(self, number: int, adds: bool = False) -> None:
        """Make room for the gradients of a shard, unless they are added to those of the latest."""
        if self._latest is not None and not adds:
            self._latest.gradients = self._copied(self._latest.gradients)
        self.state.begin(number)

    def compute(
        self, number: int, adds: bool = False, listener: Callable[[BackwardOrder, int], None] | None = None
    ) -> _Sums:
        """What it comes to."""
        x, y = self._parts.pop(number)
        self._compute(x, y, adds, listener)
        self._latest = self.state.end(_samples(x))
        return self._latest

    def add(self, left: _Sums, right: _Sums) -> _Sums:
        """The sum of two, in ``left``; the gradients of ``right`` are free."""
        if right is self._latest:
            self._latest = None
        left.add(right)
        if right.gradients is not self.state.gradients:
            self._spare.append(right.gradients)
        return left

    def _copied(self, gradients: OnBackend) -> OnBackend:
        if not self._spare:
            return [(backend, backend.copy(array)) for backend, array in gradients]
        spare = self._spare.pop()
        for (backend, target), (_, source) in zip(spare, gradients, strict=True):
            backend.assign(target, source)
        return spare


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
        self.gradients: OnBackend = optimizer.flat_gradients()
        self._metrics = [each for metric in metrics for each in metric.buffers()]
        self._not_optimized = not_optimized(model, optimizer)
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
            *((each.backend, each.value) for each in self._metrics),
            *((parameter.backend, parameter.grad) for parameter in self._not_optimized),
        ]

    def attributes(self, gradients: OnBackend | None) -> Attributes:
        """What a shard changes: as it is or, with ``gradients`` of its own, for a shard that has all for itself."""
        parameters, buffers, counters, others = self._owners
        objects = [*parameters, *buffers, *counters, *others, self._totals, self]
        if gradients is None:
            return Attributes(objects)
        own = {
            id(parameter): gradient[place].reshape(parameter.shape)
            for (_, gradient), places in zip(gradients, self.optimizer.gradient_places(), strict=True)
            for place, parameter in places
        }
        own |= {id(each): each.backend.zeros(each.shape, each.dtype) for each in self._not_optimized}
        values: list[dict[str, Any]] = [
            *({**vars(each), "_grad": own.get(id(each), vars(each)["_grad"])} for each in parameters),
            *({**vars(each), "_value": each.backend.copy(each.value)} for each in buffers),
            *(vars(StepCounter(counter.value)) for counter in counters),
            *(dict(vars(each)) for each in others),
            self._totals.copied_attributes(),
            {**vars(self), "gradients": gradients},
        ]
        return Attributes(objects, values)

    @functools.cached_property
    def _owners(self) -> tuple[list[Parameter], list[Buffer], list[StepCounter], list[Any]]:
        """What has attributes that a shard changes, apart from the sums of losses and this."""
        parameters = dict.fromkeys([*self.model.parameters(), *self.optimizer.parameters])
        buffers = dict.fromkeys([*self.buffers, *self._counters, *self._metrics, *self._accumulation.buffers])
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
    def _put(targets: OnBackend, before: OnBackend, more: OnBackend) -> None:
        for (backend, target), (_, former), (_, addition) in zip(targets, before, more, strict=True):
            backend.accumulate(former, addition)
            backend.assign(target, former)


def _samples(x: Any) -> int:
    first = x[0] if isinstance(x, tuple) else x
    return int(first.shape[0])


def _copies(arrays: OnBackend) -> OnBackend:
    return [(backend, backend.copy(array)) for backend, array in arrays]


def _gradients_of(found: dict[Node, _Sums]) -> dict[Node, OnBackend]:
    return {node: sums.gradients for node, sums in found.items()}


def _are_alike(some: OnBackend, others: OnBackend) -> bool:
    kinds = [[(backend, array.shape, array.dtype) for backend, array in each] for each in (some, others)]
    return kinds[0] == kinds[1]


def _on_host(arrays: OnBackend) -> list[Any]:
    return [backend.to_numpy(array) for backend, array in arrays]


def _of_host(arrays: Sequence[Any]) -> OnBackend:
    host = backends.get("reference")
    return [(host, array) for array in arrays]


def _like(targets: OnBackend, arrays: OnBackend) -> OnBackend:
    return [(backend, backend.asarray(array)) for (backend, _), (_, array) in zip(targets, arrays, strict=True)]
