"""Capturing, of which there is none: a call is the work itself, so there is nothing to record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..contract import Array

__all__ = ["call_host", "capture", "capture_in_parts"]


def call_host(work: Callable[[], None]) -> bool:
    """Now."""
    work()
    return True


def capture(*functions: Callable[[], None], constant: Sequence[Array] = ()) -> tuple[Callable[[], None], ...] | None:
    """None, as said above."""
    return None


def capture_in_parts(
    function: Callable[[Array], Array], x: Array, constant: Sequence[Array] = ()
) -> tuple[Callable[[], None], Array] | None:
    """None: as :func:`capture`."""
    return None
