"""What a package offers to whoever completes its name: no modules, nothing private, nothing that it only uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

__all__ = ["public_names"]


def public_names(namespace: Mapping[str, Any], modules: Iterable[str] = ()) -> list[str]:
    """The names in ``namespace``, a package's globals, that are not modules, and those of ``modules`` that are offered.

    >>> public_names({"relu": abs, "linear": ModuleType("linear"), "init": ModuleType("init"), "_own": 1}, ["init"])
    ['init', 'relu']
    """
    return sorted(
        name
        for name, value in namespace.items()
        if name in modules or not (name.startswith("_") or isinstance(value, ModuleType) or name == "public_names")
    )
