"""Flat arrays of all processes, added up in the order of a tree that does not depend on their number."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ..sharding import PIECE_BYTES, Addends, Node, sum_of_nodes

__all__ = ["OverMpi", "Parts", "Transport"]

IN_FLIGHT = 4
"""Pieces that are on their way at a time, so that one waits for the network while another one is added up."""

_T = TypeVar("_T")

_abandoned: list[_Pieces] = []
"""What somebody may still write into the memory of."""


class Waiting(Protocol):
    """`endings.Watch`."""

    def until(
        self, advance: Callable[[], bool], pause: Callable[[float], None], *, others_compute: Callable[[], bool]
    ) -> None:
        """Call ``advance`` until it is True, with pauses while nothing moves."""


class Transport(Protocol):
    """How arrays go from process to process."""

    @property
    def name(self) -> str:
        """As users know it."""

    @property
    def piece_bytes(self) -> int:
        """In pieces of how many bytes."""

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        """Write the sums of what the processes have by ``layout``: of each piece when it is ready in all of them."""


class Parts:
    """Who adds up what of a piece, by whatever way it comes.

    Each piece is cut into as many parts as there are processes. A process is sent one part of every node, adds them in
    the tree's order, and sends the sum to all: as few bytes as a ring sends, which adds in its own order.
    """

    def __init__(self, rank: int, size: int, layout: Sequence[Sequence[Node]], shards: int) -> None:
        self.rank, self.size = rank, size
        self.counts = [len(theirs) for theirs in layout]
        """How many arrays each process sends to each."""
        self._own = layout[rank]
        self._names = [node for theirs in layout for node in theirs]
        self._shards = shards

    def lengths(self, n: int) -> list[int]:
        """Of the parts of a piece (n,): those at the end may be shorter than the first.

        >>> Parts(0, 4, [[]] * 4, 8).lengths(9)
        [3, 3, 3, 0]
        """
        longest = -(-n // self.size)
        return [min(longest, max(0, n - longest * part)) for part in range(self.size)]

    def sent(self, nodes: dict[Node, Any], lengths: Sequence[int]) -> list[list[Any]]:
        """What goes to each process."""
        ends = [0, *accumulate(lengths)]
        return [[nodes[node][start:stop] for node in self._own] for start, stop in pairwise(ends)]

    def total(self, received: Iterable[_T], add: Callable[[_T, _T], _T]) -> _T:
        """The sum of what has come, in the order of the ranks that sent it."""
        total = sum_of_nodes(dict(zip(self._names, received, strict=True)), self._shards, add)
        assert total is not None
        return total


class OverMpi:
    """From host to host, over MPI: of each piece as soon as it is ready in all processes.

    Parts and sums go through a communicator each, in which every process has the same order of pieces.
    """

    name = "mpi"
    piece_bytes = PIECE_BYTES

    def __init__(self, communicators: tuple[Any, Any], waiting: Waiting) -> None:
        self._communicators = communicators
        self._waiting = waiting

    def sum_pieces(self, addends: Addends, layout: Sequence[Sequence[Node]], shards: int) -> None:
        rank, size = self._communicators[0].Get_rank(), self._communicators[0].Get_size()
        pieces = _Pieces(self._communicators, addends, Parts(rank, size, layout, shards))
        try:
            self._waiting.until(pieces.advance, pieces.pause, others_compute=pieces.are_awaited)
        except BaseException:
            _abandoned.append(pieces)
            raise


class _Sent(NamedTuple):
    """A piece on its way."""

    number: int
    lengths: list[int]
    """Of the parts."""
    request: Any
    array: Any
    """What is received, or given to all."""
    out: Any
    """Where the sums of all go."""


class _Pieces:
    """The pieces of one sum, in different states."""

    def __init__(self, communicators: tuple[Any, Any], addends: Addends, parts: Parts) -> None:
        self._for_parts, self._for_sums = communicators
        self._addends = addends
        self._parts = parts
        self._next = 0
        self._gathering: deque[_Sent] = deque()
        self._sharing: deque[_Sent] = deque()

    def advance(self) -> bool:
        """Do what can be done now; whether that was all."""
        addends = self._addends
        while self._next < addends.count and self._on_their_way < IN_FLIGHT and addends.is_ready(self._next):
            self._send_parts(self._next)
            self._next += 1
        while self._gathering and self._gathering[0].request.Test():
            self._send_sum(self._gathering.popleft())
        while self._sharing and self._sharing[0].request.Test():
            self._end(self._sharing.popleft())
        return self._next == addends.count and not self._on_their_way

    def pause(self, seconds: float) -> None:
        """Wait for what comes next."""
        if self._on_their_way:
            time.sleep(seconds)
        else:
            self._addends.wait(self._next, 0.05)

    def are_awaited(self) -> bool:
        """Whether the last piece is still being computed."""
        return self._next < self._addends.count and not self._addends.is_ready(self._addends.count - 1)

    @property
    def _on_their_way(self) -> int:
        return len(self._gathering) + len(self._sharing)

    def _send_parts(self, number: int) -> None:
        parts, backend, out = self._parts, self._addends.backend(number), self._addends.out(number)
        if not isinstance(out, np.ndarray):
            out = np.empty(out.shape, out.dtype)
        lengths = parts.lengths(out.size)
        own, mine = lengths[parts.rank], parts.counts[parts.rank]
        nodes = {node: backend.to_numpy(array) for node, array in self._addends.nodes(number).items()}
        arrays = [array for to_one in parts.sent(nodes, lengths) for array in to_one]
        sent = np.concatenate(arrays) if arrays else np.empty(0, out.dtype)
        received = np.empty((sum(parts.counts), own), out.dtype)
        request = self._for_parts.Ialltoallv(
            [sent, [length * mine for length in lengths]], [received, [own * count for count in parts.counts]]
        )
        self._gathering.append(_Sent(number, lengths, request, received, out))

    def _send_sum(self, piece: _Sent) -> None:
        total = self._parts.total(piece.array, _add)
        request = self._for_sums.Iallgatherv(total, [piece.out, piece.lengths])
        self._sharing.append(piece._replace(request=request, array=total))

    def _end(self, piece: _Sent) -> None:
        out = self._addends.out(piece.number)
        if not isinstance(out, np.ndarray):
            backend = self._addends.backend(piece.number)
            backend.assign(out, backend.asarray(piece.out))


def _add(left: Any, right: Any) -> Any:
    return np.add(left, right, out=left)
