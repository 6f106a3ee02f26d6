"""Captured steps: which there are, and what the host has to do again each time one is launched.

A backend's ``capture`` (``cpu/capture.py``, ``cuda/capture.py``) writes down what a step asks for, and does all of it
in one launch from then on. Layers stay as they are: what counts or checks in them asks here when it is to be done.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from .numba_threads import numba_threads

__all__ = [
    "CaptureError",
    "Captures",
    "Effects",
    "after_launch",
    "before_launch",
    "current_label",
    "generation",
    "invalidate",
    "label",
    "recording",
    "warn_not_captured",
]

_T = TypeVar("_T")


class _Label(threading.local):
    value: Any = None


_label = _Label()


def label(value: Any) -> None:
    """What this thread asks for from now on is ``value``'s: a captured step can tell how long each took."""
    _label.value = value


def current_label() -> Any:
    """What :func:`label` was told last."""
    return _label.value


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
    """What was captured, for each kind of arguments and number of threads, as far as that is worth its memory.

    Where work is ``asynchronous`` the first of a kind runs plainly: it compiles kernels, which cannot be done while
    work for a device is recorded, and makes the arrays that are there to stay. So it does where captures were thrown
    away one after the other before they were used again.

    When there are `MAX_KINDS`, the one that was used least recently makes way for a kind that comes again, once it has
    not been used for `MIN_IDLE_CALLS` calls: a few kinds too many, in turn, do not throw each other out.

    >>> captures = Captures()
    >>> [captures.find("a kind", lambda: "captured", asynchronous) for asynchronous in (True, True, False)]
    [None, 'captured', 'captured']
    """

    MAX_KINDS = 4
    """Kinds, each of which holds memory for a whole step; the rest runs plainly."""
    MIN_IDLE_CALLS = 32
    """Calls."""
    MAX_REMEMBERED = 64
    """Kinds that were seen and not captured."""
    MAX_WASTED = 3
    """Captures in a row that were never used again."""

    def __init__(self) -> None:
        self._wasted = 0
        self._found: dict[Any, _Found[_T]] = {}
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        for found in self._found.values():
            self._let_go(found)
        self._found = {}
        self._seen: dict[Any, None] = {}
        self._refused = False
        self._calls = 0
        self._generation = _generation

    def find(self, kind: Any, capture: Callable[[], _T | None], asynchronous: bool) -> _T | None:
        """What was captured for ``kind``; None to run plainly, once and for all when ``capture`` has returned that."""
        if self._generation != _generation:
            self.clear()
        self._calls += 1
        kind = kind, numba_threads()  # among which launches are shared out when they are captured
        found = self._found.pop(kind, None)
        if found is None:
            return self._new(kind, capture, asynchronous)
        self._found[kind] = found  # the last one is the one used last
        found.last_used, found.is_used, self._wasted = self._calls, True, 0
        return found.captured

    def _new(self, kind: Any, capture: Callable[[], _T | None], asynchronous: bool) -> _T | None:
        comes_again = kind in self._seen
        self._seen.pop(kind, None)
        self._seen[kind] = None
        if len(self._seen) > self.MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        is_full = len(self._found) >= self.MAX_KINDS
        if self._refused or not (comes_again or not (asynchronous or is_full or self._wasted >= self.MAX_WASTED)):
            return None
        if is_full:
            oldest = next(iter(self._found))
            if self._calls - self._found[oldest].last_used < self.MIN_IDLE_CALLS:
                return None
            self._let_go(self._found.pop(oldest))
        captured = capture()
        if captured is None:
            self._refused = True
        else:
            self._found[kind] = _Found(captured, self._calls)
            del self._seen[kind]
        return captured

    def _let_go(self, found: _Found[_T]) -> None:
        self._wasted += not found.is_used


class _Found(Generic[_T]):
    def __init__(self, captured: _T, call: int) -> None:
        self.captured = captured
        self.last_used = call
        self.is_used = False


_generation = 0


def generation() -> int:
    """How often everything had to be captured anew so far."""
    return _generation


def invalidate() -> None:
    """Everything that was captured is captured anew: something has changed that all kernels are chosen by."""
    global _generation
    _generation += 1


class _Recording(threading.local):
    effects: Effects | None = None


_active = _Recording()


def after_launch(effect: Callable[[], None]) -> None:
    """Do ``effect`` now, or, inside of :func:`recording`, leave it to whoever replays what is being recorded."""
    if _active.effects is None:
        effect()
    else:
        _active.effects.after.append(effect)


def before_launch(check: Callable[[], None]) -> None:
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
    ...     after_launch(lambda: print("counted"))
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


def warn_not_captured(failure: Exception) -> None:
    """Warn that a step cannot be captured, and why."""
    reason = " ".join(str(failure).split()) or type(failure).__name__
    warnings.warn(f"the step runs launch by launch, it cannot be captured: {reason}", RuntimeWarning, stacklevel=3)
