"""The page of layers and losses, held to the registry by a test: ``python -m tests.registry.table``.

Each test of the registry runs all of its entries, on every backend; what one leaves out is said here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.tables import replace_section
from numbacnn.backends import NAMES
from tests.registry import ENTRIES
from tests.registry.losses_registry import LOSSES

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"


def tables() -> dict[str, str]:
    """By section of the page, a row for each layer or loss: what its tests prove on each backend."""
    random = {name for name, entry in ENTRIES.items() if entry.is_random}
    return {"layers": _table("layer", ENTRIES, random), "losses": _table("loss", LOSSES, set())}


def _table(kind: str, names: Iterable[str], random: set[str]) -> str:
    columns = [kind, *(f"{name}: float32, float64" for name in NAMES), "captured (cpu, cuda)", "as PyTorch, to 1e-9"]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---|' * (len(columns) - 1)}"]
    for name in sorted(names):
        cells = [f"`{name}`", *["forward, backward"] * len(NAMES)]
        captured, compared = "yes", "forward, every gradient"
        if name in random:
            captured, compared = "yes, drawn anew at each launch", "in evaluation, for it draws other numbers"
        lines.append(f"| {' | '.join([*cells, captured, compared])} |")
    return "\n".join(lines)


def main() -> None:
    """Rewrite the page's sections."""
    text = PAGE.read_text(encoding="utf-8")
    for section, table in tables().items():
        text = replace_section(text, section, table)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
