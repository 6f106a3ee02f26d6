"""What the pieces of an algorithm cost, in cycles: a vector of multiply-adds by the best tile is 1.

Plans are chosen by these numbers, and Winograd's algorithm where it promises less. ``python -m bench.calibrate`` fits
them to convolutions drawn at random on the machine at hand, and with ``--write`` writes them here. What is chosen
decides in which order sums are formed: another table may give other last bits.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DIRECT_DATA", "DIRECT_WEIGHT", "TILE_RATES", "WINOGRAD_DATA", "WINOGRAD_WEIGHT"]


class DirectData(NamedTuple):
    """Of ``direct_data.py``."""

    chunk: float
    """Beginning one."""
    tile: float
    """Beginning one."""
    storing: float
    """A vector of a tile's sums."""
    laying: float
    """An element of a band."""
    packing: float
    """A weight."""
    from_l2: float
    """A vector of packed weights on its way into the core, which the second cache holds ..."""
    from_far: float
    """... or does not."""
    transposing: float
    """Where positions lie along the vectors: an element of a band, with laying it."""
    storing_transposed: float
    """A vector of sums, which is stored, activated and read again."""
    transposing_back: float
    """A block of sums, however few of its numbers there are."""


class DirectWeight(NamedTuple):
    """Of ``direct_weight.py``."""

    multiplying: float
    """A vector of multiply-adds."""
    straddling: float
    """One whose vectors begin anywhere in a line of the cache."""
    dotting: float
    """One of the tile of positions."""
    transposing: float
    """An element of a band, there."""
    finishing: float
    """A vector of a part's sums, on its way to memory and back."""


class WinogradData(NamedTuple):
    """Of ``winograd_data.py``."""

    multiplying: float
    """A vector of multiply-adds, where sums are short."""
    transforming: float
    """A vector of a transformed tile, for each of the tile's rows."""
    storing: float
    """A vector of outputs."""
    packing: float
    """A weight."""
    looking: float
    """The magnitudes of an image's numbers."""
    from_l2: float
    """A vector of transformed weights, as above."""
    from_far: float


class WinogradWeight(NamedTuple):
    """Of ``winograd_weight.py``."""

    multiplying: float
    """A vector of multiply-adds."""
    transforming: float
    """A vector of a transformed tile, for each of the tile's rows."""
    adding: float
    """A vector of sums to another, once for each band."""
    finishing: float
    """A vector of a part's sums."""


# The table that is written.
TILE_RATES = (0.5, 0.84, 0.98, 0.98, 0.98, 0.93, 0.87)
"""Multiply-adds a cycle of the tiles of 1, 2, ... vectors."""
DIRECT_DATA = DirectData(
    chunk=700.0,
    tile=80.0,
    storing=6.5,
    laying=0.5,
    packing=0.5,
    from_l2=0.3,
    from_far=1.6,
    transposing=1.8,
    storing_transposed=18.0,
    transposing_back=100.0,
)
DIRECT_WEIGHT = DirectWeight(multiplying=1.3, straddling=1.755, dotting=2.167, transposing=0.78, finishing=90.0)
WINOGRAD_DATA = WinogradData(
    multiplying=1.3, transforming=1.4, storing=15.0, packing=0.5, looking=3000.0, from_l2=0.5, from_far=3.5
)
WINOGRAD_WEIGHT = WinogradWeight(multiplying=1.4, transforming=2.0, adding=8.0, finishing=110.0)
