"""Something that computes what others compute too, so that they can be compared and timed beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from numbacnn.backends import Backend

from .precision import FULL
from .timing import SelfTimed

__all__ = ["Contender", "best_of", "captured", "is_ours", "largest_difference", "reason", "stands_for_us"]

REASON_LENGTH = 200


class Contender(NamedTuple):
    """``run()`` returns a new array, which ``to_numpy`` makes comparable.

    ``wait`` is there where ``run`` only asks for work, ``bound`` where results are less accurate than float32's.
    ``capture(run)`` is what does the same work again in one launch, or None. ``sample`` is there where the work is done
    and timed in another process. Ratios refer to contenders of the same ``precision``, one of PRECISIONS. ``layout``,
    one of LAYOUTS, and ``algorithm`` are told where they are known.
    """

    run: Callable[[], Any]
    to_numpy: Callable[[Any], np.ndarray] = np.asarray
    wait: Callable[[], object] | None = None
    bound: float | None = None
    capture: Callable[[Callable[[], Any]], Callable[[], object] | None] | None = None
    sample: Callable[[], float] | None = None
    precision: str = FULL
    layout: str | None = None
    algorithm: str | None = None

    def replay(self) -> Callable[[], object]:
        """What is timed: the captured launches where there are any, so that it is the device's time; else ``run``."""
        if self.sample is not None:
            return SelfTimed(self.sample)
        return (self.capture(self.run) if self.capture else None) or self.run


def stands_for_us(name: str, task: str) -> bool:
    """Whether means count this contender: ours, in inference the session, which is what one would take."""
    return is_ours(name) and name.endswith("session") == (task == "infer")


def is_ours(name: str) -> bool:
    """Whether it is one of our contenders."""
    return name.startswith("numbacnn")


def captured(backend: Backend, run: Callable[[], Any]) -> Callable[[], object] | None:
    """One launch of what ``run`` asks the backend for; None where that cannot be captured."""
    launches = backend.capture(run)
    return None if launches is None else launches[0]


def best_of(times: Mapping[str, float]) -> str | None:
    """The name of the shortest time; None where there is none."""
    return min(times, key=times.__getitem__, default=None)


def largest_difference(result: np.ndarray, ours: np.ndarray) -> float:
    """Between the two, relative to the largest magnitude of ours; infinite for another shape.

    >>> largest_difference(np.array([[1.0, 2.0]]), np.array([[1.0, -4.0]]))
    1.5
    """
    if result.shape != ours.shape:
        return np.inf
    scale = float(np.abs(ours).max())
    return float(np.abs(result - ours).max()) / scale if scale else float(np.abs(result).max())


def reason(error: Exception) -> str:
    """Why a library, its compiler or the device refuses, each in its own way, in a line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:REASON_LENGTH]
