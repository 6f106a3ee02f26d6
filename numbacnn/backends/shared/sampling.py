"""Where the points of a warped image lie in the image that they are taken from, in whole numbers.

A place is a position along the rows or the columns of an image in units of 2**-FRACTION_BITS pixels, 0 at the centre of
the first pixel. Sums and products of integers are the same on every backend, so that all of them read the same pixels,
also where a point lies just between two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["FRACTION", "FRACTION_BITS", "HALF", "UNIT", "place", "places_of"]

FRACTION_BITS = 32
FRACTION = (1 << FRACTION_BITS) - 1
HALF = 1 << (FRACTION_BITS - 1)
UNIT = 2.0**-FRACTION_BITS
"""What a place is multiplied by to have it in pixels."""
# The sum of three products of this many pixels is below 2**63 units.
_FARTHEST = 2.0**29


def place(across: Any, down: Any, start: Any, low: Any, high: Any, column: Any, row: Any) -> Any:
    """The place of the point of these numbers along one axis: ``start`` is that of the first point, ``across`` and
    ``down`` how far apart points side by side and below each other are; never below ``low`` nor above ``high``.

    >>> [place(1 << 31, 0, 0, 0, 3 << 31, column, 0) * UNIT for column in range(5)]
    [0.0, 0.5, 1.0, 1.5, 1.5]
    """
    return min(max(across * column + down * row + start, low), high)


def places_of(matrices: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, oh: int, ow: int) -> np.ndarray:
    """What ``affine_images`` takes, int64 (n, 2, 5), for results of ``oh`` rows and ``ow`` columns.

    ``matrices`` (n, 2, 3) are the numbers ``across``, ``down`` and ``start`` of :func:`place` in pixels, first of the
    row and then of the column; ``low`` and ``high``, (n, 2) or (2,), are its other two. Points that lie farther away
    than any image reaches lie at some other place out there.

    >>> places_of(np.array([[[0, 1, -0.5], [1, 0, 0]]]), [-1, -1], [3, 4], 3, 4)[0] / 2**32
    array([[ 0. ,  1. , -0.5, -1. ,  3. ],
           [ 1. ,  0. ,  0. , -1. ,  4. ]])
    """
    n = len(matrices)
    farthest = _FARTHEST / np.array([max(ow, 1), max(oh, 1), 1])
    table = np.empty((n, 2, 5))
    table[..., :3] = np.clip(matrices, -farthest, farthest)
    table[..., 3], table[..., 4] = low, high
    return np.rint(table * 2.0**FRACTION_BITS).astype(np.int64)
