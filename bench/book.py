"""Test accuracies beside those that were published: ``python -m bench.book FOLDER``.

Dive into Deep Learning's notebooks leave out numbers, but many people have run its settings; the ranges are the 10th to
the 90th percentile of such runs on Fashion-MNIST. FOLDER has files MODEL-seedN.jsonl, the histories of
``examples.train``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .command import UserError, exit_code, say
from .report import Table

__all__ = ["PUBLISHED", "main", "verdicts"]

PUBLISHED = {
    "lenet": (0.781, 0.820),
    "lenet-bn": (0.763, 0.877),
    "alexnet": (0.875, 0.884),
    "vgg": (0.913, 0.923),
    "nin": (0.390, 0.873),
    "googlenet": (0.869, 0.896),
    "resnet": (0.873, 0.921),
    "densenet": (0.806, 0.905),
}
"""The 10th and the 90th percentile of test accuracies after ten epochs."""
EPOCHS = 10


class Verdict(NamedTuple):
    """A model's accuracies, one for each seed, and whether their median is as published."""

    model: str
    accuracies: list[float]
    within: bool


def verdicts(folder: Path) -> list[Verdict]:
    """Of every model that the folder has histories of; UserError for none, and for one that is not whole."""
    found = []
    for model, (low, high) in PUBLISHED.items():
        accuracies = [_accuracy(path) for path in sorted(folder.glob(f"{model}-seed*.jsonl"))]
        if accuracies:
            found.append(Verdict(model, accuracies, low <= statistics.median(accuracies) <= high))
    if not found:
        raise UserError(f"no histories MODEL-seedN.jsonl in {folder}")
    return found


def _accuracy(path: Path) -> float:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if len(records) != EPOCHS:
            raise UserError(f"{path} has {len(records)} epochs, must have {EPOCHS}")
        return float(records[-1]["test_accuracy"])
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no history of examples.train: {error}") from error


def run(folder: Path) -> None:
    """Print the table."""
    table = Table([("model", -10), ("accuracies", -24), ("median", 7), ("published", 14), ("", -8)])
    say(table.header())
    for model, accuracies, within in verdicts(folder):
        low, high = PUBLISHED[model]
        every, median = " ".join(f"{value:.3f}" for value in accuracies), statistics.median(accuracies)
        say(table.line([model, every, f"{median:.3f}", f"{low:.3f} .. {high:.3f}", "within" if within else "outside"]))
    missing = [name for name in PUBLISHED if not list(folder.glob(f"{name}-seed*.jsonl"))]
    if missing:
        say(f"not there: {', '.join(missing)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 where the folder has no whole histories."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.book", description="Compare test accuracies with the book's."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with histories MODEL-seedN.jsonl")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: run(arguments.folder))


if __name__ == "__main__":
    sys.exit(main())
