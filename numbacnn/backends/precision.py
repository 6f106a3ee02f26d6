"""How much an algorithm that ``auto`` picks may round: a setting of the process."""

from __future__ import annotations

import functools
import os
from types import TracebackType

from .forks import ForkSafeLock

__all__ = ["is_allowed", "is_strict", "precision"]

MODES = ("fast", "strict")
# Algorithms that compute in another basis, where sums round by several times as much as those of the definition.
ROUND_MORE = ("winograd",)

_lock = ForkSafeLock()
_mode: str | None = None


class precision:  # noqa: N801 - it is called like a function, and `with` makes the change temporary
    """Set what ``algorithm="auto"`` may take for convolutions of the process, from the next call on.

    ``"fast"``, the default, is whatever is fastest. ``"strict"`` is only what sums the products of the definition, so
    nothing by Winograd's transforms, which round several times as much. An algorithm that is asked for by its name is
    taken in either. Without a call the environment variable NUMBACNN_PRECISION decides, as it is when the first
    convolution asks.

    ``with precision(mode):`` restores the former mode at the end of the block. ValueError for another ``mode``.

    >>> with precision("strict") as mode:
    ...     mode
    'strict'
    """

    def __init__(self, mode: str) -> None:
        global _mode
        self._mode = _checked("mode", mode)
        with _lock:
            self._former = _mode
            _mode = mode

    def __enter__(self) -> str:
        return self._mode

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _mode
        with _lock:
            _mode = self._former


def is_strict() -> bool:
    """Whether ``auto`` takes only algorithms that sum the products of the definition."""
    return (_mode or _of_the_environment()) == "strict"


@functools.cache
def _of_the_environment() -> str:
    return _checked("NUMBACNN_PRECISION", os.environ.get("NUMBACNN_PRECISION") or "fast")


def is_allowed(algorithm: str) -> bool:
    """Whether ``auto`` may take it."""
    return algorithm not in ROUND_MORE or not is_strict()


def _checked(argument: str, mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"`{argument}` {mode!r} must be one of {', '.join(map(repr, MODES))}")
    return mode
