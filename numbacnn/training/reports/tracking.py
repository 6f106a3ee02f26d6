"""Figures of a run for whatever keeps track of runs, a service or a file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from ...files import replacing, user_path
from ...ops.arguments import integer
from ..callbacks import Callback, Run

__all__ = ["Tracker", "TrackerFile", "Tracking"]


@runtime_checkable
class Tracker(Protocol):
    """What takes figures by their names: a run of Weights & Biases does, and others with a few lines around them.

    >>> class Printed:
    ...     def log(self, values, step):
    ...         print(step, values)
    >>> isinstance(Printed(), Tracker)
    True
    """

    def log(self, values: dict[str, float], step: int, /) -> object:
        """Keep ``values``, which are all known, as those of ``step``; steps come in their order, each once."""


class Tracking(Callback):
    """Give a `Tracker` the figures of each epoch, with the epoch's number as the step.

    They are those of `EpochRecord` that are known: "train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr",
    "seconds", the rates of examples, and the metrics, "train_<name>" and "test_<name>". Of a run that is resumed the
    tracker gets the epochs that come then. An error of the tracker ends the run.

    Raises:
        TypeError: ``tracker`` has no method ``log``.

    Example:
        >>> import numpy as np
        >>> from numbacnn import nn, optim, use_backend
        >>> from numbacnn.training import fit
        >>> class Best:
        ...     loss = math.inf
        ...     def log(self, values, step):
        ...         self.loss = min(self.loss, values["train_loss"])
        >>> with use_backend("reference"):
        ...     model = nn.Linear(4, 2)
        >>> batches = [(np.ones((3, 4), np.float32), np.ones((3, 2), np.float32))]
        >>> best = Best()
        >>> history = fit(
        ...     model, batches, None, nn.MSELoss(), optim.SGD(model.parameters()), 2, callbacks=[Tracking(best)]
        ... )
        >>> best.loss == history.records[-1].train_loss
        True
    """

    first_rank_only = True

    def __init__(self, tracker: Tracker) -> None:
        if not isinstance(tracker, Tracker) or isinstance(tracker, type):
            raise TypeError(f"`tracker` {tracker!r} must be an object with a method log(values, step)")
        self.tracker = tracker

    def on_epoch_end(self, run: Run) -> None:
        record = run.history.records[-1]
        self.tracker.log(record.figures, record.epoch)


class TrackerFile:
    """A `Tracker` that keeps a table in a file: a row for each step, with the step first.

    The file is replaced as a whole each time, so that it holds whole rows whatever happens. Rows of earlier steps that
    it has already stay: a run that is resumed goes on with it, and one that begins anew begins it anew.

    Args:
        path: a ``.csv`` file, whose columns are all names that there were and whose cells are empty where a step has
            no such value; or a ``.jsonl`` file of one JSON object for each step, where what is not finite is null.

    Raises:
        ValueError: another extension; at the first row, a file that holds another kind of table.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "figures.csv"
        >>> table = TrackerFile(path)
        >>> table.log({"loss": 0.5}, step=1)
        >>> table.log({"loss": 0.25, "iou": 0.75}, step=2)
        >>> print(path.read_text())
        step,loss,iou
        1,0.5,
        2,0.25,0.75
        <BLANKLINE>
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        kind = os.path.splitext(path)[1].lower()
        if kind not in _KINDS:
            raise ValueError(f"`path` {os.fspath(path)!r} must end in .csv or .jsonl")
        self.path = path
        self._read, self._written = _KINDS[kind]
        self._rows: list[dict[str, float]] | None = None

    def __repr__(self) -> str:
        return f"TrackerFile({os.fspath(self.path)!r})"

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the row of ``step``, 0 or more, in the place of those that have this step or a later one."""
        step = integer("step", step, 0)
        if "step" in values:
            raise ValueError("`values` must not have a 'step' of its own")
        if self._rows is None:
            self._rows = self._former()
        row = {"step": step, **{name: float(value) for name, value in values.items()}}
        self._rows = [*(former for former in self._rows if former["step"] < step), row]
        with replacing(self.path) as temporary:
            temporary.write_text(self._written(self._rows), encoding="utf-8", newline="")

    def _former(self) -> list[dict[str, float]]:
        path = user_path(self.path)
        if not path.exists():
            return []
        try:
            return self._read(path.read_text(encoding="utf-8"))
        except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"`path` {str(path)!r} must be a table that TrackerFile has written: {error}") from error


def _read_csv(text: str) -> list[dict[str, float]]:
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    return [
        {"step": int(row["step"]), **{name: float(cell) for name, cell in row.items() if name != "step" and cell}}
        for row in rows
    ]


def _written_csv(rows: list[dict[str, float]]) -> str:
    file = io.StringIO(newline="")
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _read_jsonl(text: str) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in text.splitlines()]
    return [
        {"step": int(row.pop("step")), **{name: math.nan if v is None else float(v) for name, v in row.items()}}
        for row in rows
    ]


def _written_jsonl(rows: list[dict[str, float]]) -> str:
    kept = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in rows]
    return "".join(json.dumps(row) + "\n" for row in kept)


_Rows = list[dict[str, float]]
_KINDS: dict[str, tuple[Callable[[str], _Rows], Callable[[_Rows], str]]] = {
    ".csv": (_read_csv, _written_csv),
    ".jsonl": (_read_jsonl, _written_jsonl),
}
