"""Write the tables of the last results into the README: ``python -m bench.readme``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .report import significant

__all__ = ["SECTIONS", "conv_section", "main", "models_section", "replace_section"]

ROOT = Path(__file__).parent.parent


def conv_section(results: dict[str, Any]) -> str:
    """The results of ``bench.conv`` as Markdown: the machine, a row per pass and algorithm, the summary."""
    peer = results["settings"]["peer"]
    lines = [
        f"{_origin(results)} Times are medians of interleaved calls; `*` is what `auto` picks"
        + (f"; the ratio is {peer}'s time over ours." if peer else "."),
        "",
        "| problem | pass | algorithm | ms | GFLOP/s | of peak | workspace KiB |"
        + (f" {peer} ms | ratio |" if peer else ""),
        "|---|---|---|---:|---:|---:|---:|" + ("---:|---:|" if peer else ""),
    ]
    for row in results["rows"]:
        cells = [
            f"`{row['problem']}`",
            row["pass"].replace("_", " "),
            row["algorithm"] + (" *" if row["auto"] else ""),
            significant(row["milliseconds"]),
            significant(row["gflops"]),
            f"{100 * row['share_of_peak']:.0f} %",
            f"{row['workspace_bytes'] / 1024:.0f}",
        ]
        if peer:
            cells += [significant(row["peer_milliseconds"]), f"{row['ratio']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def models_section(results: dict[str, Any]) -> str:
    """The results of ``bench.models`` as Markdown: a row per task, model and batch with the best peer; the rest."""
    rows = results["rows"]
    lines = [
        f"{_origin(results)} Times are medians of interleaved steps; the ratio is the best peer's time over our best.",
        "",
        "| task | model | batch | ms | examples/s | GFLOP/s | best peer | its ms | ratio |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for key, of_key in _grouped(rows, "train", "infer"):
        ours = min((row for row in of_key if row["contender"].startswith("numbacnn")), key=_milliseconds)
        cells = [*map(str, key), significant(ours["milliseconds"]), significant(ours["examples_per_second"])]
        cells.append(significant(ours["gflops"]))
        peers = [row for row in of_key if not row["contender"].startswith("numbacnn")]
        if peers:
            best = min(peers, key=_milliseconds)
            ratio = best["milliseconds"] / ours["milliseconds"]
            cells += [best["contender"], significant(best["milliseconds"]), f"{ratio:.2f}"]
        lines.append(f"| {' | '.join(cells + [''] * (9 - len(cells)))} |")
    memory = list(_grouped(rows, "memory"))
    if memory:
        names = [row["contender"] for row in memory[0][1]]
        lines += ["", "Peak memory of a training step, MiB:"]
        lines += ["", f"| model | batch | {' | '.join(names)} |", "|---|---:|" + "---:|" * len(names)]
        for (_, model, batch), of_key in memory:
            lines.append(f"| {model} | {batch} | {' | '.join(significant(r['peak_bytes'] / 2**20) for r in of_key)} |")
    starts = [row for row in rows if row["task"] == "start"]
    if starts:
        times = ", ".join(f"{row['contender']}: {row['milliseconds'] / 1e3:.1f} s" for row in starts)
        lines += [
            "",
            f"From the start of a process to the end of its first LeNet step, by its cache of kernels: {times}.",
        ]
    return "\n".join(lines)


def _grouped(rows: list[dict[str, Any]], *tasks: str) -> Iterator[tuple[tuple[str, str, int], list[dict[str, Any]]]]:
    keys = dict.fromkeys((row["task"], row["model"], row["batch"]) for row in rows if row["task"] in tasks)
    for key in keys:
        yield key, [row for row in rows if (row["task"], row["model"], row["batch"]) == key]


def _milliseconds(row: dict[str, Any]) -> float:
    return float(row["milliseconds"])


def _origin(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads ({machine['threading_layer']}); "
        f"{versions}; float32 peak {machine['peak_gflops']:.0f} GFLOP/s; measured {results['measured'][:10]}."
    )


def replace_section(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` from ``<!-- bench:name -->`` to the next ``<!-- end -->``; ValueError without them."""
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"`text` has no section between <!-- bench:{name} --> and <!-- end -->")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "conv": ("conv-cpu.json", conv_section),
    "models": ("models-cpu.json", models_section),
}
"""By section of the README: the file in ``bench/results``, and what makes Markdown of it."""


def main() -> int:
    """Rewrite README.md; 1 if results are missing."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, (file, section) in SECTIONS.items():
        results = ROOT / "bench" / "results" / file
        try:
            text = replace_section(text, name, section(json.loads(results.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            print(f"error: no {results}: run `python -m bench.{name} --peer torch` first", file=sys.stderr)
            return 1
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
