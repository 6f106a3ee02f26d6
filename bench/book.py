"""Test accuracies beside those that the book's settings give elsewhere: ``python -m bench.book FOLDER``."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from numbacnn.training import History

from .command import UserError, WrongResultError, exit_code, say
from .report import Table

__all__ = ["PUBLISHED", "accuracies", "main"]

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
"""Of the recipes of Dive into Deep Learning on Fashion-MNIST, the 10th and the 90th percentile of published runs."""
EPOCHS = 10
HISTORY = "history.jsonl"


def accuracies(folder: Path) -> dict[str, list[float]]:
    """The test accuracies at the end of the runs under ``folder``, by model in the order of PUBLISHED, from the lowest.

    A run's history is in ``MODEL/history.jsonl`` or ``MODEL/.../history.jsonl``; a run of fewer epochs than the book's
    does not count. UserError for a file that is no history, and for a folder without any finished run.
    """
    found: dict[str, list[float]] = {model: [] for model in PUBLISHED}
    for path, model in _histories(folder):
        try:
            history = History.from_json(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
        except ValueError as error:
            raise UserError(f"{path} is no history of a run: {error}") from error
        if len(history) >= EPOCHS:
            found[model].append(history.records[EPOCHS - 1].test_accuracy)
    if not any(found.values()):
        raise UserError(f"no model under {folder} has a {HISTORY} of {EPOCHS} epochs")
    return {model: sorted(values) for model, values in found.items()}


def _histories(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each history with its model, which the nearest folder of that name tells."""
    for path in sorted(folder.rglob(HISTORY)):
        names = [name for name in reversed(path.parent.resolve().parts) if name in PUBLISHED]
        if names:
            yield path, names[0]


def compare(folder: Path) -> None:
    """Print the table; WrongResultError for medians out of range."""
    found = accuracies(folder)
    width = max(len(_listed(values)) for values in found.values())
    table = Table([("model", -9), ("runs", 4), ("median", 6), ("published", 11), ("", -6), ("test accuracies", -width)])
    say(table.header())
    outside = []
    for model, values in found.items():
        low, high = PUBLISHED[model]
        median, verdict = "", ""
        if values:
            middle = statistics.median(values)
            median = f"{middle:.3f}"
            verdict = "below" if middle < low else "above" if middle > high else "within"
            if verdict != "within":
                outside.append(f"{model} ({verdict})")
        published = f"{low:.3f}-{high:.3f}"
        say(table.line([model, f"{len(values)}", median, published, verdict, _listed(values)]))
    if outside:
        raise WrongResultError(f"the median is not within the published range: {', '.join(outside)}")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a median out of range, 2 for what the user can put right."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.book",
        description="Compare the test accuracies of runs of examples.train on Fashion-MNIST, with the settings of Dive "
        "into Deep Learning, with the 10th to 90th percentile of published ones.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help=f"where runs are, each in a folder of the model's name or below one: MODEL/{HISTORY}, "
        f"MODEL/seed0/{HISTORY}",
    )
    arguments = parser.parse_args(argv)
    return exit_code(lambda: compare(arguments.folder))


if __name__ == "__main__":
    sys.exit(main())
