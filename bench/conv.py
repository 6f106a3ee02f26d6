"""Convolution, every algorithm and pass, with a peer beside them: ``python -m bench.conv --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numba

from numbacnn import backends
from numbacnn.backends.geometry import Conv2dGeometry

from . import gpu, machine, peers, problems
from .command import (
    UserError,
    WrongResultError,
    add_layout_option,
    add_peer_option,
    add_precision_option,
    exit_code_with_threads,
    precisions_of,
    say,
    seconds,
    ways_of,
    whole_number,
)
from .conv_rows import PASSES, Functions, Row, measure
from .precision import of_backend, suffix
from .report import PLOT_MISSING, Bar, Table, geometric_mean, plot_bars, plot_points, significant, write_results
from .timing import PAUSE, Timing, interleave

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
BEST_PEER = "the best peer"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exits with code 2 for values that cannot be used."""
    lists = ", ".join([*problems.CONV2D, problems.OF_MODELS])
    parser = argparse.ArgumentParser(
        prog="python -m bench.conv",
        description="Measure the convolution algorithms of a backend, and the same in other libraries.",
        epilog="In bf16 what a peer is given and gives is bfloat16, ours rounds float32 operands; sums are float32 "
        "everywhere. Ratios are between equal precisions. On a GPU what a call launches is captured once, and its "
        "replays are timed: the device's time, not the host's. NumPy's matrix product, which the reference backend "
        "uses, keeps its own number of threads.",
    )
    add = parser.add_argument
    add("--problem", nargs="+", metavar="DESCRIPTOR",
        help=f"problems like n16c64h24k64r3s1p1, or lists of them: {lists} (default: all lists, "
        f"{' and '.join(problems.OF_GPU)} only on cuda, without {problems.OF_MODELS})")  # fmt: skip
    add("--batch-size", type=whole_number, metavar="N", default=16,
        help=f"of the list {problems.OF_MODELS}, the convolutions of the seven networks (default: 16)")  # fmt: skip
    add("--algorithm", nargs="+", metavar="NAME", help="default: every algorithm of the backend")
    add("--pass", nargs="+", dest="passes", choices=PASSES, default=PASSES, help="default: all three")
    add_peer_option(parser)
    add_precision_option(parser)
    add_layout_option(parser)
    add("--backend", choices=backends.NAMES, default="cpu", help="default: cpu")
    add("--threads", type=whole_number, metavar="N", help="on the CPU, of our kernels and of the peer (default: all)")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--rounds", type=whole_number, metavar="N", help="timed calls of each contender")
    extent.add_argument("--budget", type=seconds, metavar="SECONDS", default=2.0,
                        help="instead of --rounds: time for each pass of each problem (default: 2)")  # fmt: skip
    add("--output-dir", type=Path, metavar="DIR", default=RESULTS,
        help="folder for conv-BACKEND.json and conv-BACKEND.png, with the list models conv-models-BACKEND.* "
        "(default: bench/results)")  # fmt: skip
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    names = arguments.problem or problems.lists_for(arguments.backend)
    geometries = geometries_of(names, arguments.batch_size)
    of_models = problems.OF_MODELS in names
    backend, algorithms, rivals = contenders_of(arguments)
    output = arguments.output_dir
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output):
        pass  # to learn that nothing can be written there before everything is measured

    computer = machine.examine(backend)
    of_gpu = gpu.VERSIONS if backend.asynchronous else ()
    versions = machine.versions(*of_gpu, *rivals.packages) | rivals.libraries
    title = computer.title
    precisions = of_backend(backend, precisions_of(arguments))
    if not precisions:
        raise UserError(f"backend {backend.name} does not compute in {', '.join(arguments.precision)}")
    table = table_of(geometries, bool(rivals.names))
    say(f"{title}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    say(f"{computer.limits}\nbackend {backend.name}; * is what auto picks\n{table.header()}")
    # The pause is for threads; a device has none of ours.
    pause = 0.0 if backend.asynchronous else PAUSE

    def time_all(functions: Functions, waits: Functions) -> dict[str, Timing]:
        return interleave(functions, rounds=arguments.rounds, budget=arguments.budget, pause=pause, waits=waits)

    stem = f"conv-models-{backend.name}" if of_models else f"conv-{backend.name}"
    table_file, picture = (output / f"{stem}.{extension}" for extension in ("json", "png"))

    def write(rows: Sequence[Row], summary: Sequence[dict[str, Any]], quietly: bool = False) -> None:
        write_results(
            table_file,
            "conv",
            computer.facts,
            versions,
            {
                "backend": backend.name,
                "dtype": "float32",
                "precisions": precisions,
                "peers": list(rivals.names),
                "rounds": arguments.rounds,
                "budget_seconds": None if arguments.rounds else arguments.budget,
                "pause_seconds": pause,
                **({"batch_size": arguments.batch_size} if of_models else {}),
            },
            quietly=quietly,
            rows=[{key.rstrip("_"): value for key, value in asdict(row).items()} for row in rows],
            summary=summary,
            missing=rivals.missing,
        )

    rows: list[Row] = []
    wrong: list[str] = []
    for g in geometries:
        peaks = {precision: computer.peak_in(precision) for precision in precisions}
        for row in measure(g, arguments.passes, algorithms, backend, rivals, time_all, peaks, wrong):
            rows.append(row)
            say(table.line(cells_of(row, bool(rivals.names))))
        if backend.asynchronous:  # time on a GPU is lent, and may end before all is measured
            write(rows, [], quietly=True)
    computer = computer.examined_again()
    peak = computer.peak
    rows = [replace(row, share_of_peak=row.gflops / computer.peak_in(row.precision)) for row in rows]
    summary = summarise(rows)
    for entry in summary:
        say(summary_line(entry))
    for name, reason in rivals.missing.items():
        say(f"{name}: missing: {reason}")
    write(rows, summary)
    try:
        if of_models:
            plot_points(picture, shares_of(rows), f"conv2d on {title}", "share of the peak of the precision")
        else:
            plot(picture, rows, f"conv2d on {title}", peak)
    except ImportError:
        say(PLOT_MISSING)
    else:
        say(f"written: {picture}")
    if wrong:
        raise WrongResultError("; ".join(wrong))


def geometries_of(names: Sequence[str], batch_size: int) -> list[Conv2dGeometry]:
    """Problems of lists and descriptors, each once, in order; those of the models with ``batch_size`` images."""
    lists: dict[str, Sequence[str]] = dict(problems.CONV2D)
    if problems.OF_MODELS in names:
        lists[problems.OF_MODELS] = problems.of_models(batch_size)
    descriptors = [descriptor for name in names for descriptor in lists.get(name, (name,))]
    try:
        return list(dict.fromkeys(map(problems.parse, descriptors)))
    except ValueError as error:
        raise UserError(str(error)) from error


def contenders_of(arguments: argparse.Namespace) -> tuple[backends.Backend, list[str], peers.Peers]:
    """The backend, its algorithms that are to be measured, and the libraries that take part."""
    try:
        backend = backends.get(arguments.backend)
        device = "cuda" if backend.name == "cuda" else "cpu"
        rivals = peers.load(arguments.peer, numba.get_num_threads(), device, ways_of(arguments))
    except (RuntimeError, ImportError) as error:
        raise UserError(str(error)) from error
    known = backend.conv2d_algorithms()
    algorithms = list(dict.fromkeys(arguments.algorithm or known))
    for name in algorithms:
        if name not in known:
            raise UserError(f"algorithm {name!r} must be one of {', '.join(map(repr, known))}")
    return backend, algorithms, rivals


def table_of(geometries: Sequence[Conv2dGeometry], with_peers: bool) -> Table:
    """The table's columns; the ratio is that of the fastest peer."""
    width = max(len(g.descriptor) for g in geometries)
    columns = [("problem", -width), ("pass", -15), ("algorithm", -14), ("ms", 9), ("quartiles", 17), ("GFLOP/s", 7)]
    columns += [("peak", 6), ("workspace", 11), ("threads", 7)]
    return Table(columns + ([("best peer", -20), ("its ms", 9), ("ratio", 6), ("others' ms", -10)] * with_peers))


def cells_of(row: Row, with_peers: bool) -> list[str]:
    """A row as the table shows it."""
    quartiles = " - ".join(f"{value:.3f}" for value in row.quartiles)
    cells = [row.problem, row.pass_, name_of(row) + "*" * row.auto, f"{row.milliseconds:.3f}", quartiles]
    cells += [significant(row.gflops), f"{row.share_of_peak:.1%}", f"{row.workspace_bytes:,}"]
    cells.append("" if row.threads is None else f"{row.threads}")
    if row.peer and row.ratio:
        cells += [row.peer, f"{row.peer_milliseconds:.3f}", significant(row.ratio)]
    elif with_peers:
        cells += [""] * 3
    others = ", ".join(f"{name} {other['milliseconds']:.3f}" for name, other in row.others.items())
    return [*cells, others] if with_peers else cells


def name_of(row: Row) -> str:
    """The algorithm, with the precision where it is not float32."""
    return row.algorithm + suffix(row.precision)


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Geometric means over all passes of all problems: of each algorithm, of auto's choice, of the fastest peers.

    So for each precision. ``ratio`` is the fastest peer's time over ours.
    """
    return [
        {**entry, "name": entry["name"] + suffix(precision), "precision": precision}
        for precision in dict.fromkeys(row.precision for row in rows)
        for entry in _summary([row for row in rows if row.precision == precision])
    ]


def _summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.algorithm, []).append(row)
    cases = next(iter(groups.values()))
    chosen = [row for row in rows if row.auto]
    if len(chosen) == len(cases):
        groups["auto"] = chosen
    with_peers = all(row.peer for row in cases)
    summary: list[dict[str, Any]] = [
        {
            "name": name,
            "cases": len(group),
            "gflops": geometric_mean([row.gflops for row in group]),
            "share_of_peak": geometric_mean([row.share_of_peak for row in group]),
            "ratio": geometric_mean([row.ratio for row in group if row.ratio]) if with_peers else None,
        }
        for name, group in groups.items()
    ]
    if with_peers:
        ours = summary[0]
        figures = {key: ours[key] / ours["ratio"] for key in ("gflops", "share_of_peak")}
        summary.append({"name": BEST_PEER, "cases": len(cases), **figures, "ratio": None})
    return summary


def summary_line(entry: dict[str, Any]) -> str:
    """One entry of :func:`summarise`."""
    line = f"geomean of {entry['cases']}: {entry['name']} {significant(entry['gflops'])} GFLOP/s"
    line += f", {entry['share_of_peak']:.1%} of peak"
    return f"{line}, {significant(entry['ratio'])} times as fast as the best peer" if entry["ratio"] else line


def plot(path: Path, rows: Sequence[Row], title: str, peak: float) -> None:
    """GFLOP/s of every row, a panel per pass, the fastest peer after the algorithms."""
    panels: dict[str, dict[str, list[Bar]]] = {}
    for row in rows:
        panels.setdefault(row.pass_, {}).setdefault(row.problem, []).append((name_of(row), row.gflops))
    for row in rows:
        bars, name = panels[row.pass_][row.problem], BEST_PEER + suffix(row.precision)
        if row.peer_gflops and name not in dict(bars):
            bars.append((name, row.peer_gflops))
    plot_bars(path, panels, title=title, unit="GFLOP/s", ceiling=peak, ceiling_label=f"peak {peak:.0f} GFLOP/s")


def shares_of(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Of each pass and problem, the share of the peak that ``auto``'s choice reaches, and that the best peer does.

    Where ``auto``'s choice was not measured, ours is the best of what was.
    """
    shares: dict[str, dict[str, dict[str, float]]] = {}
    chosen: set[tuple[str, str, str]] = set()
    for row in rows:
        points = shares.setdefault(row.pass_, {}).setdefault(row.problem, {})
        case, name = (row.pass_, row.problem, row.precision), "numbacnn" + suffix(row.precision)
        if row.auto or (case not in chosen and row.share_of_peak > points.get(name, 0.0)):
            points[name] = row.share_of_peak
        if row.auto:
            chosen.add(case)
        if row.peer_gflops:
            points[BEST_PEER + suffix(row.precision)] = row.share_of_peak * row.peer_gflops / row.gflops
    return shares


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 for a wrong result, 2 for what the user can put right."""
    return exit_code_with_threads(parse_arguments(argv), run)


if __name__ == "__main__":
    sys.exit(main())
