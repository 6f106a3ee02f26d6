"""What wrappers of a model put before the names of its weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

__all__ = ["common_prefix", "without_prefix"]

_T = TypeVar("_T")

_WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "state_dict.", "model_state_dict.")
"""DataParallel's, of modules of several training loops, of `torch.compile`, and of tables in tables."""
_MOST_WRAPPERS = 4


def common_prefix(names: Collection[str], wanted: Collection[str]) -> str:
    """What is before the ``wanted`` names in ``names``, by wrappers around a model; "" where more fit as they are.

    >>> common_prefix(["module.model.weight", "module.model.bias", "step"], ["weight", "bias"])
    'module.model.'
    >>> common_prefix(["model.weight", "model.bias"], ["model.weight", "model.bias"])
    ''
    """
    found = {"": None}
    for name in names:
        prefix = ""
        for _ in range(_MOST_WRAPPERS):
            wrapper = next((wrapper for wrapper in _WRAPPERS if name.startswith(wrapper, len(prefix))), None)
            if wrapper is None:
                break
            prefix += wrapper
            found[prefix] = None
    present = set(names)
    return max(found, key=lambda prefix: sum(prefix + name in present for name in wanted))


def without_prefix(entries: Mapping[str, _T], prefix: str) -> dict[str, _T]:
    """``entries`` with ``prefix`` taken off where names have it; ValueError if two have one name then."""
    named: dict[str, _T] = {}
    for name, entry in entries.items():
        short = name.removeprefix(prefix)
        if short in named:
            raise ValueError(f"it holds both {short!r} and {prefix + short!r}")
        named[short] = entry
    return named
