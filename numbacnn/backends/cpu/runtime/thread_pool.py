"""Threads that wait for the next launch, and run its chunks beside the thread that asks for it.

They are Python's threads, each of which is in one call of machine code, without the interpreter lock, for as long as
it lives. The launching thread waits for those that took part in its launch, not for those that are still on their way:
it finishes everything alone where the others' cores are taken. A helper that has nothing to do first watches for the
next launch, as long as the gaps between the launches of a training step are; while it does, it lets every other thread
of the machine that wants the core go first (``sched_yield``). Then it sleeps, in a read of a pipe of its own, and a
launch that has work for it begins by writing to that pipe. A launch that is written down remembers how long it took:
one that is done in the time which waking takes wakes nobody, and helpers join it only if they are awake.

A thread that is woken is often put on the core of the thread that woke it, above all in a virtual machine, whose idle
cores look as if they were taken. There it would wait for milliseconds, while the launch does everything alone. So a
launch wakes helpers on all cores but its own, and a helper that is awake may run on all of them again.

Why no thread reads what another one is writing. All of the words below are read and written by sequentially consistent
atomic instructions, so there is one order of them all that every thread sees.

- Only one thread launches at a time (``threads.py`` holds a lock), and only it writes JOB, ADDRESS to MAX_THREADS, and
  resets the helpers' NEXT. It does so while JOB is 0; then it stores the job's number, never used before, in JOB.
  That store publishes ADDRESS to MAX_THREADS and NEXT: a helper reads them only after it has read that number in JOB.
- A helper announces itself (ACTIVE + 1) and then reads JOB *again*. If that is a job that it has not done, the launch
  cannot end before the helper has left (ACTIVE - 1): the launching thread stores 0 in JOB first and then waits until
  ACTIVE is 0, and the helper's announcement came before that store. So ADDRESS to MAX_THREADS stay valid from the
  second look at JOB to the helper's leaving, and so do the arrays of the launch. If JOB was 0, the helper leaves and
  has read nothing.
- The chunks of a launch are taken from the shares by an atomic addition to their NEXT, so that each is run once. What
  a chunk wrote is published by the helper's leaving, which the launching thread has seen when it goes on.
- A helper that goes to sleep stores ASLEEP and then looks at JOB; a launch stores JOB and then looks at ASLEEP. One
  of the two sees the other. Whoever exchanges ASLEEP for 0 and gets 1 has the say: the launch writes one byte, which
  the helper reads, or the helper has not slept at all. So there is never more than one byte in a pipe.
- STOP ends the helpers: it is stored while nobody launches, and then each gets a byte, so that it sees STOP before it
  sleeps or is woken. They are waited for before the machine code and the words are given back.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import threading
import time
from array import array
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import cores
from .machine_code import Entry

__all__ = ["LAUNCH_WORDS", "LINE", "Workers", "run_chunks", "run_list", "run_serially", "share_out"]

# Looks at the job between two times that a helper lets others go first, and how often it does that before it sleeps:
# some milliseconds.
SPIN_COUNT, MAX_YIELDS = 64, 3000
# What a thread's own fault raises, which nobody else can handle.
FAULTS = {
    getattr(signal, name)
    for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
    if hasattr(signal, name)
}
# Seconds that ending waits for a helper which another program keeps from running.
END_SECONDS = 10.0

# Bytes between what two threads write: no cache line, nor two that are fetched together, has something of both.
LINE = 128
_WORDS = LINE // 8
# Nanoseconds of a launch on one thread up to which it wakes nobody: the system calls, and another core's caches, which
# hold neither the arrays nor the code.
MIN_NANOSECONDS_TO_WAKE = 20_000
# Places in the state, in words.
JOB, ACTIVE, STOP = 0, _WORDS, 2 * _WORDS  # the number of the open job or 0; helpers that are at it; whether to end
COUNT, ADDRESS, CHUNKS, WORDS, GRAIN, MAX_THREADS = range(
    3 * _WORDS, 3 * _WORDS + 6
)  # jobs so far; the job's, for MAX_THREADS threads
# Sets of CPUs: where helpers may run, and how many these are, 0 if they are not known; where helpers are to wake.
ALLOWED, ELSEWHERE, ALLOWED_COUNT = 4 * _WORDS, 5 * _WORDS, MAX_THREADS + 1
TIME = MAX_THREADS + 2  # two words for the clock, of the launching thread
CPU_WORDS = _WORDS
THREADS = 6 * _WORDS
# Of each of the THREADS: the next of its chunks; whether it sleeps; the ends of its pipe; a byte to read into; its name
# for the system.
NEXT, ASLEEP, READ_END, WRITE_END, BYTE, NAME = range(6)
THREAD = _WORDS
# Of a launch that is written down: address, chunks, words, grain, threads; the least nanoseconds that it would have
# taken on one thread so far, 0 before the first time.
LAUNCH_WORDS = 6
CLOCK = getattr(time, "CLOCK_MONOTONIC", 0)
HAS_CPU_SETS = sys.platform == "linux"

WORD, STATUS = ir.IntType(64), ir.IntType(32)
PAUSES = {"x86_64": "llvm.x86.sse2.pause", "aarch64": "llvm.aarch64.hint", "arm64": "llvm.aarch64.hint"}
YIELD_HINT = 1


def _place(builder: Any, words: Any, at: Any) -> Any:
    return builder.gep(builder.inttoptr(words, WORD.as_pointer()), [at])


def _declared(module: Any, kind: Any, name: str) -> Any:
    return module.globals.get(name) or ir.Function(module, kind, name)


@intrinsic
def _load(typing_context: Any, words: Any, at: Any) -> Any:
    """The int64 number ``at`` of those at the address ``words``, which other threads write."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(builder, *arguments), "seq_cst", 8)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _store(typing_context: Any, words: Any, at: Any, value: Any) -> Any:
    """Write the int64 number ``at`` of those at ``words``, which other threads read."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, value = arguments
        builder.store_atomic(value, _place(builder, *place), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _read_modify_write(operation: str) -> Any:
    @intrinsic
    def function(typing_context: Any, words: Any, at: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            *place, value = arguments
            return builder.atomic_rmw(operation, _place(builder, *place), value, "seq_cst")

        return types.int64(types.int64, types.int64, types.int64), codegen

    return function


# Add to such an int64, or put another in its place, in one go with reading it; what it was before.
_take, _exchange = _read_modify_write("add"), _read_modify_write("xchg")


@intrinsic
def _pause(typing_context: Any) -> Any:
    """Tell the core that this is a loop that waits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = PAUSES.get(platform.machine(), "")
        if name:
            hints = [ir.Constant(STATUS, YIELD_HINT)] if "hint" in name else []
            kind = ir.FunctionType(ir.VoidType(), [hint.type for hint in hints])
            builder.call(_declared(builder.module, kind, name), hints)
        return context.get_dummy_value()

    return types.void(), codegen


