"""Arguments that transforms share, and boxes that are drawn as they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ops.arguments import finite, number, one_of

__all__ = ["drawn_boxes", "fill_values", "interpolation_name", "number_range", "point", "shares", "shears"]

INTERPOLATIONS = ("nearest", "bilinear")
# How often a box is drawn that may not fit, as torchvision does.
ATTEMPTS = 10


def drawn_boxes(
    random: np.random.Generator,
    n: int,
    image: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    largest: tuple[int, int],
    smallest: int = 1,
    tall: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether one of the boxes that are drawn for each of ``n`` images fits, and height and width of the first.

    ``scale`` is of the area of the ``image``, and ``ratio`` width over height, or if ``tall`` height over width.
    """
    area = random.uniform(*scale, (ATTEMPTS, n)) * (image[0] * image[1])
    aspect = np.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1]), (ATTEMPTS, n)))
    sides = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    height, width = sides if tall else sides[::-1]
    fit = (height >= smallest) & (width >= smallest) & (height <= largest[0]) & (width <= largest[1])
    first = fit.argmax(axis=0), np.arange(n)
    fits = fit[first]
    return fits, *(np.where(fits, size[first], 0).astype(np.int64) for size in (height, width))


def number_range(name: str, value: Any, above: float | None = None) -> tuple[float, float]:
    """Two numbers in order, or of one number that and its negative; each more than ``above``, then always two."""
    if above is None and not _is_list(value) and not isinstance(value, str):
        most = number(name, value, 0)
        return -most, most
    low, high = (finite(name, each) for each in _two(name, value, "" if above is not None else ", or one"))
    if low > high or (above is not None and low <= above):
        raise ValueError(f"`{name}` {value!r} must be in order{'' if above is None else f' and above {above:g}'}")
    return low, high


def interpolation_name(value: Any) -> str:
    """The argument ``interpolation``."""
    return one_of("interpolation", value, INTERPOLATIONS)


def fill_values(value: Any, name: str = "fill") -> float | tuple[float, ...]:
    """One finite number, or a tuple of one for each channel."""
    if _is_list(value):
        return tuple(finite(name, each) for each in value)
    return finite(name, value)


def shares(name: str, value: Any) -> tuple[float, float]:
    """Two numbers in 0..1."""
    across, down = (number(name, each, 0, 1) for each in _two(name, value, ", of the width and of the height"))
    return across, down


def point(name: str, value: Any) -> tuple[float, float]:
    """Two finite numbers."""
    x, y = (finite(name, each) for each in _two(name, value, ", x and y"))
    return x, y


def shears(name: str, value: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of x and of y."""
    if _is_list(value) and len(value) == 4:
        return number_range(name, value[:2]), number_range(name, value[2:])
    if isinstance(value, str) or (_is_list(value) and len(value) != 2):
        raise TypeError(f"`{name}` {value!r} must be one, two or four numbers")
    return number_range(name, value), (0.0, 0.0)


def _two(name: str, value: Any, words: str) -> Any:
    """``value``; TypeError, which ends in ``words``, unless it is a list of two."""
    if not _is_list(value) or len(value) != 2:
        raise TypeError(f"`{name}` {value!r} must be two numbers{words}")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str) and np.ndim(value) > 0
