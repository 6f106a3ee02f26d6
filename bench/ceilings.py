"""The rates that no kernel on the CPU can pass: float32 multiply-adds, and memory traffic of a given mix.

Each is measured on threads of this file's own that all run at the same time, so that it does not depend on what the
kernels are run by. The best of several short measurements counts, with a pause between them: a second in which another
program has a core spoils some of them only.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import config
from numba.extending import intrinsic

from numbacnn.backends.cpu.vector.blocks import AHEAD, PART
from numbacnn.backends.cpu.vector.simd import REGISTERS, VECTOR_BYTES, Vectors, prefetch_run

from .command import UserError

__all__ = [
    "LANES",
    "Mix",
    "Traffic",
    "last_cache_bytes",
    "memory_bytes",
    "peak_gflops",
    "together",
    "traffic_of_memory",
]

LANES = VECTOR_BYTES // 4
# Multiply-adds under way: more than latency times units (4 to 5 cycles, 2 to 4 units), and all of them in registers.
CHAINS = 24 if REGISTERS >= 32 else 12
MIN_SECONDS = 2e-2
MEASUREMENTS = 8
PAUSE = 0.1
WAYS = ((64, 2, 0), (256, 2, 0), (512, 2, 0), (512, 8, 0), (PART, 1, AHEAD), (PART, 2, AHEAD))
"""Of moving, of which the fastest counts: elements of the longest kind of traffic between two turns of the others,
which stay in the first cache; places where each kind goes on in turns, as in a kernel that updates three arrays, for
memory serves several streams at another rate than one; and how many elements further on the memory is asked for, if not
0.
"""
CACHE_FOLDER = Path("/sys/devices/system/cpu")
USUAL_CACHE = 64 << 20
IN_MEMORY = 8
"""Traffic of so many times the last cache is that of memory: what the cache may hold of it is little."""
MAX_OF_MEMORY = 1 / 32
"""But on a virtual machine, which is told of all of a large processor's cache, it is such a part of its memory."""


def together(threads: int, work: Callable[[int], object]) -> float:
    """Seconds from the first start to the last end of ``work(0)``, ``work(1)``, ..., each on a thread of its own.

    All of them begin at once, when every thread is there.
    """
    barrier = threading.Barrier(threads)

    def run(number: int) -> tuple[float, float]:
        barrier.wait()
        start = time.perf_counter()
        work(number)
        return start, time.perf_counter()

    with ThreadPoolExecutor(threads) as pool:
        spans = list(pool.map(run, range(threads)))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def peak_gflops(threads: int, measurements: int = MEASUREMENTS) -> float:
    """float32 GFLOP/s of multiply-adds on operands in registers, on ``threads`` threads: the best of some measurements.

    UserError where the compiler is off.
    """
    if config.DISABLE_JIT:
        raise UserError("the peak is that of machine code: unset NUMBA_DISABLE_JIT")
    steps = 1 << 10
    multiply_add(1.0, 1.0, 1)  # compiles

    def measure(on: int) -> float:
        return together(on, lambda _: multiply_add(1.0, 1.0, steps))

    while _best(lambda: measure(1), 3) < MIN_SECONDS:
        steps *= 2
    best = _best(lambda: measure(threads), measurements, PAUSE)
    return 2e-9 * CHAINS * LANES * steps * threads / best


def _best(measure: Callable[[], float], measurements: int, pause: float = 0.0) -> float:
    best = measure()
    for _ in range(measurements - 1):
        time.sleep(pause)
        best = min(best, measure())
    return best


