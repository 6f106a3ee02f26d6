"""Write the tables of the last results into the README: ``python -m bench.readme``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from .report import significant

__all__ = ["conv_section", "main", "replace_section"]

ROOT = Path(__file__).parent.parent


def conv_section(results: dict[str, Any]) -> str:
    """The results of ``bench.conv`` as Markdown: the machine, a row per pass and algorithm, the summary."""
    machine, peer = results["machine"], results["settings"]["peer"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads ({machine['threading_layer']}); "
        f"{versions}; float32 peak {machine['peak_gflops']:.0f} GFLOP/s; measured {results['measured'][:10]}. "
        "Times are medians of interleaved calls; `*` is what `auto` picks"
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


def replace_section(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` from ``<!-- bench:name -->`` to the next ``<!-- end -->``; ValueError without them."""
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"`text` has no section between <!-- bench:{name} --> and <!-- end -->")
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def main() -> int:
    """Rewrite README.md; 1 if the results are missing."""
    results, readme = ROOT / "bench" / "results" / "conv-cpu.json", ROOT / "README.md"
    try:
        section = conv_section(json.loads(results.read_text(encoding="utf-8")))
    except FileNotFoundError:
        print(f"error: no {results}: run `python -m bench.conv --peer torch` first", file=sys.stderr)
        return 1
    readme.write_text(replace_section(readme.read_text(encoding="utf-8"), "conv", section), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
