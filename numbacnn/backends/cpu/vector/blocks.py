"""Arrays in blocks of neighbouring elements, one to a chunk, and the kernel that clears them."""

from __future__ import annotations

import numpy as np

from ..runtime.kernel import inlined, kernel
from .layout import flat

__all__ = ["BLOCK", "block", "blocks", "fill_zero"]

BLOCK = 1 << 13


def blocks(x: np.ndarray) -> int:
    """Chunks that cover ``x``."""
    return -(-x.size // BLOCK)


@inlined
def block(chunk, size):
    """The elements of a chunk. A signed index might count from the end, and the test for that keeps LLVM from using
    vectors.
    """
    return range(np.uintp(chunk * BLOCK), np.uintp(min((chunk + 1) * BLOCK, size)))


@kernel
def _fill_zero(chunk, target):
    target[chunk * BLOCK : min((chunk + 1) * BLOCK, target.size)] = 0


def fill_zero(target: np.ndarray) -> None:
    """See :class:`contract.Backend`."""
    _fill_zero(blocks(target), flat(target))
