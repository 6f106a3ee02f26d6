"""A captured step: what the device is asked for is recorded once and then repeated in one launch.

Addresses are part of the record. So the arrays that are made while recording come from an arena of their own, which
the captured step keeps, and which keeps the memory that was there before and is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from ...capture import CaptureError, warn_not_captured
from ...cuda_support import DriverError
from ...signals import handled_afterwards
from . import device_array
from .device_array import Arena, DeviceArray

__all__ = ["capture"]


def capture(
    *functions: Callable[[], None], constant: Sequence[DeviceArray] = ()
) -> tuple[Callable[[], None], ...] | None:
    """See :class:`contract.Backend`; nothing here is prepared, so that ``constant`` makes no difference.

    None, with a RuntimeWarning that says why, where something in it cannot be recorded: copies from or to the host,
    or whatever the driver refuses. Kernels should have been compiled before.
    """
    device = device_array.device()
    pool = Arena()
    try:
        with device_array.using(pool):
            return tuple([_Captured(_record(device, function), pool) for function in functions])
    except (CaptureError, DriverError, MemoryError) as error:
        warn_not_captured(error)
        return None


def _record(device: Any, function: Callable[[], None]) -> Callable[[], None]:
    with handled_afterwards():
        device.begin_capture()
        try:
            function()
        except BaseException:
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
