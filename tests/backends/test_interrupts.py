"""Ctrl-C while a backend computes: it is heard at once, and what is computed afterwards is right."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from numba.core import config

SCRIPT = """
import os, signal, threading, time
import numpy as np
from numbacnn import nn, optim, training

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
rng = np.random.default_rng(0)
x, labels = rng.standard_normal((16, 8, 32, 32), np.float32), np.arange(16) % 4
model = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(32, 4))
session = nn.InferenceSession(model)
step = training.TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0))
works = {"layer by layer": lambda: model.predict(x), "session": lambda: session(x), "training": lambda: step(x, labels)}
for name, work in works.items():
    for _ in range(3):
        work()
expected = np.array(model.predict(x))
for name, work in works.items():
    for delay in (0.05, 0.11, 0.17):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            while time.monotonic() - start < 60:
                work()
            print(name, "never heard it")
        except KeyboardInterrupt:
            late = time.monotonic() - start - delay
            print(name, "late" if late > 5 else "interrupted")
        model.drop_saved()
        assert np.array_equal(model.predict(x), expected) and np.array_equal(session(x), expected), name
step(x, labels)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
@pytest.mark.skipif(bool(config.DISABLE_JIT or config.ENABLE_CUDASIM), reason="kernels run as Python")
def test_an_interrupt_is_heard_and_nothing_is_left_undone() -> None:
    environment = {**os.environ, "COVERAGE_PROCESS_CONFIG": ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    names = ("layer by layer", "session", "training")
    assert done.stdout.splitlines() == [f"{name} interrupted" for name in names for _ in range(3)]
