"""How often a function is called."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["calls_of"]


def calls_of(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """The arguments of each call of the function ``name`` of ``owner`` from now on."""
    found: list[Any] = []
    function = getattr(owner, name)

    def noted(*arguments: Any) -> Any:
        found.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(owner, name, noted)
    return found
