"""Which epoch of a run is the best, by one of its figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..ops.arguments import one_of

if TYPE_CHECKING:
    from .callbacks import Run
    from .records.history import EpochRecord

__all__ = ["Monitor"]

_HIGHER_IS_BETTER = {"train_loss": False, "train_accuracy": True, "test_loss": False, "test_accuracy": True}


class Monitor:
    """A figure of the records, and whether it should be high: what the arguments ``monitor`` and ``mode`` say."""

    def __init__(self, monitor: Any, mode: Any) -> None:
        if not isinstance(monitor, str) or not (
            monitor in _HIGHER_IS_BETTER or monitor.startswith(("train_", "test_"))
        ):
            raise ValueError(
                f"`monitor` {monitor!r} must be one of {', '.join(map(repr, _HIGHER_IS_BETTER))}, or 'train_' or "
                "'test_' with the name of a metric"
            )
        self.name = monitor
        self.mode = None if mode is None else one_of("mode", mode, ("min", "max"))

    def sign(self, run: Run) -> int:
        """1 if higher is better, -1 if lower; ValueError where that is not known, or the run has no such figure."""
        metric = None
        if self.name not in _HIGHER_IS_BETTER:
            metric = run.metrics.get(self.name.partition("_")[2])
            if metric is None:
                known = [
                    *_HIGHER_IS_BETTER,
                    *(f"{split}_{name}" for name in run.metrics for split in ("train", "test")),
                ]
                raise ValueError(f"`monitor` {self.name!r} must be one of {', '.join(known)} in this run")
        if self.mode is not None:
            return 1 if self.mode == "max" else -1
        is_higher = _HIGHER_IS_BETTER[self.name] if metric is None else metric.higher_is_better
        if is_higher is None:
            raise ValueError(f"`mode` must be 'min' or 'max' for {metric!r}, which does not say what is better")
        return 1 if is_higher else -1

    def value(self, record: EpochRecord) -> float:
        """The figure of an epoch; NaN where it is not known."""
        if self.name in _HIGHER_IS_BETTER:
            return float(getattr(record, self.name))
        return record.metrics.get(self.name, math.nan)

    def best(self, run: Run, min_delta: float = 0) -> int:
        """The number of the best epoch, better by more than ``min_delta`` than the best one before it; 0 for none.

        ValueError if the last epoch has no such figure.
        """
        sign, best, epoch = self.sign(run), -math.inf, 0
        if any(math.isnan(self.value(record)) for record in run.history.records[-1:]):
            raise ValueError(f"`monitor` {self.name!r} is not known in this run: its epochs have no such figure")
        for record in run.history.records:
            score = sign * self.value(record)
            if score - best > min_delta or (not epoch and not math.isnan(score)):
                best, epoch = score, record.epoch
        return epoch
