"""Batches that are cut into shards: where the cuts are, which process has which, and in what order sums are formed.

All of it follows from the numbers of samples, shards and processes, so that no process has to ask another. Sums are
formed along one binary tree over the shards. A node (start, stop) is the sum of the shards start..stop - 1, and that of
several shards is the sum of its left half, of the largest power of two that is less than all of them, and the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

__all__ = [
    "DEFAULT_SHARDS",
    "MAX_SHARDS",
    "PIECE_BYTES",
    "RANKS_AT_FIRST",
    "Addends",
    "Alone",
    "Node",
    "Ranks",
    "ShardedBatch",
    "WholeArray",
    "add_up",
    "ahead_of_last",
    "default_shards",
    "own_nodes",
    "own_shards",
    "shard_of",
    "sum_of_nodes",
]

DEFAULT_SHARDS = 8
"""Of a batch that several processes share."""
MAX_SHARDS = 1 << 16
PIECE_BYTES = 1 << 20
"""Of an array that is summed over all processes piece by piece."""
RANKS_AT_FIRST = "NUMBACNN_RANKS"
"""The environment variable by which `numbacnn.distributed.run` tells with how many processes a program began."""

Node = tuple[int, int]
_T = TypeVar("_T")


class ShardedBatch(NamedTuple):
    """What one process has of a batch."""

    samples: int
    """Of the whole batch."""
    shards: int
    """Into which it is cut."""
    parts: list[tuple[int, Any, Any]]
    """The number of each shard that is this process's and has samples, its inputs and its targets."""


class Addends(Protocol):
    """What processes sum up: flat arrays, in pieces that are ready one after another, in one order in all."""

    @property
    def count(self) -> int:
        """How many pieces there are."""

    def backend(self, number: int) -> Any:
        """That of the arrays of a piece."""

    def is_ready(self, number: int) -> bool:
        """Whether this process has its part of a piece, as of those before it."""

    def wait(self, number: int, seconds: float) -> None:
        """Until a piece is ready, or as long as that."""

    def nodes(self, number: int) -> dict[Node, Any]:
        """The sums (n,) that this process has of a piece; asked once, in order."""

    def out(self, number: int) -> Any:
        """Where the sum (n,) over all goes, which may be one of those that were there."""


class WholeArray:
    """A flat array of a backend, of which everything is there, as `Addends`."""

    def __init__(self, backend: Any, nodes: dict[Node, Any], out: Any, piece_bytes: int) -> None:
        self._backend = backend
        self._nodes = nodes
        self._out = out
        size = max(1, piece_bytes // out.dtype.itemsize)
        self._places = [slice(start, min(start + size, out.size)) for start in range(0, out.size, size)]

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self._places)

    def backend(self, number: int) -> Any:
        """That of the array."""
        return self._backend

    def is_ready(self, number: int) -> bool:
        """True."""
        return True

    def wait(self, number: int, seconds: float) -> None:
        """Not at all."""

    def nodes(self, number: int) -> dict[Node, Any]:
        """The sums that this process has of a piece."""
        return {node: array[self._places[number]] for node, array in self._nodes.items()}

    def out(self, number: int) -> Any:
        """Where the sum goes."""
        return self._out[self._places[number]]


