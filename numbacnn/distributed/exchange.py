"""Flat arrays of all processes, added up in the order of a tree that does not depend on their number."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..sharding import PIECE_BYTES, Addends, Node, sum_of_nodes

__all__ = ["IN_FLIGHT", "WholeArray", "sum_pieces"]

IN_FLIGHT = 4
"""Pieces that are on their way at a time, so that one waits for the network while another one is added up."""

_abandoned: list[_Pieces] = []
"""What somebody may still write into the memory of."""


class Waiting(Protocol):
    """`endings.Watch`."""

    def until(self, advance: Callable[[], bool], pause: Callable[[float], None] = ...) -> None:
        """Call ``advance`` until it is True, with pauses while nothing moves."""


def sum_pieces(
    communicators: tuple[Any, Any], waiting: Waiting, addends: Addends, layout: Sequence[Sequence[Node]], shards: int
) -> None:
    """Write the sums of what the processes have by ``layout``: of each piece as soon as it is ready in all of them.

    Each piece is cut into as many parts as there are processes. A process is sent one part of every node, adds them in
    the tree's order, and sends the sum to all: as few bytes as a ring sends, which adds in its own order. Parts and
    sums go through a communicator each, in which every process has the same order of pieces.
    """
    pieces = _Pieces(communicators, addends, layout, shards)
    try:
        waiting.until(pieces.advance, pieces.pause)
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


class _Pieces:
    """The pieces of one sum, in different states."""

    def __init__(
        self, communicators: tuple[Any, Any], addends: Addends, layout: Sequence[Sequence[Node]], shards: int
    ) -> None:
        self._parts, self._sums = communicators
        self._addends = addends
        self._layout = layout
        self._names = [node for theirs in layout for node in theirs]
        self._shards = shards
        self._rank, self._size = self._parts.Get_rank(), self._parts.Get_size()
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
            addends.end(self._sharing.popleft().number)
        return self._next == addends.count and not self._on_their_way

    def pause(self, seconds: float) -> None:
        """Wait for what comes next."""
        if self._on_their_way:
            time.sleep(seconds)
        else:
            self._addends.wait(self._next, 0.05)

    @property
    def _on_their_way(self) -> int:
        return len(self._gathering) + len(self._sharing)

    def _send_parts(self, number: int) -> None:
        out = self._addends.out(number)
        bounds = [out.size * part // self._size for part in range(self._size + 1)]
        lengths = [stop - start for start, stop in pairwise(bounds)]
        own, mine = lengths[self._rank], self._layout[self._rank]
        nodes = self._addends.nodes(number)
        parts = [nodes[node][start:stop] for start, stop in pairwise(bounds) for node in mine]
        sent = np.concatenate(parts) if parts else np.empty(0, out.dtype)
        received = np.empty(len(self._names) * own, out.dtype)
        request = self._parts.Ialltoallv(
            [sent, [length * len(mine) for length in lengths]],
            [received, [own * len(theirs) for theirs in self._layout]],
        )
        self._gathering.append(_Sent(number, lengths, request, received))

    def _send_sum(self, piece: _Sent) -> None:
        own = piece.lengths[self._rank]
        found = dict(zip(self._names, piece.array.reshape(len(self._names), own), strict=True))
        total = sum_of_nodes(found, self._shards, _add)
        request = self._sums.Iallgatherv(total, [self._addends.out(piece.number), piece.lengths])
        self._sharing.append(piece._replace(request=request, array=total))


class WholeArray:
    """A flat array of which everything is there, as `Addends`."""

    def __init__(self, nodes: dict[Node, Any], out: Any) -> None:
        self._nodes = nodes
        self._out = out
        size = max(1, PIECE_BYTES // out.itemsize)
        self._places = [slice(start, min(start + size, out.size)) for start in range(0, out.size, size)]

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self._places)

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

    def end(self, number: int) -> None:
        """Nothing is left to do."""


def _add(left: Any, right: Any) -> Any:
    return np.add(left, right, out=left)
