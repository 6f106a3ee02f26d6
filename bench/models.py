"""Training steps and inference of whole models, with peers beside them: ``python -m bench.models --help``."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numba

from numbacnn import backends
from numbacnn.backends import Backend

from . import gpu, machine, one_step, peers
from .command import (
    UserError,
    add_peer_option,
    add_ways_options,
    exit_code_with_threads,
    precisions_of,
    say,
    seconds,
    ways_of,
    whole_number,
)
from .model_rows import SCALED, Row, infer, scale_threads, train_steps
from .peers import Peers
from .precision import FULL, of_backend
from .report import PLOT_MISSING, Bar, Table, plot_bars, significant, write_results
from .timing import PAUSE, Timing, interleave
from .train_contenders import MODELS

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
TASKS = ("train", "infer", "memory", "start", "threads")
USUAL_TASKS = {"cuda": ("train", "infer")}
OF_THE_HOST = ("memory", "threads")
"""Tasks that say nothing of a GPU."""
INFERENCE_BATCHES = {"lenet": (1, 256)}
USUAL_INFERENCE_BATCHES = (1, 16)
STARTS = 3

ROWS = Table([("task", -7), ("model", -9), ("batch", 5), ("contender", -36), ("ms", 9), ("quartiles", 19),
              ("GFLOP/s", 7), ("peak", 6), ("threads", 7), ("ratio", 6), ("algorithm", -9)])  # fmt: skip
MEMORY = Table([("memory", -9), ("batch", 5), ("contender", -9), ("MiB", 9), ("before", 9), ("ratio", 6)])
START = Table([("start", -9), ("kernel cache", -12), ("seconds", 7)])


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models",
        description="Measure the training step and the inference of whole models.",
        epilog="The ratio is the best peer's figure over ours, in the same precision: above 1, ours is smaller. In "
        "bf16 PyTorch trains under autocast, and infers with everything in bfloat16. memory is what a model and "
        "its training add to the resident memory of a process that has imported everything; start is from the start "
        "of a process to the end of LeNet's first training step; threads is LeNet's training step with 1 thread, with "
        "2 and so on.",
    )
    add = parser.add_argument
    add("--task", nargs="+", choices=TASKS, help="default: train infer memory, on cuda train infer")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    add("--batch-size", type=whole_number, metavar="N", help="of training (default: the book's)")
    add_peer_option(parser)
    add_ways_options(parser)
    add("--backend", choices=backends.NAMES, default="cpu", help="default: cpu")
    add("--threads", type=whole_number, metavar="N", help="on the CPU, of our kernels and of the peers (default: all)")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--rounds", type=whole_number, metavar="N",
                        help=f"timed calls of each contender, or starts (default of these: {STARTS})")  # fmt: skip
    extent.add_argument("--budget", type=seconds, metavar="SECONDS", default=2.0,
                        help="instead of --rounds: time for each model, task and batch (default: 2)")  # fmt: skip
    add("--output-dir", type=Path, metavar="DIR", default=RESULTS,
        help="folder for models-BACKEND.json, models-BACKEND.png and memory-BACKEND.json "
        "(default: bench/results)")  # fmt: skip
    arguments = parser.parse_args(argv)
    arguments.task = arguments.task or list(USUAL_TASKS.get(arguments.backend, TASKS[:3]))
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    backend, participants = participants_of(arguments)
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output):
        pass  # to learn that nothing can be written there before everything is measured

    computer = machine.examine(backend)
    of_gpu = gpu.VERSIONS if backend.asynchronous else ()
    versions = machine.versions(*of_gpu, *participants.packages) | participants.libraries
    say(f"{computer.title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    say(f"{computer.limits}\nbackend {backend.name}")
    missing = dict(participants.missing)
    precisions = of_backend(backend, precisions_of(arguments)) or [FULL]
    peaks = {precision: computer.peak_in(precision) for precision in precisions}
    table_file, picture = (output / f"models-{backend.name}.{extension}" for extension in ("json", "png"))

    def write(rows: Sequence[Row], starts: Sequence[dict[str, Any]] = (), quietly: bool = False) -> None:
        write_results(
            table_file,
            "models",
            computer.facts,
            versions,
            {
                "backend": backend.name,
                "dtype": "float32",
                "precisions": precisions,
                "tasks": arguments.task,
                "peers": list(participants.names),
                "rounds": arguments.rounds,
                "budget_seconds": None if arguments.rounds else arguments.budget,
                "pause_seconds": _pause(backend),
            },
            quietly=quietly,
            rows=[asdict(row) for row in rows],
            start=starts,
            missing=missing,
        )

    # Time on a GPU is lent, and may end before all is measured.
    measured = partial(write, quietly=True) if backend.asynchronous else None
    rows = timed_rows(arguments, backend, participants, peaks, missing, measured)
    without_memory: dict[str, str] = {}
    memory = memory_rows(arguments, participants, without_memory) if "memory" in arguments.task else []
    starts = start_rows(arguments, participants) if "start" in arguments.task else []
    for name, reason in {**missing, **without_memory}.items():
        say(f"{name}: missing: {reason}")

    computer = computer.examined_again()
    rows = with_shares(rows, computer)
    if memory:
        write_results(
            output / f"memory-{backend.name}.json",
            "memory",
            computer.facts,
            versions,
            {"backend": backend.name, "dtype": "float32", "steps": one_step.MEMORY_STEPS},
            rows=memory,
            missing=without_memory,
        )
    if not rows and not starts:
        return
    write(rows, starts)
    panels = panels_of(rows)
    if not panels:
        return
    try:
        plot_bars(
            picture,
            panels,
            title=f"models on {computer.title}",
            unit="GFLOP/s",
            ceiling=computer.peak,
            ceiling_label=f"peak {computer.peak:.0f} GFLOP/s",
        )
    except ImportError:
        say(PLOT_MISSING)
    else:
        say(f"written: {picture}")


def with_shares(rows: Sequence[Row], computer: machine.Machine) -> list[Row]:
    """The rows with shares of the peak as it is known in the end; those of fewer threads have one of their own."""
    return [
        row if row.task == "threads" else replace(row, share_of_peak=row.gflops / computer.peak_in(row.precision))
        for row in rows
    ]


def participants_of(arguments: argparse.Namespace) -> tuple[Backend, Peers]:
    """The backend and the peers; UserError for what cannot be measured here."""
    try:
        backend = backends.get(arguments.backend)
        device = "cuda" if backend.name == "cuda" else "cpu"
        participants = peers.load(arguments.peer, numba.get_num_threads(), device, ways_of(arguments))
    except (RuntimeError, ImportError) as error:
        raise UserError(str(error)) from error
    for task in OF_THE_HOST if backend.asynchronous else ():
        if task in arguments.task:
            raise UserError(f"--task {task} is of backends on the CPU, not of {backend.name}")
    if "memory" in arguments.task and not one_step.MEMORY_RESET.exists():
        raise UserError(f"--task memory needs {one_step.MEMORY_RESET}, which Linux has")
    return backend, participants


def _pause(backend: Backend) -> float:
    """Between samples, for threads; a device has none of ours."""
    return 0.0 if backend.asynchronous else PAUSE


def timed_rows(
    arguments: argparse.Namespace,
    backend: Backend,
    participants: Peers,
    peaks: Mapping[str, float],
    missing: dict[str, str],
    measured: Callable[[Sequence[Row]], None] | None = None,
) -> list[Row]:
    """The rows of train, infer and threads, printed as they come, after each case given to ``measured``.

    ``missing`` gains who cannot take part.
    """

    def time_all(functions: Any, waits: Any) -> dict[str, Timing]:
        return interleave(
            functions, rounds=arguments.rounds, budget=arguments.budget, pause=_pause(backend), waits=waits
        )

    rows: list[Row] = []

    def add(new: Sequence[Row]) -> None:
        if not rows:
            say(ROWS.header())
        for row in new:
            rows.append(row)
            say(ROWS.line(cells_of(row)))

    cases = []
    if "train" in arguments.task:
        cases += [(train_steps, name, training_batch(arguments, name)) for name in arguments.models]
    if "infer" in arguments.task:
        for name in arguments.models:
            cases += [(infer, name, batch) for batch in INFERENCE_BATCHES.get(name, USUAL_INFERENCE_BATCHES)]
    for measure, name, batch in cases:
        new, refused = measure(name, MODELS[name], batch, backend, participants, time_all, peaks)
        add(new)
        task = "train" if measure is train_steps else "infer"
        missing.update({f"{task} {name} {batch} {contender}": reason for contender, reason in refused.items()})
        if measured is not None:
            measured(rows)
    if "threads" in arguments.task:
        for new in scale_threads(training_batch(arguments, SCALED), backend, participants, time_all):
            add(new)
    return rows


def training_batch(arguments: argparse.Namespace, name: str) -> int:
    """How many images a model is trained on at once."""
    return arguments.batch_size or MODELS[name].batch_size


def cells_of(row: Row) -> list[str]:
    """A row as the table shows it."""
    quartiles = " - ".join(f"{value:.3f}" for value in row.quartiles)
    cells = [row.task, row.model, f"{row.batch_size}", row.contender, f"{row.milliseconds:.3f}", quartiles]
    cells += [significant(row.gflops), f"{row.share_of_peak:.1%}", "" if row.threads is None else f"{row.threads}"]
    return [*cells, significant(row.ratio) if row.ratio else "", row.algorithm]


def memory_rows(arguments: argparse.Namespace, participants: Peers, missing: dict[str, str]) -> list[dict[str, Any]]:
    """Of each model, what it and its training, by us and by PyTorch, add to the memory of a process."""
    say(MEMORY.header())
    contenders = one_step.CONTENDERS if "torch" in participants.names else one_step.CONTENDERS[:1]
    rows = []
    for model in arguments.models:
        batch = training_batch(arguments, model)
        found: dict[str, dict[str, Any]] = {}
        for contender in contenders:
            # Compiling takes memory too, so one process fills the cache of kernels and the next one is measured.
            processes = 2 if contender == "numbacnn" else 1
            try:
                for _ in range(processes):
                    figures = one_step.measure(
                        "memory", contender, model, batch, arguments.backend, numba.get_num_threads()
                    )
            except RuntimeError as error:
                missing[f"memory {model} {batch} {contender}"] = str(error)
                continue
            found[contender] = {"model": model, "batch_size": batch, "contender": contender, **figures, "ratio": None}
        if len(found) > 1:
            found["numbacnn"]["ratio"] = found["torch"]["bytes"] / found["numbacnn"]["bytes"]
        for row in found.values():
            mebibytes = (f"{row[key] / 2**20:.1f}" for key in ("bytes", "bytes_before"))
            ratio = significant(row["ratio"]) if row["ratio"] else ""
            say(MEMORY.line([model, f"{batch}", row["contender"], *mebibytes, ratio]))
        rows += found.values()
    return rows


def start_rows(arguments: argparse.Namespace, participants: Peers) -> list[dict[str, Any]]:
    """Seconds to the end of LeNet's first step, with an empty cache of kernels, with a full one, and PyTorch's."""

    def start(contender: str, folder: Path) -> float:
        batch, threads = training_batch(arguments, SCALED), numba.get_num_threads()
        try:
            figures = one_step.measure("start", contender, SCALED, batch, arguments.backend, threads, folder)
        except RuntimeError as error:
            raise UserError(f"the process of {contender} failed: {error}") from error
        return float(figures["seconds"])

    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.rounds or STARTS):
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("empty", "full"):
                samples.setdefault(("numbacnn", cache), []).append(start("numbacnn", Path(folder)))
            if "torch" in participants.names:
                samples.setdefault(("torch", ""), []).append(start("torch", Path(folder)))
    say(START.header())
    rows = []
    for (contender, cache), times in samples.items():
        median = statistics.median(times)
        rows.append({"contender": contender, "kernel_cache": cache or None, "seconds": median, "samples": times})
        say(START.line([contender, cache, f"{median:.2f}"]))
    return rows


def panels_of(rows: Sequence[Row]) -> dict[str, dict[str, list[Bar]]]:
    """GFLOP/s of training, of inference of one image and of inference of more, by model."""
    panels: dict[str, dict[str, list[Bar]]] = {}
    for row in rows:
        if row.task == "threads":
            continue
        of_inference = "inference, one image" if row.batch_size == 1 else "inference, a batch"
        heading = "training step" if row.task == "train" else of_inference
        panels.setdefault(heading, {}).setdefault(row.model, []).append((row.contender, row.gflops))
    return panels


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    return exit_code_with_threads(parse_arguments(argv), run)


if __name__ == "__main__":
    sys.exit(main())
