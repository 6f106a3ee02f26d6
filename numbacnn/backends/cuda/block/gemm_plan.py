"""Which tiles the products of ``gemm.py`` and ``tensor_gemm.py`` have, which one a problem takes, in how many parts.

Sizes alone decide, so that the same sizes give the same bits on every device.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ... import precision
from ..runtime import device_array
from ..runtime.target import SIMULATED
from .fragments import BK, LANES

__all__ = ["LONGEST_STEP", "Plan", "Tile", "WarpTile", "operands_of", "plan_of", "tiles"]

# The device that plans are made for: an H200's multiprocessors, and what its memory moves in a microsecond.
MULTIPROCESSORS = 132
BYTES_PER_MICROSECOND = 3e6
# Microseconds until the first block of a kernel computes, and the end of its last one.
LAUNCH = 0.0 if SIMULATED else 3.0
# The shortest part of a reduction that is worth a sum of its own, what parts are multiples of, and the most of them.
SHORTEST_PART, PART_GRAIN, MAX_PARTS = (32, 16, 4) if SIMULATED else (128, 64, 1024)
PART_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
# The largest bk of a tile.
LONGEST_STEP = 32


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


class WarpTile(NamedTuple):
    """The sizes of a block's tile and of a warp's part of it, and how many tiles are in shared memory."""

    bm: int
    bn: int
    wm: int
    wn: int
    stages: int

    @property
    def threads(self) -> int:
        return LANES * (self.bm // self.wm) * (self.bn // self.wn)

    @property
    def shared_bytes(self) -> int:
        return 4 * self.stages * BK * (self.bm + self.bn)


class Plan(NamedTuple):
    """A tile, into how many parts the reduction falls, and how long each of them is."""

    tile: Tile | WarpTile
    splits: int
    part: int


# Multiply-adds that a multiprocessor does in a nanosecond while 1, 2, ... blocks share it: measured on an H200 with
# replays of a 3x3 convolution of 256 channels that gave each multiprocessor so many blocks.
RATES = {
    Tile(128, 128, 16, 8, 8): (113.0, 131.0),
    Tile(128, 64, 8, 8, 8): (66.0, 96.0, 112.0),
    Tile(64, 128, 8, 8, 8): (64.0, 84.0, 98.0),
    Tile(64, 64, 8, 8, 8): (32.0, 64.0, 72.0, 84.0, 92.0),
    Tile(64, 64, 16, 4, 4): (57.0, 77.0, 80.0),
    Tile(32, 64, 16, 4, 4): (35.0, 56.0, 69.0),
    Tile(16, 128, 16, 4, 4): (29.0, 43.0, 50.0),
    Tile(8, 128, 16, 2, 4): (17.6, 28.5, 29.5),
    Tile(32, 32, 32, 2, 2): (30.0, 39.0, 41.0),
    Tile(16, 32, 16, 2, 2): (12.0, 21.0, 29.0, 30.0),
    Tile(8, 32, 16, 2, 2): (6.0, 11.5, 16.6, 20.0, 22.0, 24.0),
}
SIMULATED_TILE = Tile(16, 4, 4, 8, 2)
# Whose sums in float64 leave a thread enough registers.
MAX_SUMS = {4: 64, 8: 16}
# The same on tensor cores, as bench.cuda_forecast predicts it for TF32 from machine code, at 1.7 GHz, and a guess where
# a block is alone; none of it has been measured. Tiles in shared memory are 48 KB at most, so that no kernel has to ask
# the driver for more.
WARP_RATES = {
    WarpTile(128, 128, 64, 64, 3): (500.0, 900.0),
    WarpTile(64, 128, 64, 32, 4): (300.0, 550.0),
    WarpTile(64, 64, 32, 32, 4): (150.0, 280.0, 425.0),
    WarpTile(32, 128, 32, 32, 4): (120.0, 220.0, 325.0),
    WarpTile(16, 128, 16, 32, 4): (70.0, 120.0, 173.0),
}
SIMULATED_WARP_TILE = WarpTile(32, 32, 16, 16, 3)
MAX_OF_WARP_X3 = 32 * 32
# The least rows and columns of C for which tensor cores, whose matrices are 16 x 8, are worth their rounding.
FEWEST_ROWS = 16
OLDEST_CAPABILITY = (8, 0)


def operands_of(m: int, n: int, dtype: np.dtype[Any]) -> str:
    """What is multiplied for an m x n result of ``dtype``: ``"float32"``, or what ``numbacnn.precision`` asks for."""
    asked = precision.in_force().operands
    if asked == "float32" or dtype.itemsize != 4 or min(m, n) < FEWEST_ROWS:
        return "float32"
    return asked if SIMULATED or device_array.device().capability >= OLDEST_CAPABILITY else "float32"


def tiles(dtype: np.dtype[Any], operands: str = "float32") -> tuple[Tile | WarpTile, ...]:
    """The tiles there are, the largest first."""
    if operands != "float32":
        if SIMULATED:
            return (SIMULATED_WARP_TILE,)
        # A number and what rounding took from it are twice the registers, too many beside a lane's 64 sums and more.
        return tuple(tile for tile in WARP_RATES if operands != "tf32x3" or tile.wm * tile.wn <= MAX_OF_WARP_X3)
    if SIMULATED:
        return (SIMULATED_TILE,)
    return tuple(tile for tile in RATES if tile.tm * tile.tn <= MAX_SUMS[dtype.itemsize])


@functools.lru_cache(maxsize=1024)
def plan_of(
    m: int, n: int, k: int, batch: int, dtype: np.dtype[Any], split: bool = True, operands: str = "float32"
) -> Plan:
    """The plan that should be fastest for ``batch`` products (m, k) by (k, n); in one part without ``split``."""
    most = max(1, min(MAX_PARTS, k // SHORTEST_PART)) if split else 1
    counts = sorted({most, *(count for count in PART_COUNTS if count < most)})
    parts = [PART_GRAIN * -(-k // (PART_GRAIN * count)) if count > 1 else max(k, 1) for count in counts]
    plans = [Plan(tile, max(1, -(-k // part)), part) for tile in tiles(dtype, operands) for part in parts]
    return min(plans, key=lambda plan: _microseconds(plan, m, n, batch, dtype.itemsize))


def _microseconds(plan: Plan, m: int, n: int, batch: int, itemsize: int) -> float:
    tile, splits, part = plan
    rates = (RATES.get(tile) if isinstance(tile, Tile) else WARP_RATES.get(tile)) or (1.0,)
    blocks = -(-m // tile.bm) * -(-n // tile.bn) * batch * splits
    full, rest = divmod(-(-blocks // MULTIPROCESSORS), len(rates))
    block = 1e-3 * tile.bm * tile.bn * part
    time = LAUNCH + full * len(rates) * block / rates[-1] + (rest * block / rates[rest - 1] if rest else 0.0)
    if splits > 1:
        time += LAUNCH + (2 * splits + 1) * m * n * batch * itemsize / BYTES_PER_MICROSECOND
    return time
