"""The device's stand-in for machines without a GPU: NumPy memory, kernels run as the Python that they are written in.

:class:`Simulator` has the functions of :class:`device.Gpu`, records and replays a capture likewise, and fills memory
that nobody has written with bytes of ones, which read as NaN or -1. It is there to check kernels, a thousand times
slower than a GPU. :class:`KernelCuda` and :class:`Memory` are what kernels see.

The threads of a block take turns: one runs until it waits for the others or has ended, then the next one does. Every
other block begins with its last thread, so that of two threads that share memory without waiting for each other either
comes first somewhere, and one of them reads what is not there yet.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...forks import ForkSafeLock
from .device import Recorder

__all__ = ["KernelCuda", "Memory", "Simulator", "ieee", "pending_copies", "together"]

MAX_BYTES = 1 << 32
WARP = 32


class _Index:
    """``threadIdx`` or ``blockIdx``."""

    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 0


class _Running:
    """The simulated thread that runs, of the one launch that does."""

    def __init__(self) -> None:
        self.block, self.thread = _Index(), _Index()
        self.turn: _Turn | None = None
        self.begin_block(0)

    def begin_block(self, number: int) -> None:
        """Forget what the threads of the block before had in common, and their copies."""
        self.block.x = number
        self.shared: dict[Any, Memory] = {}
        self.meetings: dict[tuple[int, int], _Meeting] = {}
        self.met: dict[int, int] = {}
        self.copies: dict[int, list[Any]] = {}


class _Meeting:
    """What the lanes of a warp gave at one place of a kernel, and what they make of it."""

    def __init__(self) -> None:
        self.given: dict[int, Any] = {}
        self.made: Any = None
        self.left = 0


_running = _Running()


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


class _Arrays:
    """``shared.array`` or ``local.array``; what nobody has written yet reads as NaN."""

    def __init__(self, shared: bool) -> None:
        self._shared = shared

    def array(self, size: int, dtype: Any, alignment: int | None = None) -> Memory:
        memory = Memory(np.full(size, np.nan, dtype) if np.dtype(dtype).kind == "f" else np.full(size, -1, dtype))
        if not self._shared:
            return memory
        caller = sys._getframe(1)
        return _running.shared.setdefault((caller.f_code, caller.f_lineno), memory)


class KernelCuda:
    """What kernels use of the ``cuda`` module, from the simulated thread that runs them."""

    shared, local = _Arrays(shared=True), _Arrays(shared=False)
    threadIdx, blockIdx = _running.thread, _running.block  # noqa: N815

    @staticmethod
    def syncthreads() -> None:
        if _running.turn is None:
            raise RuntimeError("only a block kernel may wait for the threads of its block")
        _running.turn.end()


def together(value: Any, make: Callable[[list[Any]], Any]) -> tuple[int, Any]:
    """This thread's lane, and ``make`` of what each lane of its warp gives; the threads of the block wait for it."""
    thread = _running.thread.x
    warp, lane = divmod(thread, WARP)
    number = _running.met.get(thread, 0)
    _running.met[thread] = number + 1
    meeting = _running.meetings.setdefault((warp, number), _Meeting())
    meeting.given[lane] = value
    KernelCuda.syncthreads()
    if not meeting.left:
        if len(meeting.given) < WARP:
            raise RuntimeError(f"lanes {sorted(meeting.given)} of warp {warp} ask for what all {WARP} do together")
        meeting.made = make([meeting.given[lane] for lane in range(WARP)])
    meeting.left += 1
    if meeting.left == WARP:
        del _running.meetings[warp, number]
    return lane, meeting.made


def pending_copies() -> list[Any]:
    """The copies that this thread has asked for and that are not done, with None at the end of a group."""
    return _running.copies.setdefault(_running.thread.x, [])


class _Stopped(BaseException):
    """Raised where a thread waits for others of which one has failed."""


class _Turn:
    """A simulated thread with a stack of its own: a thread of Python's, which runs while :meth:`take` waits for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self.over = False
        self._work = work
        self._stopped = False
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._ended.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Run until the thread waits for the others, or is over."""
        _running.turn = self
        self._begun.release()
        self._ended.acquire()

    def end(self) -> None:
        """Called by the thread itself: wait for the next turn."""
        self._ended.release()
        self._begun.acquire()
        if self._stopped:
            raise _Stopped

    def stop(self) -> None:
        """End the thread where it waits."""
        self._stopped = True
        if not self.over:
            self.take()

    def _run(self) -> None:
        self._begun.acquire()
        try:
            if not self._stopped:
                self._work()
        except BaseException as error:
            self.error = error
        self.over = True
        self._ended.release()


def _run_in_turns(work: Callable[[], None], threads: Sequence[int]) -> None:
    """Call ``work`` by every thread of a block, which wait for each other."""
    turns = [(thread, _Turn(work)) for thread in threads]
    try:
        waiting = turns
        while waiting:
            for thread, turn in waiting:
                _running.thread.x = thread
                turn.take()
                if turn.error is not None:
                    raise turn.error
            waiting = [(thread, turn) for thread, turn in waiting if not turn.over]
    finally:
        for _, turn in turns:
            turn.stop()
        _running.turn = None


def ieee(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of :mod:`math` that gives infinity or NaN where Python's raises."""
    return lambda x: compute(np.float64(x))


class Simulator:
    """See :class:`device.Gpu` for what its functions do. A place in memory is an array of bytes."""

    number = 0
    name = "cuda:simulator"

    def __init__(self) -> None:
        self._recorder = Recorder()
        self._lock = ForkSafeLock()
        self._turn = 0
        self.launches = 0

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

    def launch(self, entry: Any, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        """``arguments`` are numbers, tuples, and pairs of a place and the dtype that it holds."""
        self.launches += 1
        self._do(lambda: self._run(entry, blocks, threads, arguments))

    def _run(self, entry: Any, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        values = [
            Memory(a[0].view(a[1])) if isinstance(a, tuple) and isinstance(a[0], np.ndarray) else a for a in arguments
        ]

        # Every thread has NumPy's settings anew, and machine code does not warn.
        def work() -> None:
            with np.errstate(all="ignore"):
                entry(*values)

        with self._lock:
            self._turn += 1
            for block in range(blocks):
                _running.begin_block(block)
                order = range(threads) if (block + self._turn) % 2 == 0 else range(threads - 1, -1, -1)
                if entry.waits:
                    _run_in_turns(work, order)
                    continue
                for _running.thread.x in order:
                    work()

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
            self.launches += 1
            for work in recorded:
                work()

        return replay
