"""What a benchmark leaves behind: lines of a table, a JSON file, a plot."""

from __future__ import annotations

import datetime
import json
import math
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from numbacnn.io import replacing

from .command import WrongResultError, say
from .precision import FULL

__all__ = [
    "MOST",
    "PLOT_MISSING",
    "Bar",
    "Table",
    "commit",
    "geometric_mean",
    "impossible",
    "library",
    "measured_on",
    "measured_when",
    "plot_bars",
    "plot_points",
    "significant",
    "write_results",
]

ROOT = Path(__file__).parent.parent
NOT_RESULTS = ":!bench/results"
OURS = "numbacnn"
NAMING = ("task", "model", "batch_size", "problem", "pass", "kernel", "contender", "algorithm")
"""What names a row, of all benchmarks."""
MOST = 1.05
"""Share of a ceiling above which it is the measurement that is wrong."""

PLOT_MISSING = 'no plot without matplotlib: pip install "numbacnn[plot]"'

Bar = tuple[str, float]
"""A label for the legend, and a value."""


class Table:
    """Lines of aligned cells, printed one by one while the benchmark runs.

    Args:
        columns: heading and width of each column; a width below 0 means aligned to the left.

    Example:
        >>> table = Table([("problem", -9), ("ms", 5)])
        >>> print(table.header()); print(table.line(["n1c1", "2.50"]))
        problem       ms
        n1c1        2.50
    """

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._headings = [heading for heading, _ in columns]
        self._widths = [width for _, width in columns]

    def header(self) -> str:
        """The headings."""
        return self.line(self._headings)

    def line(self, cells: Iterable[str]) -> str:
        """One row."""
        pairs = zip(cells, self._widths, strict=True)
        return "  ".join(f"{text:>{width}}" if width > 0 else f"{text:<{-width}}" for text, width in pairs).rstrip()


def geometric_mean(values: Sequence[float]) -> float:
    """The mean whose logarithm is the mean of the logarithms; all values above 0, at least one.

    >>> round(geometric_mean([1.0, 4.0, 2.0]), 9)
    2.0
    """
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def significant(value: float) -> str:
    """Three digits, or the whole number where there are more.

    >>> significant(0.0123456), significant(3.0), significant(99.96), significant(1234.56)
    ('0.0123', '3.00', '100', '1235')
    """
    return f"{value:#.3g}" if value < 99.9 else f"{value:.0f}"


def write_results(
    path: Path,
    benchmark: str,
    machine: dict[str, Any],
    versions: dict[str, str | None],
    settings: dict[str, Any],
    *,
    quietly: bool = False,
    **tables: Any,
) -> None:
    """Replace the file at once by JSON of all that, of which commit and library it is and when it was measured.

    With ``quietly`` no line says so. Raises WrongResultError, and writes nothing, where :func:`impossible` finds
    something.
    """
    measured = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    content = {
        "benchmark": benchmark,
        "measured": measured,
        "commit": commit(),
        "library": library(),
        "machine": machine,
    }
    content |= {"versions": versions, "settings": settings, **tables}
    found = impossible(content)
    if found:
        raise WrongResultError(f"nothing is written: {'; '.join(found)}")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not quietly:
        say(f"written: {path}")


def impossible(content: dict[str, Any]) -> list[str]:
    """Rows of a file of results whose share of a ceiling is above MOST, a line for each.

    Winograd's are left out, which computes the result with fewer products than are counted, and on a GPU those of
    peers, whose library may do the same.
    """
    peak, on_gpu = content["machine"].get("peak_gflops"), "gpu" in content["machine"]
    found = []
    for row in content.get("rows", ()):
        where = " ".join(f"{row[key]}" for key in NAMING if row.get(key) is not None)
        shares = {where: row.get("share_of_peak", row.get("share"))}
        peers = {row.get("peer"): row.get("peer_gflops")} if row.get("peer") else {}
        others = row.get("others", {}).items()
        peers |= {name: other["gflops"] for name, other in others if other.get("precision", FULL) == FULL}
        if "winograd" in (row.get("algorithm") or ""):
            shares = {}
        if on_gpu:
            peers = {}
            shares = shares if row.get("contender", OURS).startswith(OURS) else {}
        shares |= {f"{where}, {name}": gflops / peak for name, gflops in peers.items() if gflops and peak}
        found += [
            f"{name} is at {share:.0%} of its ceiling, and no more than {MOST:.0%} is possible"
            for name, share in shares.items()
            if share is not None and not share <= MOST
        ]
    return found


