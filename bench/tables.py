"""Write the tables of the last results into the README and the documentation: ``python -m bench.tables``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import exchange, scale_report
from .contender import is_ours, stands_for_us
from .layer_rows import IMAGES, SLOWER, reason_of
from .precision import FULL
from .report import geometric_mean, impossible, measured_when, significant

__all__ = [
    "PAGES",
    "PICTURES",
    "SECTIONS",
    "conv_section",
    "faults",
    "found_results",
    "kernels_section",
    "ladder_section",
    "main",
    "memory_section",
    "models_section",
    "replace_section",
    "results_of",
    "runtime_section",
    "scale_section",
    "summary_section",
    "train_section",
    "zoo_section",
]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
LADDER = "n4c64h24k64r3s1p1"
"""The convolution by which the documentation tells the algorithms apart."""
MOST_PEERS = 8
"""Columns of peers that a page has room for."""


def conv_section(results: dict[str, Any]) -> str:
    """The results of ``bench.conv`` as Markdown: a row per pass of a problem, with every algorithm's time."""
    peers = results["settings"]["peers"]
    algorithms = list(dict.fromkeys(row["algorithm"] for row in results["rows"]))
    precisions = list(dict.fromkeys(row.get("precision", FULL) for row in results["rows"]))
    several = precisions != [FULL]
    columns = ["problem", "pass", *["precision"] * several, *algorithms, "auto's GFLOP/s", "of peak"]
    columns += ["best peer", "its ms", "ratio"] if peers else []
    lines = [
        f"{_origin(results)} Times are milliseconds, medians of interleaved calls; the one of what `auto` picks is bold"
        + ("; the ratio is the best peer's time over that." if peers else "."),
        "",
        f"| {' | '.join(columns)} |",
        f"|---|---|{'---|' * several}{'---:|' * (len(columns) - 2 - several)}",
    ]
    cases: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in results["rows"]:
        cases.setdefault((row["problem"], row["pass"], row.get("precision", FULL)), {})[row["algorithm"]] = row
    for (problem, pass_, precision), rows in cases.items():
        cells = [f"`{problem}`", pass_.replace("_", " "), *[precision] * several]
        for name in algorithms:
            time = significant(rows[name]["milliseconds"]) if name in rows else ""
            cells.append(f"**{time}**" if name in rows and rows[name]["auto"] else time)
        chosen = next((row for row in rows.values() if row["auto"]), None)
        cells += [significant(chosen["gflops"]), f"{100 * chosen['share_of_peak']:.0f} %"] if chosen else ["", ""]
        if peers:
            any_row = next(iter(rows.values()))
            cells += [any_row["peer"], significant(any_row["peer_milliseconds"])] if any_row["peer"] else ["", ""]
            cells.append(f"{chosen['ratio']:.2f}" if chosen and chosen["ratio"] else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_missing(results)])


def ladder_section(results: dict[str, Any]) -> str:
    """What each algorithm of ``bench.conv`` gained on the one before, and the best peer, for one problem."""
    rows = [row for row in results["rows"] if row["problem"] == LADDER]
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    lines = [
        f"{_origin(results)} `{LADDER}`: GFLOP/s, of the peak, and how many times as fast as the row before.",
        "",
        f"| | {' | '.join(pass_.replace('_', ' ') for pass_ in passes)} |",
        f"|---|{'---|' * len(passes)}",
    ]
    before: dict[str, float] = {}
    for name in dict.fromkeys(row["algorithm"] for row in rows):
        cells = []
        for row in (row for row in rows if row["algorithm"] == name):
            gained = row["gflops"] / before[row["pass"]] if row["pass"] in before else None
            cells.append(
                f"{significant(row['gflops'])}, {100 * row['share_of_peak']:.0f} %"
                + (f", {gained:.1f}" if gained else "")
            )
            before[row["pass"]] = row["gflops"]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    peers = [next(row for row in rows if row["pass"] == pass_) for pass_ in passes]
    if all(row["peer"] for row in peers):
        shares = [row["share_of_peak"] * row["peer_gflops"] / row["gflops"] for row in peers]
        cells = [
            f"{significant(row['peer_gflops'])}, {100 * share:.0f} % ({row['peer']})"
            for row, share in zip(peers, shares, strict=True)
        ]
        lines.append(f"| the best peer | {' | '.join(cells)} |")
    return "\n".join(lines)


