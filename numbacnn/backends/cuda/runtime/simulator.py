"""The device's stand-in for machines without a GPU: NumPy memory, kernels run by Numba's CUDA simulator.

:class:`Simulator` has the functions of :class:`device.Gpu`, records and replays a capture likewise, and fills memory
that nobody has written with bytes of ones, which read as NaN or -1. It is there to check kernels, a thousand times
slower than a GPU. :class:`KernelCuda` and :class:`Memory` are what kernels see.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...forks import ForkSafeLock
from .device import Recorder

__all__ = ["KernelCuda", "Memory", "Simulator", "ieee"]

MAX_BYTES = 1 << 32
# Simulated threads spend most of their time waiting for each other; the usual 5 ms make that 2.5 times slower.
SWITCH_SECONDS = 5e-4


class Memory:
    """Flat memory in the simulator: what it reads are NumPy's widest scalars, an index outside it is an IndexError."""

    __slots__ = ("_floating", "_size", "_view")

    def __init__(self, array: np.ndarray) -> None:
        # Of half precision, memoryview reads nothing.
        self._view: Any = array.reshape(-1) if array.dtype == np.float16 else memoryview(array.reshape(-1))  # type: ignore[arg-type]
        self._size = array.size
        self._floating = array.dtype.kind == "f"

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._size:
            raise IndexError(f"index {index} is outside of memory of {self._size} elements")
        value = self._view[index]
        # Not a Python float, which raises where IEEE gives infinity.
        return np.float64(value) if self._floating else value

    def __setitem__(self, index: int, value: Any) -> None:
        if not 0 <= index < self._size:
            raise IndexError(f"index {index} is outside of memory of {self._size} elements")
        self._view[index] = float(value) if self._floating else int(value)


def _thread() -> Any:
    """The simulated thread that is running."""
    return threading.current_thread()


class _Arrays:
    """``shared.array`` or ``local.array``; what nobody has written yet reads as NaN."""

    def __init__(self, shared: bool) -> None:
        self._shared = shared

    def array(self, size: int, dtype: Any, alignment: int | None = None) -> Memory:
        memory = Memory(np.full(size, np.nan, dtype) if np.dtype(dtype).kind == "f" else np.full(size, -1, dtype))
        if not self._shared:
            return memory
        caller = sys._getframe(1)
        allocations = vars(_thread()._manager).setdefault("shared", {})
        return allocations.setdefault((caller.f_code, caller.f_lineno), memory)


class KernelCuda:
    """What kernels use of the ``cuda`` module, from the simulated thread that runs them.

    Numba puts its own stand-in into the module of the launched function only, not into those of what it calls.
    """

    shared, local = _Arrays(shared=True), _Arrays(shared=False)

    @staticmethod
    def syncthreads() -> None:
        _thread().syncthreads()

    threadIdx = property(lambda self: _thread().threadIdx)  # noqa: N815
    blockIdx = property(lambda self: _thread().blockIdx)  # noqa: N815


def ieee(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of :mod:`math` that gives infinity or NaN where Python's raises."""
    return lambda x: compute(np.float64(x))


class Simulator:
    """See :class:`device.Gpu` for what its functions do. A place in memory is an array of bytes."""

    name = "cuda:simulator"

    def __init__(self) -> None:
        self._recorder = Recorder()
        self._lock = ForkSafeLock()

    def allocate(self, size: int) -> np.ndarray:
        return np.full(size, 0xFF, np.uint8)

    def release(self, slab: np.ndarray) -> None:
        pass

    @staticmethod
    def place(slab: np.ndarray, start: int, size: int) -> np.ndarray:
        return slab[start : start + size]

    def free_memory(self) -> int:
        return MAX_BYTES

    def upload(self, place: np.ndarray, source: np.ndarray) -> None:
        self._recorder.refuse("a copy from the host")
        place[:] = source.reshape(-1).view(np.uint8)

    def download(self, target: np.ndarray, place: np.ndarray) -> None:
        self.synchronize()
        target.reshape(-1).view(np.uint8)[:] = place

    def copy(self, target: np.ndarray, source: np.ndarray, size: int) -> None:
        self._do(lambda: np.copyto(target[:size], source[:size]))

    def clear(self, place: np.ndarray, size: int) -> None:
        self._do(lambda: place[:size].fill(0))

    def launch(self, entry: Callable[..., None], blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        """``arguments`` are numbers, tuples, and pairs of a place and the dtype that it holds."""
        self._do(lambda: self._run(entry, blocks, threads, arguments))

    def _run(self, entry: Callable[..., None], blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        from numba import cuda

        values = [
            Memory(a[0].view(a[1])) if isinstance(a, tuple) and isinstance(a[0], np.ndarray) else a for a in arguments
        ]

        # Every thread has NumPy's settings anew, and machine code does not warn.
        def thread() -> None:
            with np.errstate(all="ignore"):
                entry(*values)

        with self._lock:
            interval = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_SECONDS)
            try:
                cuda.jit(thread)[blocks, threads]()
            finally:
                sys.setswitchinterval(interval)

    def _do(self, work: Callable[[], None]) -> None:
        if self._recorder.into is None:
            work()
        else:
            self._recorder.into.append(work)

    def synchronize(self) -> None:
        self._recorder.refuse("waiting for the device")

    def begin_capture(self) -> None:
        self._recorder.refuse("another capture")
        self._recorder.into = []

    def end_capture(self) -> Callable[[], None]:
        recorded, self._recorder.into = self._recorder.into, None

        def replay() -> None:
            self._recorder.refuse("a captured step")
            for work in recorded:
                work()

        return replay
