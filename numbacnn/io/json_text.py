"""JSON that a stranger may have written."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_json"]

_DEEPEST = 32
"""Lists and tables within each other: ours are a handful deep, and what is deeper cannot be printed safely either."""


def parse_json(text: str | bytes) -> Any:
    """What ``text`` says; ValueError for damage, a name that a table has twice, and what is more than 32 deep."""
    try:
        document = json.loads(text, object_pairs_hook=_table)
    except RecursionError:
        raise ValueError("its text is nested too deep") from None
    level = [document]
    for _ in range(_DEEPEST):
        level = [entry for part in level if isinstance(part, (list, dict)) for entry in _entries(part)]
        if not level:
            return document
    raise ValueError("its text is nested too deep")


def _entries(part: list[Any] | dict[str, Any]) -> Any:
    return part.values() if isinstance(part, dict) else part


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"it names {name!r} twice")
        table[name] = value
    return table
