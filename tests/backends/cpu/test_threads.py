"""The same bits for any number of threads, and no crash from threads or forks, on every threading layer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numba
import pytest

from .programs import LAYERS, MODEL, posix, run

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")

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
for kind in (nc.optim.NAdam, nc.optim.RMSprop, nc.optim.Adagrad, nc.optim.Lion):
    values = np.random.default_rng(1).standard_normal((2, 100_003)).astype(np.float32)
    parameter = nn.Parameter(values[0])
    optimizer = kind([parameter])
    for _ in range(2):
        parameter.accumulate(values[1])
        optimizer.step()
    digest.update(parameter.value.tobytes())
print(digest.hexdigest(), layer())
"""
)


def test_same_bits_for_any_number_of_threads_and_every_layer():
    runs = [run(STEP, threads) for threads in (1, 2, 2, 3)] + [run(STEP, 2, layer) for layer in LAYERS[1:]]
    assert len({digest for digest, _ in runs}) == 1
    assert [layer for _, layer in runs[4:]] == LAYERS[1:]


def test_same_bits_freshly_compiled_and_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert run(STEP) == run(STEP) == run(STEP, 1)


FIRST_LAUNCHES = """
import numpy as np
from numbacnn.backends import cpu
from numbacnn.backends.cpu.runtime import threads

x = np.linspace(-3, 3, 1 << 17, dtype=np.float32)
for launch in range(threads.MAX_EARLY_LAUNCHES + 1):
    compiled = [entry.is_ready for entry in threads.Workers.ENTRIES]
    assert not any(compiled), launch
    assert (cpu.relu(x.copy()) == np.maximum(x, 0)).all()
print(threads.number() < 2 or all(entry.is_ready for entry in threads.Workers.ENTRIES))
"""


@posix
def test_a_few_launches_do_not_wait_for_the_threads_to_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert run(FIRST_LAUNCHES) == ["True"]


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
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes of a shell's background job lack
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


FORK_COUNTING = """
import os, signal, threading, warnings
import numba
import numbacnn
from numba.np.ufunc import parallel
warnings.simplefilter("ignore")
numba.get_num_threads()
inside, go = threading.Event(), threading.Event()

def hold():
    with parallel._backend_init_process_lock:
        inside.set()
        go.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(numba.get_num_threads() - 2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
go.set()
thread.join()
"""


@posix
def test_a_child_that_is_forked_while_another_thread_asks_for_their_number():
    assert run(FORK_COUNTING) == ["0"]


FORK_IMPORTING = """
import importlib.abc, os, signal, sys, threading, time, warnings
import numba
import numbacnn
warnings.simplefilter("ignore")
importing = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "multiprocessing.synchronize":
            importing.set()
            time.sleep(1)

sys.meta_path.insert(0, Slow())
assert "multiprocessing.synchronize" not in sys.modules
thread = threading.Thread(target=numba.get_num_threads)
thread.start()
importing.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(numba.get_num_threads() - 2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""


@posix
def test_a_child_that_is_forked_while_another_thread_imports():
    assert run(FORK_IMPORTING) == ["0"]


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
