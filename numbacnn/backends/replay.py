"""What the host has to do again each time a captured step is launched: counting, which no device does for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["each_time", "recording"]


class _Recording(threading.local):
    effects: list[Callable[[], None]] | None = None


_active = _Recording()


def each_time(effect: Callable[[], None]) -> None:
    """Do ``effect`` now, or, inside of :func:`recording`, leave it to whoever replays what is being recorded."""
    if _active.effects is None:
        effect()
    else:
        _active.effects.append(effect)


@contextmanager
def recording() -> Iterator[list[Callable[[], None]]]:
    """A list that fills with the effects of the block, of this thread, none of which is done.

    Nothing happens on the device either while a step is captured, so that after a capture which fails everything is
    as it was.

    >>> with recording() as effects:
    ...     each_time(lambda: print("counted"))
    >>> for effect in effects:
    ...     effect()
    counted
    """
    effects: list[Callable[[], None]] = []
    former, _active.effects = _active.effects, effects
    try:
        yield effects
    finally:
        _active.effects = former
