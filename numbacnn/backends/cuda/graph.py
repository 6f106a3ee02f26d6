"""A captured step: what the device is asked for is recorded once and then repeated in one launch.

Addresses are part of the record. So the arrays that are made while recording come from an arena of their own, which
the captured step keeps, and memory that is let go of meanwhile is kept from reuse for as long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from ..replay import refused
from . import memory
from .memory import Arena, DeviceArray

__all__ = ["capture"]


def capture(
    *functions: Callable[[], None], constant: Sequence[DeviceArray] = ()
) -> tuple[Callable[[], None], ...] | None:
    """See :class:`contract.Backend`; nothing here is prepared, so that ``constant`` makes no difference.

    None, with a RuntimeWarning that says why, where something in it cannot be recorded: copies from or to the host,
    or whatever the driver refuses. Kernels must have been compiled before.
    """
    device = memory.device()
    pool = Arena()
    launches = device.launches
    try:
        with memory.using(pool):
            return tuple([_Captured(_record(device, function), pool) for function in functions])
    except Exception as error:  # whatever it is, the step can still run launch by launch
        refused(error)
        return None
    finally:
        device.launches = launches


def _record(device: Any, function: Callable[[], None]) -> Callable[[], None]:
    device.begin_capture()
    try:
        function()
    except Exception:
        with contextlib.suppress(Exception):  # that the recording must end, and why it failed, is known
            device.end_capture()
        raise
    return device.end_capture()


class _Captured:
    """Repeats what was recorded."""

    def __init__(self, replay: Callable[[], None], pool: Arena) -> None:
        self._replay, self._pool = replay, pool

    def __call__(self) -> None:
        self._replay()
