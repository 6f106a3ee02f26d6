"""Index arithmetic of windows over padded images: pure functions of integers, compiled by every backend that needs them."""

from __future__ import annotations

__all__ = ["output_range"]


def output_range(offset, stride, size, outputs):  # type: ignore[no-untyped-def]
    """The outputs ``first <= o < end`` whose input ``o * stride + offset`` lies in ``0 .. size - 1``.

    For tap i of a window, ``offset`` is ``i * dilation - padding_before``. ``end`` is never below ``first``.

    >>> output_range(-1, 2, 5, 3)  # the first of three outputs would read input -1
    (1, 3)
    """
    first = max(0, -(offset // stride))
    end = max(first, min(outputs, (size - 1 - offset) // stride + 1))
    return first, end
