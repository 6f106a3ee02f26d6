"""What training has achieved, epoch by epoch."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ...ops.arguments import LAST_COUNT
from .vector_curves import curves_html

__all__ = ["EpochRecord", "History"]


@dataclass(frozen=True)
class EpochRecord:
    """The figures of one epoch.

    Losses are per sample, accuracies 0 to 1. Those of training are running averages over the epoch's batches, each
    taken before its update. An accuracy is NaN where targets are neither classes nor their probabilities, and so are
    figures of tests where there are none; JSON says null.
    """

    epoch: int
    """Counted from 1."""
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    examples_per_second: float
    """Of training steps alone: batch to device, forward, loss, backward, update. On a backend that works in the
    background, of the whole epoch's training, since batches are prepared meanwhile."""
    wall_examples_per_second: float
    """Over ``seconds``."""
    lr: float
    """Learning rate."""
    seconds: float
    """From the end of the epoch before: with loading, evaluation and callbacks."""
    metrics: dict[str, float] = field(default_factory=dict, hash=False)
    """Of the metrics that ``fit`` was given: "train_<name>", before each update as above, and "test_<name>"."""

    @property
    def figures(self) -> dict[str, float]:
        """All that is known, by name, the metrics among the others and the epoch's number aside."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("epoch", "metrics")}
        return {name: value for name, value in (named | self.metrics).items() if not math.isnan(value)}


@dataclass(repr=False)
class History:
    """The records of the finished epochs. Printed, it is a table; a notebook shows its curves as well.

    >>> History()
    History(0 epochs)
    """

    records: list[EpochRecord] = field(default_factory=list)

    def __repr__(self) -> str:
        if not self.records:
            return "History(0 epochs)"
        last = self.records[-1]
        names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        values = {name: getattr(last, name) for name in names} | last.metrics
        figures = ", ".join(f"{name}={value:.4g}" for name, value in values.items() if not math.isnan(value))
        return f"History({len(self)} epoch{'s' * (len(self) > 1)}, the last one with {figures})"

    def __str__(self) -> str:
        """A table with a line for each epoch."""
        names = list(dict.fromkeys(name for record in self.records for name in record.metrics))
        titles = "".join(f"{name:>10}  " for name in names)
        lines = [f"epoch  train loss  accuracy  test loss  accuracy  {titles}examples/s  seconds"]
        for r in self.records:
            metrics = "".join(f"{r.metrics.get(name, math.nan):{max(len(name), 10)}.4g}  " for name in names)
            lines.append(
                f"{r.epoch:5}  {r.train_loss:10.4g}  {r.train_accuracy:8.3f}  {r.test_loss:9.4g}  "
                f"{r.test_accuracy:8.3f}  {metrics}{r.examples_per_second:10,.0f}  {r.seconds:7.1f}"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.records:
            return html.escape(repr(self))
        table = f"<pre>{html.escape(str(self))}</pre>"
        return f"{curves_html(self)}<details><summary>{len(self)} epochs</summary>{table}</details>"

    def __len__(self) -> int:
        return len(self.records)

    @property
    def examples_per_second(self) -> float:
        """Rate of the training steps over all epochs; NaN before the first."""
        return self._rate([n / r.examples_per_second for n, r in zip(self._examples(), self.records, strict=True)])

    @property
    def wall_examples_per_second(self) -> float:
        """Rate over all epochs with loading, evaluation and callbacks; NaN before the first."""
        return self._rate([record.seconds for record in self.records])

    def _rate(self, seconds: list[float]) -> float:
        return sum(self._examples()) / sum(seconds) if seconds else float("nan")

    def _examples(self) -> list[float]:
        return [record.wall_examples_per_second * record.seconds for record in self.records]

    def to_json(self) -> list[dict[str, Any]]:
        """One dict per epoch, made of numbers, and None for those that are NaN; "metrics" is a dict of such numbers."""
        return [
            {name: _null_for_nan(value) if name in _MAY_BE_UNKNOWN else value for name, value in record.items()}
            | {"metrics": {name: _null_for_nan(value) for name, value in record["metrics"].items()}}
            for record in map(asdict, self.records)
        ]

    def lines(self) -> str:
        """One line of JSON per epoch."""
        return "".join(json.dumps(record) + "\n" for record in self.to_json())

    @classmethod
    def from_json(cls, records: Iterable[Mapping[str, Any]]) -> History:
        """The inverse of :meth:`to_json`; ValueError for anything else, such as epochs that do not count from 1.

        Records without "metrics" are of runs that had none.
        """
        names = [item.name for item in fields(EpochRecord)]
        history = cls()
        for number, record in enumerate(records, 1):
            if not isinstance(record, Mapping) or {*record, "metrics"} != {*names}:
                raise ValueError(f"record {number} of the history must have the fields {', '.join(names)}: {record!r}")
            metrics = record.get("metrics", {})
            if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
                raise ValueError(
                    f"record {number} of the history must have names with numbers as `metrics`: {record!r}"
                )
            figures = {name: value for name, value in record.items() if name != "metrics"}
            record = {
                name: _nan_for_null(value) if name in _MAY_BE_UNKNOWN else value for name, value in figures.items()
            }
            metrics = {name: _nan_for_null(value) for name, value in metrics.items()}
            if not all(map(_is_number, (*record.values(), *metrics.values()))):
                raise ValueError(f"record {number} of the history must be made of numbers: {record | metrics!r}")
            if record["epoch"] != number:
                raise ValueError(f"record {number} of the history must be of epoch {number}, not {record['epoch']}")
            if not all(record[name] > 0 for name in ("examples_per_second", "wall_examples_per_second", "seconds")):
                raise ValueError(f"record {number} of the history must have rates and seconds above 0: {record!r}")
            history.records.append(EpochRecord(**record, metrics=metrics))
        return history


_MAY_BE_UNKNOWN = {"train_accuracy", "test_loss", "test_accuracy"}


def _null_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan_for_null(value: Any) -> Any:
    return math.nan if value is None else value


def _is_number(value: Any) -> bool:
    """Of those that JSON can say and a float can hold."""
    return type(value) is float or (type(value) is int and abs(value) <= LAST_COUNT)
