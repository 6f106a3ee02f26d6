"""The package of this checkout beside that of another one, in turns: ``python -m bench.compare --help``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numbacnn import backends

from . import machine
from .command import UserError, WrongResultError, exit_code, say, seconds, whole_number
from .drawn import draw, model_name
from .report import Table, geometric_mean, write_results
from .timing import PAUSE
from .train_contenders import MODELS
from .worker import Worker, command_of

__all__ = ["main", "measure"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
TASKS = ("train", "infer")
TRAINING_BATCHES = {"lenet": 256}
USUAL_TRAINING_BATCH = 16
INFERENCE_BATCHES = (1, 16)
DRAWN = 10
PAIRS, MIN_ROUNDS = 3, 2
# Two ways to round, relative to the largest of the losses or logits.
BOUND = 1e-3


def _worker(checkout: Path) -> Worker:
    return Worker(command_of(checkout, "bench.compare_worker"))


def cases(tasks: Sequence[str], models: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Task, model and batch size of all that is measured."""
    for model in models:
        if "train" in tasks:
            yield "train", model, TRAINING_BATCHES.get(model, USUAL_TRAINING_BATCH)
        if "infer" in tasks:
            for batch in INFERENCE_BATCHES:
                yield "infer", model, batch


def measure(
    checkouts: tuple[Path, Path],
    case: tuple[str, str, int],
    threads: int,
    *,
    pairs: int = PAIRS,
    rounds: int | None = None,
    budget: float = 0.0,
) -> dict[str, Any]:
    """The row of a case, measured in several pairs of processes, for two of the same code differ by some hundredths.

    ``ratio`` is the other's median time over ours: above 1, ours is faster. WrongResultError where the two differ.
    """
    task, model, batch = case
    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs):
        # Of two processes of the same code the one that starts first may be some hundredths slower all its life.
        order = (0, 1) if number % 2 == 0 else (1, 0)
        difference = _measure_pair(
            [checkouts[i] for i in order], case, threads, rounds, budget / pairs, [samples[i] for i in order]
        )
    medians = [statistics.median(taken) for taken in samples]
    return {
        "task": task,
        "model": model,
        "batch_size": batch,
        "algorithm": "auto",
        "threads": threads,
        "layer": machine.layer(backends.get("cpu")),
        "pairs": pairs,
        "rounds": len(samples[0]),
        "milliseconds": 1e3 * medians[0],
        "other_milliseconds": 1e3 * medians[1],
        "ratio": medians[1] / medians[0],
        "ratio_of_fastest": min(samples[1]) / min(samples[0]),
        "difference": difference,
    }


def _measure_pair(
    checkouts: Sequence[Path],
    case: tuple[str, str, int],
    threads: int,
    rounds: int | None,
    budget: float,
    samples: Sequence[list[float]],
) -> float:
    """Ask two new processes in turns, each of them first in every other round; how far their results are apart.

    They start in the order of ``checkouts``, and ``samples`` gain what they say.
    """
    task, model, batch = case
    with _worker(checkouts[0]) as first, _worker(checkouts[1]) as second:
        results = []
        for worker, checkout in ((first, checkouts[0]), (second, checkouts[1])):
            try:
                answer = worker.ask("prepare", task=task, model=model, batch_size=batch, threads=threads)
            except RuntimeError as error:
                raise UserError(f"{checkout}: {task} {model} {batch}: {error}") from error
            if Path(answer["package"]) != checkout / "numbacnn":
                raise UserError(f"{checkout} has no package numbacnn: {answer['package']} was imported")
            results.append(answer["results"])
        scale = max(map(abs, results[0]))
        difference = max(abs(one - two) for one, two in zip(*results, strict=True)) / scale
        if not difference <= BOUND:  # so that NaN is refused too
            raise WrongResultError(f"{task} {model} {batch}: the results differ by {difference:.1e} of the largest")
        begin, done = time.perf_counter(), 0
        while done < (rounds or MIN_ROUNDS) or (not rounds and time.perf_counter() - begin < budget):
            turns = [(first, samples[0]), (second, samples[1])]
            for worker, taken in turns if done % 2 == 0 else turns[::-1]:
                time.sleep(PAUSE)
                taken.append(worker.ask("sample"))
            done += 1
    return difference


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    other = arguments.other.resolve()
    if not (other / "numbacnn" / "__init__.py").is_file():
        raise UserError(f"{arguments.other} is no checkout: it has no numbacnn/__init__.py")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    facts = machine.describe()
    commit = _commit(other)
    say(f"{machine.title(facts)}; the other is {other} ({commit[:10]})")
    table = Table([("task", -5), ("model", -14), ("batch", 5), ("ours ms", 9), ("other ms", 9), ("ratio", 6),
                   ("of fastest", 10)])  # fmt: skip
    say(table.header())
    rows = []
    names = arguments.models or [*MODELS, *(draw(0, number).name for number in range(DRAWN))]
    for case in cases(arguments.task, names):
        row = measure(
            (ROOT, other),
            case,
            facts["threads"],
            pairs=arguments.pairs,
            rounds=arguments.rounds,
            budget=arguments.budget,
        )
        rows.append(row)
        times = [f"{row[key]:.3f}" for key in ("milliseconds", "other_milliseconds", "ratio", "ratio_of_fastest")]
        say(table.line([row["task"], row["model"], f"{row['batch_size']}", *times]))
    worst = min(rows, key=lambda row: row["ratio"])
    mean = geometric_mean([row["ratio"] for row in rows])
    say(f"geomean of {len(rows)}: {mean:.3f}; worst: {worst['task']} {worst['model']} {worst['batch_size']}: "
        f"{worst['ratio']:.3f}")  # fmt: skip
    write_results(
        arguments.output_dir / "compare-cpu.json",
        "compare",
        facts,
        machine.versions(),
        {
            "other_commit": commit,
            "pairs": arguments.pairs,
            "rounds": arguments.rounds,
            "budget_seconds": None if arguments.rounds else arguments.budget,
            "pause_seconds": PAUSE,
        },
        rows=rows,
        summary={"geometric_mean": mean, "worst": worst},
    )


def _commit(checkout: Path) -> str:
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description="Measure training steps and inference of whole models on the CPU with the package of this checkout "
        "and with that of another one, in processes that are asked in turns.",
        epilog="The ratio is the other's median time over ours: above 1, ours is faster.",
    )
    add = parser.add_argument
    add("other", type=Path, metavar="OTHER_CHECKOUT", help="a folder with another version's numbacnn in it")
    add(
        "--models",
        nargs="+",
        type=model_name(MODELS),
        metavar="NAME",
        help=f"{', '.join(MODELS)}, or a drawn network, as separable-0.1 (default: all, {DRAWN} drawn ones)",
    )
    add("--task", nargs="+", choices=TASKS, default=list(TASKS), help="default: both")
    add("--pairs", type=whole_number, default=PAIRS, metavar="N",
        help=f"pairs of processes in which each case is measured, one after the other (default: {PAIRS})")  # fmt: skip
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--rounds", type=whole_number, metavar="N", help="timed turns of each pair")
    extent.add_argument("--budget", type=seconds, default=5.0, metavar="SECONDS",
        help="instead of --rounds: time for each case, of all pairs (default: 5)")  # fmt: skip
    add("--output-dir", type=Path, default=RESULTS, metavar="DIR", help="for compare-cpu.json (default: bench/results)")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
