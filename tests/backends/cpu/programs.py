"""Programs that tests run in processes of their own, with as many threads and on the layer that they ask for."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

__all__ = ["LAYERS", "MODEL", "posix", "run"]


def loadable(layer):
    try:
        importlib.import_module(f"numba.np.ufunc.{layer}")
    except ImportError:
        return False
    return True


NUMBAS = [("omp", "omppool"), ("workqueue", "workqueue"), ("tbb", "tbbpool")]
LAYERS = [*(["workers"] if os.name == "posix" else []), *(name for name, module in NUMBAS if loadable(module))]
posix = pytest.mark.skipif(LAYERS[0] != "workers", reason="the threads are Numba's")

MODEL = """
import hashlib, sys, threading
import numpy as np
import numba
import numbacnn as nc
from numbacnn import nn
from numbacnn.backends.cpu.runtime.threads import layer

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


def run(script, threads=2, layer=LAYERS[0], **variables):
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "NUMBA_THREADING_LAYER": layer, **variables}
    if layer == "workers":
        del environment["NUMBA_THREADING_LAYER"]
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split()