class Ranks(Protocol):
    """The processes that share the work: what training asks of a `numbacnn.distributed.Group`."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def overlap(self) -> bool:
        """Whether pieces of gradients are summed as soon as they are ready, by a thread of their own."""

    def broadcast(self, value: Any) -> Any:
        """The value of the first process."""

    def gather_metrics(self, value: Any) -> list[Any]:
        """The values of all processes, in their order."""

    def piece_bytes(self, backends: Iterable[Any]) -> int:
        """In pieces of how many bytes arrays of these backends are summed; all processes ask together."""

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """Write the sums of all shards, of which ``layout`` says what nodes each process has."""


class Alone:
    """A process by itself, as `Ranks`."""

    rank = 0
    size = 1
    overlap = False

    def broadcast(self, value: Any) -> Any:
        """``value``."""
        return value

    def gather_metrics(self, value: Any) -> list[Any]:
        """``value`` alone."""
        return [value]

    def piece_bytes(self, backends: Iterable[Any]) -> int:
        """1 MiB."""
        return PIECE_BYTES

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """Write the sums of all shards, all of which are here."""
        for number in range(addends.count):
            while not addends.is_ready(number):
                addends.wait(number, 1.0)
            backend = addends.backend(number)
            total = sum_of_nodes(addends.nodes(number), shards, lambda *both: backend.add(both))  # noqa: B023
            backend.assign(addends.out(number), total)


def shard_of(samples: int, shards: int, number: int) -> slice:
    """The samples of a shard, of a batch of so many: as many in each, or one more; none in some of a small batch.

    >>> [shard_of(10, 4, number) for number in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(number * samples // shards, (number + 1) * samples // shards)


def default_shards(size: int) -> int | None:
    """The number of shards where none is given and there are so many processes; None for batches that stay whole.

    A program that is started again with one process, of several that it had, cuts batches as it did.
    """
    began_with = os.environ.get(RANKS_AT_FIRST, "")
    several = size > 1 or (began_with.isdecimal() and int(began_with) > 1)
    return DEFAULT_SHARDS if several else None


def own_shards(shards: int, rank: int, size: int) -> range:
    """The shards of a process, one after another.

    >>> [own_shards(8, rank, 3) for rank in range(3)]
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    return range(rank * shards // size, (rank + 1) * shards // size)


def own_nodes(shards: int, own: range, samples: int) -> list[Node]:
    """The nodes that a process can form of its shards, as few as possible, without those that have no samples.

    >>> own_nodes(8, range(2, 5), samples=8)
    [(2, 4), (4, 5)]
    """

    def within(start: int, stop: int) -> list[Node]:
        if stop <= own.start or start >= own.stop or _first(start, shards, samples) == _first(stop, shards, samples):
            return []
        if own.start <= start and stop <= own.stop:
            return [(start, stop)]
        middle = _middle(start, stop)
        return within(start, middle) + within(middle, stop)

    return within(0, shards)


def add_up(
    node: Node,
    shard: Callable[[int], _T | None],
    add: Callable[[_T, _T], _T],
    pair: Callable[[int, int], _T | None] = lambda left, right: None,
) -> _T | None:
    """The sum of a node, of ``shard(number)`` of each shard in turn; None where there is none of any.

    ``add`` is given the sums of a left and a right half, the former of which was made before any of the latter.
    ``pair`` may make that of two shards at once.
    """
    start, stop = node
    if stop - start == 1:
        return shard(start)
    if stop - start == 2 and (both := pair(start, start + 1)) is not None:
        return both
    middle = _middle(start, stop)
    left = add_up((start, middle), shard, add, pair)
    right = add_up((middle, stop), shard, add, pair)
    return right if left is None else left if right is None else add(left, right)


def ahead_of_last(node: Node) -> tuple[list[Node], int]:
    """The nodes that the last shard of a node is added to, the largest first, and the number of that shard.

    >>> ahead_of_last((0, 8))
    ([(0, 4), (4, 6), (6, 7)], 7)
    """
    start, stop = node
    ahead = []
    while stop - start > 1:
        middle = _middle(start, stop)
        ahead.append((start, middle))
        start = middle
    return ahead, start


def sum_of_nodes(found: dict[Node, _T], shards: int, add: Callable[[_T, _T], _T]) -> _T | None:
    """The sum of all shards, of nodes that have all of them; None where there are no nodes.

    >>> sum_of_nodes({(0, 2): "ab", (2, 3): "c"}, 3, lambda left, right: f"({left} + {right})")
    '(ab + c)'
    """

    def total(node: Node) -> _T | None:
        start, stop = node
        if node in found or stop - start == 1:
            return found.get(node)
        middle = _middle(start, stop)
        left, right = total((start, middle)), total((middle, stop))
        return right if left is None else left if right is None else add(left, right)

    return total((0, shards))


def _first(number: int, shards: int, samples: int) -> int:
    """The first sample of a shard."""
    return number * samples // shards


def _middle(start: int, stop: int) -> int:
    return start + (1 << (stop - start - 1).bit_length() - 1)
