"""The documentation's table of layers, which a test holds to the registry: ``python -m tests.registry.table``."""

from __future__ import annotations

from pathlib import Path

from bench.tables import replace_section
from numbacnn.backends import NAMES
from tests.registry import ENTRIES

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"
SECTION = "layers"


def table() -> str:
    """A row for each layer: what its tests prove on each backend."""
    columns = ["layer", *(f"{name}: float32, float64" for name in NAMES), "captured (cpu, cuda)", "as PyTorch, to 1e-9"]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---|' * (len(columns) - 1)}"]
    for name, entry in sorted(ENTRIES.items()):
        cells = [f"`{name}`", *["forward, backward"] * len(NAMES)]
        captured, compared = "yes", "forward, every gradient"
        if entry.is_random:
            captured, compared = "not by this registry", "in evaluation, for it draws other numbers"
        cells += [captured, compared]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Rewrite the page's section."""
    PAGE.write_text(replace_section(PAGE.read_text(encoding="utf-8"), SECTION, table()), encoding="utf-8")


if __name__ == "__main__":
    main()
