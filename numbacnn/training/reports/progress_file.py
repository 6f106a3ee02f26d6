"""Progress in a file, for programs that watch a run."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import suppress
from typing import Any

from ...files import replacing
from ...ops.arguments import number
from ..callbacks import Callback, Run
from .progress import seconds_left

__all__ = ["ProgressFile"]


class ProgressFile(Callback):
    """Keep in a file, as one JSON object, how far a run is: that it changes is the sign that the run goes on.

    It has "epoch" and "epochs", "batch" and "batches" of the epoch, "doing" ("training", "testing" or, at the end of a
    run, also by an error or Ctrl-C, "nothing"), "loss" and "accuracy" of the epoch's training so far,
    "examples_per_second", over the time that training has taken in this epoch, "seconds_left", as `ProgressBar` has it,
    and "every". What is not known is null. A run that is killed leaves what it wrote last. Where the file cannot be
    written once the run has begun, training goes on, and the file gets old.

    Args:
        path: the file, replaced each time as a whole.
        every: how many seconds are at least between two changes, but for the end of an epoch and of the run, 0 or more.

    Raises:
        TypeError, ValueError: ``every`` is no number of seconds.

    Example:
        >>> import json, pathlib, tempfile
        >>> import numpy as np
        >>> from numbacnn import nn, optim, use_backend
        >>> from numbacnn.training import fit
        >>> with use_backend("reference"):
        ...     model = nn.Linear(4, 2)
        >>> batches = [(np.ones((3, 4), np.float32), np.ones((3, 2), np.float32))] * 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "progress.json")
        ...     _ = fit(
        ...         model, batches, None, nn.MSELoss(), optim.SGD(model.parameters()), 3, callbacks=[ProgressFile(path)]
        ...     )
        ...     progress = json.loads(path.read_text())
        >>> progress["epoch"], progress["epochs"], progress["doing"]
        (3, 3, 'nothing')
    """

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str], every: float = 2.0) -> None:
        self.path = path
        self.every = number("every", every, 0)
        self._before = 0
        self._begin = self._written = 0.0
        self._seconds = 0.0
        """That the training of the epoch has taken."""

    def on_fit_begin(self, run: Run) -> None:
        self._before, self._begin, self._seconds = len(run.history), time.perf_counter(), 0.0
        self._write(run, "training")

    def on_epoch_begin(self, run: Run) -> None:
        self._begin, self._seconds = time.perf_counter(), 0.0

    def on_batch_end(self, run: Run) -> None:
        self._seconds = time.perf_counter() - self._begin
        self._write_in_time(run, "training")

    def on_test_batch_end(self, run: Run, prediction: Any, target: Any) -> None:
        self._write_in_time(run, "testing")

    def on_epoch_end(self, run: Run) -> None:
        with suppress(OSError):
            self._write(run, "training")

    def on_fit_end(self, run: Run) -> None:
        with suppress(OSError):
            self._write(run, "nothing")

    def _write_in_time(self, run: Run, doing: str) -> None:
        if time.perf_counter() - self._written >= self.every:
            with suppress(OSError):
                self._write(run, doing)

    def _write(self, run: Run, doing: str) -> None:
        average = run.average
        is_known, is_at_work = average.examples > 0, run.batch > 0 and doing != "nothing"
        progress: dict[str, Any] = {
            "epoch": run.epoch,
            "epochs": run.epochs,
            "batch": run.batch,
            "batches": run.batches,
            "doing": doing,
            "loss": average.loss if is_known else math.nan,
            "accuracy": average.accuracy if is_known else math.nan,
            "examples_per_second": average.examples / self._seconds if is_known and self._seconds else math.nan,
            "seconds_left": seconds_left(run, self._before, self._begin) if is_at_work else math.nan,
            "every": self.every,
        }
        self._written = time.perf_counter()
        text = json.dumps({name: None if value != value else value for name, value in progress.items()})
        with replacing(self.path) as temporary:
            temporary.write_text(text + "\n", encoding="ascii")
