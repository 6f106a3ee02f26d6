"""The same bits for any number of threads, and no crash from threads or forks, on every threading layer."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pytest

from numbacnn.backends.cpu import threads, workers
from numbacnn.backends.cpu.jit import WORTH_THREADS, kernel


def loadable(layer):
    try:
        importlib.import_module(f"numba.np.ufunc.{layer}")
    except ImportError:
        return False
    return True


NUMBAS = [("omp", "omppool"), ("workqueue", "workqueue"), ("tbb", "tbbpool")]
LAYERS = [*(["workers"] if os.name == "posix" else []), *(name for name, module in NUMBAS if loadable(module))]

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")

MODEL = """
import hashlib, sys, threading
import numpy as np
import numba
import numbacnn as nc
from numbacnn import nn
from numbacnn.backends.cpu.threads import layer

nc.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(7, 14, 3, groups=7, algorithm="loops"), nn.Sigmoid(), nn.AvgPool2d(2, ceil_mode=True),
    nn.Conv2d(14, 5, 1), nn.Tanh(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(60, 33), nn.Linear(33, 10),
)
rng = np.random.default_rng(1)
x = rng.standard_normal((37, 3, 18, 17), dtype=np.float32)
labels = rng.integers(0, 10, 37)
"""

STEP = (
    MODEL
    + """
digest = hashlib.sha256()
loss = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = nc.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(2):
    logits = model.forward(x)
    digest.update(np.float64(loss.forward(logits, labels)).tobytes())
    optimizer.zero_grad()
    digest.update(model.backward(loss.backward()).tobytes())
    optimizer.step()
step = nc.training.TrainingStep(model, loss, optimizer)
for _ in range(3):
    step(x, labels)
session = nn.InferenceSession(model)
outputs = [session(x) for _ in range(3)]
assert (step.mode, session.mode) == ("captured", "captured")
digest.update(np.stack([*outputs, model.eval().forward(x)]).tobytes())
for value in model.state_dict().values():
    digest.update(value.tobytes())
print(digest.hexdigest(), layer())
"""
)


def run(script, threads=2, layer=LAYERS[0], **variables):
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "NUMBA_THREADING_LAYER": layer, **variables}
    if layer == "workers":
        del environment["NUMBA_THREADING_LAYER"]
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split()


def test_same_bits_for_any_number_of_threads_and_every_layer():
    runs = [run(STEP, threads) for threads in (1, 2, 2, 3)] + [run(STEP, 2, layer) for layer in LAYERS[1:]]
    assert len({digest for digest, _ in runs}) == 1
    assert [layer for _, layer in runs[4:]] == LAYERS[1:]


def test_same_bits_freshly_compiled_and_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert run(STEP) == run(STEP)


TWO_THREADS = (
    MODEL
    + """
model.eval()
expected = {i: model.forward(x[i:]) for i in range(2)}
problems = []

def work(i):
    try:
        for _ in range(30):
            if not np.array_equal(model.forward(x[i:]), expected[i]):
                problems.append(i)
    except Exception as error:
        problems.append(error)

threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(problems), layer())
"""
)


@pytest.mark.parametrize("layer", LAYERS)
def test_two_threads_may_call_forward_at_once(layer):
    assert run(TWO_THREADS, layer=layer) == ["0", layer]


FIRST_CALLS = MODEL.replace("import numbacnn as nc", "import numbacnn as nc\nsys.setswitchinterval(1e-5)") + (
    """
results = []
threads = [threading.Thread(target=lambda: results.append(model.eval().forward(x))) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(results), np.array_equal(results[0], results[1]))
"""
)


@pytest.mark.parametrize("layer", LAYERS)
def test_two_threads_may_be_the_first_to_call(layer):
    assert run(FIRST_CALLS, layer=layer) == ["2", "True"]


FORK = (
    MODEL
    + """
import os, warnings
warnings.simplefilter("ignore")  # Python warns that the process has threads: that is the point
model.eval()
expected = model.forward(x)
child = os.fork()
if child == 0:
    try:
        os._exit(0 if np.array_equal(model.forward(x), expected) else 3)
    finally:
        os._exit(4)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, np.array_equal(model.forward(x), expected))
