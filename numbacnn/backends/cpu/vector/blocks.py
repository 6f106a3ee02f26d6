"""Arrays in blocks of neighbouring elements, one to a chunk, and the kernel that clears them."""

from __future__ import annotations

import numpy as np

from ..runtime.kernel import inlined, kernel
from .layout import flat

__all__ = ["AHEAD", "BLOCK", "PART", "block", "blocks", "fill_zero", "part", "parts"]

BLOCK = 1 << 13
PART, AHEAD = 1 << 8, 1 << 11
"""Elements: in float32 a part is as many lines of the cache as a core can wait for."""


def blocks(x: np.ndarray) -> int:
    """Chunks that cover ``x``."""
    return -(-x.size // BLOCK)


@inlined
def block(chunk, size):
    """The elements of a chunk. A signed index might count from the end, and the test for that keeps LLVM from using
    vectors.
    """
    return range(np.uintp(chunk * BLOCK), np.uintp(min((chunk + 1) * BLOCK, size)))


@inlined
def parts(chunk, size):
    """Where the parts of a chunk begin, for what computes so much that the memory would wait.

    Before each part ``prefetch_run(x, first + AHEAD, PART)`` brings what comes later, of what is written as well.
    Where little is computed, this costs more than it brings.
    """
    return range(chunk * BLOCK, min((chunk + 1) * BLOCK, size), PART)


@inlined
def part(first, size):
    """The elements of a part, as of :func:`block`."""
    return range(np.uintp(first), np.uintp(min(first + PART, size)))


@kernel
def _fill_zero(chunk, target):
    target[chunk * BLOCK : min((chunk + 1) * BLOCK, target.size)] = 0


def fill_zero(target: np.ndarray) -> None:
    """See :class:`contract.Backend`."""
    _fill_zero(blocks(target), flat(target))
