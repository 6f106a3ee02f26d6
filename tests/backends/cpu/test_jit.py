"""How kernels are declared, compiled, cached and called."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import cache
from numbacnn.backends.cpu import jit
from numbacnn.backends.cpu.jit import kernel

compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")


@kernel
def axpy(chunk, x, y, factor, offset):
    """y = factor x + offset, a chunk an element."""
    y[chunk] = factor * x[chunk] + offset


@kernel
def fill_plane(chunk, x, value):
    x[chunk, 1, :] = value


def test_arguments_reach_the_kernel():
    x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    axpy(5, x, y, 0.5, 3)
    np.testing.assert_array_equal(y, 0.5 * x + 3)


def test_each_dtype_is_compiled_and_exact():
    for dtype in (np.float32, np.float64):
        x, y = np.arange(5, dtype=dtype), np.zeros(5, dtype)
        axpy(5, x, y, 0.1, -2)
        np.testing.assert_array_equal(y, dtype(0.1) * x - 2)


def test_shapes_of_several_axes():
    x = np.zeros((3, 2, 4))
    fill_plane(3, x, 7.5)
    assert x[:, 1].tolist() == [[7.5] * 4] * 3
    assert not x[:, 0].any()


def test_no_chunks_no_work():
    y = np.zeros(1, np.float32)
    axpy(0, np.ones(1, np.float32), y, 1.0, 1)
    assert y[0] == 0


def test_special_floats_pass_as_arguments():
    x, y = np.ones(3), np.zeros(3)
    for value in (np.inf, -np.inf, 5e-324):
        axpy(3, x, y, value, 0)
        assert (y == value).all()
    axpy(3, x, y, np.nan, 0)
    assert np.isnan(y).all()
    single = np.zeros(3, np.float32)
    axpy(3, np.ones(3, np.float32), single, -1e300, 0)
    assert (single == -np.inf).all()


@compiled_only
def test_compiled_once_for_the_same_types():
    x, y = np.ones(3, np.float32), np.zeros(3, np.float32)
    axpy(3, x, y, 1.0, 0)
    entries = dict(axpy._entries)
    axpy(2, y, x, 2.0, 1)
    assert dict(axpy._entries) == entries


SCRIPT = """
import os, sys
import numpy as np
import numba
from numba.core import event
from numbacnn.backends import cpu

compiled = []

class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(str(e.data["dispatcher"]) if "dispatcher" in e.data else "entry")
    def on_end(self, e):
        pass

x = np.linspace(-3, 3, 100, dtype=np.float32)
with event.install_listener("numba:run_pass", Listener()):
    y = cpu.relu(x)
assert (y == np.maximum(x, 0)).all()
print(len(compiled))
"""


def run(script, **environment):
    environment = {**os.environ, **environment}
    environment.pop("NUMBA_DISABLE_JIT", None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_second_process_compiles_nothing(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert int(run(SCRIPT, **cache)[0]) > 0
    assert int(run(SCRIPT, **cache)[0]) == 0


def test_a_changed_kernel_outside_the_package_is_not_served_stale(tmp_path):
    script = (
        "import sys; sys.path.insert(0, {!r}); import mine, numpy; x = numpy.zeros(3); mine.fill(3, x); print(x[2])"
    )
    for value in (1.0, 2.0):
        (tmp_path / "mine.py").write_text(
            f"from numbacnn.backends.cpu.jit import kernel\n@kernel\ndef fill(chunk, x):\n    x[chunk] = {value}\n"
        )
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        assert run(script.format(str(tmp_path)), **environment) == [str(value)]


def test_damaged_cache_files_mean_compiling_again(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    run(SCRIPT, **cache)
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert len(files) >= 2
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert int(run(SCRIPT, **cache)[0]) > 0


def test_cache_folder_that_cannot_be_written_is_done_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert int(run(SCRIPT, NUMBA_CACHE_DIR=str(blocked))[0]) > 0


def test_cache_key_covers_every_source_of_the_kernels(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(cache, "_folder", cache._folder.__wrapped__)  # which remembers
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    before = jit.cache_folder()
    package = tmp_path / "backends"
    here = os.path.dirname(jit.__file__)
    shutil.copytree(os.path.dirname(here), package)
    monkeypatch.setattr(jit, "__file__", str(package / "cpu" / "jit.py"))
    assert jit.cache_folder() == before
    with open(package / "shared" / "windows.py", "a") as source:
        source.write("\n")
    assert jit.cache_folder() != before
