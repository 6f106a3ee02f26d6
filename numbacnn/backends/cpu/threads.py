"""Running the chunks of a kernel on all cores: one parallel driver for every kernel.

A kernel is compiled as a serial function of a chunk number, a block of argument words and the number of the thread that
runs it (see ``jit.py``). The only function with a ``prange`` is the driver below: it calls such a function by address.
Compiling a parallel function costs seconds and a serial one a fifth of a second, so one driver for all kernels is what
keeps the first step near.

Each thread takes the next few chunks when it is done with its last, so that one that another process held up does not
hold up the rest. How chunks are spread over threads never changes a result: what a chunk computes depends on its number
alone.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from array import array
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

__all__ = ["launch", "layer", "number"]

# Of the chunks, for each thread: many are balanced well, few are taken quickly.
PORTIONS = 16

ChunkFunction = Callable[[int, int, int], None]

# Held during a parallel launch: Numba's workqueue layer aborts the process when two threads enter it at once, and on
# the other layers two kernels that share the cores are no faster than one after the other.
_entry = threading.Lock()
_driver: Any = None
_forked = False


@intrinsic
def _call(typing_context: Any, address: Any, chunk: Any, words: Any, thread: Any) -> Any:
    """Call the function at ``address`` with (chunk, words, thread), all int64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word, word, word])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def _take(typing_context: Any, counter: Any, count: Any) -> Any:
    """Add ``count`` to the int64 at the address ``counter``, in one go with reading it; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", address, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), codegen


def _run(address, chunks, words, counter, grain, workers):  # pragma: no cover - only ever compiled
    for worker in prange(workers):
        first = _take(counter, grain)
        while first < chunks:
            for chunk in range(first, min(first + grain, chunks)):
                _call(address, chunk, words, types.int64(worker))
            first = _take(counter, grain)


def launch(address: int, call: ChunkFunction, chunks: int, words: int, parallel: bool = True) -> None:
    """Run chunks 0..chunks-1 of the compiled function at ``address`` and wait for them.

    ``call`` is the same function for Python to call: a single chunk needs no threads, little work is not worth them,
    which ``parallel`` tells, and a process that was forked after its parent had started them has none (a parallel
    launch there would kill it or hang).
    """
    if chunks == 1 or not parallel or _forked:
        for chunk in range(chunks):
            call(chunk, words, 0)
        return
    workers = min(number(), chunks)
    counter = array("q", [0])
    with _entry:
        _get_driver()(address, chunks, words, counter.buffer_info()[0], max(1, chunks // (workers * PORTIONS)), workers)


def layer() -> str:
    """The threading layer in use, ``omp``, ``tbb`` or ``workqueue``; starts the threads if nothing has."""
    with _entry:
        _get_driver()(0, 0, 0, 0, 1, 0)
    return numba.threading_layer()


def number() -> int:
    """Threads that a launch uses at most."""
    return int(numba.get_num_threads())


def as_callable(address: int) -> ChunkFunction:
    """The compiled chunk function at ``address`` as something Python can call, without the interpreter lock."""
    return ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)


def _get_driver() -> Any:
    global _driver
    if _driver is None:
        from .jit import attach_cache

        driver = attach_cache(njit(parallel=True, nogil=True)(_run), "driver")
        driver.compile((types.int64,) * 6)
        _driver = driver
    return _driver


def _have_idle_threads_sleep() -> None:
    """Load OpenMP so that its threads sleep at once when they wait, unless it is loaded or the user has decided.

    By default they spin. Where another process wants the same cores, they then spin through the time slices of the
    thread they wait for: two trainings at once took three times as long as with sleeping threads, while waking up
    costs a single training nothing that could be measured. OpenMP reads the setting when it is loaded, and what is
    loaded later shall not see it.
    """
    policy = "OMP_WAIT_POLICY"
    if policy in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ[policy] = "passive"
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError:
        pass  # Numba has other threading layers
    finally:
        del os.environ[policy]


def _after_fork_in_child() -> None:
    global _entry, _forked
    _entry = threading.Lock()
    _forked = parallel._is_initialized  # whoever started the threads: a kernel, or a question for their number


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


_have_idle_threads_sleep()
