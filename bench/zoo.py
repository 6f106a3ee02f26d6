"""Networks that nothing is tuned to, drawn from a seed, beside the named ones: ``python -m bench.zoo --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numba

from numbacnn import backends
from numbacnn.backends import use_backend

from . import machine, peers
from .ceilings import peak_gflops
from .command import UserError, add_peer_option, exit_code, say, seconds, whole_number
from .contender import stands_for_us
from .drawn import Drawn, draw, network_of
from .model_rows import STEADY_LR, Row, infer, train_steps
from .precision import FULL
from .report import Table, geometric_mean, significant, write_results
from .timing import PAUSE, Timing, interleave
from .train_contenders import MODELS, Model

__all__ = ["main", "summary"]

RESULTS = Path(__file__).parent / "results"
TASKS = {"train": train_steps, "infer": infer}
BATCHES, THREADS, DRAWN = (1, 16, 128), (1, 2), 7
DRAWN_KIND, NAMED_KIND = "drawn", "named"

ROWS = Table([("threads", 7), ("task", -5), ("network", -15), ("batch", 5), ("contender", -20), ("ms", 9),
              ("GFLOP/s", 7), ("peak", 6), ("ratio", 6), ("best peer", -20)])  # fmt: skip


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.zoo",
        description="Measure training steps and inference of named networks and of ones drawn from a seed, in float32 "
        "on the CPU.",
        epilog="The ratio is the best peer's time over ours: above 1, ours is faster. The means are geometric ones. "
        "Everything with every library takes more than an hour; results are written after each network.",
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the drawn networks (default: 0)")
    add("--drawn", type=int, metavar="N", default=DRAWN, help=f"how many to draw (default: {DRAWN})")
    add("--models", nargs="*", choices=MODELS, default=list(MODELS), help="named networks (default: all)")
    add("--task", nargs="+", choices=TASKS, default=list(TASKS), help="default: both")
    add("--batch-size", nargs="+", type=whole_number, metavar="N", default=BATCHES, help=f"default: {BATCHES}")
    add("--threads", nargs="+", type=whole_number, metavar="N", help="default: 1 and 2, as far as there are cores")
    add_peer_option(parser)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--rounds", type=whole_number, metavar="N", help="timed calls of each contender")
    extent.add_argument("--budget", type=seconds, metavar="SECONDS", default=1.0,
                        help="instead of --rounds: time for each case (default: 1)")  # fmt: skip
    add("--output-dir", type=Path, metavar="DIR", default=RESULTS,
        help="folder for zoo-cpu.json (default: bench/results)")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.seed < 0 or arguments.drawn < 0:
        parser.error("--seed and --drawn must not be below 0")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    available = numba.get_num_threads()
    chosen = arguments.threads or [number for number in THREADS if number <= available]
    if max(chosen) > available:
        raise UserError(f"--threads {max(chosen)} is more than the {available} that there are")
    try:
        backend = backends.get("cpu")
        participants = peers.load(arguments.peer, max(chosen))
    except (RuntimeError, ImportError) as error:
        raise UserError(str(error)) from error
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output):
        pass  # to learn that nothing can be written there before everything is measured

    computer = machine.examine(backend)
    versions = machine.versions(*participants.packages)
    say(f"{computer.title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    say(computer.limits)
    networks = {name: MODELS[name] for name in arguments.models}
    drawn = [draw(arguments.seed, number) for number in range(arguments.drawn)]
    for network in drawn:
        say(f"{network.name}  {network.text}")
        networks[network.name] = _model_of(network)
    say(ROWS.header())
    peaks = {number: peak_gflops(number) for number in chosen}
    rows: list[Row] = []
    missing = dict(participants.missing)
    try:
        for name, model in networks.items():
            for number in chosen:
                numba.set_num_threads(number)
                participants.set_threads(number)
                for new, refused in _cases(arguments, name, model, participants, peaks[number]):
                    rows += new
                    for row in new:
                        say(ROWS.line(_cells(row)))
                    missing.update(refused)
            # The machine may have been slower than it can be when its ceilings were measured.
            computer = computer.examined_again()
            peaks = {number: max(peak, peak_gflops(number)) for number, peak in peaks.items()}
            rows = [replace(row, share_of_peak=row.gflops / peaks[row.threads or 1]) for row in rows]
            _write(arguments, computer, versions, participants, drawn, rows, missing)
    finally:
        numba.set_num_threads(available)
    for line in summary(rows, [network.name for network in drawn]):
        say(line)


def _model_of(network: Drawn) -> Model:
    def in_torch() -> Any:
        from .torch_graph import to_torch

        with use_backend("reference"):
            return to_torch(network_of(network.text))

    return Model(lambda: network_of(network.text), in_torch, network.image_shape, 10, STEADY_LR)


def _cases(
    arguments: argparse.Namespace, name: str, model: Model, participants: peers.Peers, peak: float
) -> Iterator[tuple[list[Row], dict[str, str]]]:
    """The rows of a network with the threads that are set, and why contenders are missing in each case."""

    def time_all(functions: Any, waits: Any) -> dict[str, Timing]:
        return interleave(functions, rounds=arguments.rounds, budget=arguments.budget, pause=PAUSE, waits=waits)

    for task in arguments.task:
        for batch in arguments.batch_size:
            case = f"{task} {name} {batch} on {numba.get_num_threads()} threads"
            try:
                rows, refused = TASKS[task](
                    name, model, batch, backends.get("cpu"), participants, time_all, {FULL: peak}
                )
            except ValueError as error:  # a norm that sees a single value learns nothing from a batch of one
                if task != "train" or batch > 1:
                    raise
                yield [], {case: str(error)}
                continue
            yield rows, {f"{case} {contender}": reason for contender, reason in refused.items()}


def _cells(row: Row) -> list[str]:
    """A row as the table shows it."""
    cells = [f"{row.threads}", row.task, row.model, f"{row.batch_size}", row.contender, f"{row.milliseconds:.3f}"]
    cells += [significant(row.gflops), f"{row.share_of_peak:.1%}"]
    return [*cells, significant(row.ratio) if row.ratio else "", row.best_peer or ""]


def _write(
    arguments: argparse.Namespace,
    computer: machine.Machine,
    versions: dict[str, str | None],
    participants: peers.Peers,
    drawn: Sequence[Drawn],
    rows: Sequence[Row],
    missing: dict[str, str],
) -> None:
    settings = {
        "backend": "cpu",
        "dtype": "float32",
        "seed": arguments.seed,
        "drawn": {network.name: network.text for network in drawn},
        "peers": list(participants.names),
        "rounds": arguments.rounds,
        "budget_seconds": None if arguments.rounds else arguments.budget,
        "pause_seconds": PAUSE,
    }
    path = arguments.output_dir / "zoo-cpu.json"
    write_results(path, "zoo", computer.facts, versions, settings, rows=[asdict(row) for row in rows], missing=missing)


def summary(rows: Sequence[Row], drawn: Sequence[str]) -> list[str]:
    """For each number of threads, task, batch size and kind of network: the mean ratio, and the worst with its name.

    Of inference these are the sessions'.
    """
    found: dict[tuple[Any, ...], list[tuple[float, str]]] = {}
    for row in rows:
        if stands_for_us(row.contender, row.task) and row.ratio:
            kind = DRAWN_KIND if row.model in drawn else NAMED_KIND
            key = (row.threads, row.task, row.batch_size, kind)
            found.setdefault(key, []).append((row.ratio, row.model))
    return [
        f"{threads} threads, {task}, batch {batch}, {kind}: mean of {len(ratios)} is "
        f"{geometric_mean([ratio for ratio, _ in ratios]):.2f}, worst {min(ratios)[0]:.2f} ({min(ratios)[1]})"
        for (threads, task, batch, kind), ratios in sorted(found.items())
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
