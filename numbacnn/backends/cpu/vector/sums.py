"""Sums of many numbers: in runs, whose sums are added up in float64.

One sum in float32 from the first number to the last loses what lies below its own last bit, and for equal numbers
always to the same side: 10^7 of them would be wrong by a hundredth. Here some numbers are summed in the dtype of the
array, in vectors, and runs of these in float64. The order depends on sizes alone.
"""

from __future__ import annotations

import numpy as np

from ..runtime.kernel import inlined

__all__ = ["RUN_IN_ORDER", "SUM_IN_ORDER", "add_parts", "is_finite", "move_sums"]

# Numbers that are added one after the other in the dtype, and how many a sum of such sums may hold before it goes on in
# float64. Of equal numbers it is then less than 1e-6 off: 8.6e-7 at most, of 100,000 products that were tried.
RUN_IN_ORDER, SUM_IN_ORDER = 48, 16 * 48


@inlined
def is_finite(value):
    """Unlike ``np.isfinite``, which takes a number from itself, where reassociated sums cancel even if infinite."""
    return -np.inf < value and value < np.inf


@inlined
def move_sums(sums, at, totals, total_at, count):
    """totals[total_at : total_at + count] += sums[at : at + count]"""
    source, target = np.uintp(at), np.uintp(total_at)
    for i in range(np.uintp(count)):
        totals[target + i] += sums[source + i]


@inlined
def add_parts(sums, at, size, part_size, totals):
    """sums[at : at + size], those of the first part, become the sums of all parts, added up in float64."""
    parts = sums.size // part_size
    for first in range(at, at + size if parts > 1 else at, totals.size):
        here = min(totals.size, at + size - first)
        totals[:here] = 0
        for part in range(parts):
            move_sums(sums, first + part * part_size, totals, 0, here)
        for i in range(np.uintp(here)):
            sums[np.uintp(first) + i] = totals[i]
