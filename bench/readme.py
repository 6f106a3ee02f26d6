"""Write the tables of the last results into the README: ``python -m bench.readme``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .report import significant

__all__ = ["SECTIONS", "conv_section", "main", "models_section", "replace_section", "results_of"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"


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
    """The results of ``bench.models`` as Markdown: a row for each of our contenders; memory; start."""
    peers = list(dict.fromkeys(row["contender"] for row in results["rows"] if not _is_ours(row["contender"])))
    numbers = ["ms", "GFLOP/s", "of peak", *(f"{peer} ms" for peer in peers), *(["ratio"] if peers else [])]
    lines = [
        f"{_origin(results)} Times are medians of interleaved calls"
        + ("; the ratio is the best peer's time over ours." if peers else "."),
        "",
        f"| task | model | batch | threads | contender | algorithm | {' | '.join(numbers)} |",
        "|---|---|---:|---:|---|---|" + "---:|" * len(numbers),
    ]
    cases: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in results["rows"]:
        case = tuple(row[key] for key in ("task", "model", "batch_size", "threads"))
        cases.setdefault(case, {})[row["contender"]] = row
    for case, rows in cases.items():
        times = [significant(rows[peer]["milliseconds"]) if peer in rows else "" for peer in peers]
        for name in filter(_is_ours, rows):
            row = rows[name]
            cells = [*map(str, case), name, row["algorithm"], significant(row["milliseconds"])]
            cells += [significant(row["gflops"]), f"{100 * row['share_of_peak']:.0f} %", *times]
            if peers:
                cells.append(f"{row['ratio']:.2f}" if row["ratio"] else "")
            lines.append(f"| {' | '.join(cells)} |")
    if results["memory"]:
        lines += ["", "What a training step adds to the memory of its process:", ""]
        lines += ["| model | batch | contender | MiB | ratio |", "|---|---:|---|---:|---:|"]
        for row in results["memory"]:
            cells = [row["model"], str(row["batch_size"]), row["contender"], significant(row["bytes"] / 2**20)]
            lines.append(f"| {' | '.join([*cells, significant(row['ratio']) if row['ratio'] else ''])} |")
    if results["start"]:
        lines += ["", "From the start of a process to the end of LeNet's first training step:", ""]
        lines += ["| contender | kernel cache | s |", "|---|---|---:|"]
        for row in results["start"]:
            lines.append(f"| {row['contender']} | {row['kernel_cache'] or ''} | {row['seconds']:.2f} |")
    return "\n".join(lines)


def _is_ours(contender: str) -> bool:
    return contender.startswith("numbacnn")


def _origin(results: dict[str, Any]) -> str:
    """Where and when it was measured."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads ({machine['threading_layer']}); "
        f"{versions}; float32 peak {machine['peak_gflops']:.0f} GFLOP/s; measured {results['measured'][:10]}."
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {"conv": conv_section, "models": models_section}
"""What makes a section of the README, by the benchmark whose results on the CPU it shows."""


def results_of(name: str) -> dict[str, Any] | None:
    """The last results of a benchmark on the CPU; None where there are none."""
    path = RESULTS / f"{name}-cpu.json"
    results: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return results


def replace_section(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` from ``<!-- bench:name -->`` to the next ``<!-- end -->``; ValueError without them."""
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"`text` has no section between <!-- bench:{name} --> and <!-- end -->")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def main() -> int:
    """Rewrite the sections of README.md that there are results for; 1 if there are none at all."""
    sections = {name: make(results) for name, make in SECTIONS.items() if (results := results_of(name))}
    if not sections:
        print(f"error: nothing in {RESULTS}: run `python -m bench.conv --peer torch` first", file=sys.stderr)
        return 1
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, section in sections.items():
        text = replace_section(text, name, section)
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
