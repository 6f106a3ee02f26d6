"""The machine that a benchmark ran on: what it is, and the two rates that no kernel can pass."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np

import numbacnn
from numbacnn.backends import Backend
from numbacnn.backends.cpu import threads
from numbacnn.backends.cpu.jit import WORTH_THREADS, kernel
from numbacnn.backends.cpu.simd import lanes_of
from numbacnn.backends.cpu.tiles import LARGEST, multiply
from numbacnn.info import cpu_model, package_version, register_tile

from . import gpu

__all__ = ["Machine", "ceilings", "copy_bandwidth", "describe", "examine", "peak_gflops", "title", "versions"]

# A (ROWS x DEPTH) and B (DEPTH x VECTORS) are 28 KB on the widest machine: they stay in any L1.
DEPTH = 128
ROWS, VECTORS = LARGEST.rows, LARGEST.vectors
COPY_BLOCK = 1 << 20
COPY_ELEMENTS = 1 << 25
# Of one thread's share: long beside what it takes to start the threads, also on a busy machine.
LEAST_SECONDS = 2e-2


class Machine(NamedTuple):
    """Where a backend computes: in a line, and all that is known of it, its ceilings among that."""

    title: str
    facts: dict[str, Any]

    @property
    def peak(self) -> float:
        """GFLOP/s in float32."""
        return float(self.facts["peak_gflops"])

    @property
    def bandwidth(self) -> float:
        """GB/s of copying, read and written bytes counted."""
        return float(self.facts["copy_gb_per_second"])

    @property
    def limits(self) -> str:
        """Both ceilings in a line."""
        origin = f" ({self.facts['peak_origin']})" if "peak_origin" in self.facts else ""
        return f"ceilings: {self.peak:.1f} GFLOP/s in float32{origin}, copying {self.bandwidth:.1f} GB/s"


def examine(backend: Backend) -> Machine:
    """The machine of a backend; takes about a second. UserError for a GPU that is only simulated."""
    if backend.name == "cuda":
        facts = gpu.describe()
        return Machine(gpu.title(facts), {**facts, "host": describe(), **gpu.ceilings(facts)})
    facts = describe()
    return Machine(title(facts), {**facts, **ceilings()})


def title(facts: dict[str, Any]) -> str:
    """What :func:`describe` found, in a line."""
    layer = f" ({facts['threading_layer']})" if facts["threading_layer"] else ""
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads{layer}"


def describe() -> dict[str, Any]:
    """Processor, cores, threads in use and their layer, operating system."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": numba.get_num_threads(),
        "threading_layer": None if numba.config.DISABLE_JIT else threads.layer(),
        "os": platform.platform(),
    }


def versions(*others: str) -> dict[str, str | None]:
    """Versions of Python, of this project and what it stands on, and of the distributions ``others``."""
    return {
        "numbacnn": numbacnn.__version__,
        "python": platform.python_version(),
        **{name: package_version(name) for name in ("numpy", "numba", "llvmlite", *others)},
    }


def ceilings() -> dict[str, float]:
    """Both rates with the threads that are in use; takes about a second."""
    return {"peak_gflops": peak_gflops(), "copy_gb_per_second": copy_bandwidth()}


def peak_gflops(seconds: float = 0.5) -> float:
    """float32 GFLOP/s of the register tile's product on operands in L1, on all threads: the best of ``seconds``."""
    shares_of_all = numba.get_num_threads()
    # As large as it takes for a launch to use threads.
    result = np.empty(max(shares_of_all, WORTH_THREADS), np.float32)

    def run(shares: int) -> float:
        start = time.perf_counter()
        _multiply_resident(shares, result, LARGEST.routine, repeats)
        return time.perf_counter() - start

    repeats = 1
    run(shares_of_all)  # compiles, and starts the threads
    # One share takes no threads, so that waiting for a busy core does not pass for work.
    while min(run(1) for _ in range(3)) < LEAST_SECONDS:
        repeats *= 2
    rows, columns = register_tile()
    return 2e-9 * rows * columns * DEPTH * repeats * shares_of_all / _best(lambda: run(shares_of_all), seconds)


def copy_bandwidth(elements: int = COPY_ELEMENTS, seconds: float = 0.5) -> float:
    """GB/s of copying ``elements`` float32 on all threads, read and written bytes counted: the best of ``seconds``.

    The C library copies, whose stores go past the caches.
    """
    source, target = np.ones(elements, np.float32), np.zeros(elements, np.float32)
    blocks = [slice(first, first + COPY_BLOCK) for first in range(0, elements, COPY_BLOCK)]
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:

        def run() -> float:
            start = time.perf_counter()
            list(pool.map(lambda block: np.copyto(target[block], source[block]), blocks))
            return time.perf_counter() - start

        return 2e-9 * source.nbytes / _best(run, seconds)


@kernel
def _multiply_resident(chunk, result, tile, repeats):  # type: ignore[no-untyped-def]
    """A chunk is one thread's share: its own tile, the same product ``repeats`` times."""
    columns = VECTORS * lanes_of(result.itemsize)
    a = np.ones(ROWS * DEPTH, result.dtype)
    b = np.ones(DEPTH * columns, result.dtype)
    c = np.zeros(ROWS * columns, result.dtype)
    row_at, step, row_of_b = np.arange(ROWS) * DEPTH, np.arange(DEPTH), np.arange(DEPTH) * columns
    for _ in range(repeats):
        multiply(tile, a, 0, row_at, 0, step, 0, DEPTH, b, 0, row_of_b, 0, c, 0, columns, 1)
    result[chunk] = c[0]


def _best(run: Callable[[], float], seconds: float) -> float:
    best, begin = run(), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        best = min(best, run())
    return best