def models_section(results: dict[str, Any]) -> str:
    """The results of ``bench.models`` as Markdown: a row for each of our contenders; start.

    Each peer has a column, or the best one alone where they are many.
    """
    peers = list(dict.fromkeys(row["contender"] for row in results["rows"] if not is_ours(row["contender"])))
    shown = peers if len(peers) <= MOST_PEERS else []
    numbers = ["ms", "GFLOP/s", "of peak", *(f"{peer} ms" for peer in shown or ["best peer's"] * bool(peers))]
    columns = ["task", "model", "batch", "threads", "contender", "algorithm", *numbers]
    columns += ["best peer", "ratio"] if peers else []
    lines = [
        f"{_origin(results)} Times are medians of interleaved calls"
        + ("; the ratio is the best peer's time over ours." if peers else "."),
        "",
        f"| {' | '.join(columns)} |",
        "|---|---|---:|---|---|---|" + "---:|" * len(numbers) + ("---|---:|" if peers else ""),
    ]
    cases: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in results["rows"]:
        case = tuple(row[key] for key in ("task", "model", "batch_size", "threads"))
        cases.setdefault(case, {})[row["contender"]] = row
    for case, rows in cases.items():
        for name in filter(is_ours, rows):
            row = rows[name]
            of_peers = shown or [row["best_peer"]] * bool(peers)
            times = [significant(rows[peer]["milliseconds"]) if peer in rows else "" for peer in of_peers]
            layer = f" ({row['layer']})" if row["layer"] else ""
            cells = [*map(str, case[:3]), f"{row['threads'] or ''}{layer}", name, row["algorithm"]]
            cells.append(significant(row["milliseconds"]))
            cells += [significant(row["gflops"]), f"{100 * row['share_of_peak']:.0f} %", *times]
            if peers:
                cells += [row["best_peer"] or "", f"{row['ratio']:.2f}" if row["ratio"] else ""]
            lines.append(f"| {' | '.join(cells)} |")
    if results["start"]:
        lines += ["", "From the start of a process to the end of LeNet's first training step:", ""]
        lines += ["| contender | kernel cache | s |", "|---|---|---:|"]
        for row in results["start"]:
            lines.append(f"| {row['contender']} | {row['kernel_cache'] or ''} | {row['seconds']:.2f} |")
    return "\n".join([*lines, *_missing(results)])


