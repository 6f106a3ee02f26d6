"""Ending a run when it gets no better, and keeping what was best."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from .. import io
from ..ops.arguments import flag, integer, number
from .callbacks import Callback, Run
from .monitor import Monitor

__all__ = ["BestCheckpoint", "EarlyStopping"]


class EarlyStopping(Callback):
    """Begin no further epoch when ``patience`` epochs in a row were not better than the best one before them.

    It goes by the history alone, so that a resumed run ends where the whole one would have.

    Args:
        patience: 1 or more.
        min_delta: by how much more than this an epoch must be better to count as better, 0 or more.
        monitor: "train_loss", "train_accuracy", "test_loss" or "test_accuracy", or for one of the ``metrics`` of `fit`
            ``"train_<name>"`` or ``"test_<name>"``.
        mode: "max" if higher is better, "min" if lower; None for what is known of the figure, or said by the metric's
            ``higher_is_better``.
        restore_best: whether the model ends with the weights and buffers that it had after the best epoch, and so does
            the run's average of the weights; also where the run ends by an error or by Ctrl-C.
            They are kept in memory: a run that is resumed after a better epoch does not have them, and is refused;
            `BestCheckpoint` keeps them in a file.

    Attributes:
        best_epoch: the number of the best epoch, from 1; 0 before the first.

    Raises:
        TypeError, ValueError: arguments of another type or out of range; at the beginning of a run, a figure that it
            does not have.
    """

    def __init__(
        self,
        patience: int,
        min_delta: float = 0,
        monitor: str = "test_loss",
        mode: str | None = None,
        restore_best: bool = False,
    ) -> None:
        self.patience = integer("patience", patience, 1)
        self.min_delta = number("min_delta", min_delta, 0)
        self._monitor = Monitor(monitor, mode)
        self.monitor, self.mode = self._monitor.name, self._monitor.mode
        self.restore_best = flag("restore_best", restore_best)
        self.best_epoch = 0
        self._kept: list[tuple[Any, dict[str, Any]]] = []
        """What is put back, and its state after the best epoch."""

    def on_fit_begin(self, run: Run) -> None:
        self._kept = []
        self._look(run)
        if self.restore_best and self.best_epoch and not self._kept:
            raise ValueError(
                f"`restore_best` must be False in a run that is resumed after epoch {len(run.history)}: the weights of "
                f"its best epoch, {self.best_epoch}, are not kept in memory; BestCheckpoint keeps them in a file"
            )

    def on_epoch_end(self, run: Run) -> None:
        self._look(run)

    def on_fit_end(self, run: Run) -> None:
        kept, self._kept = self._kept, []
        for of, state in kept:
            of.load_state_dict(state)

    def _look(self, run: Run) -> None:
        self.best_epoch = self._monitor.best(run, self.min_delta)
        if not self.best_epoch:
            return
        latest = run.history.records[-1].epoch
        if self.restore_best and latest == self.best_epoch:
            of: list[Any] = [run.model, *([] if run.weight_average is None else [run.weight_average])]
            self._kept = [(each, each.state_dict()) for each in of]
        if latest - self.best_epoch >= self.patience:
            run.stop = True


class BestCheckpoint(Callback):
    """Save the weights after every epoch that is better than all before it: the file holds those of the best epoch.

    It goes by the history, so that a resumed run keeps the file until an epoch is better than those before the resume.
    ``numbacnn.load(path, model)`` reads it. To go on with a run takes more than weights, see `CheckpointFile`.

    Args:
        path: a ``.safetensors`` or ``.npz`` file, replaced each time as a whole. It says in its metadata which "epoch"
            it is of and the figure. Of a run that averages the weights it holds the averages, which are evaluated.
        monitor, mode: as of `EarlyStopping`.

    Attributes:
        best_epoch: the number of the best epoch, from 1; 0 before the first.

    Raises:
        ValueError: another extension, arguments out of range; at the beginning of a run, a figure that it has not.
    """

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str], monitor: str = "test_loss", mode: str | None = None) -> None:
        if os.path.splitext(path)[1].lower() not in (".safetensors", ".npz"):
            raise ValueError(f"`path` {os.fspath(path)!r} must end in .safetensors or .npz")
        self.path = path
        self._monitor = Monitor(monitor, mode)
        self.monitor, self.mode = self._monitor.name, self._monitor.mode
        self.best_epoch = 0

    def on_fit_begin(self, run: Run) -> None:
        self.best_epoch = self._monitor.best(run)

    def on_epoch_end(self, run: Run) -> None:
        self.best_epoch = self._monitor.best(run)
        latest = run.history.records[-1]
        if self.best_epoch == latest.epoch:
            metadata = {"epoch": str(latest.epoch), self.monitor: repr(self._monitor.value(latest))}
            with nullcontext() if run.weight_average is None else run.weight_average.applied():
                io.save(self.path, run.model, metadata)
