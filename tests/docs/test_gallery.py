"""Each page of the gallery has its picture, commands that are understood, code that exists, and a card in the index."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
PAGES = sorted(path for path in GALLERY.glob("*.md") if path.stem != "index")
LARGEST = 150_000
"""Bytes of a picture."""
CARD = re.compile(r"^- \[!\[(.+?)\]\((.+?)\)\\\n  \*\*(.+?)\*\*\\\n  (.+?)\]\((.+?)\.md\)$", re.M)


class UnderstoodError(Exception):
    """What a command ends with here, instead of doing what its options say."""


def picture_of(text: str) -> tuple[str, str]:
    """The alternative text and the file of the one picture of a page."""
    (found,) = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    return found


def commands_of(text: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if not line.startswith("pip ")]


def size_of(file: Path) -> tuple[int, int]:
    """Width and height of a PNG or JPEG file, by its header."""
    content = file.read_bytes()
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", content[16:24])
    assert content.startswith(b"\xff\xd8\xff"), file
    place = 2
    while not 0xC0 <= content[place + 1] <= 0xC2:
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    height, width = struct.unpack(">HH", content[place + 5 : place + 9])
    return width, height


def test_the_index_shows_every_page() -> None:
    text = (GALLERY / "index.md").read_text(encoding="utf-8")
    cards = CARD.findall(text)
    assert len(cards) == text.count("\n- ")
    pages = [page for *_, page in cards]
    assert sorted(pages) == [path.stem for path in PAGES]
    assert re.findall(r"^[a-z-]+$", text.partition(":hidden:")[2], re.M) == pages
    for alternative, file, title, _, page in cards:
        shown = (GALLERY / f"{page}.md").read_text(encoding="utf-8")
        assert shown.startswith(f"# {title}\n")
        assert picture_of(shown) == (alternative, file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_picture_of_a_page(page: Path) -> None:
    alternative, file = picture_of(page.read_text(encoding="utf-8"))
    assert len(alternative) > 30
    picture = page.parent / file
    assert picture.stat().st_size <= LARGEST
    width, height = size_of(picture)
    assert 600 <= width <= 1600 and height >= 300


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def understood(parser: argparse.ArgumentParser, args: Sequence[str] | None = None, *rest: Any) -> None:
        parse(parser, args, *rest)
        raise UnderstoodError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understood)
    commands = commands_of(page.read_text(encoding="utf-8"))
    assert commands
    for program, *words in commands:
        if program == "python":
            flag, module, *options = words
            assert flag == "-m" and module.partition(".")[0] in ("examples", "bench")
        else:
            assert program == "numbacnn"
            module, options = "numbacnn.cli.main", words
        if module == "examples.sklearn_digits":
            pytest.importorskip("sklearn")
        with pytest.raises(UnderstoodError):
            importlib.import_module(module).main(options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_is_in_the_files(page: Path) -> None:
    blocks = re.findall(r"^```\{literalinclude\} (\S+)\n((?::.*\n)*)```", page.read_text(encoding="utf-8"), re.M)
    assert blocks
    for file, options in blocks:
        code = (page.parent / file).read_text(encoding="utf-8")
        parts = re.findall(r"^:(pyobject|start-at|end-at|end-before): (.+)$", options, re.M)
        assert parts
        for option, name in parts:
            if option == "pyobject":
                assert re.search(rf"^ *(?:def|class) {name.rpartition('.')[2]}\b", code, re.M)
            else:
                assert name in code
