"""The package's own threads: what runs at the same time, who is woken, where they are, and how they end."""

from __future__ import annotations

import os
import time

import numba
import numpy as np
import pytest

from numbacnn.backends import cpu
from numbacnn.backends.cpu.runtime import thread_pool, threads
from numbacnn.backends.cpu.runtime.kernel import MIN_PARALLEL_ELEMENTS, kernel

from .programs import MODEL, posix, run

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")

several_cpus = pytest.mark.skipif(threads.number() < 2, reason="there is one thread, or one core for it")
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no list of threads here")


@pytest.fixture(autouse=True)
def compiled():
    """The first few launches would be on one thread."""
    for entry in thread_pool.Workers.ENTRIES:
        entry.prepare()


# As long as 1 << 13 pauses take, a launch is worth waking a thread for.
LONG = 1 << 13


@kernel
def meet(chunk, flags, met, turns, pauses, _):  # pragma: no cover - only ever compiled
    """Whether the other chunks run at the same time as this one, looked for so many times; then some pauses."""
    thread_pool._store(flags, chunk, 1)
    for _turn in range(turns):
        others = 0
        for other in range(met.size):
            others += thread_pool._load(flags, other)
        if others == met.size:
            met[chunk] = 1
            break
    for _pause in range(pauses):
        thread_pool._pause()


@several_cpus
@pytest.mark.parametrize("idle", [0, 0.002, 0.03])
def test_as_many_chunks_as_threads_run_at_the_same_time(idle):
    large = np.empty(MIN_PARALLEL_ELEMENTS, np.float32)
    for _ in range(5):
        met, flags = np.zeros(threads.number(), np.int64), np.zeros(threads.number(), np.int64)
        time.sleep(idle)
        meet(len(met), flags.ctypes.data, met, 1 << 28, LONG, large)
        assert met.all()


@several_cpus
def test_chunks_run_at_the_same_time_in_a_captured_step_too():
    large = np.empty(MIN_PARALLEL_ELEMENTS, np.float32)
    met, flags = np.zeros(threads.number(), np.int64), np.zeros(threads.number(), np.int64)
    (launch,) = cpu.capture(lambda: meet(len(met), flags.ctypes.data, met, 1 << 28, LONG, large))
    for idle in (0, 0.002, 0.03):
        met[...] = flags[...] = 0
        time.sleep(idle)
        launch()
        assert met.all()


@pytest.mark.skipif(not threads.USES_WORKERS, reason="the threads are Numba's")
@several_cpus
def test_a_launch_that_was_short_wakes_nobody_and_a_long_one_does():
    count, large = threads.number(), np.empty(MIN_PARALLEL_ELEMENTS, np.float32)
    met, flags = np.zeros(count, np.int64), np.ones(count, np.int64)
    recordings = []
    for pauses in (0, LONG):
        (launch,) = cpu.capture(lambda pauses=pauses: meet(count, flags.ctypes.data, met, 1, pauses, large))
        for _ in range(1000):
            launch()
            if pauses or launch._parts[0][thread_pool.LAUNCH_WORDS - 1] <= thread_pool.MIN_NANOSECONDS_TO_WAKE:
                break  # else another program had the core
        recordings.append(launch)
    helpers = threads._workers._words[thread_pool.THREADS + thread_pool.THREAD :].reshape(-1, thread_pool.THREAD)
    for launch, remains_asleep in zip(recordings, (True, False), strict=True):
        written_down = launch._parts[0]
        took = written_down[thread_pool.LAUNCH_WORDS - 1]
        assert (0 < took <= thread_pool.MIN_NANOSECONDS_TO_WAKE) == remains_asleep
        for _ in range(1 if remains_asleep else 100):  # one that was woken may sleep again before it is looked at
            while not helpers[: count - 1, thread_pool.ASLEEP].all():
                time.sleep(0.001)
            launch()
            if not (asleep := helpers[: count - 1, thread_pool.ASLEEP].all()):
                break
        assert asleep == remains_asleep
        assert 0 < written_down[thread_pool.LAUNCH_WORDS - 1] <= took


def test_one_thread_runs_all_chunks_in_one_call_of_machine_code(monkeypatch):
    calls = []
    launch = threads.launch
    monkeypatch.setattr(threads, "launch", lambda *arguments: (calls.append(arguments), launch(*arguments)))
    monkeypatch.setattr(threads, "number", lambda: 1)
    met, flags = np.zeros(1000, np.int64), np.ones(1000, np.int64)
    meet(1000, flags.ctypes.data, met, 1, 0, np.empty(1, np.float32))
    assert met.all() and [(chunks, most) for _, chunks, _, _, most in calls] == [(1000, 1)]


AT_THE_END = (
    MODEL
    + """
from numbacnn import ops
large = np.ones(1 << 16, np.float32)

class Last:
    def __del__(self):
        ops.relu(large)

last = Last()
threading.Thread(target=lambda: [ops.relu(large) for _ in iter(int, 1)], daemon=True).start()
ops.relu(large)
print("end")
"""
)


@posix
def test_the_interpreter_ends_while_threads_are_at_work():
    for _ in range(10):
        assert run(AT_THE_END, MALLOC_PERTURB_="165") == ["end"]


NO_THREADS = (
    MODEL
    + """
model.eval()
start = threading.Thread.start

def refuse(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
alone = model.forward(x)
print(threading.active_count(), alone.shape == (37, 10))
"""
)


@posix
def test_where_no_thread_can_be_started_a_launch_runs_on_its_own():
    assert run(NO_THREADS) == ["1", "True"]


ON_CPUS = (
    MODEL
    + """
import os
from numbacnn.backends.cpu.runtime.threads import number
allowed = os.sched_getaffinity(0)
model.eval()
expected = model.forward(x)

def all_may_run_on(cpus):
    # In the end: a helper that is being woken is kept from the core of the launch until it runs.
    for _ in range(1000):
        if {frozenset(os.sched_getaffinity(t.native_id)) for t in threading.enumerate()} == {frozenset(cpus)}:
            return True
        time.sleep(0.01)
    return False

found = []
for _ in range(5):
    time.sleep(0.01)
    found.append(np.array_equal(model.forward(x), expected))
found.append(all_may_run_on(allowed))
for chosen in ({min(allowed)}, {max(allowed)}, set(sorted(allowed)[:2]), allowed):
    os.sched_setaffinity(0, chosen)
    found += [number() == min(len(chosen), 2), np.array_equal(model.forward(x), expected)]
    # One core has no work for helpers, which sleep where they are.
    found.append(len(chosen) == 1 or all_may_run_on(chosen))
print(all(found))
""".replace("import os\n", "import os, time\n")
)


@posix
@linux
def test_helpers_are_where_the_launching_thread_may_be_and_nothing_else_changes():
    assert run(ON_CPUS) == ["True"]


@posix
@linux
@several_cpus
def test_signals_are_not_for_helpers():
    script = MODEL + (
        "model.eval().forward(x)\n"
        "helper = next(t for t in threading.enumerate() if t.name == 'numbacnn-1')\n"
        "status = open(f'/proc/self/task/{helper.native_id}/status').read()\n"
        "print(int(status.split('SigBlk:')[1].split()[0], 16) >> 1 & 1)\n"
    )
    assert run(script) == ["1"]
