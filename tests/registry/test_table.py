"""The documentation's tables of layers and losses are the registry's."""

from __future__ import annotations

import pytest

from tests.registry.table import PAGE, tables


@pytest.mark.parametrize(("section", "table"), tables().items())
def test_the_page_shows_the_registry(section: str, table: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"<!-- bench:{section} -->\n{table}\n<!-- end -->" in text, "run `python -m tests.registry.table`"
