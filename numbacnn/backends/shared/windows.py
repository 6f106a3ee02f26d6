"""Index arithmetic of windows over padded images: pure functions of integers, for every backend to compile."""

from __future__ import annotations

__all__ = ["adaptive_window", "output_range", "taps_inside"]


def adaptive_window(o, outputs, size):
    """The inputs ``first <= i < end`` of output ``o``, of ``outputs`` that share ``size`` inputs as evenly as they can.

    Neighbours overlap where they do not share evenly. The outputs whose windows hold input i are those of
    ``adaptive_window(i, size, outputs)``.

    >>> [adaptive_window(o, 3, 7) for o in range(3)]
    [(0, 3), (2, 5), (4, 7)]
    >>> [adaptive_window(i, 7, 3) for i in range(7)]
    [(0, 1), (0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 3)]
    """
    return o * size // outputs, -(-(o + 1) * size // outputs)


def output_range(offset, stride, size, outputs):
    """The outputs ``first <= o < end`` whose input ``o * stride + offset`` lies in ``0 .. size - 1``.

    For tap i of a window, ``offset`` is ``i * dilation - padding_before``. ``end`` is never below ``first``.

    >>> output_range(-1, 2, 5, 3)  # the first of three outputs would read input -1
    (1, 3)
    """
    first = max(0, -(offset // stride))
    end = max(first, min(outputs, (size - 1 - offset) // stride + 1))
    return first, end


def taps_inside(start, kernel, low, high):
    """How many of the taps ``start .. start + kernel - 1`` lie in ``low .. high - 1``, at least 1 for division's sake.

    >>> taps_inside(-1, 3, 0, 28)  # a window of 3 that hangs one column over the left edge
    2
    """
    return max(1, min(start + kernel, high) - max(start, low))
