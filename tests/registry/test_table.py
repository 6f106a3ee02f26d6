"""The documentation's table of layers is the registry's."""

from __future__ import annotations

from tests.registry.table import PAGE, SECTION, table


def test_the_page_shows_the_registry() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"<!-- bench:{SECTION} -->\n{table()}\n<!-- end -->" in text, "run `python -m tests.registry.table`"
