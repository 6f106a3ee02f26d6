"""Several training runs beside each other, as a table and a picture: ``python -m examples.compare --help``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from numbacnn.cli.train import HISTORY
from numbacnn.command_line import Parser, UserError, one_line, path, printable, run_command, say
from numbacnn.training import EpochRecord, History

from .figures import check_matplotlib, new_figure, save

KINDS = (".png", ".svg", ".pdf")


class Run(NamedTuple):
    """A run by the name of its folder."""

    name: str
    history: History


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m examples.compare",
        "Compare training runs, by what python -m examples.train and python -m examples.fine_tune write.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=path, metavar="RUN", help=f"a folder with a {HISTORY}, or such a file")
    add("--output", type=path, default=Path("runs", "compare.png"),
        help=f"the picture, whose name ends in {', '.join(KINDS)}")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.output.suffix.lower() not in KINDS:
        parser.error(f"argument --output: {str(arguments.output)!r} must end in {', '.join(KINDS)}")
    return arguments


def read_run(path: Path, name: str) -> Run:
    """The history in a folder, or in a file."""
    file = path / HISTORY if path.is_dir() else path
    if not file.exists():
        there = f"has no {HISTORY}: it is no run of examples.train" if path.is_dir() else "is not there"
        raise UserError(f"{str(path)!r} {there}")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        history = History.from_json(json.loads(line) for line in lines)
    except ValueError as error:
        raise UserError(f"{str(file)!r} is no history of a run: {one_line(error)}") from error
    if not history.records:
        raise UserError(f"{str(file)!r} has no epochs yet")
    return Run(name, history)


def names_of(paths: Sequence[Path]) -> list[str]:
    """What tells them apart: the name of each, or its whole path where two have one name.

    >>> names_of([Path("runs", "lenet"), Path("runs", "vgg", "history.jsonl"), Path("old", "lenet")])
    ['runs/lenet', 'vgg', 'old/lenet']
    """
    folders = [path.parent if path.suffix == Path(HISTORY).suffix else path for path in paths]
    short = [folder.name or str(folder.resolve().name) for folder in folders]
    return [name if short.count(name) == 1 else folder.as_posix() for name, folder in zip(short, folders, strict=True)]


def table(runs: Sequence[Run]) -> str:
    """A line for each run: its best epoch by test accuracy, or by test loss where answers are not right or wrong."""
    width = max(len("run"), *(len(run.name) for run in runs))
    lines = [f"{'run':{width}}  epochs  best epoch  test acc  test loss  seconds  to the best"]
    for name, history in runs:
        best = best_epoch(history)
        seconds = [record.seconds for record in history.records]
        figures = [f"{value:.3f}" if not math.isnan(value) else "" for value in (best.test_accuracy, best.test_loss)]
        lines.append(
            f"{name:{width}}  {len(history):6}  {best.epoch:10}  {figures[0]:>8}  {figures[1]:>9}  "
            f"{sum(seconds):7.1f}  {sum(seconds[: best.epoch]):11.1f}"
        )
    return "\n".join(lines)


def best_epoch(history: History) -> EpochRecord:
    """The record of the epoch with the highest test accuracy, else of that with the lowest test or training loss."""
    for figure, sign in (("test_accuracy", 1), ("test_loss", -1), ("train_loss", -1)):
        known = [record for record in history.records if not math.isnan(getattr(record, figure))]
        if known:
            return max(known, key=lambda record: sign * getattr(record, figure))
    return history.records[-1]


def draw(runs: Sequence[Run], output: Path) -> None:
    """Accuracies on the left, losses on the right: solid on test images, dotted on those of training."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(9, 3.6)
    for axes, title in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for number, (name, history) in enumerate(runs):
            epochs = [record.epoch for record in history.records]
            for split, style in (("test", "-"), ("train", ":")):
                values = [getattr(record, f"{split}_{title}") for record in history.records]
                if not all(map(math.isnan, values)):
                    marker = "." if len(epochs) == 1 else ""  # a line through one point is not seen
                    label = name if split == "test" else None
                    axes.plot(epochs, values, style, color=f"C{number}", marker=marker, label=label)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
    figure.axes[1].legend(title="dotted: training", fontsize="small")
    output.parent.mkdir(parents=True, exist_ok=True)
    save(figure, output)


def compare(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    runs = [read_run(path, name) for path, name in zip(arguments.runs, names_of(arguments.runs), strict=True)]
    say(printable(table(runs)))
    check_matplotlib()
    draw(runs, arguments.output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(partial(compare, parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
