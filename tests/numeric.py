"""Random arrays, central differences, and the bound on what two backends may differ by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def normal(shape: Sequence[int], seed: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(tuple(shape)).astype(dtype)


def wide(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in float64."""
    return [array.astype(np.float64) for array in arrays]


def spaced(shape: Sequence[int], seed: int, dtype: Any = np.float64) -> np.ndarray:
    """Distinct values 0.1 apart on both sides of zero, none nearer than 0.05 to it, in random order."""
    size = math.prod(shape)
    values = np.random.default_rng(seed).permutation(size) - size // 2 + 0.5
    return (0.1 * values).reshape(tuple(shape)).astype(dtype)


def assert_gradients(
    function: Callable[..., np.ndarray],
    arguments: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    dy: np.ndarray,
    seed: int,
) -> None:
    """``gradients`` are those of <dy, function(*arguments)>, by central differences along random directions.

    No element moves by more than 1e-4, less than half of the distance between :func:`spaced` values.
    """
    rng = np.random.default_rng(seed)
    for position, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        assert gradient.shape == argument.shape
        for _ in range(3):
            direction = rng.uniform(-1, 1, argument.shape)
            moved = [list(arguments), list(arguments)]
            moved[0][position] = argument + 1e-4 * direction
            moved[1][position] = argument - 1e-4 * direction
            difference = (function(*moved[0]) - function(*moved[1])) / 2e-4
            expected, size = np.vdot(dy, difference), np.vdot(np.abs(dy), np.abs(difference))
            assert abs(np.vdot(gradient, direction) - expected) <= 1e-6 * (1 + size), f"gradient {position}"


def assert_within(result: np.ndarray, reference: np.ndarray, reduction_length: int, scale: float | None = None) -> None:
    """The accuracy rule: within ``1e-5 sqrt(K)`` (float64: ``1e-12 sqrt(K)``) of the largest magnitude.

    ``scale`` stands for the largest magnitude where the terms of the sum cancel.
    """
    assert result.shape == reference.shape
    if not reference.size:
        return
    unit = 1e-5 if result.dtype == np.float32 else 1e-12
    bound = unit * math.sqrt(max(reduction_length, 1)) * (np.abs(reference).max() if scale is None else scale)
    error = np.abs(result.astype(np.float64) - reference).max()
    assert error <= bound, f"error {error:.3e} is above {bound:.3e}"
