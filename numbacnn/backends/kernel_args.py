"""Kernel arguments as machine words: both compiled backends hand them over in 8 bytes each."""

from __future__ import annotations

import math
import struct

__all__ = ["float_bits"]


def float_bits(value: float, single: bool) -> int:
    """The bits of a float64, or of the float32 next to it, as an int."""
    if not single:
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    try:
        return int(struct.unpack("<i", struct.pack("<f", value))[0])
    except OverflowError:  # beyond float32, which rounds to infinity
        return int(struct.unpack("<i", struct.pack("<f", math.copysign(math.inf, value)))[0])
