"""What ``bench.scale`` found as tables and as a picture, and what many ranks would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numbacnn.io import replacing
from numbacnn.sharding import PIECE_BYTES

from .report import significant
from .scale_model import BOUNDS, Computation, Link, predict

__all__ = ["NETWORKS", "RANKS", "draw", "predictions", "section"]

GOODPUT = 0.94
"""Of an Ethernet's rate, what is left in packets of 1500 bytes beside their heads."""
NETWORKS = {"10 Gbit/s": (10e9, 30e-6), "100 Gbit/s": (100e9, 10e-6), "400 Gbit/s": (400e9, 5e-6)}
"""Bits a second, and the seconds of a message, which are assumed."""
GPU_IMAGES = 5000
"""A second, of an assumed rank that computes faster than this machine."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 512, 1024)
MARKS = dict(zip(BOUNDS, "os^vD", strict=True))


def predictions(computation: Computation, images: int, overhead: float) -> list[dict[str, Any]]:
    """A row for each number of ranks, network and kind of rank, with ``images`` in each rank, which are a shard.

    ``overhead`` is that of a collective; networks leave the processor alone. The efficiency is the time of a rank alone
    over that of a step.
    """
    faster = images / GPU_IMAGES / computation.seconds
    kinds = {
        f"this machine's, {images / computation.seconds:,.0f} images/s": computation,
        f"assumed, {GPU_IMAGES:,} images/s": computation._replace(
            seconds=computation.seconds * faster,
            update=computation.update * faster,
            backward=tuple(seconds * faster for seconds in computation.backward),
        ),
    }
    rows = []
    for kind, rank in kinds.items():
        for name, (bits, latency) in NETWORKS.items():
            link = Link(overhead, latency, 8 / (bits * GOODPUT), 0.0)
            for ranks in RANKS:
                seconds, bound = predict(rank, link, ranks, PIECE_BYTES, overlapped=True)
                row = {"rank": kind, "network": name, "latency_microseconds": 1e6 * latency, "ranks": ranks}
                row |= {"milliseconds": 1e3 * seconds, "efficiency": rank.seconds / seconds, "bound": bound}
                rows.append(row)
    return rows


def section(results: dict[str, Any]) -> str:
    """Everything as Markdown: steps, what is hidden, links, the model beside what was measured, and predictions."""
    rows, hidden, predicted = results["rows"], results["hidden"], results["predictions"]
    sizes = sorted(results["links"][0]["bytes"])
    tables = [
        [
            "| network | batch | joined by | contender | ms | GFLOP/s | of peak | over 2 threads | over 1 thread |",
            f"|---|---:|---|---|{'---:|' * 5}",
            *(f"| {' | '.join(_step_cells(row))} |" for row in rows),
        ]
    ]
    if hidden:
        tables.append(
            [
                "What of the exchange is not seen where it goes on beside the backward pass:",
                "",
                "| network | joined by | shards | exchange after, ms | overlapped, ms | hidden |",
                "|---|---|---:|---:|---:|---:|",
                *(
                    f"| {row['model']} | {row['link']} | {row['shards']} | {row['exchange_milliseconds']:.1f} | "
                    f"{row['seen_milliseconds']:.1f} | {_percent(row['hidden'])} |"
                    for row in hidden
                ),
            ]
        )
    tables.append(
        [
            f"Exchanges alone, of arrays of {sizes[0] / 2**10:.0f} KiB to {sizes[-1] / 2**20:.0f} MiB, fitted:",
            "",
            "| joined by | a collective, µs | MB/s in each direction | of which the processor's time |",
            "|---|---:|---:|---:|",
            *(f"| {' | '.join(_link_cells(row))} |" for row in results["links"]),
        ]
    )
    tables.append(
        [
            "The model of the step beside steps that were measured:",
            "",
            "| joined by | contender | predicted, ms | measured, ms | ratio |",
            "|---|---|---:|---:|---:|",
            *(
                f"| {row['link']} | {row['contender']} | {row['predicted_milliseconds']:.1f} | "
                f"{row['milliseconds']:.1f} | {row['ratio']:.2f} |"
                for row in results["checks"]
            ),
        ]
    )
    ranks = list(dict.fromkeys(row["ranks"] for row in predicted if row["ranks"] > 1))
    cases: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for row in predicted:
        case = (row["rank"], row["network"], f"{row['latency_microseconds']:.0f}")
        cases.setdefault(case, {})[row["ranks"]] = row
    tables.append(
        [
            "Predicted efficiency, and what bounds it where that is not computation:",
            "",
            f"| a rank | network | a message, µs | {' | '.join(map(str, ranks))} |",
            f"|---|---|---:|{'---|' * len(ranks)}",
            *(
                f"| {' | '.join([*case, *(_efficiency(found[number]) for number in ranks)])} |"
                for case, found in cases.items()
            ),
        ]
    )
    return "\n\n".join("\n".join(lines) for lines in tables)


def _step_cells(row: dict[str, Any]) -> list[str]:
    cells = [row["model"], f"{row['batch_size']}", row["link"], row["contender"], significant(row["milliseconds"])]
    share = row.get("share_of_peak")
    cells += ["", ""] if share is None else [significant(row["gflops"]), f"{100 * share:.0f} %"]
    return [*cells, *("" if row[key] is None else f"{row[key]:.2f}" for key in ("of_2_threads", "of_1_thread"))]


def _link_cells(row: dict[str, Any]) -> list[str]:
    byte = row["waiting"] + row["working"]
    rate, share = ("", "") if not byte else (f"{1e-6 / byte:,.0f}", f"{100 * row['working'] / byte:.0f} %")
    return [row["link"], f"{1e6 * (row['overhead'] + row['latency']):,.0f}", rate, share]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _efficiency(row: dict[str, Any]) -> str:
    return f"{row['efficiency']:.2f}" + (f" {row['bound']}" if row["bound"] != BOUNDS[0] else "")


def draw(rows: Sequence[dict[str, Any]], file: Path, title: str) -> None:
    """Write a PNG file: a panel for each kind of rank, a line for each network, a mark for each bound.

    Raises ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds, networks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("rank", "network"))
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    handles: dict[str, Any] = {}
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        for colour, network in enumerate(networks):
            some = [row for row in rows if (row["rank"], row["network"]) == (kind, network)]
            ranks, efficiencies = ([row[key] for row in some] for key in ("ranks", "efficiency"))
            handles[network] = axes.plot(ranks, efficiencies, color=f"C{colour}", linewidth=1)[0]
            for row in some:
                axes.plot(row["ranks"], row["efficiency"], MARKS[row["bound"]], color=f"C{colour}", markersize=5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ranks, [str(number) for number in ranks], fontsize=8)
        axes.set(ylim=(0, 1.05), xlabel="ranks")
        axes.set_title(f"rank: {kind}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_ylabel("efficiency" if kind == kinds[0] else "")
    for bound, mark in MARKS.items():
        if any(row["bound"] == bound for row in rows):
            handles[f"bound: {bound}"] = figure.axes[0].plot([], [], mark, color="0.4", markersize=5)[0]
    figure.suptitle(f"{title}, predicted", fontsize=10)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=-(-len(handles) // 2), fontsize=8)
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png")
