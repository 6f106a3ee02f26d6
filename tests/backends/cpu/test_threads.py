"""The same bits for any number of threads, and no crash from threads or forks, on every threading layer."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from numbacnn.backends.cpu import workers


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


def run(script, threads=2, layer=LAYERS[0]):
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "NUMBA_THREADING_LAYER": layer}
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


has_cpu_sets = pytest.mark.skipif(not workers.HAS_CPU_SETS or LAYERS[0] != "workers", reason="no sets of CPUs here")
several_cpus = pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="needs two CPUs")

SLEEPERS = (
    MODEL.replace("import hashlib", "import os, time, hashlib")
    + """
before = set(os.listdir("/proc/self/task"))
model.eval()
expected = model.forward(x)
threads = [int(name) for name in set(os.listdir("/proc/self/task")) - before]

def wake():
    time.sleep(0.05)
    assert np.array_equal(model.forward(x), expected)
    time.sleep(0.05)

def cpus_of_threads():
    return {frozenset(os.sched_getaffinity(thread)) for thread in threads}

allowed = os.sched_getaffinity(0)
"""
)
KEEP_CPUS = """
for cpus in (allowed, {min(allowed)}, {max(allowed)}, allowed):
    for thread in threads:
        os.sched_setaffinity(thread, cpus)
    for _ in range(5):
        wake()
    assert cpus_of_threads() == {frozenset(cpus)}
print(len(threads))
"""
ONE_CPU = """
for cpu in allowed:
    os.sched_setaffinity(0, {cpu})
    for thread in threads:
        os.sched_setaffinity(thread, {cpu})
    wake()
print(len(threads))
"""


@has_cpu_sets
@pytest.mark.parametrize("script", [KEEP_CPUS, ONE_CPU], ids=["what they may use is kept", "all on one"])
@pytest.mark.parametrize("count", [2, 5])
def test_threads_that_were_woken(script, count):
    assert run(SLEEPERS + script, count) == [str(count - 1)]


@has_cpu_sets
@several_cpus
def test_sleepers_are_barred_from_the_core_of_the_launch():
    allowed, done, started = os.sched_getaffinity(0), threading.Event(), threading.Barrier(3)

    def sleep():
        started.wait()
        done.wait()

    sleepers = [threading.Thread(target=sleep) for _ in range(2)]
    for sleeper in sleepers:
        sleeper.start()
    started.wait()
    asleep, awake = sleepers
    try:
        os.sched_setaffinity(awake.native_id, {min(allowed)})
        for cpu in sorted(allowed)[:2]:
            os.sched_setaffinity(asleep.native_id, allowed)
            state = np.zeros(workers.THREADS + workers.THREAD * 4, np.int64)
            state[workers.THREADS + workers.THREAD * 2 + workers.NAME] = asleep.ident
            os.sched_setaffinity(0, {cpu})
            numba.njit(lambda state: workers._bar_from_this_cpu(state, 4))(state.ctypes.data)
            assert os.sched_getaffinity(asleep.native_id) == allowed - {cpu}
            assert os.sched_getaffinity(awake.native_id) == {min(allowed)}
            assert state[workers.THREADS + workers.THREAD * 2 + workers.NAME] == 0
    finally:
        os.sched_setaffinity(0, allowed)
        done.set()
