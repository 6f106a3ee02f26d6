"""Which samples of a data set a batch may ask for."""

from __future__ import annotations

import numpy as np

__all__ = ["check_index"]


def check_index(index: np.ndarray, samples: int) -> None:
    """IndexError unless all of ``index`` are in 0..samples-1."""
    if index.size and (index.min() < 0 or index.max() >= samples):
        wrong = index[(index < 0) | (index >= samples)]
        raise IndexError(f"`index` must be in 0..{samples - 1}, but holds {wrong[0]}")
