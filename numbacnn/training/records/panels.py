"""Which curves of a history belong together: what pictures of it are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .history import History

__all__ = ["SPLITS", "Panel", "panels"]

SPLITS = ("train", "test")


class Panel(NamedTuple):
    """The curves of one figure over the epochs."""

    title: str
    epochs: list[int]
    curves: dict[str, list[float]]
    """By split; NaN where a value is not known or not finite. Each has a value somewhere."""

    def limits(self) -> tuple[float, float]:
        """The smallest value and the largest one, apart from each other."""
        known = [value for values in self.curves.values() for value in values if not math.isnan(value)]
        low, high = min(known), max(known)
        if low < high and math.isfinite(high - low):
            return low, high
        around = abs(low) / 2 or 0.5
        return (low - around, high + around) if low == high else (low / 2, high / 2)

    def last(self, split: str) -> float:
        """The last value of a curve that is known."""
        return next(value for value in reversed(self.curves[split]) if not math.isnan(value))


def panels(history: History) -> list[Panel]:
    """Loss, accuracy and the metrics of a history, of training and of tests, as far as they are known."""
    epochs = [record.epoch for record in history.records]
    found: dict[str, dict[str, list[float]]] = {}
    for i, record in enumerate(history.records):
        for name, value in record.figures.items():
            split, _, title = name.partition("_")
            if split in SPLITS and math.isfinite(value):
                curves = found.setdefault(title, {})
                curves.setdefault(split, [math.nan] * len(epochs))[i] = value
    return [
        Panel(title, epochs, {split: curves[split] for split in SPLITS if split in curves})
        for title, curves in found.items()
    ]
