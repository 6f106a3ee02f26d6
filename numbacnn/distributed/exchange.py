"""Flat arrays of all processes, added up in the order of a tree that does not depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ..sharding import Node, sum_of_nodes

__all__ = ["OverMpi", "Transport", "pieces", "sum_nodes", "sum_piece"]

PIECE_BYTES = 4 << 20
"""Of each array on the host, that are on their way at a time."""


class Transport(Protocol):
    """How parts of arrays go from process to process; all of them ask for the same, in the same order."""

    @property
    def name(self) -> str:
        """As users know it."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def piece_bytes(self) -> int:
        """Of each array, that are on their way at a time."""

    def all_to_all(self, sent: list[list[Any]], lengths: list[int], counts: list[int], dtype: Any) -> list[Any]:
        """Send ``sent[r]``, arrays of length ``lengths[r]``, to process r; those that come, ``counts[r]`` from r."""

    def add(self, left: Any, right: Any) -> Any:
        """The sum, in the memory of ``left``."""

    def all_gather(self, part: Any, lengths: list[int], out: Any) -> None:
        """Write into ``out``, one after the other, the parts of all processes; the last ones may be shorter."""

    def finish(self) -> None:
        """Wait until all that was asked for is done."""


def sum_nodes(
    transport: Transport, nodes: dict[Node, Any], layout: Sequence[Sequence[Node]], shards: int, out: Any
) -> None:
    """Write into ``out`` (n,) the sum of the nodes that the processes have by ``layout``; ``nodes`` are those here."""
    for piece in pieces(out.size, transport.piece_bytes // out.dtype.itemsize):
        parts = {node: array[piece] for node, array in nodes.items()}
        sum_piece(transport, parts, layout, shards, out[piece])
    transport.finish()


def pieces(size: int, most: int) -> Iterator[slice]:
    """Those of an array that are exchanged one after the other.

    >>> [*pieces(10, 4)]
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    return (slice(begin, min(begin + most, size)) for begin in range(0, size, most))


def sum_piece(
    transport: Transport, nodes: dict[Node, Any], layout: Sequence[Sequence[Node]], shards: int, out: Any
) -> None:
    """The same of a piece, which is cut into as many parts as there are processes.

    A process is sent one part of every node, adds them in the tree's order, and sends the sum to all: as few bytes as a
    ring sends, which adds in its own order.
    """
    longest = -(-out.size // transport.size)
    bounds = [min(part * longest, out.size) for part in range(transport.size + 1)]
    sent = [[nodes[node][start:stop] for node in layout[transport.rank]] for start, stop in pairwise(bounds)]
    lengths = [stop - start for start, stop in pairwise(bounds)]
    received = transport.all_to_all(sent, lengths, [len(theirs) for theirs in layout], out.dtype)
    names = [node for theirs in layout for node in theirs]
    total = sum_of_nodes(dict(zip(names, received, strict=True)), shards, transport.add)
    transport.all_gather(total, lengths, out)


class OverMpi:
    """NumPy's arrays, over MPI."""

    name = "mpi"
    piece_bytes = PIECE_BYTES

    def __init__(self, communicator: Any, wait: Callable[[Any], None]) -> None:
        self._communicator = communicator
        self._wait = wait
        self.rank: int = communicator.Get_rank()
        self.size: int = communicator.Get_size()

    def all_to_all(self, sent: list[list[Any]], lengths: list[int], counts: list[int], dtype: Any) -> list[Any]:
        own, number = lengths[self.rank], counts[self.rank]
        parts = [part for parts in sent for part in parts]
        together = np.concatenate(parts) if parts else np.empty(0, dtype)
        received = np.empty((sum(counts), own), dtype)
        self._wait(
            self._communicator.Ialltoallv(
                [together, [length * number for length in lengths]], [received, [own * count for count in counts]]
            )
        )
        return [*received]

    @staticmethod
    def add(left: Any, right: Any) -> Any:
        return np.add(left, right, out=left)

    def all_gather(self, part: Any, lengths: list[int], out: Any) -> None:
        self._wait(self._communicator.Iallgatherv(part, [out, lengths]))

    def finish(self) -> None:
        """Nothing is left to wait for."""
