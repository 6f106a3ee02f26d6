"""To what calls of a backend's functions an operation came down, for who will do them again without asking anything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["Call", "is_observed", "note", "observed"]


class Call(NamedTuple):
    """A call that can be done again with other arrays of the same kinds."""

    arrays: Sequence[Any]
    found: Any
    again: Callable[[Sequence[Any]], Any]
    """What it yields for other arrays; None where everything has to be asked again."""


class _Active(threading.local):
    calls: list[Call | None] | None = None


_active = _Active()


@contextmanager
def observed() -> Iterator[list[Call | None]]:
    """The calls that are made meanwhile, None for what is not one that can be done again."""
    former, calls = _active.calls, list[Call | None]()
    _active.calls = calls
    try:
        yield calls
    finally:
        _active.calls = former


def is_observed() -> bool:
    """Whether anyone wants to be told by :func:`note`."""
    return _active.calls is not None


def note(call: Call | None) -> None:
    """Tell who observes; None stands for work that cannot be done again in this way."""
    if _active.calls is not None:
        _active.calls.append(call)
