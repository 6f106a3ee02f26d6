"""What the instructions of ``block/ptx.py`` mean, for the simulator: the same functions in plain Python.

What lanes of a warp do together is done when each has given its share, so that every thread of a block must ask for it
equally often. Copies happen when their group is waited for, not before, so that a wait that is missing is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import simulator
from .simulator import Memory, together

__all__ = [
    "commit_copies",
    "copy_four",
    "copy_word",
    "load_four",
    "load_matrices",
    "mma_bf16",
    "mma_tf32",
    "pack_bf16",
    "round_tf32",
    "settled",
    "store_four",
    "wait_for_copies",
]


def _check_aligned(index: int) -> None:
    if index % 4:
        raise IndexError(f"index {index} is not at a multiple of 16 bytes")


def load_four(memory: Memory, index: int) -> tuple[Any, ...]:
    _check_aligned(index)
    return tuple(memory[index + offset] for offset in range(4))


def store_four(memory: Memory, index: int, *values: Any) -> None:
    _check_aligned(index)
    for offset, value in enumerate(values):
        memory[index + offset] = value


def copy_word(shared: Memory, index: int, memory: Memory, source: int, is_inside: bool) -> None:
    simulator.pending_copies().append((shared, index, memory, source, is_inside, 1))


def copy_four(shared: Memory, index: int, memory: Memory, source: int, is_inside: bool) -> None:
    _check_aligned(index)
    _check_aligned(source)
    simulator.pending_copies().append((shared, index, memory, source, is_inside, 4))


def commit_copies() -> None:
    simulator.pending_copies().append(None)


def wait_for_copies(groups: int) -> Callable[..., Any]:
    def wait() -> None:
        pending = simulator.pending_copies()
        while pending.count(None) > groups:
            copy = pending.pop(0)
            if copy is not None:
                shared, index, memory, source, is_inside, count = copy
                for offset in range(count):
                    shared[index + offset] = memory[source + offset] if is_inside else 0

    return wait


def round_tf32(value: Any) -> np.floating[Any]:
    bits = int(np.float32(value).view(np.uint32))
    if bits & 0x7FFFFFFF > 0x7F800000:
        return np.float64(np.nan)
    return np.float64(np.uint32((bits + 0x1000) & 0xFFFFE000).view(np.float32))


def settled(x: int) -> int:
    return x


def _bf16(value: Any) -> int:
    bits = int(np.float32(value).view(np.uint32))
    if bits & 0x7FFFFFFF > 0x7F800000:
        return 0x7FFF
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def pack_bf16(low: Any, high: Any) -> int:
    return int(np.uint32(_bf16(high) << 16 | _bf16(low)).astype(np.int32))


def _pair(word: int) -> np.ndarray:
    """The two numbers of a word, the low one first."""
    return np.array([(word & 0xFFFF) << 16, word & 0xFFFF0000], np.uint32).view(np.float32).astype(np.float64)


def load_matrices(shared: Memory, index: int) -> tuple[Any, ...]:
    _check_aligned(index)
    lane, rows = together((shared, index), list)
    loaded = [rows[8 * matrix + (lane >> 2)] for matrix in range(4)]
    return tuple(memory[first + (lane & 3)] for memory, first in loaded)


def _multiplied(fragments: list[tuple[Any, ...]]) -> np.ndarray:
    """C of a warp, 16 x 8, from each lane's numbers of A, B and C: m16n8k8, or m16n8k16 from pairs."""
    depth = 8 * np.size(fragments[0][0][0])
    a, b, c = np.empty((16, depth)), np.empty((depth, 8)), np.empty((16, 8))
    run = depth // 8
    for lane, (of_a, of_b, of_c) in enumerate(fragments):
        group, member = divmod(lane, 4)
        for register, value in enumerate(of_a):
            first = run * member + depth // 2 * (register // 2)
            a[group + 8 * (register % 2), first : first + run] = value
        for register, value in enumerate(of_b):
            first = run * member + depth // 2 * register
            b[first : first + run, group] = value
        for register, value in enumerate(of_c):
            c[group + 8 * (register // 2), 2 * member + register % 2] = value
    return (a @ b + c).astype(np.float32)


def _share(of_a: tuple[Any, ...], of_b: tuple[Any, ...], of_c: tuple[Any, ...]) -> tuple[Any, ...]:
    lane, product = together((of_a, of_b, of_c), _multiplied)
    group, member = divmod(lane, 4)
    return tuple(np.float64(product[group + 8 * (r // 2), 2 * member + r % 2]) for r in range(4))


def _as_tf32(value: Any) -> np.floating[Any]:
    """The bits that the instruction looks at."""
    return (np.float32(value).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def mma_tf32(a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, *c: Any) -> tuple[Any, ...]:
    return _share(tuple(map(_as_tf32, (a0, a1, a2, a3))), (_as_tf32(b0), _as_tf32(b1)), c)


def mma_bf16(a0: int, a1: int, a2: int, a3: int, b0: int, b1: int, *c: Any) -> tuple[Any, ...]:
    return _share(tuple(map(_pair, (a0, a1, a2, a3))), (_pair(b0), _pair(b1)), c)
