"""A captured step: what the device is asked for is recorded once and then repeated in one launch.

Addresses are part of the record. So the arrays that are made while recording come from an arena of their own, which
the captured step keeps, and memory that is let go of meanwhile is kept from reuse for as long.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from . import memory
from .memory import Arena

__all__ = ["capture"]


def capture(function: Callable[[], None]) -> Callable[[], None] | None:
    """Record what ``function`` asks the device to do: what is returned does all of that again, in one launch.

    None, with a RuntimeWarning that says why, where something in it cannot be recorded: copies from or to the host,
    or whatever the driver refuses. Kernels must have been compiled before.
    """
    device = memory.device()
    pool = Arena()
    launches = device.launches
    device.begin_capture()
    failure: Exception | None = None
    with memory.using(pool):
        try:
            function()
        except Exception as error:  # whatever it is, the recording has to end
            failure = error
        try:
            replay = device.end_capture()
        except Exception as error:
            failure = failure or error
    device.launches = launches
    if failure is not None:
        reason = " ".join(str(failure).split()) or type(failure).__name__
        warnings.warn(f"the step runs launch by launch, it cannot be captured: {reason}", RuntimeWarning, stacklevel=2)
        return None
    return _Captured(replay, pool)


class _Captured:
    """Repeats what was recorded."""

    def __init__(self, replay: Callable[[], None], pool: Arena) -> None:
        self._replay, self._pool = replay, pool

    def __call__(self) -> None:
        self._replay()
