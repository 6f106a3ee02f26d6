"""Arrays in memory that has been used before.

The system hands out memory that nothing has touched as pages of zeros, each made when it is first written to: for a
large result of a fast kernel this takes longer than the kernel. So the memory of large arrays is kept when they are
gone, and given to the next ones.

A block is free when nothing refers to it but the pool; every array and view in it does. That is seen from the count of
references, which says nothing on an interpreter without its global lock: there all memory comes from the system.

While a step is captured (``captured.py``), its arrays, small ones too, are in an arena of its own (``arena.py``).
"""

from __future__ import annotations

import bisect
import ctypes
import math
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...forks import ForkSafeLock, in_forked_children
from .arena import ALIGNMENT, Arena

__all__ = ["address_of", "addresses_of", "empty", "empty_bytes", "empty_images", "empty_like", "release", "using"]

# Smaller arrays come from memory that the C library has at hand.
MIN_BYTES = 1 << 15
# A block serves an array of at least this share of it.
MIN_SHARE = 2 / 3
# Free blocks may take as much as half of those in use, or this, before some are given back.
IDLE_BYTES = 1 << 26
# Allocations after which a block that served none of them is given back.
SWEEP = 4096


# NumPy's arrays begin with what every object begins with and then the address of their elements: its C interface reads
# it from there as well, and asked by way of Python it takes eight times as long.
_ADDRESS_AT = object.__basicsize__
_word_at = ctypes.c_size_t.from_address


def _asked(x: np.ndarray) -> int:
    address: int = x.__array_interface__["data"][0]
    return address


def _looked_up(x: np.ndarray) -> int:
    return _word_at(id(x) + _ADDRESS_AT).value


def _agree() -> bool:
    probe = np.empty(3, np.int8)[1:]
    return sys.implementation.name == "cpython" and _looked_up(probe) == _asked(probe)


address_of = _looked_up if _agree() else _asked
"""Where the elements of an array begin."""


def addresses_of(arrays: Iterable[np.ndarray]) -> list[int]:
    """:func:`address_of` each, in one go."""
    if address_of is _asked:
        return [_asked(x) for x in arrays]
    return [_word_at(id(x) + _ADDRESS_AT).value for x in arrays]


def _references(blocks: list[np.ndarray], index: int) -> int:
    return sys.getrefcount(blocks[index])


_FREE = _references([np.empty(0, np.uint8)], 0)


class _Pool:
    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.sizes: list[int] = []  # ascending, and beside it:
        self.blocks: list[np.ndarray] = []
        self.used: list[int] = []  # number of the allocation that a block last served
        self.count = 0

    def take(self, shape: Sequence[int], dtype: np.dtype, size: int) -> np.ndarray:
        with self.lock:
            if self.lock.depth > 1:  # a signal's handler, or a finalizer, amid what follows
                return np.empty(shape, dtype)
            self.count += 1
            if self.count % SWEEP == 0:
                self._drop(lambda index: self.used[index] <= self.count - SWEEP)
            index = bisect.bisect_left(self.sizes, size)
            while index < len(self.sizes) and size >= MIN_SHARE * self.sizes[index]:
                if _references(self.blocks, index) == _FREE:
                    break
                index += 1
            else:
                self._make_room()
                block = np.empty(size + ALIGNMENT, np.uint8)  # before anything is changed: there may be no memory
                index = bisect.bisect_left(self.sizes, size)
                self.sizes.insert(index, size)
                self.blocks.insert(index, block)
                self.used.insert(index, self.count)
            self.used[index] = self.count
            block = self.blocks[index]
            return np.ndarray(shape, dtype, block, -address_of(block) % ALIGNMENT)

    def release(self) -> None:
        with self.lock:
            if self.lock.depth == 1:
                self._drop(lambda index: True)

    def _make_room(self) -> None:
        """Give back the free blocks that were used least recently, if there are many."""
        free = [index for index in range(len(self.sizes)) if _references(self.blocks, index) == _FREE]
        idle = sum(self.sizes[index] for index in free)
        excess = idle - max(IDLE_BYTES, (sum(self.sizes) - idle) // 2)
        chosen = set()
        for index in sorted(free, key=lambda index: self.used[index]):
            if excess <= 0:
                break
            excess -= self.sizes[index]
            chosen.add(index)
        if chosen:
            self._drop(chosen.__contains__)

    def _drop(self, condition: Any) -> None:
        kept = [
            index
            for index in range(len(self.sizes))
            if _references(self.blocks, index) != _FREE or not condition(index)
        ]
        self.sizes = [self.sizes[index] for index in kept]
        self.blocks = [self.blocks[index] for index in kept]
        self.used = [self.used[index] for index in kept]


class _Scope(threading.local):
    arena: Arena | None = None


_pool = _Pool()
_scope = _Scope()
_counts_references = getattr(sys, "_is_gil_enabled", lambda: True)()


def _forget_blocks() -> None:
    """In a forked child, whose parent may have been amid a change; arrays keep their memory."""
    global _pool
    _pool = _Pool()


in_forked_children(_forget_blocks)


@contextmanager
def using(arena: Arena | None) -> Iterator[None]:
    """New arrays of this thread are in ``arena``; None is the memory of all."""
    former, _scope.arena = _scope.arena, arena
    try:
        yield
    finally:
        _scope.arena = former


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """A new uninitialised array; a large one begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    if _scope.arena is not None:
        return _scope.arena.take(tuple(shape), dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < MIN_BYTES or not _counts_references:
        return np.empty(shape, dtype)
    return _pool.take(tuple(shape), dtype, size)


def empty_bytes(size: int) -> np.ndarray:
    """``size`` new uninitialised bytes that begin at a multiple of 64, however few they are."""
    memory = empty((size + ALIGNMENT,), np.uint8)
    first = -address_of(memory) % ALIGNMENT
    return memory[first : first + size]


def empty_images(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """A new uninitialised array (n, c, h, w) that lies channels last: ``vector/layout.py``."""
    n, c, h, w = shape
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def empty_like(x: np.ndarray) -> np.ndarray:
    """A new uninitialised array of the shape and dtype of ``x`` that lies as ``x`` does."""
    return empty(x.shape, x.dtype) if x.flags.c_contiguous else empty_images(x.shape, x.dtype)


def release() -> None:
    """Give all memory back to the system that no array is in."""
    _pool.release()
