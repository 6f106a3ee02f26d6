"""The README's tables are those of the committed results."""

from __future__ import annotations

import json

import pytest

from bench import readme


@pytest.mark.parametrize("name", readme.SECTIONS)
def test_the_readme_shows_the_committed_results(name):
    file, section = readme.SECTIONS[name]
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    results = json.loads((readme.ROOT / "bench" / "results" / file).read_text(encoding="utf-8"))
    assert readme.replace_section(text, name, section(results)) == text


def test_replaces_only_its_section():
    text = "a\n<!-- bench:conv -->\nold\n<!-- end -->\nb\n<!-- bench:other -->\nkept\n<!-- end -->\n"
    replaced = readme.replace_section(text, "conv", r"new \1")
    assert replaced == text.replace("old", r"new \1")


def test_a_readme_without_the_section_is_an_error():
    with pytest.raises(ValueError, match="has no section between <!-- bench:conv -->"):
        readme.replace_section("nothing here", "conv", "new")
