"""Draw how fast each algorithm of one convolution is, of the last results: ``python -m bench.ladder --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numbacnn.command_line import path
from numbacnn.io import replacing

from .command import UserError, exit_code, say
from .report import PLOT_MISSING, measured_on, significant
from .tables import LADDER, ROOT, results_of

__all__ = ["draw", "main", "measured", "rungs"]

RESULTS = "conv-cpu"
PICTURE = ROOT / "docs" / "images" / "ladder.png"
OURS, PEER, ROOF = "tab:blue", "0.55", "tab:red"


def rungs(results: dict[str, Any]) -> dict[str, list[tuple[str, float, float]]]:
    """Of each pass the algorithms and the best peer: name, GFLOP/s, share of the machine's peak."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    peers: dict[str, tuple[str, float, float]] = {}
    for row in results["rows"]:
        if row["problem"] == LADDER:
            found.setdefault(row["pass"], []).append((row["algorithm"], row["gflops"], row["share_of_peak"]))
            if row["peer"]:
                share = row["share_of_peak"] * row["peer_gflops"] / row["gflops"]
                peers[row["pass"]] = row["peer"], row["peer_gflops"], share
    return {pass_: [*bars, *filter(None, [peers.get(pass_)])] for pass_, bars in found.items()}


def measured(results: dict[str, Any]) -> str:
    """The machine, the day and the commit of results, which a picture of them holds as its description, too."""
    machine = results["machine"]
    return f"{machine['cpu']}, {machine['threads']} threads; {measured_on(results)}"


def draw(results: dict[str, Any], file: Path) -> None:
    """Write a PNG file: a panel for each pass, a bar for each algorithm, the peak as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    passes, peak = rungs(results), results["machine"]["peak_gflops"]
    figure = Figure(figsize=(10, 1.4 + 0.42 * max(map(len, passes.values()))), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    for axes, (pass_, bars) in zip(figure.subplots(1, len(passes), squeeze=False)[0], passes.items(), strict=True):
        algorithms = {row["algorithm"] for row in results["rows"]}
        for place, (name, gflops, share) in enumerate(bars):
            axes.barh(place, gflops, color=OURS if name in algorithms else PEER)
            axes.text(gflops, place, f" {significant(gflops)}, {100 * share:.0f} %", va="center", fontsize=8)
        axes.axvline(peak, color=ROOF, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(bars)), [name.replace(" ", "\n") for name, _, _ in bars], fontsize=8)
        axes.set(ylim=(len(bars) - 0.5, -0.5), xlim=(0, 1.08 * peak))
        axes.set_title(pass_.replace("_", " "), fontsize=10)
        axes.set_xlabel(f"GFLOP/s; dashed: peak, {peak:.0f}", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(f"{LADDER} on the CPU, float32\n{measured(results)}", fontsize=10)
    with replacing(file) as temporary:
        figure.savefig(
            temporary, format="png", metadata={"Description": measured(results)}, pil_kwargs={"optimize": True}
        )


def run(arguments: argparse.Namespace) -> None:
    """What the command does once its options are read."""
    results = results_of(RESULTS)
    if not results or not rungs(results):
        raise UserError(f"no results of {LADDER}: run `python -m bench.conv --problem {LADDER} --peer all` first")
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        draw(results, arguments.output)
    except ImportError as error:
        raise UserError(PLOT_MISSING) from error
    say(f"wrote {arguments.output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ladder",
        description=f"Draw how fast each algorithm is on the convolution {LADDER}, as the committed results have it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=path, default=PICTURE, metavar="FILE", help="the picture, a PNG file")
    return exit_code(partial(run, parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
