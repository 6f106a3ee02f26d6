"""What runs the chunks of kernels, compared: our threads and Numba's layers; ``python -m bench.runtime --help``.

Each runtime is in a process of its own that stays alive; they are asked in turns. The networks are not the ones that
anything is tuned to, but for LeNet. What else the machine does meanwhile is part of the question: a call on a busy
machine waits for threads that do not get to run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numbacnn import backends

from . import machine
from .command import UserError, exit_code, say, seconds, whole_number
from .report import Table, geometric_mean, significant, write_results
from .runtime_worker import NETWORKS, WORKS
from .timing import PAUSE
from .worker import Worker, command_of

__all__ = ["SITUATIONS", "main", "summary"]

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
WORKER = "bench.runtime_worker"
RUNTIMES = ("workers", "omp", "tbb", "workqueue")
# Of a library whose threads watch for work: how long they do after each call, and how long the next call takes to come.
SPIN_SECONDS, REST_SECONDS = 0.005, 0.005
BUSY = """
print("ready", flush=True)
while True: pass
"""
SPINNING = f"""
import threading, time, numba, numpy
@numba.njit(nogil=True)
def spin(words):
    for _ in range(1000):
        words[0] = words[1]
words = numpy.zeros(16)
spin(words)
def serve():
    while True:
        end = time.perf_counter() + {SPIN_SECONDS}
        while time.perf_counter() < end:
            spin(words)
        time.sleep({REST_SECONDS})
for _ in range(2):
    threading.Thread(target=serve).start()
print("ready", flush=True)
"""


class Runtime(NamedTuple):
    """Of which state of the project, and what tells its processes."""

    checkout: Path
    environment: dict[str, str]


class Situation(NamedTuple):
    """``idle``: seconds of sleep before each call. ``beside``: the command that runs meanwhile, of (checkout, row)."""

    idle: float = 0.0
    beside: Callable[[Path, tuple[str, str]], Sequence[str]] | None = None


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


SITUATIONS = {
    "back to back": Situation(),
    "after 2 ms": Situation(0.002),
    "after 30 ms": Situation(0.03),
    "beside a busy loop": Situation(beside=lambda *_: _python("-c", BUSY)),
    "beside spinning threads": Situation(beside=lambda *_: _python("-c", SPINNING)),
    "two processes": Situation(beside=lambda checkout, row: command_of(checkout, WORKER, "--repeat", *row)),
}


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.runtime",
        description="Measure what runs the chunks of kernels, in turns, at rest and beside other programs.",
        epilog="A cell is milliseconds, a mean of calls; ratios are geometric means, over the first's times.",
    )
    add = parser.add_argument
    add("--runtime", action="append", choices=RUNTIMES, help="default: workers and omp; may be repeated")
    add("--other", type=Path, metavar="CHECKOUT", help="also the runtime of another state of this project")
    add("--network", action="append", choices=tuple(NETWORKS), help="default: all; may be repeated")
    add("--threads", action="append", type=whole_number, metavar="N", help="default: 1 and 2; may be repeated")
    add("--seconds", type=seconds, default=0.3, help="of each measurement (default: 0.3)")
    add(
        "--output-dir",
        type=Path,
        metavar="DIR",
        default=RESULTS,
        help="folder for runtime-cpu.json (default: bench/results)",
    )
    return parser.parse_args(argv)


@contextlib.contextmanager
def _beside(command: Sequence[str] | None, environment: dict[str, str]) -> Iterator[None]:
    """While ``command`` runs, once it has said that it does."""
    if command is None:
        yield
        return
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    if "NUMBA_THREADING_LAYER" in os.environ:
        raise UserError("NUMBA_THREADING_LAYER must not be set: it is what is compared")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    runtimes = {
        name: Runtime(ROOT, {} if name == "workers" else {"NUMBA_THREADING_LAYER": name})
        for name in arguments.runtime or ("workers", "omp")
    }
    if arguments.other is not None:
        if not (arguments.other / "numbacnn").is_dir():
            raise UserError(f"--other {arguments.other} must be a checkout of this project")
        runtimes["other"] = Runtime(arguments.other.resolve(), {})
    computer, versions = machine.examine(backends.get("cpu")), machine.versions()
    say(f"{computer.title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    table = Table([("network", -16), ("work", -24), ("threads", 7), ("runtime", -8),
                   *((name, len(name)) for name in SITUATIONS)])  # fmt: skip
    say(table.header())
    rows: list[dict[str, Any]] = []
    for threads in arguments.threads or (1, 2):
        with contextlib.ExitStack() as stack:
            workers = {}
            for name, (checkout, variables) in runtimes.items():
                variables["NUMBA_NUM_THREADS"] = str(threads)
                workers[name] = stack.enter_context(Worker(command_of(checkout, WORKER), variables))
            for network in arguments.network or NETWORKS:
                for work in WORKS:
                    cells = _measure(workers, runtimes, (network, work), arguments.seconds)
                    for name, found in cells.items():
                        rows.append({"network": network, "work": work, "threads": threads, "runtime": name, **found})
                        times = [significant(1e3 * found[situation]["mean"]) for situation in SITUATIONS]
                        say(table.line([network, work, f"{threads}", name, *times]))
    ratios = summary(rows)
    for line in ratios:
        cells = [f"{line[situation]:.2f}" for situation in SITUATIONS]
        say(table.line(["geometric mean", "time over workers'", f"{line['threads']}", line["runtime"], *cells]))
    write_results(
        arguments.output_dir / "runtime-cpu.json", "runtime", computer.facts, versions,
        {"seconds": arguments.seconds, "spin_seconds": SPIN_SECONDS, "rest_seconds": REST_SECONDS},
        rows=rows, ratios=ratios,
    )  # fmt: skip


def _measure(
    workers: dict[str, Worker], runtimes: dict[str, Runtime], row: tuple[str, str], long: float
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {name: {} for name in workers}
    for situation, (idle, beside) in SITUATIONS.items():
        for name, worker in workers.items():
            checkout, environment = runtimes[name]
            with _beside(beside and beside(checkout, row), environment):
                time.sleep(PAUSE)
                found[name][situation] = worker.ask("measure", network=row[0], work=row[1], idle=idle, seconds=long)
    return found


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each number of threads and each runtime but the first: its times over the first's, geometric means."""
    lines = []
    first = rows[0]["runtime"]
    for threads in dict.fromkeys(row["threads"] for row in rows):
        ours = {(r["network"], r["work"]): r for r in rows if r["threads"] == threads and r["runtime"] == first}
        for name in dict.fromkeys(row["runtime"] for row in rows if row["runtime"] != first):
            theirs = [r for r in rows if r["threads"] == threads and r["runtime"] == name]
            ratios = {
                situation: geometric_mean(
                    [r[situation]["mean"] / ours[r["network"], r["work"]][situation]["mean"] for r in theirs]
                )
                for situation in SITUATIONS
            }
            lines.append({"threads": threads, "runtime": name, **ratios})
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for what the user can put right."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
