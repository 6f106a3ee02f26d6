"""What entries draw: settings, and inputs at which gradients do not jump."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["away_from_zero", "distinct", "flip", "images", "one_of"]


def one_of(rng: np.random.Generator, *values: Any) -> Any:
    """Any of the values."""
    return values[rng.integers(len(values))]


def flip(rng: np.random.Generator) -> bool:
    """True or False."""
    return bool(rng.integers(2))


def images(rng: np.random.Generator, dtype: Any, channels: int, h: int, w: int) -> np.ndarray:
    """One or three images of normal numbers."""
    return rng.standard_normal((one_of(rng, 1, 3), channels, h, w)).astype(dtype)


def distinct(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    """Numbers around zero, any two of them 0.05 apart."""
    size = math.prod(shape)
    return (0.05 * (rng.permutation(size) - size // 2) + 0.02).reshape(shape).astype(dtype)


def away_from_zero(rng: np.random.Generator, dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Numbers of both signs, none nearer to zero than 0.05."""
    values = rng.standard_normal(tuple(shape))
    return (values + 0.05 * np.sign(values)).astype(dtype)
