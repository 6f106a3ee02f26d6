"""Flat arrays of all processes, added up in the order of a tree that does not depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..sharding import Node, sum_of_nodes

__all__ = ["PIECE_BYTES", "sum_nodes"]

PIECE_BYTES = 4 << 20
"""Of each array, that are on their way at a time."""


def sum_nodes(
    communicator: Any,
    wait: Callable[[Any], None],
    nodes: dict[Node, Any],
    layout: Sequence[Sequence[Node]],
    shards: int,
    out: Any,
) -> None:
    """Write into ``out`` (n,) the sum of the nodes that the processes have by ``layout``; ``nodes`` are those here.

    Each piece of the arrays is cut into as many parts as there are processes. A process is sent one part of every node,
    adds them in the tree's order, and sends the sum to all: as few bytes as a ring sends, which adds in its own order.
    """
    rank, size = communicator.Get_rank(), communicator.Get_size()
    piece = PIECE_BYTES // out.itemsize
    for begin in range(0, out.size, piece):
        end = min(begin + piece, out.size)
        bounds = [begin + (end - begin) * part // size for part in range(size + 1)]
        lengths = [stop - start for start, stop in pairwise(bounds)]
        own = lengths[rank]
        parts = [nodes[node][bounds[to] : bounds[to + 1]] for to in range(size) for node in layout[rank]]
        sent = np.concatenate(parts) if parts else np.empty(0, out.dtype)
        received = np.empty(sum(map(len, layout)) * own, out.dtype)
        wait(
            communicator.Ialltoallv(
                [sent, [length * len(layout[rank]) for length in lengths]],
                [received, [own * len(theirs) for theirs in layout]],
            )
        )
        names = [node for theirs in layout for node in theirs]
        found = dict(zip(names, received.reshape(len(names), own), strict=True))
        total = sum_of_nodes(found, shards, _add)
        wait(communicator.Iallgatherv(total, [out[begin:end], lengths]))


def _add(left: Any, right: Any) -> Any:
    return np.add(left, right, out=left)
