"""Threads that wait for the next launch, and run its chunks beside the thread that asks for it.

A launch of a small kernel takes microseconds, and waking a sleeping thread up to fifty. So a launch wakes nobody before
its first few chunks have shown that it takes longer than that. And a thread that has nothing to
do first watches for the next job for as long as the gaps between the launches of a training step take; while it does,
it lets every other thread of the machine that wants the core go first (``sched_yield``), as OpenMP's do not. Then it
sleeps. A launch waits for the threads that take part in it, not for those that are still waking up.

A thread that is woken may be put on the core of the thread that woke it, where it waits for its next time slice, some
milliseconds, while another core idles: as much as a whole launch takes. So a launch first bars the sleepers from its
own core, and they lift that when they are awake. Where the system lacks the calls for it, or refuses them, they wake
where it puts them.

Threads and locks are those of POSIX, which are called from machine code: Python has no part in it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LAUNCH_WORDS", "Workers", "run_chunks", "share_out"]

# Looks at the job between two times that a thread lets others go first, and how often it does that before it sleeps:
# some tenths of a millisecond.
LOOKS, PATIENCE = 64, 400
# Nanoseconds of a launch on one thread from which on it wakes sleepers.
WORTH_WAKING = 20_000

# Places in the state, in words: those that threads write to lie in cache lines of their own.
OPEN, ACTIVE, SLEEPING = 0, 8, 16  # the number of the job that is open or 0; how many threads take part, how many sleep
ADDRESS, CHUNKS, WORDS, GRAIN, SEATS = 24, 25, 26, 27, 28  # of the job; SEATS are the threads that take part at most
MUTEX, CONDITION, BARRED, TIME, THREADS = 32, 48, 64, 80, 88  # a launch's set of CPUs; its seconds and nanoseconds
# Of each of the THREADS: the next of its chunks; its POSIX name while it sleeps and may wake anywhere, else 0; the CPUs
# that it may use.
NEXT, NAME, CPUS, THREAD = 0, 1, 8, 24
# A set of CPUs has the size that the C library gives it.
CPU_WORDS = 16
CLOCK = int(getattr(time, "CLOCK_MONOTONIC", 0))
HAS_CPU_SETS = sys.platform == "linux"
# Of a launch that is written down: address, chunks, words, grain, threads.
LAUNCH_WORDS = 5

WORD, STATUS = ir.IntType(64), ir.IntType(32)
PAUSES = {"x86_64": "llvm.x86.sse2.pause"}


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, WORD.as_pointer())


def _declared(module: Any, kind: Any, name: str) -> Any:
    return module.globals.get(name) or ir.Function(module, kind, name)


@intrinsic
def _load(typing_context: Any, address: Any) -> Any:
    """The int64 at ``address``, which other threads write."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(builder, arguments[0]), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _store(typing_context: Any, address: Any, value: Any) -> Any:
    """Write the int64 at ``address``, which other threads read."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _take(typing_context: Any, counter: Any, count: Any) -> Any:
    """Add ``count`` to the int64 at the address ``counter``, in one go with reading it; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _pause(typing_context: Any) -> Any:
    """Tell the core that this is a loop that waits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = PAUSES.get(platform.machine())
        if name:
            builder.call(_declared(builder.module, ir.FunctionType(ir.VoidType(), []), name), [])
        return context.get_dummy_value()

    return types.void(), codegen


def _of_the_system(name: str, kind: Any = STATUS) -> Any:
    """The C function ``name`` of a tuple of words, for compiled code; what it returns is an integer of ``kind``."""

    @intrinsic
    def function(typing_context: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            words = cgutils.unpack_tuple(builder, arguments[0])
            called = _declared(builder.module, ir.FunctionType(kind, [WORD] * len(words)), name)
            return builder.sext(builder.call(called, words), WORD)

        return types.int64(types.UniTuple(types.int64, len(values))), codegen

    return function


_yield, _self = _of_the_system("sched_yield"), _of_the_system("pthread_self", WORD)
_lock, _unlock = _of_the_system("pthread_mutex_lock"), _of_the_system("pthread_mutex_unlock")
_wait, _wake_all = _of_the_system("pthread_cond_wait"), _of_the_system("pthread_cond_broadcast")
_clock_time = _of_the_system("clock_gettime")
_current_cpu = _of_the_system("sched_getcpu")
_get_cpus, _set_cpus = _of_the_system("pthread_getaffinity_np"), _of_the_system("pthread_setaffinity_np")


@intrinsic
def _call(typing_context: Any, address: Any, chunk: Any, words: Any, thread: Any) -> Any:
    """Call the function at ``address`` with (chunk, words, thread), all int64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [WORD, WORD, WORD])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@njit(inline="always")