def commit() -> str:
    """The checkout's commit, with ``-dirty`` where code is not as it is there; ``unknown`` without git."""
    head, changed = (
        _git("rev-parse", "HEAD"),
        _git("status", "--porcelain", "--", "numbacnn", "examples", "bench", NOT_RESULTS),
    )
    return "unknown" if head is None or changed is None else head + "-dirty" * bool(changed)


def library() -> str:
    """Git's hash of the package as it is in the checkout's commit; ``unknown`` without git."""
    return _git("rev-parse", "HEAD:numbacnn") or "unknown"


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def plot_bars(
    path: Path, panels: dict[str, dict[str, list[Bar]]], *, title: str, unit: str, ceiling: float, ceiling_label: str
) -> None:
    """Draw horizontal bars to a PNG file.

    ``panels`` stand beside each other: their headings, in them groups of bars by name, in the same order in each panel.
    A dashed line marks ``ceiling``. Raises ImportError without matplotlib.
    """
    labels = list(dict.fromkeys(label for groups in panels.values() for bars in groups.values() for label, _ in bars))
    colours = {label: f"C{index}" for index, label in enumerate(labels)}
    most = max(len(groups) for groups in panels.values())
    thickness = 0.8 / len(labels)
    figure = _figure(2.5 + 3.5 * len(panels), 1.5 + 0.22 * most * (1 + len(labels)))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, (heading, groups) in zip(axes, panels.items(), strict=True):
        for position, bars in enumerate(groups.values()):
            for label, value in bars:
                place = position + (labels.index(label) + 0.5) * thickness - 0.4
                handles[label] = axis.barh(place, value, thickness, color=colours[label])
                axis.text(value, place, f" {significant(value)}", va="center", fontsize=7)
        handles[ceiling_label] = axis.axvline(ceiling, color="black", linestyle="--", linewidth=1)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel(unit)
        axis.set_xlim(0, 1.15 * max(ceiling, *(value for bars in groups.values() for _, value in bars)))
        axis.grid(axis="x", alpha=0.3)
    names = list(next(iter(panels.values())))
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(most - 0.5, -0.5)
    _finish(figure, path, title, handles)


def plot_points(path: Path, panels: dict[str, dict[str, dict[str, float]]], title: str, unit: str) -> None:
    """Draw a point for each figure to a PNG file, where bars would be too many.

    ``panels`` stand above each other: their headings, in them positions by name, the same in each panel, and at each
    position figures of 0 or more by what they are of. Raises ImportError without matplotlib.
    """
    names = list(next(iter(panels.values())))
    labels = list(
        dict.fromkeys(label for points in panels.values() for figures in points.values() for label in figures)
    )
    figure = _figure(2 + 0.15 * len(names), 1.5 + 2.2 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    handles: dict[str, Any] = {}
    for axis, (heading, points) in zip(axes, panels.items(), strict=True):
        for label in labels:
            places = [place for place, name in enumerate(names) if label in points[name]]
            heights = [points[names[place]][label] for place in places]
            handles[label] = axis.plot(places, heights, "o", markersize=3)[0]
        axis.set_title(heading, fontsize=10)
        axis.set_ylabel(unit, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xticks(range(len(names)), names, fontsize=6, rotation=90)
    _finish(figure, path, title, handles)


def _figure(width: float, height: float) -> Any:
    """A figure of so many inches; ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Any, path: Path, title: str, handles: dict[str, Any]) -> None:
    figure.suptitle(title, fontsize=10)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def measured_when(results: dict[str, Any]) -> str:
    """The end of the line above a table: the day, the commit, and whether the package has changed since."""
    older = ", of an older package" if results.get("older") else ""
    return f"{measured_on(results)}{older}."


def measured_on(results: dict[str, Any]) -> str:
    """The day and the commit."""
    return f"measured {results['measured'][:10]} at {results['commit'][:10]}"
