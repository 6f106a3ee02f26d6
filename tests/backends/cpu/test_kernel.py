"""How kernels are declared, compiled, cached and called."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba.core import config

import numbacnn
from numbacnn import backends, ops
from numbacnn.backends import cpu, disk_cache
from numbacnn.backends.cpu.runtime import machine_code
from numbacnn.backends.cpu.runtime.kernel import Scratch, kernel, places_of_addresses

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


class Place(NamedTuple):
    row: int
    column: int


@kernel
def put(chunk, x, place, value):
    x[place.row, place.column + chunk] = value


def test_named_tuples_of_integers_are_read_by_their_fields():
    x = np.zeros((2, 4))
    put(2, x, Place(np.int32(1), True), 2.5)
    assert x.tolist() == [[0, 0, 0, 0], [0, 2.5, 2.5, 0]]
    assert list(places_of_addresses((Place(0, 0), x, Scratch(3, x.dtype), 1.5))) == [(2, x), (5, None)]


@compiled_only
def test_named_tuples_hold_nothing_but_integers_and_routines():
    with pytest.raises(TypeError):
        put(1, np.zeros((2, 4)), Place(1, 0.5), 2.5)


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


def run(script, cwd=None, **environment):
    environment = {**os.environ, **environment}
    environment.pop("NUMBA_DISABLE_JIT", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=cwd, timeout=300
    )
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
            "from numbacnn.backends.cpu.runtime.kernel import kernel\n"
            f"@kernel\ndef fill(chunk, x):\n    x[chunk] = {value}\n"
        )
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        assert run(script.format(str(tmp_path)), **environment) == [str(value)]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"!" + data[-8:]])
def test_damaged_cache_files_mean_compiling_again(tmp_path, damage):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    run(SCRIPT, **cache)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    assert int(run(SCRIPT, **cache)[0]) > 0
    assert int(run(SCRIPT, **cache)[0]) == 0


def test_cache_folder_that_cannot_be_written_is_done_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert int(run(SCRIPT, NUMBA_CACHE_DIR=str(blocked))[0]) > 0


def test_cache_key_covers_every_source_of_the_kernels(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_folder", disk_cache._folder.__wrapped__)  # which remembers
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    before = machine_code.cache_folder()
    package = tmp_path / "backends"
    shutil.copytree(Path(backends.__file__).parent, package)
    monkeypatch.setattr(machine_code, "__file__", str(package / "cpu" / "runtime" / "machine_code.py"))
    assert machine_code.cache_folder() == before
    deep = package / "cpu" / "room" / "inner"
    deep.mkdir(parents=True)
    (deep / "kernels.py").write_text("")
    for folder in {path.parent for room in ("cpu", "shared") for path in (package / room).rglob("*.py")}:
        former = machine_code.cache_folder()
        with open(next(folder.glob("*.py")), "a") as source:
            source.write("\n")
        assert machine_code.cache_folder() != former, folder


@pytest.mark.parametrize("given", [0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5)])
def test_floats_of_numpy_are_floats(given):
    x, y = np.ones(3, np.float32), np.zeros(3, np.float32)
    axpy(3, x, y, given, np.int32(2))
    assert y.tolist() == [2.5] * 3


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python takes anything")
@pytest.mark.parametrize("given", ["1", None, 1j, np.complex64(1)])
def test_what_is_no_number_is_refused(given):
    with pytest.raises(TypeError):
        axpy(1, np.ones(1, np.float32), np.zeros(1, np.float32), 1.0, given)


OTHERWISE = {
    "strided": np.arange(8, dtype=np.float32)[::2],
    "backwards": np.arange(4, dtype=np.float32)[::-1],
    "swapped": np.arange(4, dtype=np.float32).astype(">f4" if sys.byteorder == "little" else "<f4"),
    "unaligned": np.frombuffer(bytes(1) + np.arange(4, dtype=np.float32).tobytes(), np.float32, 4, 1),
}


@compiled_only
@pytest.mark.parametrize("x", OTHERWISE.values(), ids=OTHERWISE)
def test_arrays_that_lie_otherwise_are_refused_by_kernels_and_taken_by_operations(x):
    with pytest.raises(ValueError, match="C-contiguous, aligned arrays in the machine's byte order"):
        axpy(4, x, np.zeros(4, np.float32), 1.0, 0)
    assert ops.relu(x, backend="cpu").tolist() == x.tolist()
    assert cpu.relu(cpu.asarray(x)).tolist() == x.tolist()


@compiled_only
def test_kernels_that_differ_in_what_encloses_them_are_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_folder", disk_cache._folder.__wrapped__)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def made(value):
        @kernel
        def fill(chunk, x):
            x[chunk] = value

        return fill

    for value in (1.0, 2.0):
        x = np.zeros(3)
        made(value)(3, x)
        assert x.tolist() == [value] * 3


@kernel
def sum_of_many(
    chunk, y, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, c0, c1, c2, c3, c4, c5,
    c6, c7, c8, c9, d0, d1,
):  # fmt: skip
    y[chunk] = a0 + b0 + c0 + d0 * d1


@compiled_only
def test_many_arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_folder", disk_cache._folder.__wrapped__)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    y = np.zeros(2)
    sum_of_many(2, y, *range(32))
    assert y.tolist() == [0 + 10 + 20 + 30 * 31] * 2
    assert any(tmp_path.rglob("*.code"))


@compiled_only
def test_a_text_that_was_changed_after_the_import_is_not_taken_for_the_kernel(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    text = "from numbacnn.backends.cpu.runtime.kernel import kernel\n@kernel\ndef fill(chunk, x):\n    x[chunk] = {}\n"
    (tmp_path / "edited_kernels.py").write_text(text.format(1.5))
    import edited_kernels

    kept = set(machine_code.cache_folder().iterdir())
    (tmp_path / "edited_kernels.py").write_text(text.format(20.5))
    x = np.zeros(3)
    edited_kernels.fill(3, x)
    assert x.tolist() == [1.5] * 3
    assert set(machine_code.cache_folder().iterdir()) == kept


@compiled_only
def test_an_installation_without_sources_computes(tmp_path):
    shutil.copytree(Path(numbacnn.__file__).parent, tmp_path / "numbacnn", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(tmp_path, quiet=1, legacy=True)
    for source in tmp_path.rglob("*.py"):
        source.unlink()
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    script = SCRIPT + "import numbacnn; print(numbacnn.__file__)"
    for expected in (True, False):
        compiled, file = run(script, cwd=tmp_path, **environment)
        assert (int(compiled) > 0) == expected
        assert file == str(tmp_path / "numbacnn" / "__init__.pyc")


IN_A_HANDLER = """
import signal, sys
import numpy as np
from numba.core import event
from numbacnn.backends import cpu

