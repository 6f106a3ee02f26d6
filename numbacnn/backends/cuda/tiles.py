"""Which tiles the product of ``gemm.py`` has, which one a problem takes, and how a long sum is split.

Sizes alone decide, so that the same sizes give the same bits on every device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .target import SIMULATED

__all__ = ["LONGEST_STEP", "Tile", "splits_of", "tile_of", "tiles"]

# Blocks that fill a large GPU, and the shortest part of a reduction that is worth a sum of its own.
FULL = 264
SHORTEST_PART = 256
# The largest bk of a tile.
LONGEST_STEP = 16


class Tile(NamedTuple):
    """The sizes of a block's tile and of a thread's part of it."""

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int

    @property
    def threads(self) -> int:
        return (self.bm // self.tm) * (self.bn // self.tn)


def tiles(dtype: np.dtype[Any]) -> tuple[Tile, ...]:
    """The tiles there are, the largest first."""
    if SIMULATED:
        return (Tile(16, 4, 4, 8, 2),)
    small = (Tile(64, 64, 16, 4, 4), Tile(16, 128, 16, 2, 4), Tile(32, 32, 16, 2, 2))
    return small if dtype.itemsize == 8 else (Tile(128, 128, 8, 8, 8), *small)


def tile_of(m: int, n: int, batch: int, dtype: np.dtype[Any]) -> Tile:
    """The tile that should be fastest: little of it empty, enough blocks, and much arithmetic for each load."""

    def worth(tile: Tile) -> float:
        across, down = -(-m // tile.bm), -(-n // tile.bn)
        used = m * n / (across * tile.bm * down * tile.bn)
        return used * min(1.0, across * down * batch / FULL) * (tile.tm * tile.tn / (tile.tm + tile.tn)) ** 0.5

    return max(tiles(dtype), key=worth)


def splits_of(m: int, n: int, k: int, batch: int, tile: Tile) -> tuple[int, int]:
    """Into how many parts a long reduction falls, and how long each is: a multiple of 64."""
    blocks = -(-m // tile.bm) * -(-n // tile.bn) * batch
    most = max(1, min(FULL // blocks, k // SHORTEST_PART))
    part = 64 * -(-k // (64 * most))
    return max(1, -(-k // part)) if k else 1, part
