"""The sums over the shards of a batch, to the same bits whichever processes computed them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends
from ..nn.layer import Layer
from ..sharding import Node, Ranks, ShardedBatch, WholeArray, add_up, ahead_of_last, own_nodes, own_shards, sum_of_nodes
from .gradient_pieces import BackwardOrder, GradientPieces, OnBackend, Piece, cut_gradients
from .lockstep import Attributes, Lockstep
from .shard_state import ShardState, Sums

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .weight_average import WeightAverage

__all__ = ["ShardSums", "share_state"]

MAX_LAYOUTS = 4
"""Sizes of batches of which it is remembered who has what."""

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


class ShardSums:
    """Of one batch after the other.

    Beside the gradients themselves, a process that has all of s shards holds at most log2(s) - 1 copies of them, and
    log2(s) where shards are computed in pieces; one that has some of them at most twice as many, and one with a single
    shard none. Shards side by side have a copy each, but for the first one, and hold what they save for the backward
    pass at the same time. What is being exchanged comes on top, see `numbacnn.distributed.Group`.
    """

    def __init__(self, shards: int, ranks: Ranks | None) -> None:
        self.shards = shards
        self._ranks = ranks if ranks is not None and ranks.size > 1 else None
        self.own = range(shards) if ranks is None else own_shards(shards, ranks.rank, ranks.size)
        self._spare: list[OnBackend] = []
        self._pieces: list[Piece] = []
        self._pieces_of: Any = None
        self._layouts: dict[int, list[list[Node]]] = {}

    @property
    def overlaps(self) -> bool:
        """Whether gradients go to other processes while a backward pass still makes more of them."""
        return self._ranks is not None and self._ranks.overlap

    def of(self, batch: ShardedBatch, compute: Compute, state: ShardState, in_pairs: bool) -> None:
        """Compute the shards that are this process's, and leave what all shards come to.

        ``compute(x, y, adds, listener)`` leaves the gradients of one shard, whatever was there before or, where it
        ``adds`` them, on top of that; the listener, if there is one, is told, see `BackwardProgress`. ``in_pairs`` lets
        it add the second of two neighbours to the first, if a shard is computed at once. ``batch`` has samples. After
        an error sums are as before the batch, but for gradients.
        """
        self._sum(_Work(batch, compute, state, self._fitting(state), in_pairs))

    def side_by_side(self, batch: ShardedBatch, compute: Callable[[Any, Any], None], state: ShardState) -> None:
        """The same by ``compute(x, y)``, which is plain and may ask for sums over all shards, see `Lockstep`."""
        work = _Work(batch, lambda x, y, adds, listener: compute(x, y), state, self._fitting(state), in_pairs=False)
        self._sum(work, Lockstep(self.shards, self._ranks, batch.samples, state.model))

    def _fitting(self, state: ShardState) -> list[OnBackend]:
        """Copies of gradients that are free."""
        if self._spare and not _are_alike(self._spare[0], state.gradients):
            self._spare.clear()
        return self._spare

    def _sum(self, work: _Work, lockstep: Lockstep | None = None) -> None:
        state, batch = work.state, work.batch
        result: Sums | None
        try:
            if lockstep is not None:
                work.do_all(lockstep)
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

    def _exchanged(self, nodes: Sequence[Node], work: _Work, ranks: Ranks) -> Sums:
        """The sums of all processes. Few numbers go to all of them, gradients piece by piece to one that adds them.

        A process computes the last of its shards with everything at hand that it is added to, so that a piece of the
        gradients can leave as soon as that shard has it.
        """
        state, samples = work.state, work.batch.samples
        layout = self._layout(samples, ranks)
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
        averages = self._shared_averages(found, layout, state, ranks)
        few = {node: (_on_host(sums.figures), sums.counts, sums.passes) for node, sums in found.items()}
        self._spare += [found[node].gradients for node in complete if found[node].gradients is not state.gradients]
        every = {node: sums for own in ranks.gather_metrics(few) for node, sums in own.items()}
        host = {
            node: Sums([], _of_host(figures), [], counts, passes) for node, (figures, counts, passes) in every.items()
        }
        result = sum_of_nodes(host, self.shards, Sums.add)
        assert result is not None
        result.gradients = state.gradients
        result.figures = _like(state.figures, result.figures)
        result.averages = averages
        return result

    def _shared_averages(
        self, found: dict[Node, Sums], layout: Sequence[Sequence[Node]], state: ShardState, ranks: Ranks
    ) -> OnBackend:
        """The sums of running averages, which go the way of gradients, for there may be many."""
        if not state.buffers:
            return []
        host = backends.get("reference")
        flat = {
            node: np.concatenate([np.ravel(array) for array in _on_host(sums.averages)]) for node, sums in found.items()
        }
        ends = np.cumsum([buffer.size for buffer in state.buffers]).tolist()
        total = np.empty(ends[-1])
        ranks.sum_pieces(WholeArray(host, flat, total, ranks.piece_bytes([host])), layout, self.shards)
        return [
            (buffer.backend, buffer.backend.asarray(part.reshape(buffer.shape)))
            for buffer, part in zip(state.buffers, np.split(total, ends[:-1]), strict=True)
        ]

    def _layout(self, samples: int, ranks: Ranks) -> list[list[Node]]:
        """The nodes that each process has of a batch of so many samples."""
        if samples not in self._layouts:
            if len(self._layouts) == MAX_LAYOUTS:
                self._layouts.clear()
            each = [own_shards(self.shards, rank, ranks.size) for rank in range(ranks.size)]
            self._layouts[samples] = [own_nodes(self.shards, own, samples) for own in each]
        return self._layouts[samples]

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
        self._latest: Sums | None = None
        self._done: dict[int, Sums] = {}
        self.is_done = False
        """Whether all shards have been computed."""

    def do_all(self, lockstep: Lockstep) -> None:
        """Compute all shards side by side, with gradients of their own."""
        works: dict[int, tuple[Callable[[], Sums], Attributes]] = {}
        for number in self._parts:
            own = self.state.attributes(self._copied(self.state.gradients) if works else None)
            works[number] = functools.partial(self._alone, number), own
        self._done = lockstep.run(works)
        self.is_done = True

    def _alone(self, number: int) -> Sums:
        x, y = self._parts[number]
        self.state.begin(number)
        self._compute(x, y, False, None)
        return self.state.end(_samples(x))

    def total(self, node: Node) -> Sums:
        """What the shards of a node come to."""
        total = add_up(node, self._shard, self.add, self._pair)
        assert total is not None
        return total

    def is_pair(self, left: int, right: int) -> bool:
        """Whether two shards are neighbours in the tree, of which one can be added to the other as it is computed."""
        return self._in_pairs and right == left + 1 and {left, right} <= self._parts.keys()

    def _pair(self, left: int, right: int) -> Sums | None:
        if not self.is_pair(left, right):
            return None
        self.begin(left)
        first = self.compute(left)
        self.begin(right, adds=True)
        self._latest = first.add_few(self.compute(right, adds=True))
        return first

    def _shard(self, number: int) -> Sums | None:
        if self.is_done:
            return self._done.pop(number, None)
        if number not in self._parts:
            return None
        self.begin(number)
        return self.compute(number)

    def begin(self, number: int, adds: bool = False) -> None:
        """Make room for the gradients of a shard, unless they are added to those of the latest."""
        if self._latest is not None and not adds:
            self._latest.gradients = self._copied(self._latest.gradients)
        self.state.begin(number)

    def compute(
        self, number: int, adds: bool = False, listener: Callable[[BackwardOrder, int], None] | None = None
    ) -> Sums:
        """What it comes to."""
        x, y = self._parts.pop(number)
        self._compute(x, y, adds, listener)
        self._latest = self.state.end(_samples(x))
        return self._latest

    def add(self, left: Sums, right: Sums) -> Sums:
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


def _samples(x: Any) -> int:
    first = x[0] if isinstance(x, tuple) else x
    return int(first.shape[0])


def _gradients_of(found: dict[Node, Sums]) -> dict[Node, OnBackend]:
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
