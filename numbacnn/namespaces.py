"""What a package offers to whoever completes its name: no modules, nothing private, nothing that it only uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["imported_when_asked", "public_names"]

_TOOLS = ("imported_when_asked", "public_names")


def public_names(
    namespace: Mapping[str, Any], modules: Iterable[str] = (), when_asked: Mapping[str, Iterable[str]] | None = None
) -> list[str]:
    """The names in ``namespace``, a package's globals, that are not modules, and those of ``modules`` that are offered.

    With those that :func:`imported_when_asked` will bring.

    >>> public_names({"relu": abs, "linear": ModuleType("linear"), "init": ModuleType("init"), "_own": 1}, ["init"])
    ['init', 'relu']
    """
    names = {
        name
        for name, value in namespace.items()
        if name in modules
        or not (name.startswith("_") or isinstance(value, ModuleType) or name in _TOOLS or name == "TYPE_CHECKING")
    }
    return sorted(names.union(*(when_asked or {}).values()))


def imported_when_asked(package: str, modules: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package: its module is imported when one of the module's names is first asked for.

    So that a program pays for what it uses.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def attribute(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{module_of[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute
