"""Captured steps: which there are, and what the host has to do again each time one is launched.

A backend's ``capture`` (``cpu/graph.py``, ``cuda/graph.py``) writes down what a step asks for, and does all of it in
one launch from then on. Layers stay as they are: what counts or checks in them asks here when it is to be done.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

__all__ = ["CaptureError", "Captures", "Effects", "beforehand", "each_time", "recording", "refused"]

_T = TypeVar("_T")


class CaptureError(RuntimeError):
    """Something that cannot be part of a captured step."""


class Effects:
    """What the host does each time, before a launch and after it."""

    def __init__(self) -> None:
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []

    def around(self, launch: Callable[[], None]) -> Callable[[], None]:
        """``launch`` with what is done before and after it."""

        def run() -> None:
            for check in self.before:
                check()
            launch()
            for effect in self.after:
                effect()

        return run


class Captures(Generic[_T]):
    """What was captured, for each kind of arguments.

    Where work is ``asynchronous`` the first of a kind runs plainly: it compiles kernels, which cannot be done while
    work for a device is recorded, and makes the arrays that are there to stay.

    >>> captures = Captures()
    >>> [captures.find("a kind", lambda: "captured", asynchronous) for asynchronous in (True, True, False)]
    [None, 'captured', 'captured']
    """

    MOST = 4
    """Kinds, each of which holds memory for a whole step; the rest runs plainly."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self._seen: set[Any] = set()
        self._found: dict[Any, _T] = {}
        self._refused = False

    def find(self, kind: Any, capture: Callable[[], _T | None], asynchronous: bool) -> _T | None:
        """What was captured for ``kind``; None to run plainly, once and for all when ``capture`` has returned that."""
        found = self._found.get(kind)
        is_time = kind in self._seen or not asynchronous
        if found is None and is_time and len(self._found) < self.MOST and not self._refused:
            found = capture()
            if found is None:
                self._refused = True
            else:
                self._found[kind] = found
        self._seen.add(kind)
        return found


class _Recording(threading.local):
    effects: Effects | None = None


_active = _Recording()


def each_time(effect: Callable[[], None]) -> None:
    """Do ``effect`` now, or, inside of :func:`recording`, leave it to whoever replays what is being recorded."""
    if _active.effects is None:
        effect()
    else:
        _active.effects.after.append(effect)


def beforehand(check: Callable[[], None]) -> None:
    """Do ``check``, of what a step is given, now, or, inside of :func:`recording`, before each launch."""
    if _active.effects is None:
        check()
    else:
        _active.effects.before.append(check)


@contextmanager
def recording() -> Iterator[Effects]:
    """What fills with the effects of the block, of this thread, none of which is done.

    Nothing happens on the device either while a step is captured, so that after a capture which fails everything is
    as it was.

    >>> with recording() as effects:
    ...     each_time(lambda: print("counted"))
    >>> for effect in effects.after:
    ...     effect()
    counted
    """
    effects = Effects()
    former, _active.effects = _active.effects, effects
    try:
        yield effects
    finally:
        _active.effects = former


def refused(failure: Exception) -> None:
    """Warn that a step cannot be captured, and why."""
    reason = " ".join(str(failure).split()) or type(failure).__name__
    warnings.warn(f"the step runs launch by launch, it cannot be captured: {reason}", RuntimeWarning, stacklevel=3)
