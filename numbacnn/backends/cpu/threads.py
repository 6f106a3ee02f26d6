"""Running the chunks of a kernel on all cores: one parallel driver for every kernel.

A kernel is compiled as a serial function of a chunk number, a block of argument words and the number of the thread that
runs it (see ``jit.py``). The only function with a ``prange`` is the driver below: it calls such a function by address.
Compiling a parallel function costs seconds and a serial one a fifth of a second, so one driver for all kernels is what
keeps the first step near.

How chunks are spread over threads never changes a result: what a chunk computes depends on its number alone.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

__all__ = ["launch", "layer", "number"]

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


def _run(address, chunks, words):  # pragma: no cover - only ever compiled
    for chunk in prange(chunks):
        _call(address, types.int64(chunk), words, types.int64(numba.get_thread_id()))


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
    with _entry:
        _get_driver()(address, chunks, words)


def layer() -> str:
    """The threading layer in use, ``omp``, ``tbb`` or ``workqueue``; starts the threads if nothing has."""
    with _entry:
        _get_driver()(0, 0, 0)
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
        driver.compile((types.int64, types.int64, types.int64))
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
