"""Training by several ranks: how much faster, what the exchange costs, and how far it goes: ``python -m bench.scale``.

All processes stay alive and are asked in turns. What joins ranks is the memory of this machine, or, where network
namespaces can be made, a wire between two of them with a rate and a delay; its work is that of the same processors.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numbacnn import backends
from numbacnn.distributed.launch import INSTALL
from numbacnn.sharding import PIECE_BYTES

from . import machine, wire
from .ceilings import peak_gflops
from .command import UserError, exit_code, say, seconds
from .report import PLOT_MISSING, Table, significant, write_results
from .scale_model import Computation, Link
from .scale_ranks import ranks
from .scale_report import draw, predictions
from .scale_rows import (
    CHECKS,
    MEMORY,
    SHARDS,
    SIZES,
    STEPS,
    WIRES,
    Clock,
    Wire,
    checks,
    computation_of,
    exchanges,
    hidden,
    link_of,
    of_network,
    of_two_ranks,
    packing,
    set_shares,
    steps,
)

__all__ = ["BATCHES", "main"]

RESULTS = Path(__file__).parent / "results"
BATCHES = {"lenet": 512, "resnet": 128, "vgg": 64}
"""Images of a step, of all ranks together."""
EXCHANGED = "resnet"
"""The network that is trained over wires, and by more ranks than there are."""
WEIGHTS = {"lenet": 0.4}
"""Of the time for a network; 1 for others, and for a wire."""
PREDICTED = Table([("rank", -22), ("network", -10), ("ranks", 5), ("ms", 8), ("efficiency", 10), ("bound", -11)])


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description="Measure training steps of two ranks beside those of one process, what the exchange of gradients "
        "costs, over the machine's memory and over wires between network namespaces; fit a model of the step, check "
        "it, and predict what many ranks would do.",
        epilog="Ratios are medians over rounds: one process of two threads, or of one, over the contender. Wires need "
        "root on Linux, and are left out without.",
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=tuple(BATCHES), default=list(BATCHES), help="default: all")
    add("--budget", type=seconds, default=360.0, metavar="SECONDS",
        help="about how long everything takes, but at least three rounds (default: 360)")  # fmt: skip
    add("--small", action="store_true", help="LeNet alone, 64 images, no wires: to see that it works")
    add("--output-dir", type=Path, metavar="DIR", default=RESULTS,
        help="folder for scale-cpu.json and scale-cpu.png (default: bench/results)")  # fmt: skip
    arguments = parser.parse_args(argv)
    if EXCHANGED not in arguments.models and not arguments.small:
        parser.error(f"argument --models: {EXCHANGED} must be among them, by which the model of the step is fitted")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    begin = time.perf_counter()
    batches, exchanged, wires, sizes = {name: BATCHES[name] for name in arguments.models}, EXCHANGED, WIRES, SIZES
    if arguments.small:
        batches, exchanged, wires, sizes = {"lenet": 64}, "lenet", {}, SIZES[:3]
    if find_spec("mpi4py") is None or not wire.MPIEXEC.exists():
        raise UserError(f"ranks need mpi4py and MPICH in this environment: {INSTALL}")
    missing: dict[str, str] = {}
    if wires and (why := wire.why_not()):
        missing, wires = {"wires": why}, {}
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    computer, versions = machine.examine(backends.get("cpu")), machine.versions("mpi4py", "mpich")
    say(f"{computer.title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    weights = {name: WEIGHTS.get(name, 1.0) for name in batches}
    clock = Clock(begin + arguments.budget, math.fsum(weights.values()) + len(wires))
    try:
        measured = _Measured(exchanged, batches[exchanged], sizes)
        with ranks(1, 2) as two, ranks(1, 1) as one:
            with ranks(2, 1, wire.here(2)) as both:
                say(STEPS.header())
                for name, batch in batches.items():
                    share = clock.share(weights[name])
                    measured.rows += of_network(name, batch, two, one, both, share)
                two.ask("forget")
                measured.prepare_model(one, both)
            one.ask("forget")
            for name, made in wires.items():
                measured.over(name, made, clock.share(1.0))
    except RuntimeError as error:
        raise UserError(f"ranks failed: {error}") from error
    computer = computer.examined_again()
    threads = computer.facts["threads"]
    peaks = {1: computer.facts["peak_gflops_1_thread"], 2: computer.peak if threads == 2 else peak_gflops(2)}
    set_shares(measured.rows, peaks)
    say(CHECKS.header())
    checked = checks(measured.rows_of_exchanged, measured.computations, measured.links)
    predicted = predictions(
        measured.computations[2], batches[exchanged] // 2, measured.links[next(iter(wires), MEMORY)].overhead
    )
    say(PREDICTED.header())
    for row in predicted:
        cells = [row["rank"], row["network"], f"{row['ranks']}", significant(row["milliseconds"])]
        say(PREDICTED.line([*cells, f"{row['efficiency']:.2f}", row["bound"]]))
    settings = {
        "backend": "cpu", "dtype": "float32", "batches": batches, "exchanged": exchanged, "piece_bytes": PIECE_BYTES,
        "budget_seconds": arguments.budget,
    }  # fmt: skip
    results = {
        "rows": measured.rows, "hidden": hidden(measured.rows), "links": measured.link_rows(),
        "computation": measured.computations[2]._asdict(), "checks": checked, "predictions": predicted,
        "missing": missing,
    }  # fmt: skip
    write_results(output / "scale-cpu.json", "scale", computer.facts, versions, settings, **results)
    try:
        draw(predicted, output / "scale-cpu.png", f"{exchanged}, {batches[exchanged] // 2} images in each rank")
    except ImportError:
        say(PLOT_MISSING)
    else:
        say(f"written: {output / 'scale-cpu.png'}")


class _Measured:
    """What there is so far, and what of it is of the network that is exchanged over all links."""

    def __init__(self, exchanged: str, batch: int, sizes: Sequence[int]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.links: dict[str, Link] = {}
        self.computations: dict[int, Computation] = {}
        """By the number of shards, of which each rank has as many."""
        self._exchanged, self._batch, self._sizes = exchanged, batch, sizes
        self._alone: list[dict[str, Any]] = []
        self._copying = 0.0

    @property
    def rows_of_exchanged(self) -> list[dict[str, Any]]:
        """Of one network."""
        return [row for row in self.rows if row["model"] == self._exchanged]

    def prepare_model(self, one: Any, both: Any) -> None:
        """What a rank computes, and the exchange through the memory."""
        self._copying = packing(one)
        for shards in SHARDS:
            found = computation_of(one, self._exchanged, self._batch // shards, self._copying)
            self.computations[shards] = found
        self._fit(MEMORY, both, 0.0, free=True)

    def over(self, name: str, made: Wire, budget: float) -> None:
        """Exchanges and steps over a wire."""
        end = time.perf_counter() + budget
        with tempfile.TemporaryDirectory() as folder, wire.two_machines(*made) as (first, second):
            launcher = first.command(*wire.mpiexec(Path(folder), second), "-n", "2")
            with ranks(2, 1, launcher, wire.TCP) as both:
                self._fit(name, both, made.delay, free=made.rate is None)
                both.every("prepare", model=self._exchanged, samples=self._batch)
                left = max(0.1, end - time.perf_counter())
                rows = steps(self._exchanged, name, of_two_ranks(both), left)
                self.rows += [{**row, "batch_size": self._batch} for row in rows]

    def _fit(self, name: str, both: Any, delay: float, free: bool) -> None:
        found = exchanges(name, both, self._sizes, self._copying)
        self._alone.append(found)
        self.links[name] = link_of(found, delay, None if free else self._alone[1])

    def link_rows(self) -> list[dict[str, Any]]:
        """The links with the exchanges that they are fitted to."""
        return [{**alone, **self.links[alone["link"]]._asdict()} for alone in self._alone]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for an impossible result, 2 for what the user can put right."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
