"""Batches that are cut into shards: where the cuts are, which process has which, and in what order sums are formed.

All of it follows from the numbers of samples, shards and processes, so that no process has to ask another. Sums are
formed along one binary tree over the shards. A node (start, stop) is the sum of the shards start..stop - 1, and that of
several shards is the sum of its left half, of the largest power of two that is less than all of them, and the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

__all__ = [
    "DEFAULT_SHARDS",
    "MAX_SHARDS",
    "RANKS_AT_FIRST",
    "Alone",
    "Node",
    "Ranks",
    "ShardedBatch",
    "add_up",
    "default_shards",
    "own_nodes",
    "own_shards",
    "shard_of",
    "sum_of_nodes",
]

DEFAULT_SHARDS = 8
"""Of a batch that several processes share."""
MAX_SHARDS = 1 << 16
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


class Ranks(Protocol):
    """The processes that share the work: what training asks of a `numbacnn.distributed.Group`."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def broadcast(self, value: Any) -> Any:
        """The value of the first process."""

    def gather_metrics(self, value: Any) -> list[Any]:
        """The values of all processes, in their order."""

    def sum_nodes(
        self, backend: Any, nodes: dict[Node, Any], layout: Sequence[Sequence[Node]], shards: int, out: Any
    ) -> None:
        """Write into ``out`` the sum of all shards, of the flat arrays that processes have of the nodes ``layout``."""


class Alone:
    """A process by itself, as `Ranks`."""

    rank = 0
    size = 1

    def broadcast(self, value: Any) -> Any:
        """``value``."""
        return value

    def gather_metrics(self, value: Any) -> list[Any]:
        """``value`` alone."""
        return [value]

    def sum_nodes(
        self, backend: Any, nodes: dict[Node, Any], layout: Sequence[Sequence[Node]], shards: int, out: Any
    ) -> None:
        """Write into ``out`` the sum of all shards, all of which are here."""
        backend.assign(out, sum_of_nodes(nodes, shards, lambda left, right: backend.add([left, right])))


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


def add_up(node: Node, shard: Callable[[int], _T | None], add: Callable[[_T, _T], _T]) -> _T | None:
    """The sum of a node, of ``shard(number)`` of each shard in turn; None where there is none of any.

    ``add`` is given the sums of a left and a right half, the former of which was made before any of the latter.
    """
    start, stop = node
    if stop - start == 1:
        return shard(start)
    middle = _middle(start, stop)
    left = add_up((start, middle), shard, add)
    right = add_up((middle, stop), shard, add)
    return right if left is None else left if right is None else add(left, right)


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
