"""Capturing: a step becomes one launch of a CUDA graph (``runtime/captured.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..contract import Array
from .runtime.captured import capture

__all__ = ["call_host", "capture", "capture_in_parts"]


def call_host(work: Callable[[], None]) -> bool:
    """False: a launch does not come back to the host."""
    return False


def capture_in_parts(
    function: Callable[[Array], Array], x: Array, constant: Sequence[Array] = ()
) -> tuple[Callable[[], None], Array] | None:
    """None: a launch is of the whole device, whose threads no part of a batch would keep busy."""
    return None
