"""Where the pixels of a resized image come from."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["linear_taps"]


def linear_taps(size: int, outputs: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``outputs`` points along ``size`` pixels: the pixel before, the one after and its weight.

    Pixels are as wide as they are apart and points divide the whole width evenly, so that point o is at pixel
    ``(o + 1/2) size / outputs - 1/2``, which is worked out in integers. Beyond the outer pixels' centres the outer
    pixels are repeated. The pixels are int64 (outputs,), the weight is of ``dtype``, from 0 to below 1.

    >>> before, after, weight = linear_taps(2, 4, np.float64)
    >>> before.tolist(), after.tolist(), weight.tolist()
    ([0, 0, 0, 1], [1, 1, 1, 1], [0.0, 0.25, 0.75, 0.25])
    """
    # In units of 1 / (2 outputs).
    position = np.maximum((2 * np.arange(outputs, dtype=np.int64) + 1) * size - outputs, 0)
    before, rest = np.divmod(position, max(2 * outputs, 1))
    return before, np.minimum(before + 1, size - 1), (rest / max(2 * outputs, 1)).astype(dtype)
