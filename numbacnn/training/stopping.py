"""Ending a run when it gets no better."""

from __future__ import annotations

import math

from ..ops.arguments import integer, number, one_of
from .callbacks import Callback, Run

__all__ = ["EarlyStopping"]

_HIGHER_IS_BETTER = {"train_loss": False, "train_accuracy": True, "test_loss": False, "test_accuracy": True}


class EarlyStopping(Callback):
    """Begin no further epoch when ``patience`` epochs in a row were not better than the best one before them.

    It goes by the history alone, so that a resumed run ends where the whole one would have.

    Args:
        patience: 1 or more.
        min_delta: by how much more than this an epoch must be better to count as better, 0 or more.
        monitor: "train_loss", "train_accuracy", "test_loss" or "test_accuracy".

    Attributes:
        best_epoch: the number of the best epoch, from 1; 0 before the first.
    """

    def __init__(self, patience: int, min_delta: float = 0, monitor: str = "test_loss") -> None:
        self.patience = integer("patience", patience, 1)
        self.min_delta = number("min_delta", min_delta, 0)
        self.monitor = one_of("monitor", monitor, _HIGHER_IS_BETTER)
        self.best_epoch = 0

    def on_fit_begin(self, run: Run) -> None:
        self._look(run)

    def on_epoch_end(self, run: Run) -> None:
        self._look(run)

    def _look(self, run: Run) -> None:
        latest = run.history.records[-1:]
        if any(math.isnan(getattr(record, self.monitor)) for record in latest):
            raise ValueError(f"`monitor` {self.monitor!r} is not known in this run: its epochs have no such figure")
        sign = 1 if _HIGHER_IS_BETTER[self.monitor] else -1
        best, self.best_epoch = -float("inf"), 0
        for record in run.history.records:
            score = sign * getattr(record, self.monitor)
            if not self.best_epoch or score - best > self.min_delta:
                best, self.best_epoch = score, record.epoch
        if self.best_epoch and run.history.records[-1].epoch - self.best_epoch >= self.patience:
            run.stop = True