class Listener(event.Listener):
    def on_start(self, e):
        if not done:
            done.append(1)
            signal.raise_signal(signal.SIGUSR1)
    def on_end(self, e):
        pass

done = []
x = np.linspace(-3, 3, 100, dtype=np.float32)
signal.signal(signal.SIGUSR1, lambda *_: done.append(cpu.relu(x)))
with event.install_listener("numba:run_pass", Listener()):
    y = cpu.relu(x)
print((done[1] == y).all(), (y == np.maximum(x, 0)).all())
"""

IN_A_CHILD = """
import os, threading
import numpy as np
from numba.core import event
from numbacnn.backends import cpu

class Listener(event.Listener):
    def on_start(self, e):
        compiling.set()
    def on_end(self, e):
        pass

compiling = threading.Event()
x = np.linspace(-3, 3, 100, dtype=np.float32)
with event.install_listener("numba:run_pass", Listener()):
    other = threading.Thread(target=cpu.sigmoid, args=(x,))
    other.start()
    compiling.wait()
    child = os.fork()
    if not child:
        os._exit(0 if (cpu.relu(x) == np.maximum(x, 0)).all() and cpu.sigmoid(x).min() > 0 else 1)
    other.join()
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no signals, no forks")
@pytest.mark.parametrize(("script", "expected"), [(IN_A_HANDLER, ["True", "True"]), (IN_A_CHILD, ["0"])])
def test_signal_handlers_and_children_may_compute_while_a_kernel_is_compiled(tmp_path, script, expected):
    assert run(script, NUMBA_CACHE_DIR=str(tmp_path), PYTHONWARNINGS="ignore", NUMBA_NUM_THREADS="1") == expected