def _of_the_system(name: str) -> Any:
    """The C function ``name`` of a tuple of words, for compiled code; what it returns is an int."""

    @intrinsic
    def function(typing_context: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            words = cgutils.unpack_tuple(builder, arguments[0])
            called = _declared(builder.module, ir.FunctionType(STATUS, [WORD] * len(words)), name)
            return builder.sext(builder.call(called, words), WORD)

        return types.int64(types.UniTuple(types.int64, len(values))), codegen

    return function


_yield, _read, _write = _of_the_system("sched_yield"), _of_the_system("read"), _of_the_system("write")
_clock_time = _of_the_system("clock_gettime")
_current_cpu, _set_cpus = _of_the_system("sched_getcpu"), _of_the_system("sched_setaffinity")


@intrinsic
def _call(typing_context: Any, address: Any, chunk: Any, words: Any, thread: Any) -> Any:
    """Call the function at ``address`` with (chunk, words, thread), all int64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [WORD, WORD, WORD])
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def share_out(chunks, counters, distance, threads):  # pragma: no cover - only ever compiled
    """Set each thread's counter, ``distance`` words apart, to the first of its share of the chunks."""
    for thread in range(threads):
        _store(counters, distance * thread, chunks * thread // threads)


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def run_chunks(address, chunks, words, counters, distance, grain, thread, threads):  # pragma: no cover - only compiled
    """Run the chunks of this thread's share and then what is left of the others', ``grain`` at a time; how many."""
    done = 0
    for turn in range(threads):
        owner = (thread + turn) % threads
        counter, end = distance * owner, chunks * (owner + 1) // threads
        first = _take(counters, counter, grain)
        while first < end:
            for chunk in range(first, min(first + grain, end)):
                _call(address, chunk, words, thread)
            done += min(first + grain, end) - first
            first = _take(counters, counter, grain)
    return done


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def run_serially(address, chunks, words):  # pragma: no cover - only ever compiled
    for chunk in range(chunks):
        _call(address, chunk, words, 0)


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _sleep(state, helper, done):  # pragma: no cover - only ever compiled
    """Until a launch has work for the helper whose words are at ``helper``, or it is to end."""
    _store(helper, ASLEEP, 1)
    job = _load(state, JOB)
    is_woken = (job != 0 and job != done) or _load(state, STOP) != 0
    if not is_woken or _exchange(helper, ASLEEP, 0) == 0:
        _read((_load(helper, READ_END), helper + 8 * BYTE, 1))
        # A read that failed ends the sleep as well, of which no launch knows.
        _store(helper, ASLEEP, 0)
        if HAS_CPU_SETS and _load(state, ALLOWED_COUNT) > 1:
            _set_cpus((0, 8 * CPU_WORDS, state + 8 * ALLOWED))


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _wake(state, threads):  # pragma: no cover - only ever compiled
    """Those of the helpers 1..threads-1 that sleep, on other CPUs than this one."""
    cpu = -1
    for thread in range(1, threads):
        helper = state + 8 * (THREADS + THREAD * thread)
        if _load(helper, ASLEEP) != 0 and _exchange(helper, ASLEEP, 0) == 1:
            if HAS_CPU_SETS and _load(state, ALLOWED_COUNT) > 1:
                if cpu < 0:
                    cpu = _current_cpu(())
                    for word in range(CPU_WORDS):
                        cpus = _load(state, ALLOWED + word)
                        if cpu >> 6 == word:
                            cpus &= ~(1 << (cpu & 63))
                        _store(state, ELSEWHERE + word, cpus)
                _set_cpus((_load(helper, NAME), 8 * CPU_WORDS, state + 8 * ELSEWHERE))
            _write((_load(helper, WRITE_END), helper + 8 * BYTE, 1))


@Entry
def _work(state, thread):  # pragma: no cover - only ever compiled
    """What helper number ``thread`` does until it is to end."""
    helper = state + 8 * (THREADS + THREAD * thread)
    done = 0
    while _load(state, STOP) == 0:
        turns = 0
        job = _load(state, JOB)
        while (job == 0 or job == done) and _load(state, STOP) == 0:
            turns += 1
            if turns < SPIN_COUNT * MAX_YIELDS:
                _pause()
                if turns % SPIN_COUNT == 0:
                    _yield(())
            else:
                _sleep(state, helper, done)
            job = _load(state, JOB)
        _take(state, ACTIVE, 1)
        # From here on the launching thread waits, if its job is still open.
        job = _load(state, JOB)
        if job != 0 and job != done:
            max_threads = _load(state, MAX_THREADS)
            if thread < max_threads:
                run_chunks(
                    _load(state, ADDRESS), _load(state, CHUNKS), _load(state, WORDS),
                    state + 8 * (THREADS + NEXT), THREAD, _load(state, GRAIN), thread, max_threads,
                )  # fmt: skip
            done = job
        _take(state, ACTIVE, -1)


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _now(state):  # pragma: no cover - only ever compiled
    """Nanoseconds, of the launching thread's clock."""
    _clock_time((CLOCK, state + 8 * TIME))
    return _load(state, TIME) * 1_000_000_000 + _load(state, TIME + 1)


@njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _launch(state, address, chunks, words, grain, max_threads, wakes):  # pragma: no cover - only ever compiled
    """Open a job, take part in it, close it, and wait for the helpers that are still at it; how many chunks it ran."""
    share_out(chunks, state + 8 * (THREADS + NEXT), THREAD, max_threads)
    _store(state, ADDRESS, address)
    _store(state, CHUNKS, chunks)
    _store(state, WORDS, words)
    _store(state, GRAIN, grain)
    _store(state, MAX_THREADS, max_threads)
    _store(state, JOB, _take(state, COUNT, 1) + 1)
    if wakes:
        _wake(state, max_threads)
    done = run_chunks(address, chunks, words, state + 8 * (THREADS + NEXT), THREAD, grain, 0, max_threads)
    _store(state, JOB, 0)
    turns = 0
    while _load(state, ACTIVE) > 0:
        turns += 1
        _pause()
        if turns % SPIN_COUNT == 0:
            _yield(())
    return done


@Entry
def _launch_all(state, launches, count, most):  # pragma: no cover - only ever compiled
    """``count`` launches one after the other, each on up to ``most`` threads."""
    for i in range(count):
        at = launches + 8 * LAUNCH_WORDS * i
        address, chunks, words = _load(at, 0), _load(at, 1), _load(at, 2)
        max_threads = min(_load(at, 4), most)
        known = _load(at, 5)
        if max_threads <= 1:
            run_serially(address, chunks, words)
        else:
            wakes = known == 0 or known > MIN_NANOSECONDS_TO_WAKE
            began = _now(state) if wakes else 0
            done = _launch(state, address, chunks, words, _load(at, 3), max_threads, wakes)
            if wakes:
                alone = (_now(state) - began) * chunks // max(done, 1)
                _store(at, 5, alone if known == 0 else min(known, alone))


@Entry
def run_list(chunk, words, thread):  # pragma: no cover - only ever compiled
    """What is launched where chunks are lists of launches: of each its address and how many there are, in ``words``."""
    launches, count = _load(words, 2 * chunk), _load(words, 2 * chunk + 1)
    for i in range(count):
        at = launches + 8 * LAUNCH_WORDS * i
        run_serially(_load(at, 0), _load(at, 1), _load(at, 2))


class Workers:
    """The threads of this process beside the one that launches; not for use by two launches at once.

    Args:
        most: threads that a launch may ever ask for.
    """

    ENTRIES = _work, _launch_all
    """What is compiled for them."""

    def __init__(self, most: int) -> None:
        memory = np.zeros((THREADS + THREAD * most) * 8 + LINE, np.uint8)
        self._state = -(-memory.ctypes.data // LINE) * LINE
        self._words = np.frombuffer(memory, np.int64, THREADS + THREAD * most, self._state - memory.ctypes.data)
        self._launch_all = _launch_all.prepare()
        _work.prepare()  # not by helpers
        self._helpers: list[threading.Thread] = []
        self._pipes: list[tuple[int, int]] = []
        self._most = most
        self._cpus: Any = None

    def run(self, address: int, chunks: int, words: int, grain: int, threads: int) -> None:
        """Run chunks 0..chunks-1 on up to ``threads`` threads, ``grain`` at a time, and wait for them."""
        self.run_all(array("q", (address, chunks, words, grain, threads, 0)), threads)

    def run_all(self, launches: array[int], threads: int) -> None:
        """:meth:`run` for what is written down, LAUNCH_WORDS for each, on up to ``threads`` threads."""
        address, words = launches.buffer_info()
        self._launch_all(self._state, address, words // LAUNCH_WORDS, self._at_hand(threads))

    @staticmethod
    def run_alone(launches: array[int]) -> None:
        """:meth:`run_all` on the launching thread: that takes no part in what others do."""
        address, words = launches.buffer_info()
        _launch_all(0, address, words // LAUNCH_WORDS, 1)

    def end(self) -> None:
        """End the helpers and wait for them; launches run on the launching thread alone from then on."""
        self._most = 1
        self._words[STOP] = 1
        for _, write_end in self._pipes:
            os.write(write_end, b"\0")
        for helper in self._helpers:
            if helper.is_alive():
                helper.join(END_SECONDS)
        if not any(helper.is_alive() for helper in self._helpers):
            self.close_pipes()

    def close_pipes(self) -> None:
        """What is left to do in a forked child, which has no helpers."""
        for end in (end for pipe in self._pipes for end in pipe):
            os.close(end)
        self._pipes = []

    def _at_hand(self, threads: int) -> int:
        """How many of ``threads`` there are, this one and the helpers, which are put where this one may run."""
        while len(self._helpers) + 1 < min(threads, self._most):
            try:
                self._start(len(self._helpers) + 1)
            except (OSError, RuntimeError, MemoryError):  # no threads or files left, or the interpreter is ending
                self._most = len(self._helpers) + 1
        if threads > 1 and (cpus := cores.affinity()) != self._cpus:
            self._allow(cpus)
        return min(threads, self._most)

    def _allow(self, cpus: Any) -> None:
        """Let the helpers run on ``cpus``; where launches wake them elsewhere, they see to it themselves."""
        self._cpus = cpus
        known = len(cpus) if max(cpus, default=0) < 64 * CPU_WORDS else 0
        self._words[ALLOWED_COUNT] = 0
        for word in range(CPU_WORDS):
            here = sum(1 << cpu % 64 for cpu in cpus if cpu // 64 == word)
            self._words[ALLOWED + word] = here - (here >> 63 << 64)
        self._words[ALLOWED_COUNT] = known
        for helper in self._helpers if HAS_CPU_SETS else []:
            if helper.native_id is not None:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(helper.native_id, cpus)

    def _start(self, thread: int) -> None:
        pipe = os.pipe()
        at = THREADS + THREAD * thread
        self._words[at + READ_END], self._words[at + WRITE_END] = pipe
        helper = threading.Thread(target=_help, args=(self._words, thread), name=f"numbacnn-{thread}")
        helper.daemon = True
        # It counts from here on, whatever interrupts this thread: two helpers of one number would share their scratch.
        self._helpers.append(helper)
        self._pipes.append(pipe)
        # Signals are for threads that can handle them: a helper never comes back to Python.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
        try:
            helper.start()
        except (RuntimeError, MemoryError):
            self._helpers.pop()
            for end in self._pipes.pop():
                os.close(end)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _help(words: np.ndarray, thread: int) -> None:
    """What a helper's Python does; it keeps the words for as long as they are in use."""
    words[THREADS + THREAD * thread + NAME] = threading.get_native_id()
    _work(words.ctypes.data, thread)
