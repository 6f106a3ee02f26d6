"""Running the chunks of a kernel on all cores: the same few threads for every kernel.

A kernel is compiled as a serial function of a chunk number, a block of argument words and the number of the thread that
runs it (see ``kernel.py``), and called by its address. No kernel has a ``prange``: a parallel function takes Numba
seconds to compile, a serial one a fifth of a second. The threads are the package's own (``thread_pool.py``); where the
system is not POSIX, or NUMBA_THREADING_LAYER names a layer, they are Numba's, by way of a driver that does have one.
``bench/runtime.py`` compares the two.

Each thread has a share of the chunks that lie side by side, which is of the same images in one layer as in the next:
what another core wrote is slow to read, six times as slow where the two share no cache. It takes a few chunks at a
time, and when it is done with its own some of the others', so that one that another process held up does not hold up
the rest. How chunks are spread over threads never changes a result: what a chunk computes depends on its number alone.
"""

from __future__ import annotations

import atexit
import functools
import os
from array import array

import numba
from numba import prange, types
from numba.np.ufunc import parallel

from ...forks import ForkSafeLock, in_forked_children
from ...numba_threads import numba_threads
from . import cores
from .machine_code import Entry
from .thread_pool import LAUNCH_WORDS, LINE, Workers, run_chunks, run_serially, share_out

__all__ = ["LINE", "launch", "launch_all", "layer", "needs", "number", "shares"]

# Where the system has POSIX's threads they are our own, unless the user asks for a layer of Numba's.
USES_WORKERS = os.name == "posix" and "NUMBA_THREADING_LAYER" not in os.environ
# Of the chunks, for each thread: many are balanced well, few are taken quickly.
PORTIONS = 16
# Launches on one thread before the first on several, where what these run is yet to be compiled.
MAX_EARLY_LAUNCHES = 8

# Held during a launch: Numba's workqueue layer aborts the process when two threads enter it at once, and on
# the other layers two kernels that share the cores are no faster than one after the other.
_entry = ForkSafeLock()
_workers: Workers | None = None
# Launches that were early, see below.
_early = 0
# Numba's threads do not survive a fork, and a parallel launch without them would end the process or hang.
_is_serial = False


@functools.partial(Entry, parallel=True)
def _run(address, chunks, words, counters, grain, threads):  # pragma: no cover - only ever compiled
    share_out(chunks, counters, LINE // 8, threads)
    for thread in prange(threads):
        run_chunks(address, chunks, words, counters, LINE // 8, grain, types.int64(thread), threads)


@Entry
def _run_serially(address, chunks, words):  # pragma: no cover - only ever compiled
    run_serially(address, chunks, words)


def launch(address: int, chunks: int, words: int, grain: int, threads: int) -> None:
    """Run chunks 0..chunks-1 of the compiled function at ``address``, by :func:`shares`, and wait for them."""
    if threads <= 1 or _is_serial or (USES_WORKERS and _workers is None and _is_early()):
        _run_serially(address, chunks, words)
        return
    with _entry:
        if USES_WORKERS:
            _get_workers().run(address, chunks, words, grain, threads)
        else:
            counters = array("q", bytes(LINE * threads))
            _get_driver()(address, chunks, words, counters.buffer_info()[0], grain, threads)


def launch_all(launches: array[int], threads: int) -> None:
    """One launch after the other: of each the address, the chunks, the words, its :func:`shares`, and at first 0.

    Each is on as many threads as its shares say, and as ``threads``, at most.
    """
    if USES_WORKERS and threads <= 1:
        Workers.run_alone(launches)
        return
    if USES_WORKERS and _workers is None and _is_early():
        threads = 1
    elif USES_WORKERS:
        with _entry:
            _get_workers().run_all(launches, threads)
        return
    for at in range(0, len(launches), LAUNCH_WORDS):
        address, chunks, words, grain, most, _ = launches[at : at + LAUNCH_WORDS]
        launch(address, chunks, words, grain, min(most, threads))


def shares(chunks: int, threads: int) -> tuple[int, int]:
    """How many chunks a thread takes at a time, and how many of ``threads`` there is something for."""
    threads = max(1, min(threads, chunks))
    return max(1, chunks // (threads * PORTIONS)), threads


def needs() -> tuple[Entry, ...]:
    """What launches need to be compiled beside the kernels."""
    return Workers.ENTRIES if USES_WORKERS else (_run,)


def layer() -> str:
    """What runs the chunks: ``workers``, or a layer of Numba's, ``omp``, ``tbb`` or ``workqueue``."""
    if USES_WORKERS:
        return "workers"
    with _entry:
        _get_driver()(0, 0, 0, 0, 1, 0)
    numba.get_num_threads()  # which loads it
    return numba.threading_layer()


def number() -> int:
    """Threads that a launch of the calling thread uses at most.

    ``numba.set_num_threads``, else NUMBA_NUM_THREADS; never more than the cores that this thread may use.
    """
    asked = numba_threads()
    return min(asked, cores.usable()) if asked > 1 else 1


def _is_early() -> bool:
    """Whether a launch is done on one thread sooner than what others run is compiled."""
    global _early
    if _early >= MAX_EARLY_LAUNCHES or all(entry.is_ready for entry in Workers.ENTRIES):
        return False
    _early += 1
    return True


def _get_workers() -> Workers:
    global _workers
    if _workers is None:
        _workers = Workers(numba.config.NUMBA_NUM_THREADS)
    return _workers


def _get_driver() -> Entry:
    parallel._launch_threads()  # which tells LLVM where what the machine code calls is
    return _run


def _end() -> None:
    """Machine code and memory that helpers use go away with the interpreter."""
    if _workers is not None and _entry.acquire(timeout=1):
        try:
            _workers.end()
        finally:
            _entry.release()


def _forget_threads() -> None:
    global _workers, _is_serial
    if _workers is not None:
        _workers.close_pipes()
        _workers = None
    _is_serial = parallel._is_initialized and not USES_WORKERS


atexit.register(_end)
in_forked_children(_forget_threads)