"""
)


FORK_SESSION = FORK.replace(
    "model.eval()\n", "model = nc.nn.InferenceSession(model)\nmodel.forward = model\nmodel(x), model(x)\n"
)
FORK_EARLY = FORK.replace("expected = model.forward(x)", "expected = None; numba.get_num_threads()").replace(
    "np.array_equal(model.forward(x), expected)", "model.forward(x).shape == (37, 10)"
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "script",
    [FORK, FORK_EARLY, FORK_SESSION],
    ids=["after a kernel", "after counting threads", "after a captured pass"],
)
def test_a_forked_child_computes_the_same(layer, script):
    assert run(script, layer=layer) == ["0", "True"]


posix = pytest.mark.skipif(LAYERS[0] != "workers", reason="the threads are Numba's")
several_cpus = pytest.mark.skipif(threads.number() < 2, reason="there is one thread, or one core for it")
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no list of threads here")


@kernel
def meet(chunk, flags, met, turns, _):  # pragma: no cover - only ever compiled
    """Whether the other chunks run at the same time as this one, looked for so many times."""
    workers._store(flags + 8 * chunk, 1)
    for _turn in range(turns):
        others = 0
        for other in range(met.size):
            others += workers._load(flags + 8 * other)
        if others == met.size:
            met[chunk] = 1
            break


@several_cpus
@pytest.mark.parametrize("idle", [0, 0.002, 0.03])
def test_as_many_chunks_as_threads_run_at_the_same_time(idle):
    large = np.empty(WORTH_THREADS, np.float32)
    for _ in range(5):
        met, flags = np.zeros(threads.number(), np.int64), np.zeros(threads.number(), np.int64)
        time.sleep(idle)
        meet(len(met), flags.ctypes.data, met, 1 << 28, large)
        assert met.all()


@several_cpus
def test_chunks_run_at_the_same_time_in_a_captured_step_too():
    from numbacnn.backends import cpu

    large = np.empty(WORTH_THREADS, np.float32)
    met, flags = np.zeros(threads.number(), np.int64), np.zeros(threads.number(), np.int64)
    (launch,) = cpu.capture(lambda: meet(len(met), flags.ctypes.data, met, 1 << 28, large))
    for idle in (0, 0.002, 0.03):
        met[...] = flags[...] = 0
        time.sleep(idle)
        launch()
        assert met.all()


def test_one_thread_runs_all_chunks_in_one_call_of_machine_code(monkeypatch):
    calls = []
    launch = threads.launch
    monkeypatch.setattr(threads, "launch", lambda *arguments: (calls.append(arguments), launch(*arguments)))
    monkeypatch.setattr(threads, "number", lambda: 1)
    met, flags = np.zeros(1000, np.int64), np.ones(1000, np.int64)
    meet(1000, flags.ctypes.data, met, 1, np.empty(1, np.float32))
    assert met.all() and [(chunks, most) for _, chunks, _, _, most in calls] == [(1000, 1)]


HANDLER = (
    MODEL
    + """
import signal
model.eval()
expected, session = model.forward(x), nn.InferenceSession(model)
handled = []

def handle(*_):
    handled.append(np.array_equal(model.forward(x), expected))
    if len(handled) < 40:
        signal.setitimer(signal.ITIMER_REAL, 0.001)

signal.signal(signal.SIGALRM, handle)
session(x)
signal.setitimer(signal.ITIMER_REAL, 0.001)
right = []
while len(handled) < 40:
    right += [np.array_equal(model.forward(x), expected), np.array_equal(session(x), expected)]
print(all(handled), all(right))
"""
)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_signals_handler_may_compute(layer, count):
    assert run(HANDLER, count, layer) == ["True", "True"]


INTERRUPTED = (
    MODEL
    + """
model.eval()
session = nn.InferenceSession(model)
session(x)
run = session if sys.argv[1:] else model.forward
print("ready", flush=True)
while True:
    run(x)
"""
)


@pytest.mark.skipif(os.name != "posix", reason="no SIGINT here")
@pytest.mark.parametrize("captured", [False, True])
def test_control_c_ends_a_computation(captured):
    command = [sys.executable, "-c", INTERRUPTED, *["captured"] * captured]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT and errors.rstrip().endswith("KeyboardInterrupt"), errors


FORKS = (
    MODEL
    + """
import os, signal, time, warnings
from numbacnn import ops
warnings.simplefilter("ignore")
model.eval()
expected, session = model.forward(x), nn.InferenceSession(model)
session(x)
running = True

def work():
    while running:
        model.forward(x), ops.relu(x), session(x), numba.get_num_threads()

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
statuses = set()
for _ in range(15):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # the default action ends a child that hangs
        right = np.array_equal(model.forward(x), expected) and np.array_equal(session(x), expected)
        os._exit(0 if right and numba.get_num_threads() == 2 else 3)
    statuses.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
running = False
for thread in threads:
    thread.join()
print(statuses)
"""
)


@posix
def test_a_child_that_is_forked_while_other_threads_compute():
    assert run(FORKS) == ["{0}"]


FORK_COMPILING = (
    MODEL
    + """
import os, signal, time, warnings
warnings.simplefilter("ignore")
model.eval()
thread = threading.Thread(target=model.forward, args=(x,))
thread.start()
statuses = set()
while thread.is_alive():
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        signal.alarm(240)
        os._exit(0 if model.forward(x[:1]).shape == (1, 10) else 3)
    statuses.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(statuses)
"""
)


@posix
def test_a_child_that_is_forked_while_another_thread_compiles(tmp_path):
    assert run(FORK_COMPILING, NUMBA_CACHE_DIR=str(tmp_path)) == ["{0}"]


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
from numbacnn.backends.cpu.threads import number
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
