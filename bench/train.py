"""Training throughput, beside PyTorch's, on data that stays on the device: ``python -m bench.train --help``."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numba

from numbacnn import backends
from numbacnn.backends import Backend

from . import gpu, machine, peers
from .command import (
    UserError,
    WrongResultError,
    add_peer_option,
    add_ways_options,
    exit_code,
    precisions_of,
    say,
    ways_of,
    whole_number,
)
from .contender import is_ours, reason
from .model_contenders import algorithms_of
from .peers import Peers
from .precision import FULL, compared_with, of_backend, suffix
from .report import Table, significant, write_results
from .timing import PAUSE
from .train_contenders import MODELS, Contender, Ours, Task

__all__ = ["main", "makers", "one_epoch", "warmed_up"]

RESULTS = Path(__file__).parent / "results"
EXAMPLES = {"cuda": 1 << 16}
FEW_EXAMPLES = 1 << 14
MIN_EPOCHS = 3
HOST_STEPS = 20
# Two ways to round, over an epoch of updates.
LOSS_BOUNDS = {FULL: 1e-2, "tf32": 2e-2, "bf16": 1e-1}
STEPS_WITHOUT_DROPOUT = 2


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.train",
        description="Measure training over whole epochs: loading, forward, loss, backward and update.",
        epilog="ms/step is a whole epoch's time over its steps; host ms is the time until the calls that load and "
        "train a batch have returned, begun when nothing is left to do; launches are kernels in a step. In bf16 "
        "PyTorch computes under autocast. Times are over ours in the same precision.",
    )
    add = parser.add_argument
    add("--model", choices=MODELS, default="lenet", help="default: lenet")
    add("--backend", choices=backends.NAMES, default="cpu", help="default: cpu")
    add_peer_option(parser)
    add_ways_options(parser)
    add("--batch-size", type=whole_number, metavar="N", help="default: the book's")
    add("--examples", type=whole_number, metavar="N",
        help=f"in an epoch, without a last batch that is not full (default: {FEW_EXAMPLES}, on cuda {EXAMPLES['cuda']})"
        )  # fmt: skip
    add("--epochs", type=_epochs, default=5, metavar="N", help="timed ones, after one to warm up (default: 5)")
    add("--output-dir", type=Path, metavar="DIR", default=RESULTS,
        help="folder for train-MODEL-BACKEND.json (default: bench/results)")  # fmt: skip
    arguments = parser.parse_args(argv)
    arguments.batch_size = arguments.batch_size or MODELS[arguments.model].batch_size
    return arguments


def _epochs(text: str) -> int:
    value = whole_number(text)
    if value < MIN_EPOCHS:
        raise argparse.ArgumentTypeError(f"{value} must be at least {MIN_EPOCHS}")
    return value


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    backend, rivals = participants(arguments)
    examples = arguments.examples or EXAMPLES.get(backend.name, FEW_EXAMPLES)
    task = Task(MODELS[arguments.model], examples, arguments.batch_size)
    if not task.steps:
        raise UserError(f"--examples {examples} are fewer than the {task.batch_size} of a batch")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)

    computer = machine.examine(backend)
    of_gpu = gpu.VERSIONS if backend.asynchronous else ()
    versions = machine.versions(*of_gpu, *rivals.packages) | rivals.libraries
    precisions = of_backend(backend, precisions_of(arguments)) or [FULL]
    say(f"{computer.title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    say(f"{arguments.model} on {backend.name}: epochs of {task.steps} steps of {task.batch_size} examples")
    with rivals.case():
        contenders, missing, losses = warmed_up(task, lambda task: makers(task, backend, rivals, precisions))
        rows = measure(contenders, task, arguments.epochs)
    missing = {**rivals.missing, **dict.fromkeys(rivals.only_infer, "it does not train"), **missing}
    algorithms = {precision: algorithms_of(task, backend, True, precision) for precision in precisions}
    table = Table([("contender", -36), ("mode", -8), ("examples/s", 10), ("ms/step", 8), ("host ms", 8),
                   ("launches", 16), ("time / ours", 11)])  # fmt: skip
    say(table.header())
    for row in rows:
        say(table.line(cells_of(row)))
    for name, why in missing.items():
        say(f"{name}: missing: {why}")
    path = arguments.output_dir / f"train-{arguments.model}-{backend.name}.json"
    write_results(
        path,
        "train",
        computer.facts,
        versions,
        {
            "model": arguments.model,
            "backend": backend.name,
            "dtype": "float32",
            "precisions": precisions,
            "peers": list(rivals.names),
            "batch_size": task.batch_size,
            "steps": task.steps,
            "epochs": arguments.epochs,
            "lr": task.model.lr,
        },
        rows=[
            {
                **row,
                "algorithm": algorithms[row["precision"]] if is_ours(row["name"]) else row["mode"],
                "threads": None if backend.asynchronous else numba.get_num_threads(),
                "layer": machine.layer(backend) if is_ours(row["name"]) else None,
                "first_epoch_loss": losses[row["name"]],
            }
            for row in rows
        ],
        missing=missing,
    )


def participants(arguments: argparse.Namespace) -> tuple[Backend, Peers]:
    """The backend, and who trains beside us."""
    try:
        backend = backends.get(arguments.backend)
        device = "cuda" if backend.name == "cuda" else "cpu"
        return backend, peers.load(arguments.peer, numba.get_num_threads(), device, ways_of(arguments))
    except (RuntimeError, ImportError) as error:
        raise UserError(str(error)) from error


def makers(
    task: Task, backend: Backend, rivals: Peers, precisions: Sequence[str] = (FULL,)
) -> dict[str, Callable[[], Contender]]:
    """Who takes part, by name, we first."""
    ours = {"numbacnn" + suffix(precision): partial(Ours, task, backend, precision) for precision in precisions}
    return {**ours, **rivals.training(task)}


def warmed_up(
    task: Task, makers_of: Callable[[Task], dict[str, Callable[[], Contender]]]
) -> tuple[list[Contender], dict[str, str], dict[str, float]]:
    """The contenders after an epoch each, why others are missing, and the loss of that epoch.

    Where the model has dropout, the losses are those of other contenders that train a few steps without it.

    Args:
        makers_of: what makes the contenders of a task, by name, we first.

    One that rounds what it multiplies, and whose loss is farther off than that explains, is among the missing. Raises
    WrongResultError where another loss is not ours.
    """
    contenders: list[Contender] = []
    missing, losses = {}, {}
    examples = min(task.examples, STEPS_WITHOUT_DROPOUT * task.batch_size)
    judges = makers_of(replace(task, examples=examples, dropout=False)) if task.has_dropout else {}
    for name, make in makers_of(task).items():
        try:
            if judges:
                _, losses[name] = one_epoch(judges[name](), 0)
            contender = make()
            _, loss = one_epoch(contender, 0)
        except Exception as error:
            if not contenders:
                raise
            losses.pop(name, None)
            missing[name] = reason(error)
            continue
        losses.setdefault(name, loss)
        precision, ours = compared_with(contender.precision), losses[contenders[0].name if contenders else name]
        if not abs(losses[name] - ours) <= LOSS_BOUNDS[precision] * abs(ours):  # so that NaN is refused too
            text = f"after the same epoch {name} has the loss {losses[name]:.4f}, ours is {ours:.4f}"
            if precision == FULL or is_ours(name):
                raise WrongResultError(text)
            missing[name] = text
            del losses[name]
            continue
        contenders.append(contender)
    return contenders, missing, losses


def one_epoch(contender: Contender, epoch: int) -> tuple[float, float]:
    """Seconds from the first batch asked for to the last update done, and the mean loss."""
    start = time.perf_counter()
    for x, y in contender.batches(epoch):
        contender.step(x, y)
    loss = contender.mean_loss()
    contender.wait()
    return time.perf_counter() - start, loss


def host_seconds(contender: Contender) -> float:
    """Seconds until the calls for a batch and its step return, begun when nothing is left to do; a median."""
    batches, samples = contender.batches(0), []
    for _ in range(HOST_STEPS):
        contender.wait()
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        contender.step(*batch)
        samples.append(time.perf_counter() - start)
    contender.mean_loss()
    return statistics.median(samples)


def measure(contenders: Sequence[Contender], task: Task, epochs: int) -> list[dict[str, Any]]:
    """A row for each contender; they train in turns, an epoch each, after a pause for the threads of the one before."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for epoch in range(1, epochs + 1):
        for contender in contenders:
            time.sleep(PAUSE)
            times[contender.name].append(one_epoch(contender, epoch)[0])
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    # Where ours are there in float32 and in three TF32 products, the former stand for both.
    ours = {compared_with(c.precision): medians[c.name] for c in reversed(contenders) if is_ours(c.name)}
    ours = ours or {FULL: medians[contenders[0].name]}
    rows = []
    for contender in contenders:
        median, equal = medians[contender.name], ours.get(compared_with(contender.precision))
        rows.append(
            {
                "name": contender.name,
                "mode": contender.mode,
                "precision": contender.precision,
                "layout": getattr(contender, "layout", None),
                "examples_per_second": task.steps * task.batch_size / median,
                "milliseconds_per_step": 1e3 * median / task.steps,
                "host_milliseconds_per_step": 1e3 * host_seconds(contender),
                "epoch_seconds": times[contender.name],
                "launches_per_step": getattr(contender, "last_launches", None),
                "launches_plain_step": getattr(contender, "first_launches", None),
                "time_over_ours": median / equal if equal else None,
            }
        )
    return rows


def cells_of(row: dict[str, Any]) -> list[str]:
    """A row as the table shows it."""
    launches, plain = row["launches_per_step"], row["launches_plain_step"]
    text = "" if launches is None else f"{launches}"
    if row["mode"] == "captured" and launches is not None:
        text = f"{launches} (graph of {plain})"
    cells = [row["name"], row["mode"], f"{row['examples_per_second']:.0f}", f"{row['milliseconds_per_step']:.3f}"]
    return [
        *cells,
        f"{row['host_milliseconds_per_step']:.3f}",
        text,
        significant(row["time_over_ours"]) if row["time_over_ours"] else "",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
