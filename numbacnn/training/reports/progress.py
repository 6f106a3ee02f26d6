"""Progress on the terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..callbacks import Callback, Run
from ..metrics import RunningMean

__all__ = ["ProgressBar", "seconds_left"]


class ProgressBar(Callback):
    """Show a bar per epoch on a terminal, and elsewhere print a plain line per epoch.

    The bar has the time that the batches of the epoch took and will take, and with the figures what is left of the run:
    from its second epoch on by how long the last one took, with evaluation. A line has the latter.

    When the other end of ``stream`` goes away, training goes on in silence.

    Args:
        stream: where to write; by default, standard output.
        test_name: what the figures of the ``test_loader`` are called, such as "val" for those of validation.
    """

    first_rank_only = True

    def __init__(self, stream: TextIO | None = None, test_name: str = "test") -> None:
        self.test_name = test_name
        self._stream: TextIO | None = stream if stream is not None else sys.stdout
        self._bar: Any = None
        self._before = 0
        """How many epochs were finished when the run began, perhaps on another machine."""
        self._begin = 0.0
        """Of the epoch."""

    def on_fit_begin(self, run: Run) -> None:
        self._before = len(run.history)

    def on_epoch_begin(self, run: Run) -> None:
        self._begin = time.perf_counter()
        with self._while_open():
            if self._stream is not None and self._stream.isatty():
                from tqdm import tqdm

                title = f"epoch {run.epoch}/{run.epochs}"
                self._bar = tqdm(total=run.batches, desc=title, unit="batch", file=self._stream, dynamic_ncols=True)

    def on_batch_end(self, run: Run) -> None:
        if self._bar is not None:
            with self._while_open():
                average = run.average if run.average.examples else RunningMean()
                figures = _said({"loss": average.loss, "train acc": average.accuracy})
                self._bar.set_postfix_str(", ".join(filter(None, (figures, self._left(run)))), refresh=False)
                self._bar.update()

    def on_epoch_end(self, run: Run) -> None:
        record = run.history.records[-1]
        is_of_classes = not math.isnan(record.train_accuracy)
        name, value = ("acc", record.test_accuracy) if is_of_classes else ("loss", record.test_loss)
        test = {f"{self.test_name} {name}": value}
        metrics = {
            f"{self.test_name}_{name.removeprefix('test_')}" if name.startswith("test_") else name: value
            for name, value in record.metrics.items()
        }
        figures = _said({"loss": record.train_loss, "train acc": record.train_accuracy, **test, **metrics})
        with self._while_open():
            if self._bar is not None:
                self._bar.set_postfix_str(figures)
                self._close()
            elif self._stream is not None:
                said = [figures, f"{record.examples_per_second:.1f} examples/sec", self._left(run)]
                line = f"epoch {run.epoch}/{run.epochs}: {', '.join(filter(None, said))}"
                print(line, file=self._stream, flush=True)

    def on_fit_end(self, run: Run) -> None:
        with self._while_open():
            self._close()

    def _left(self, run: Run) -> str:
        """The time that the batches and epochs to come will take; nothing at the end."""
        from tqdm import tqdm

        left = seconds_left(run, self._before, self._begin)
        return f"{tqdm.format_interval(left)} left" if left > 0 else ""

    def _close(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.close()

    @contextmanager
    def _while_open(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError is what a closed file raises
            if self._bar is not None:
                self._bar.disable = True  # or it would try to write again when it is deleted
            self._stream = self._bar = None


def seconds_left(run: Run, before: int, begin: float) -> float:
    """What the batches and epochs to come will take, of a run that began after ``before`` epochs.

    By how long the last epoch took, and in the first one by its batches since ``begin``, of `time.perf_counter`.
    """
    if run.stop:
        return 0.0
    batches = max(run.batches, 1)
    if len(run.history) > before:
        per_epoch = run.history.records[-1].seconds
    else:
        per_epoch = (time.perf_counter() - begin) * batches / max(run.batch, 1)
    return per_epoch * (run.epochs - run.epoch + 1 - min(run.batch / batches, 1))


def _said(figures: dict[str, float]) -> str:
    """Those that are known."""
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if not math.isnan(value))
