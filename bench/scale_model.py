"""How long a step takes that several ranks share: computation, exchange by latency and bandwidth, and what overlaps.

The ranks compute the same number of shards, and exchange gradients in pieces, some at a time, each by an Alltoallv,
after which each rank adds up its part, and an Allgatherv. Figures go to all ranks afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from numbacnn.distributed.exchange import IN_FLIGHT
from numbacnn.distributed.group import SHORT_BYTES

__all__ = ["BOUNDS", "Computation", "Link", "Prediction", "cut_rounds", "fit", "gather_rounds", "pieces", "predict"]

BOUNDS = ("computation", "processor", "bandwidth", "latency", "figures")
"""What most of a step is that is not the rank's own computation: the exchange's work of the processor, waiting for
bytes or for messages that nothing hides, and the sums of figures; the first where all is little.
"""
LITTLE = 0.05
"""Of the rank's own computation."""
AT_ONCE = 32
"""Messages of a rank that MPICH's Alltoallv has on their way."""
LONG = 512 << 10
"""Bytes from which on its Allgatherv passes what there is round a ring; below it twice as much goes in each round."""
PHASES = 2
"""Collectives of a piece of gradients."""


class Link(NamedTuple):
    """What joins two ranks. Work of the processor cannot be hidden behind other work of it, waiting can."""

    overhead: float
    """Seconds that a collective takes beside what follows: to begin it, and to notice that it is done."""
    latency: float
    """Seconds from the sending of a message to its arrival."""
    waiting: float
    """Seconds for each byte that a rank sends, in which its processor is free."""
    working: float
    """Seconds for each byte that a rank sends, of its processor."""


class Computation(NamedTuple):
    """What a rank does alone, in seconds, and how much it has to exchange."""

    seconds: float
    """Of a step without exchange."""
    update: float
    """Of which come after the backward pass."""
    backward: tuple[float, ...]
    """Of the layers that have parameters, from the last one on, with what follows each: those of the last shard."""
    gradients: tuple[int, ...]
    """Bytes of their gradients."""
    packing: float = 0.0
    """Seconds to copy and add a byte of gradients."""
    figures: float = 0.0
    """Seconds to take in those of one rank: losses, and what metrics count."""
    figure_bytes: int = 0
    """Bytes of these."""


class Prediction(NamedTuple):
    """The seconds of a step, and one of BOUNDS."""

    seconds: float
    bound: str


def cut_rounds(ranks: int) -> int:
    """How many messages follow each other in an Alltoallv.

    >>> [cut_rounds(ranks) for ranks in (1, 2, 33, 64)]
    [0, 1, 1, 2]
    """
    return math.ceil((ranks - 1) / AT_ONCE)


def gather_rounds(ranks: int, size: int) -> int:
    """How many messages follow each other in an Allgatherv of so many bytes in all.

    >>> [gather_rounds(64, size) for size in (LONG - 1, LONG)]
    [6, 63]
    """
    return ranks - 1 if size >= LONG else math.ceil(math.log2(ranks))


def pieces(computation: Computation, piece: int) -> list[tuple[float, int]]:
    """When each piece of gradients is ready, in seconds before the end of the backward pass, and how long it is.

    They are cut from the last layer on; a piece is ready with the last of its layers.
    """
    left, found, held = math.fsum(computation.backward), [], 0
    for seconds, size in zip(computation.backward, computation.gradients, strict=True):
        left -= seconds
        held += size
        while held >= piece:
            found.append((max(left, 0.0), piece))
            held -= piece
    return [*found, (0.0, held)] if held else found


def predict(computation: Computation, link: Link, ranks: int, piece: int, overlapped: bool) -> Prediction:
    """A step of one of so many ranks, each with a shard or more; ``piece`` is in bytes.

    The link carries a piece after the other, and each as soon as it is ready where exchange and computation overlap.
    """
    backward_end = computation.seconds - computation.update
    if ranks == 1:
        return Prediction(computation.seconds, "computation")
    share = 2 * (ranks - 1) / ranks
    waited, free, ends = {"bandwidth": 0.0, "latency": 0.0}, 0.0, [backward_end]
    for number, (before_end, size) in enumerate(pieces(computation, piece)):
        by_messages = PHASES * link.overhead + (cut_rounds(ranks) + gather_rounds(ranks, size)) * link.latency
        begin = backward_end - before_end if overlapped else backward_end
        if number >= IN_FLIGHT:
            begin = max(begin, ends[-IN_FLIGHT])
        free = max(free, begin) + share * size * link.waiting
        ends.append(free + by_messages)
        waited["bandwidth"] += share * size * link.waiting
        waited["latency"] += by_messages / IN_FLIGHT
    size = sum(computation.gradients)
    worked = size * (computation.packing + share * link.working)
    # Work and waiting of the exchange take turns after the backward pass, and do not have to before its end.
    seen = max(0.0, ends[-1] - backward_end - (worked if overlapped else 0.0))
    figures = ranks * computation.figures
    for length in (SHORT_BYTES, *([computation.figure_bytes] if computation.figure_bytes > SHORT_BYTES else [])):
        figures += link.overhead + gather_rounds(ranks, ranks * length) * link.latency
        figures += (ranks - 1) * length * (link.waiting + link.working)
    lost = {name: seen * part / (math.fsum(waited.values()) or 1.0) for name, part in waited.items()}
    lost |= {"processor": worked, "figures": figures}
    most = max(lost, key=lost.__getitem__)
    is_little = math.fsum(lost.values()) < LITTLE * computation.seconds
    return Prediction(computation.seconds + worked + seen + figures, "computation" if is_little else most)


def fit(sizes: Sequence[int], seconds: Sequence[float], ranks: int = 2) -> tuple[float, float]:
    """Seconds of a collective of the exchange of an array, and of each byte that a rank sends, by least squares.

    Pieces of an array are on their way together, so that it is one collective of each kind that nothing hides.
    Differences count in relation to the times; neither is below 0.
    """
    share = 2 * (ranks - 1) / ranks
    rows = [(PHASES / taken, share * size / taken) for size, taken in zip(sizes, seconds, strict=True)]
    aa, ab, bb = (math.fsum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = (math.fsum(row[i] for row in rows) for i in (0, 1))
    determinant = aa * bb - ab * ab
    if determinant > 1e-12 * aa * bb:
        phase, byte = (a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant
        if phase >= 0 and byte >= 0:
            return phase, byte
    alone = {(a / aa, 0.0): a * a / aa, (0.0, b / bb): b * b / bb}  # what each explains alone
    return max(alone, key=alone.__getitem__)