@intrinsic
def _chains(typingcontext, a, b, steps):  # type: ignore[no-untyped-def]
    """The sum over CHAINS vectors of LANES numbers that begin as 0 and become ``a x + b`` in each step."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(builder, ir.FloatType(), VECTOR_BYTES)
        factor, summand = (v.broadcast(builder.fptrunc(value, ir.FloatType())) for value in arguments[:2])
        before, loop, behind = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(arguments[2].type)
        step.add_incoming(step.type(0), before)
        values = [builder.phi(v.type) for _ in range(CHAINS)]
        results = [v.fma(value, factor, summand) for value in values]
        for value, result in zip(values, results, strict=True):
            value.add_incoming(v.zero(), before)
            value.add_incoming(result, loop)
        following = builder.add(step, step.type(1))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[2]), loop, behind)
        builder.position_at_end(behind)
        return builder.fpext(v.sum(functools.reduce(builder.fadd, results)), ir.DoubleType())

    return types.float64(types.float64, types.float64, types.int64), codegen


@njit(nogil=True)
def multiply_add(a, b, steps):  # type: ignore[no-untyped-def]
    """CHAINS x LANES independent multiply-adds ``steps`` times, 1 or more; what they come to, all summed."""
    return _chains(a, b, steps)


class Mix(NamedTuple):
    """Bytes of memory that are read, written without having been read, and read and written in place."""

    read: int = 0
    written: int = 0
    updated: int = 0

    @property
    def bytes(self) -> int:
        """Those read and those written: what is updated counts twice.

        A cache line that is written by ordinary stores is read first on most processors. That is not counted, here and
        in :class:`Traffic`, whose stores are ordinary ones too.
        """
        return self.read + self.written + 2 * self.updated


class Traffic:
    """Memory traffic of any mix on ``threads`` threads, each with arrays of its own, by ordinary stores.

    Args:
        least: bytes that are moved at least, many times what the caches hold.
    """

    def __init__(self, threads: int, least: int) -> None:
        self._threads = threads
        self._elements = -(-least // (4 * threads)) + max(turn for turn, _, _ in WAYS)
        self._arrays = [np.empty((3, self._elements), np.float32) for _ in range(threads)]
        for rows in self._arrays:
            rows[...] = 1.0  # what no one has written shares a page of zeros
        _move(*self._arrays[0], 1, 1, 1, 1, 1, 1)

    def seconds(self, mix: Mix) -> float:
        """How long ``mix`` takes, from a measurement of as much as the arrays hold of it."""
        return mix.bytes / max(self._rate(mix, *way) for way in WAYS)

    def _rate(self, mix: Mix, turn: int, streams: int, ahead: int) -> float:
        parts = [turn * part // max(mix[:3]) for part in mix[:3]]
        turns = self._elements // turn // streams * streams
        seconds = together(self._threads, lambda number: _move(*self._arrays[number], *parts, turns, streams, ahead))
        return 4 * Mix(*parts).bytes * turns * self._threads / seconds


@njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _move(source, target, own, read, written, updated, turns, streams, ahead):  # type: ignore[no-untyped-def]
    """``turns`` times: sum some elements of ``source``, write some of ``target``, add to some of ``own``.

    They are the next of each of ``streams`` parts of the arrays in turn.
    """
    total = np.float32(0.0)
    for number in range(turns):
        turn = number % streams * (turns // streams) + number // streams
        if ahead > 0:
            prefetch_run(source, turn * read + ahead, read)
            prefetch_run(target, turn * written + ahead, written)
            prefetch_run(own, turn * updated + ahead, updated)
        # Unsigned: a number that may be below 0 counts from the end, and the loops would not become vectors.
        for i in range(np.uintp(turn * read), np.uintp((turn + 1) * read)):
            total += source[i]
        for i in range(np.uintp(turn * written), np.uintp((turn + 1) * written)):
            target[i] = total
        for i in range(np.uintp(turn * updated), np.uintp((turn + 1) * updated)):
            own[i] += np.float32(1.0)
    return total


def traffic_of_memory(cache: int) -> int:
    """Bytes of traffic that is that of memory behind so many bytes of cache, as far as there is memory for it."""
    return min(IN_MEMORY * cache, int(MAX_OF_MEMORY * memory_bytes()) or IN_MEMORY * cache)


def memory_bytes() -> int:
    """Those of the machine; 0 where the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def last_cache_bytes() -> int:
    """Bytes of the processor's last level of caches, of all of them together; a usual size where no file tells."""
    found: dict[tuple[int, str], int] = {}
    for index in CACHE_FOLDER.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, size, shared = (
                (index / name).read_text(encoding="ascii").strip() for name in ("level", "size", "shared_cpu_list")
            )
            found[int(level), shared] = int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    if not found:
        return USUAL_CACHE
    last = max(level for level, _ in found)
    return sum(size for (level, _), size in found.items() if level == last)
