"""Running the chunks of a kernel on all cores: the same few threads for every kernel.

A kernel is compiled as a serial function of a chunk number, a block of argument words and the number of the thread that
runs it (see ``jit.py``), and called by its address. Compiling a parallel function costs seconds and a serial one a
fifth of a second, so that no kernel has a ``prange`` is what keeps the first step near. The threads are our own
(``workers.py``); where the system is not POSIX, or NUMBA_THREADING_LAYER names a layer, they are Numba's, by way of a
driver that does have one.

Each thread has a share of the chunks that lie side by side, which is of the same images in one layer as in the next:
what another core wrote is slow to read, six times as slow where the two share no cache. It takes a few chunks at a
time, and when it is done with its own some of the others', so that one that another process held up does not hold up
the rest. How chunks are spread over threads never changes a result: what a chunk computes depends on its number alone.
"""

from __future__ import annotations

import ctypes
import os
import threading
from array import array
from collections.abc import Callable
from typing import Any, cast

import numba
from numba import njit, prange, types
from numba.core.ccallback import CFunc
from numba.np.ufunc import parallel

from .workers import LAUNCH_WORDS, Workers, run_chunks, share_out

__all__ = ["LINE", "launch", "launch_all", "layer", "number", "prepare", "shares"]

# Where the system has POSIX's threads they are our own, unless the user asks for a layer of Numba's.
USES_WORKERS = os.name == "posix" and "NUMBA_THREADING_LAYER" not in os.environ
# Of the chunks, for each thread: many are balanced well, few are taken quickly.
PORTIONS = 16
# Bytes between what two threads write: no cache line, nor two that are fetched together, has something of both.
LINE = 128

ChunkFunction = Callable[[int, int, int], None]

# Held during a parallel launch: Numba's workqueue layer aborts the process when two threads enter it at once, and on
# the other layers two kernels that share the cores are no faster than one after the other.
_entry = threading.Lock()
_driver: Any = None
_workers: Workers | None = None
# Machine code and memory that threads use which never end.
_kept: list[Any] = []
_forked = False


def _run(address, chunks, words, counters, grain, threads):  # pragma: no cover - only ever compiled
    share_out(chunks, counters, LINE, threads)
    for thread in prange(threads):
        run_chunks(address, chunks, words, counters, LINE, grain, types.int64(thread), threads)


def launch(address: int, call: ChunkFunction, chunks: int, words: int, parallel: bool = True) -> None:
    """Run chunks 0..chunks-1 of the compiled function at ``address`` and wait for them.

    ``call`` is the same function for Python to call: a single chunk needs no threads, little work is not worth them,
    which ``parallel`` tells, and a process that was forked after its parent had started Numba's has none (a parallel
    launch there would kill it or hang).
    """
    grain, threads = shares(chunks, parallel)
    _launch(address, call, chunks, words, grain, threads)


def _launch(address: int, call: ChunkFunction, chunks: int, words: int, grain: int, threads: int) -> None:
    if threads == 1 or _forked:
        for chunk in range(chunks):
            call(chunk, words, 0)
        return
    with _entry:
        if USES_WORKERS:
            _get_workers().run(address, chunks, words, grain, threads)
        else:
            counters = array("q", bytes(LINE * threads))
            _get_driver()(address, chunks, words, counters.buffer_info()[0], grain, threads)


def shares(chunks: int, parallel: bool) -> tuple[int, int]:
    """How many chunks a thread takes at a time, and how many threads there are for them."""
    threads = min(number(), chunks) if parallel else 1
    return max(1, chunks // (threads * PORTIONS)), threads


def launch_all(launches: array[int]) -> None:
    """One launch after the other: of each the address, the chunks, the words, and its :func:`shares`."""
    if USES_WORKERS:
        with _entry:
            _get_workers().run_all(launches, number())
        return
    for at in range(0, len(launches), LAUNCH_WORDS):
        address, chunks, words, grain, threads = launches[at : at + LAUNCH_WORDS]
        _launch(address, as_callable(address), chunks, words, grain, min(threads, number()))


def prepare() -> None:
    """Compile what launches need beside the kernels, or load it from the cache."""
    with _entry:
        if USES_WORKERS:
            _get_workers().prepare()
        else:
            _get_driver()


def layer() -> str:
    """What runs the chunks: ``workers``, or a layer of Numba's, ``omp``, ``tbb`` or ``workqueue``."""
    if USES_WORKERS:
        return "workers"
    with _entry:
        _get_driver()(0, 0, 0, 0, 1, 0)
    return numba.threading_layer()


def number() -> int:
    """Threads that a launch uses at most."""
    return int(numba.get_num_threads())


def as_callable(address: int) -> ChunkFunction:
    """The compiled chunk function at ``address`` as something Python can call, without the interpreter lock."""
    return ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)


def _get_workers() -> Workers:
    global _workers
    if _workers is None:
        from .jit import attach_cache

        def compiled(function: Callable[..., None], words: int) -> int:
            entry = CFunc(function, ((types.int64,) * words, types.void), locals={}, options={"nopython": True})
            attach_cache(entry, function.__name__)
            entry.compile()
            _kept.append(entry)
            return cast(int, entry.address)

        _workers = Workers(numba.config.NUMBA_NUM_THREADS, compiled)
        _kept.append(_workers)
    return _workers


def _get_driver() -> Any:
    global _driver
    if _driver is None:
        from .jit import attach_cache

        driver = attach_cache(njit(parallel=True, nogil=True)(_run), "driver")
        driver.compile((types.int64,) * 6)
        _driver = driver
    return _driver


def _after_fork_in_child() -> None:
    global _entry, _forked, _workers
    _entry, _workers = threading.Lock(), None
    # Numba's threads, whoever started them: a kernel, or a question for their number.
    _forked = parallel._is_initialized and not USES_WORKERS


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
