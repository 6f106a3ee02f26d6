"""Inputs, outputs and targets, which are one array or a tuple of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["as_tuple", "each_of"]


def as_tuple(part: Any) -> tuple[Any, ...]:
    """Inputs, outputs or targets, which are one or a tuple of several, as a tuple."""
    return part if isinstance(part, tuple) else (part,)


def each_of(part: Any, function: Callable[[Any], Any]) -> Any:
    """What a function makes of inputs, outputs or targets: one, or a tuple of as many as there are."""
    return tuple(map(function, part)) if isinstance(part, tuple) else function(part)