def zoo_section(results: dict[str, Any]) -> str:
    """The results of ``bench.zoo`` as Markdown: a row per network, a column per task, batch size and threads.

    Of inference these are the sessions' ratios.
    """
    rows = [row for row in results["rows"] if stands_for_us(row["contender"], row["task"])]
    cases = sorted({(row["task"], row["batch_size"], row["threads"]) for row in rows}, key=lambda case: case[::-1])
    networks: dict[str, dict[Any, float]] = {}
    for row in rows:
        ratios = networks.setdefault(row["model"], {})
        if row["ratio"]:
            ratios[row["task"], row["batch_size"], row["threads"]] = row["ratio"]
    drawn = results["settings"]["drawn"]
    headings = [f"{task} {batch}, {threads} t." for task, batch, threads in cases]
    lines = [
        f"{_origin(results)} The best peer's time over ours, for each task, batch size and number of threads: above 1, "
        f"ours is faster. Drawn from the seed {results['settings']['seed']}:",
        "",
        *(f"- {name}: `{text}`" for name, text in drawn.items()),
        "",
        f"| network | {' | '.join(headings)} |",
        f"|---|{'---:|' * len(headings)}",
    ]
    means: dict[str, dict[Any, list[float]]] = {}
    for name, ratios in networks.items():
        lines.append(f"| {name} | {' | '.join(f'{ratios[case]:.2f}' if case in ratios else '' for case in cases)} |")
        for case, ratio in ratios.items():
            means.setdefault("drawn" if name in drawn else "named", {}).setdefault(case, []).append(ratio)
    for kind, found in means.items():
        cells = [f"{geometric_mean(found[case]):.2f}" if case in found else "" for case in cases]
        lines.append(f"| geometric mean, {kind} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_missing(results)])


def summary_section(results: dict[str, Any]) -> str:
    """What ``bench.zoo`` found in short: geometric means on as many threads as there were, and the least ratios."""
    threads = max(row["threads"] for row in results["rows"])
    drawn = results["settings"]["drawn"]
    found: dict[tuple[str, int], dict[str, list[tuple[float, str]]]] = {}
    for row in results["rows"]:
        if row["threads"] == threads and row["ratio"] and stands_for_us(row["contender"], row["task"]):
            kinds = found.setdefault((row["task"], row["batch_size"]), {"named": [], "drawn": []})
            kinds["drawn" if row["model"] in drawn else "named"].append((row["ratio"], row["model"]))
    lines = [
        f"{_origin(results)} The fastest of {', '.join(results['settings']['peers'])} over ours, on {threads} threads: "
        "above 1, ours is faster. Geometric means over the models of the package and over networks drawn at random.",
        "",
        "| | batch | the package's | drawn | least |",
        "|---|---:|---:|---:|---|",
    ]
    for (task, batch), kinds in sorted(found.items(), key=lambda item: (item[0][0] != "train", item[0][1])):
        means = [
            f"{geometric_mean([ratio for ratio, _ in of_kind]):.2f}" if of_kind else "" for of_kind in kinds.values()
        ]
        least, name = min([*kinds["named"], *kinds["drawn"]])
        what = {"train": "training step", "infer": "inference session"}[task]
        lines.append(f"| {what} | {batch} | {' | '.join(means)} | {least:.2f} ({name}) |")
    return "\n".join(lines)


def memory_section(results: dict[str, Any]) -> str:
    """The memory that ``bench.models`` found as Markdown: a row for each model and contender."""
    lines = [
        f"{_origin(results)} MiB that a model and its training add to a process that has imported everything.",
        "",
        "| model | batch | contender | MiB | ratio |",
        "|---|---:|---|---:|---:|",
    ]
    for row in results["rows"]:
        cells = [row["model"], str(row["batch_size"]), row["contender"], significant(row["bytes"] / 2**20)]
        lines.append(f"| {' | '.join([*cells, significant(row['ratio']) if row['ratio'] else ''])} |")
    return "\n".join([*lines, *_missing(results)])


def train_section(results: dict[str, Any]) -> str:
    """The results of ``bench.train`` as Markdown: a row per contender; where the host computes, all time is its own."""
    settings = results["settings"]
    has_device = settings["backend"] == "cuda"
    epoch = f"{settings['steps']} steps of {settings['batch_size']} examples"
    lines = [
        f"{_origin(results)} {settings['model']}, epochs of {epoch}.",
        "",
        f"| contender | mode | algorithm | examples/s | ms/step |{' host ms/step |' * has_device} time over ours |",
        f"|---|---|---|---:|---:|{'---:|' * has_device}---:|",
    ]
    for row in results["rows"]:
        host = [row["host_milliseconds_per_step"]] if has_device else []
        times = [row["milliseconds_per_step"], *host, row["time_over_ours"]]
        algorithm = (row["algorithm"] if is_ours(row["name"]) else None) or ""
        cells = [
            row["name"],
            row["mode"],
            algorithm,
            f"{row['examples_per_second']:,.0f}",
            *(significant(time) if time else "" for time in times),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_missing(results)])


