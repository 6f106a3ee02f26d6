"""What happens at set moments of training: the base class, and callbacks that keep files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .. import io
from .metrics import Metric, RunningMean
from .records.history import History

if TYPE_CHECKING:
    from ..nn import Layer, Loss
    from ..optim import Optimizer, ReduceLROnPlateau, Schedule
    from .weight_average import WeightAverage

__all__ = ["Callback", "CheckpointFile", "HistoryFile", "Run"]


@dataclass
class Run:
    """A training run as callbacks see it."""

    model: Layer
    loss: Loss
    optimizer: Optimizer
    history: History
    """The finished epochs."""
    epochs: int
    """How many epochs there will be."""
    batches: int
    """How many batches there are in an epoch."""
    epoch: int
    """The epoch at work, counted from 1; before the first one, how many were finished earlier."""
    batch: int = 0
    """How many batches of it are done."""
    average: RunningMean = field(default_factory=RunningMean)
    """Its loss and accuracy so far; on a backend that works in the background, up to a moment ago."""
    schedule: Schedule | ReduceLROnPlateau | None = None
    weight_average: WeightAverage | None = None
    """Of the model's weights; those are the averages inside of ``with run.weight_average.applied():`` alone."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Those that ``fit`` was given, by their names."""
    stop: bool = False
    """What a callback sets to True for no further epoch to begin; of several processes, in any of them."""


class Callback:
    """The base of all callbacks: each method is called at its moment and does nothing.

    Where several processes train together, each calls its callbacks, for what one of them changes has to be changed in
    all; those that print or write files say ``first_rank_only = True`` in their class, and are called in the first
    process alone.

    >>> class PrintLoss(Callback):
    ...     def on_epoch_end(self, run):
    ...         print(run.epoch, run.history.records[-1].train_loss)
    """

    first_rank_only: ClassVar[bool] = False
    """Whether the first of several processes alone calls it."""

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")]
        return f"{type(self).__name__}({', '.join(shown)})"

    def on_fit_begin(self, run: Run) -> None:
        """Before the first epoch, with the history that a resumed run brings."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, run: Run) -> None:
        """After a batch and, where it is the last of those that ``accumulate`` adds up, the update."""

    def on_test_batch_end(self, run: Run, prediction: Any, target: Any) -> None:
        """After a batch of the evaluation, with what the model gave for it and the targets, arrays of its backend.

        They are the callback's to keep. To read one waits for what a device has to do, so what can be read later on,
        as at the end of the epoch, should be.
        """

    def on_epoch_end(self, run: Run) -> None:
        """After evaluation, with the epoch's record in the history."""

    def on_fit_end(self, run: Run) -> None:
        """At the very end, also when an error or the user ends the run early."""


class HistoryFile(Callback):
    """Keep the history in a file, one line of JSON per finished epoch: the fields of ``EpochRecord``.

    The file is replaced as a whole, so that it holds whole lines whatever happens. A new run starts it anew; a
    resumed one keeps the lines of the epochs before it, those of the checkpoint.
    """

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def on_fit_begin(self, run: Run) -> None:
        self._write(run.history)

    def on_epoch_end(self, run: Run) -> None:
        self._write(run.history)

    def _write(self, history: History) -> None:
        with io.replacing(self.path) as temporary:
            temporary.write_text(history.lines(), encoding="ascii")


_SCHEDULE = "schedule"


class CheckpointFile(Callback):
    """Save everything that is needed to go on (see ``numbacnn.io.save_checkpoint``) at the end of every epoch.

    Args:
        path: a ``.safetensors`` file, replaced each time as a whole. Of a run that averages the weights it holds the
            averages as well.
        settings: what else the run depends on, made of what JSON can say; ``load_checkpoint`` gives it back. Of a run
            with a schedule they also hold, as "schedule", its state dict.

    Raises:
        ValueError: at the beginning of a run with a schedule, if ``settings`` has a "schedule" of its own.
    """

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.settings = dict(settings or {})

    def on_fit_begin(self, run: Run) -> None:
        if run.schedule is not None and _SCHEDULE in self.settings:
            raise ValueError(f"`settings` may not have {_SCHEDULE!r}, where the state of the run's schedule is saved")

    def on_epoch_end(self, run: Run) -> None:
        schedule = {} if run.schedule is None else {_SCHEDULE: run.schedule.state_dict()}
        io.save_checkpoint(
            self.path,
            run.model,
            run.optimizer,
            epoch=run.epoch,
            history=run.history.to_json(),
            settings={**self.settings, **schedule},
            weight_average=run.weight_average,
        )
