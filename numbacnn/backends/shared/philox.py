"""Philox4x32-10, the counter-based random numbers behind dropout, the same on every backend.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A block of four 32-bit words is
a function of a 128-bit counter and a 64-bit key, with no state: any thread works out any element's word on its own.

Dropout numbers its elements in C order. Element i takes word ``i % 4`` of the block whose counter is
(low and high word of ``i // 4``, low and high word of the offset) and whose key is the low and high word of the seed.
It is dropped where that word is below ``drop_threshold(p)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["WORD_BITS", "WORD_MASK", "drop_threshold", "dropout_words", "philox4x32", "split_words"]

# All unsigned 64-bit: Numba makes a float64 of an operation between int64 and uint64.
WORD_MASK = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
_MULTIPLIER0 = np.uint64(0xD2511F53)
_MULTIPLIER1 = np.uint64(0xCD9E8D57)
_KEY_STEP0 = np.uint64(0x9E3779B9)
_KEY_STEP1 = np.uint64(0xBB67AE85)


def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox on the counter (c0, c1, c2, c3) with the key (k0, k1): four random words.

    Every argument and result is a 32-bit word in a uint64, a scalar or an array. The function calls no other, so that
    ``numba.njit`` and ``numba.cuda.jit(device=True)`` compile it as it stands.

    >>> zero = np.uint64(0)
    >>> [f"{word:08x}" for word in philox4x32(zero, zero, zero, zero, zero, zero)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    for _ in range(10):
        product0 = _MULTIPLIER0 * c0
        product1 = _MULTIPLIER1 * c2
        c0 = (product1 >> WORD_BITS) ^ c1 ^ k0
        c1 = product1 & WORD_MASK
        c2 = (product0 >> WORD_BITS) ^ c3 ^ k1
        c3 = product0 & WORD_MASK
        k0 = (k0 + _KEY_STEP0) & WORD_MASK
        k1 = (k1 + _KEY_STEP1) & WORD_MASK
    return c0, c1, c2, c3


def split_words(value: int) -> tuple[np.uint64, np.uint64]:
    """The low and the high 32-bit word of an integer in [0, 2**64)."""
    return np.uint64(value & 0xFFFFFFFF), np.uint64(value >> 32)


def drop_threshold(p: float) -> np.uint64:
    """``p`` in [0, 1] in units of a word: 0 drops nothing, 2**32 (p = 1) drops everything."""
    return np.uint64(round(p * 2**32))


def dropout_words(count: int, seed: int, offset: int) -> np.ndarray:
    """The words (count,) uint64 of elements 0 .. count-1; ``seed`` and ``offset`` are integers in [0, 2**64)."""
    block = np.arange(-(-count // 4), dtype=np.uint64)
    words = philox4x32(block & WORD_MASK, block >> WORD_BITS, *split_words(offset), *split_words(seed))
    return np.stack(words, axis=1).reshape(-1)[:count]
