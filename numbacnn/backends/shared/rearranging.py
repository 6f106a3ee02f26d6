"""The loops that give an array's axes another order, as numbers for kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["AXES", "nested_loops", "rearranged_shape"]

AXES = 6
"""Of an array whose axes are split: at most."""

Split = Sequence[Sequence[int]]


def rearranged_shape(split: Split, joined: Split) -> tuple[int, ...]:
    """The shape of the result of ``rearrange(x, split, joined)``.

    >>> rearranged_shape(((5,), (6, 2, 2), (3,), (4,)), ((0,), (1,), (4, 2), (5, 3)))
    (5, 6, 6, 8)
    """
    sizes = [size for axis in split for size in axis]
    return tuple(math.prod(sizes[part] for part in axis) for axis in joined)


def nested_loops(
    split: Split, joined: Split, source_order: Sequence[int], target_order: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """AXES loops over the result of ``rearrange(x, split, joined)`` in the order of memory, the innermost one last.

    Their lengths, and how far apart in memory is what they read of x. ``source_order`` and ``target_order`` are the
    axes of x and of the result as they lie in memory, the outermost first. Loops that are one are joined, and those
    that are missing come first, of length 1.

    >>> nested_loops(((2,), (3,)), ((1,), (0,)), (0, 1), (0, 1))
    ((1, 1, 1, 1, 3, 2), (0, 0, 0, 0, 1, 3))
    """
    sizes = [size for axis in split for size in axis]
    first = [sum(map(len, split[:axis])) for axis in range(len(split))]
    distances, distance = [0] * len(sizes), 1
    for axis in reversed(source_order):
        for part in reversed(range(first[axis], first[axis] + len(split[axis]))):
            distances[part] = distance
            distance *= sizes[part]
    loops: list[tuple[int, int]] = []
    for part in (part for axis in target_order for part in joined[axis]):
        length, step = sizes[part], distances[part]
        if length == 1:
            continue
        if loops and loops[-1][1] == length * step:
            length *= loops.pop()[0]
        loops.append((length, step))
    loops = [(1, 0)] * (AXES - len(loops)) + loops
    return tuple(length for length, _ in loops), tuple(step for _, step in loops)
