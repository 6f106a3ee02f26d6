"""Local response normalisation: which channels an element's scale is made of, and its power."""

from __future__ import annotations

__all__ = ["quarters", "reach"]

LARGEST_POWER = 8


def reach(size: int) -> tuple[int, int]:
    """How many channels a window of ``size`` has before its own, and how many after it.

    >>> reach(5), reach(4)
    ((2, 2), (2, 1))
    """
    return size // 2, (size - 1) // 2


def quarters(beta: float) -> int:
    """The number of quarters that ``beta`` is, for which a power is products of fourth roots; -1 where it is none.

    >>> quarters(0.75), quarters(0.7)
    (3, -1)
    """
    return int(4 * beta) if 4 * beta in range(LARGEST_POWER + 1) else -1