def kernels_section(results: dict[str, Any]) -> str:
    """The results of ``bench.kernels`` as Markdown: a row per kernel."""
    of_memory = (
        f"of the measured copy bandwidth, {results['machine']['copy_gb_per_second']:,.0f} GB/s"
        if "gpu" in results["machine"]
        else "the time that the memory takes for as many bytes read, written and updated over the kernel's"
    )
    lines = [
        f"{_origin(results)} The share is {of_memory}; of matrix products it is that of the peak.",
        "",
        "| kernel | ms | share |",
        "|---|---:|---:|",
    ]
    for row in results["rows"]:
        share = "" if row["share"] is None else f"{100 * row['share']:.0f} %"
        lines.append(f"| {row['kernel']} | {significant(row['milliseconds'])} | {share} |")
    if results.get("layers"):
        lines += ["", *_layers(results["layers"])]
    return "\n".join(lines)


def _layers(rows: list[dict[str, Any]]) -> list[str]:
    """Each layer beside PyTorch's: a row per layer, both passes in it."""
    lines = [
        f"Each layer on images {' x '.join(map(str, IMAGES))} or what it takes instead, in milliseconds; the ratio is "
        f"PyTorch's time, of its faster memory format, over ours. The last column says why one is below {SLOWER}.",
        "",
        "| layer | forward | PyTorch's | ratio | backward | PyTorch's | ratio | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name in dict.fromkeys(row["kernel"] for row in rows):
        cells, is_slower = [], False
        for row in (row for row in rows if row["kernel"] == name):
            cells += [significant(row["milliseconds"]), significant(row["peer_milliseconds"]), f"{row['ratio']:.2f}"]
            is_slower |= row["ratio"] < SLOWER
        lines.append(f"| `{name}` | {' | '.join(cells)} | {reason_of(name) if is_slower else ''} |")
    means = [
        geometric_mean([row["ratio"] for row in rows if row["pass"] == pass_]) for pass_ in ("forward", "backward")
    ]
    lines.append(f"| geometric mean | | | {means[0]:.2f} | | | {means[1]:.2f} | |")
    return lines


def runtime_section(results: dict[str, Any]) -> str:
    """The results of ``bench.runtime`` as Markdown: a row per runtime and number of threads, a column per situation."""
    ratios = results["ratios"]
    situations = [name for name in ratios[0] if name not in ("threads", "runtime")]
    works = len({(row["network"], row["work"]) for row in results["rows"]})
    lines = [
        f"{_origin(results)} A runtime's time over that of {results['rows'][0]['runtime']}, geometric means over "
        f"{works} pairs of a network and a kind of work: above 1, the package's own threads are faster.",
        "",
        f"| threads | runtime | {' | '.join(situations)} |",
        f"|---:|---|{'---:|' * len(situations)}",
    ]
    for row in ratios:
        cells = [f"{row['threads']}", row["runtime"], *(f"{row[name]:.2f}" for name in situations)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scale_section(results: dict[str, Any]) -> str:
    """The results of ``bench.scale`` as Markdown."""
    about = (
        f"{_origin(results)} Times are medians of steps in turns; the last two columns are how many times as fast a "
        "contender is as one process of two threads, or of one, medians over rounds."
    )
    return "\n".join([about, "", scale_report.section(results), *_missing(results)])


def _missing(results: dict[str, Any]) -> list[str]:
    """Who could not be measured, and why."""
    return [line for name, why in results["missing"].items() for line in ("", f"Missing: {name}: {why}")]


def _origin(results: dict[str, Any]) -> str:
    """Where and when it was measured."""
    machine = results["machine"]
    where = (
        f"{machine['gpu']}, driver {machine['driver']}"
        if "gpu" in machine
        else f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads ({machine['threading_layer']})"
    )
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    one = machine.get("peak_gflops_1_thread")
    of_one = f" ({one:.0f} on one thread)" if one else ""
    return f"{where}; {versions}; float32 peak {machine['peak_gflops']:.0f} GFLOP/s{of_one}; {measured_when(results)}"


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "conv-cpu": conv_section,
    "models-cpu": models_section,
    "memory-cpu": memory_section,
    "zoo-cpu": zoo_section,
    "train-lenet-cpu": train_section,
    "kernels-cpu": kernels_section,
    "runtime-cpu": runtime_section,
    "scale-cpu": scale_section,
    "conv-cuda": conv_section,
    "models-cuda": models_section,
    "train-lenet-cuda": train_section,
    "kernels-cuda": kernels_section,
}
"""What makes a table, by the file of results that it shows."""
PICTURES = ("conv-models-cpu",)
"""Files of results whose picture the documentation shows."""
PAGES: dict[str, dict[str, tuple[str, Callable[[dict[str, Any]], str]]]] = {
    "docs/benchmarks.md": {name: (name, make) for name, make in SECTIONS.items()},
    "docs/convolution.md": {"ladder-cpu": ("conv-cpu", ladder_section)},
    "docs/gallery/kernel-ladder.md": {"ladder-origin-cpu": ("conv-cpu", _origin)},
    "docs/onnx.md": {
        "exchange-models": ("exchange", exchange.models_section),
        "exchange-light": ("exchange", exchange.light_section),
        "exchange-suites": ("exchange", exchange.suites_section),
    },
    "README.md": {
        "summary-cpu": ("zoo-cpu", summary_section),
        "train-lenet-cuda": ("train-lenet-cuda", train_section),
    },
}
"""The sections of each page: the file of results, and what makes a table of it."""


def results_of(name: str) -> dict[str, Any] | None:
    """What the file ``name`` of the last results holds; None where there are none."""
    path = RESULTS / f"{name}.json"
    results: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return results


def replace_section(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` from ``<!-- bench:name -->`` to the next ``<!-- end -->``; ValueError without them."""
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"`text` has no section between <!-- bench:{name} --> and <!-- end -->")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def found_results() -> dict[str, dict[str, Any]]:
    """All results that there are, by the names of their files; "older" in each says if the newest's package is another.

    The newest is that of every machine, so that what a GPU did long ago does not pass for what it does today.
    """
    shown = [name for sections in PAGES.values() for name, _ in sections.values()]
    names = dict.fromkeys((*SECTIONS, *PICTURES, *shown))
    found = {name: results for name in names if (results := results_of(name))}
    newest = max(found.values(), key=lambda results: results["measured"], default={})
    for results in found.values():
        results["older"] = _library(results) != _library(newest)
    return found


def faults(found: dict[str, dict[str, Any]]) -> list[str]:
    """Why the pages cannot show these results, by the names of their files: a line for each reason.

    Each must be measured on a commit as it is. No row may have a share that is impossible, and no layer may be slower
    than PyTorch's for a reason that is not known.
    """
    said = [f"{name}: {line}" for name, results in found.items() for line in impossible(results)]
    said += [
        f"{name}: {row['kernel']} {row['pass']} is at {row['ratio']:.2f} of PyTorch's speed: give a reason or mend it"
        for name, results in found.items()
        for row in results.get("layers", ())
        if row["ratio"] < SLOWER and not reason_of(row["kernel"])
    ]
    for name, results in found.items():
        commit = results.get("commit", "unknown")
        if commit == "unknown" or commit.endswith("-dirty"):
            said.append(f"{name}: its commit is {commit}: measure the code of a commit as it is")
    return said


def _library(results: dict[str, Any]) -> str:
    """The package as it was measured; results that do not tell its hash go by their commit."""
    if "library" in results:
        return f"library {results['library'][:10]}"
    return f"commit {results.get('commit', 'unknown')[:10]}"


def main() -> int:
    """Rewrite the sections of the PAGES that there are results for; 1 where there are none or :func:`faults`."""
    found = found_results()
    if not found:
        print(f"error: nothing in {RESULTS}: run `python -m bench.conv --peer all` first", file=sys.stderr)
        return 1
    said = faults(found)
    for line in said:
        print(f"error: {line}", file=sys.stderr)
    if said:
        return 1
    for page, sections in PAGES.items():
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        for section, (name, make) in sections.items():
            if name in found:
                text = replace_section(text, section, make(found[name]))
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
