"""Memory of a captured step: one piece, in which arrays follow each other as the step makes them and lets go of them.

A step is recorded twice, and nothing is computed either time: first to learn how large the piece has to be, then for
good. Arrays that are never there at the same time thus share memory to the byte, which a pool of blocks cannot do.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Arena"]

ALIGNMENT = 64


class _Place:
    """A part of the arena, which is free again with the last array that is in it."""

    def __init__(self, arena: Arena, start: int, size: int, address: int, memory: np.ndarray | None) -> None:
        self.arena, self.start, self.size, self.memory = arena, start, size, memory
        self.__array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": (size,), "data": (address, False), "strides": None,
        }  # fmt: skip

    def __del__(self) -> None:
        # It may be any moment, also one within `take`.
        self.arena.returned.append((self.start, self.size))


class Arena:
    """Where the arrays of a step are.

    Args:
        size: bytes of the piece, an ``extent`` that was found before; without it every array has memory of its own.
    """

    def __init__(self, size: int = 0) -> None:
        self.extent = 0
        """Bytes from the first place to the end of the last."""
        self.returned: list[tuple[int, int]] = []
        self.size = size
        self._piece = np.empty(size + ALIGNMENT, np.uint8)
        self._first = -(-self._piece.ctypes.data // ALIGNMENT) * ALIGNMENT
        self._more: list[np.ndarray] = []
        self._free: list[tuple[int, int]] = []  # (start, end), ascending, no two of them neighbours

    @property
    def address(self) -> int:
        """Where the piece begins."""
        return self._first

    def take(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """A new uninitialised array that begins at a multiple of ALIGNMENT."""
        while self.returned:
            self._give_back(*self.returned.pop())
        bytes_ = max(math.prod(shape) * dtype.itemsize, 1)
        size = -(-bytes_ // ALIGNMENT) * ALIGNMENT
        start = self._find(size)
        self.extent = max(self.extent, start + size)
        memory, address = None, self._first + start
        if start + size > self.size:
            memory = np.empty(size + ALIGNMENT, np.uint8)
            address = -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT
            if self.size:  # the step let go of something later than the first time
                self._more.append(memory)
        place: Any = _Place(self, start, size, address, memory)
        return np.asarray(place)[: bytes_ if math.prod(shape) else 0].view(dtype).reshape(shape)

    def holds(self, x: np.ndarray) -> bool:
        """Whether ``x`` is in a place of this arena."""
        owner: Any = x
        while isinstance(owner, np.ndarray):
            owner = owner.base
        return isinstance(owner, _Place) and owner.arena is self

    def lend(self, x: np.ndarray) -> np.ndarray:
        """``x`` in the same memory; where that is a place of this arena, it can be free again while this is there."""
        offset = x.__array_interface__["data"][0] - self._piece.ctypes.data
        if not self.holds(x) or not 0 <= offset <= self._piece.size - x.nbytes:
            return x
        return np.ndarray(x.shape, x.dtype, self._piece, offset, x.strides)

    def _find(self, size: int) -> int:
        """Where so many bytes are free: in the smallest gap that has them, else at the end."""
        gaps = [(end - start, index) for index, (start, end) in enumerate(self._free) if end - start >= size]
        if gaps:
            _, index = min(gaps)
            start, end = self._free[index]
            self._free[index : index + 1] = [(start + size, end)] if end - start > size else []
            return start
        if self._free and self._free[-1][1] == self.extent:
            return self._free.pop()[0]
        return self.extent

    def _give_back(self, start: int, size: int) -> None:
        end = start + size
        index = bisect.bisect_left(self._free, (start, end))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == start:
            index -= 1
            start = self._free.pop(index)[0]
        self._free.insert(index, (start, end))