def share_out(chunks, counters, distance, threads):  # pragma: no cover - only ever compiled
    """Set each thread's counter, ``distance`` bytes apart, to the first of its share of the chunks."""
    for thread in range(threads):
        _store(counters + distance * thread, chunks * thread // threads)


@njit(inline="always")
def _run_some(address, end, words, counter, grain, thread):  # pragma: no cover - only ever compiled
    """Run the next ``grain`` chunks of a share that ends before ``end``; whether there were any."""
    first = _take(counter, grain)
    for chunk in range(first, min(first + grain, end)):
        _call(address, chunk, words, thread)
    return first < end


@njit(inline="always")
def run_chunks(address, chunks, words, counters, distance, grain, thread, threads):  # pragma: no cover - only compiled
    """Run the chunks of this thread's share and then what is left of the others', ``grain`` at a time."""
    for turn in range(threads):
        owner = (thread + turn) % threads
        counter, end = counters + distance * owner, chunks * (owner + 1) // threads
        while _run_some(address, end, words, counter, grain, thread):
            pass


@njit(inline="always")
def _take_part(state, thread):  # pragma: no cover - only ever compiled
    run_chunks(
        _load(state + 8 * ADDRESS), _load(state + 8 * CHUNKS), _load(state + 8 * WORDS),
        state + 8 * (THREADS + NEXT), 8 * THREAD, _load(state + 8 * GRAIN), thread, _load(state + 8 * SEATS),
    )  # fmt: skip


@njit(inline="always")
def _sleep(state, thread, done):  # pragma: no cover - only ever compiled
    """Until another job than ``done`` is open."""
    sleeper = state + 8 * (THREADS + THREAD * thread)
    _lock((state + 8 * MUTEX,))
    # Whoever opens a job looks for sleepers after that, and a sleeper for a job after it has said so.
    _take(state + 8 * SLEEPING, 1)
    job = _load(state + 8 * OPEN)
    while job == 0 or job == done:
        if HAS_CPU_SETS:
            _store(sleeper + 8 * NAME, _self(()))
        _wait((state + 8 * CONDITION, state + 8 * MUTEX))
        if HAS_CPU_SETS:
            if _load(sleeper + 8 * NAME) == 0:
                _set_cpus((_self(()), 8 * CPU_WORDS, sleeper + 8 * CPUS))
            _store(sleeper + 8 * NAME, 0)
        job = _load(state + 8 * OPEN)
    _take(state + 8 * SLEEPING, -1)
    _unlock((state + 8 * MUTEX,))


@njit(inline="always")
def _bar_from_this_cpu(state, seats):  # pragma: no cover - only ever compiled
    """Make those who sleep wake on other CPUs than this one, as far as they may use others; under the mutex."""
    cpu = _current_cpu(())
    for thread in range(1, seats):
        sleeper = state + 8 * (THREADS + THREAD * thread)
        asleep = _load(sleeper + 8 * NAME)
        if asleep != 0 and _get_cpus((asleep, 8 * CPU_WORDS, sleeper + 8 * CPUS)) == 0:
            others = 0
            for word in range(CPU_WORDS):
                cpus = _load(sleeper + 8 * (CPUS + word))
                if cpu >> 6 == word:
                    cpus &= ~(1 << (cpu & 63))
                others |= cpus
                _store(state + 8 * (BARRED + word), cpus)
            if others != 0 and _set_cpus((asleep, 8 * CPU_WORDS, state + 8 * BARRED)) == 0:
                _store(sleeper + 8 * NAME, 0)


def _work(seat):  # pragma: no cover - only ever compiled
    """What a thread does as long as the process lives; ``seat`` is where its state's address and its number are."""
    state, thread = _load(seat), _load(seat + 8)
    done = _load(state + 8 * OPEN)
    while True:
        turns = 0
        job = _load(state + 8 * OPEN)
        while job == 0 or job == done:
            turns += 1
            if turns < LOOKS * PATIENCE:
                _pause()
                if turns % LOOKS == 0:
                    _yield(())
            else:
                _sleep(state, thread, done)
            job = _load(state + 8 * OPEN)
        # From here on no job is closed for good before this thread has left it; this one may have been by now.
        _take(state + 8 * ACTIVE, 1)
        job = _load(state + 8 * OPEN)
        if job != 0 and job != done:
            if thread < _load(state + 8 * SEATS):
                _take_part(state, thread)
            done = job
        _take(state + 8 * ACTIVE, -1)


@njit(inline="always")
def _now(state):  # pragma: no cover - only ever compiled
    """Nanoseconds, of the launching thread's clock."""
    _clock_time((CLOCK, state + 8 * TIME))
    return _load(state + 8 * TIME) * 1_000_000_000 + _load(state + 8 * TIME + 8)


@njit(inline="always")
def _launch(state, job, address, chunks, words, grain, seats):  # pragma: no cover - only ever compiled
    """Open a job, take part in it, close it, and wait for the threads that are still at it."""
    share_out(chunks, state + 8 * (THREADS + NEXT), 8 * THREAD, seats)
    _store(state + 8 * ADDRESS, address)
    _store(state + 8 * CHUNKS, chunks)
    _store(state + 8 * WORDS, words)
    _store(state + 8 * GRAIN, grain)
    _store(state + 8 * SEATS, seats)
    _store(state + 8 * OPEN, job)
    if _load(state + 8 * SLEEPING) > 0:
        began = _now(state)
        _run_some(address, chunks // seats, words, state + 8 * (THREADS + NEXT), grain, 0)
        if (_now(state) - began) * (chunks // grain) > WORTH_WAKING:
            _lock((state + 8 * MUTEX,))
            if HAS_CPU_SETS:
                _bar_from_this_cpu(state, seats)
            _wake_all((state + 8 * CONDITION,))
            _unlock((state + 8 * MUTEX,))
    _take_part(state, 0)
    _store(state + 8 * OPEN, 0)
    turns = 0
    while _load(state + 8 * ACTIVE) > 0:
        turns += 1
        _pause()
        if turns % LOOKS == 0:
            _yield(())


def _launch_one(state, job, address, chunks, words, grain, seats):  # pragma: no cover - only ever compiled
    _launch(state, job, address, chunks, words, grain, seats)


def _launch_all(state, job, launches, count, most):  # pragma: no cover - only ever compiled
    """``count`` launches, the jobs from ``job`` on, each on up to ``most`` threads."""
    for i in range(count):
        at = launches + 8 * LAUNCH_WORDS * i
        address, chunks, words = _load(at), _load(at + 8), _load(at + 16)
        seats = min(_load(at + 32), most)
        if seats == 1:
            for chunk in range(chunks):
                _call(address, chunk, words, 0)
        else:
            _launch(state, job + i, address, chunks, words, _load(at + 24), seats)


class Workers:
    """The threads of this process beside the one that launches; not for use by two launches at once."""

    def __init__(self, most: int, compiled: Callable[[Callable[..., None], int], int]) -> None:
        """``most``: of the threads that a launch may ever ask for. ``compiled``: the address of a function of so many
        words.
        """
        self._state = np.zeros(THREADS + THREAD * most, np.int64)
        self._seats: list[array[int]] = [array("q")]
        self._jobs = 0
        self._system = ctypes.CDLL(None)
        at = self._state.ctypes.data
        self._system.pthread_mutex_init(ctypes.c_void_p(at + 8 * MUTEX), None)
        self._system.pthread_cond_init(ctypes.c_void_p(at + 8 * CONDITION), None)
        self._compiled = compiled
        self._work = compiled(_work, 1)
        self._launch: Any = None
        self._launch_all: Any = None

    def run(self, address: int, chunks: int, words: int, grain: int, threads: int) -> None:
        """Run chunks 0..chunks-1 on up to ``threads`` threads, ``grain`` at a time, and wait for them."""
        if self._launch is None:
            self._launch = self._as_callable(_launch_one, 7)
        self._start_up_to(threads)
        self._jobs += 1
        self._launch(self._state.ctypes.data, self._jobs, address, chunks, words, grain, threads)

    def prepare(self) -> None:
        """Compile what :meth:`run_all` needs."""
        if self._launch_all is None:
            self._launch_all = self._as_callable(_launch_all, 5)

    def run_all(self, launches: array[int], threads: int) -> None:
        """:meth:`run` for what is written down, LAUNCH_WORDS for each, on up to ``threads`` threads."""
        self.prepare()
        self._start_up_to(threads)
        address, words = launches.buffer_info()
        count = words // LAUNCH_WORDS
        self._launch_all(self._state.ctypes.data, self._jobs + 1, address, count, threads)
        self._jobs += count

    def _as_callable(self, function: Callable[..., None], words: int) -> Any:
        return ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * words)(self._compiled(function, words))

    def _start_up_to(self, threads: int) -> None:
        while len(self._seats) < threads:
            self._start()

    def _start(self) -> None:
        """One thread more; it never ends, and what it reads stays here."""
        seat = array("q", [self._state.ctypes.data, len(self._seats)])
        thread = ctypes.c_size_t()
        status = self._system.pthread_create(
            ctypes.byref(thread), None, ctypes.c_void_p(self._work), ctypes.c_void_p(seat.buffer_info()[0])
        )
        if status:
            raise OSError(status, f"thread {len(self._seats)} of this process cannot be started: {os.strerror(status)}")
        self._system.pthread_detach(thread)
        self._seats.append(seat)
