"""Measured choices of algorithms: taken, remembered, forgotten."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numba
import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, nn, ops
from numbacnn.backends import autotune, disk_cache
from numbacnn.backends.geometry import Conv2dGeometry

tune_module = import_module("numbacnn.nn.tune")
PASS = "forward"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(disk_cache, "kernel_folder", lambda prefix, packages, *versions: tmp_path)
    monkeypatch.setattr(autotune, "_tables", {})
    monkeypatch.setattr(tune_module, "SECONDS", 0.0)
    return tmp_path


def model() -> nn.Sequential:
    with backends.use_backend("reference"):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3, algorithm="loops"))


def test_the_fastest_is_taken_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("reference")
    geometry = Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    slow = ops.conv2d_choice(geometry, backend=backend)[PASS]
    fast = next(name for name in backend.conv2d_algorithms() if name != slow)
    monkeypatch.setattr(tune_module, "_seconds", lambda backend, call, name: 1.0 if name == fast else 2.0)
    table = nc.tune(model(), (2, 1, 6, 6), passes=[PASS])
    assert [row.algorithms[PASS] for row in table.rows if row.algorithms] == [fast, "loops"]
    assert ops.conv2d_choice(geometry, backend=backend) == {
        PASS: fast, "backward_input": slow, "backward_weight": slow
    }  # fmt: skip
    autotune._tables.clear()  # as in a new process
    assert ops.conv2d_choice(geometry, backend=backend)[PASS] == fast
    assert ops.conv2d_choice(Conv2dGeometry.parse("n3c1h6k2r3s1p0"), backend=backend)[PASS] == slow
    monkeypatch.setattr(tune_module, "_seconds", lambda backend, call, name: 1.0)
    nc.tune(model(), (2, 1, 6, 6))
    assert ops.conv2d_choice(geometry, backend=backend)[PASS] == slow


def test_every_algorithm_is_measured_and_results_stay_right() -> None:
    with backends.use_backend("cpu"):
        network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
        x = np.random.default_rng(0).standard_normal((3, 2, 7, 7)).astype(np.float32)
        before = network.forward(x)
        assert nc.tune(network, x.shape).rows[1].algorithms.keys() == {
            *("forward", "backward_input", "backward_weight")
        }
        np.testing.assert_allclose(network.forward(x), before, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
        *(json.dumps({"n2c1h6k2r3s1p0 forward": name}).encode() for name in ("of the past", ["loops"], {}, 1, None)),
    ],
)
def test_a_damaged_or_foreign_file_is_ignored_with_a_warning(content: bytes) -> None:
    backend = backends.get("reference")
    geometry = Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    autotune._path(backend).write_bytes(content)
    with pytest.warns(RuntimeWarning, match=r"measured algorithms in '.*\.json' are ignored: "):
        assert autotune.choice(backend, geometry, PASS) is None
    assert ops.conv2d_choice(geometry, backend=backend)[PASS]
    autotune.remember(backend, geometry, PASS, "loops")
    autotune._tables.clear()
    assert autotune.choice(backend, geometry, PASS) == "loops"


def test_choices_are_of_a_number_of_threads() -> None:
    backend, geometry = backends.get("reference"), Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    most = numba.get_num_threads()
    if most == 1:
        pytest.skip("there is one thread")
    autotune.remember(backend, geometry, PASS, "loops")
    try:
        numba.set_num_threads(1)
        assert autotune.choice(backend, geometry, PASS) is None
    finally:
        numba.set_num_threads(most)
    assert autotune.choice(backend, geometry, PASS) == "loops"


def test_without_a_folder_the_process_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "kernel_folder", lambda *arguments: None)
    backend, geometry = backends.get("reference"), Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    autotune.remember(backend, geometry, PASS, "loops")
    assert autotune.choice(backend, geometry, PASS) == "loops"


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "open"])
def test_a_file_that_cannot_be_written_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    backend, geometry = backends.get("reference"), Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    with monkeypatch.context() as context:
        if name == "write":
            context.setattr(Path, "write_text", full_disk)
        else:
            context.setattr(os, name, full_disk)
        with pytest.warns(RuntimeWarning, match=r"by this process only: .*No space left on device: '.*\.json'"):
            autotune.remember(backend, geometry, PASS, "loops")
    assert autotune.choice(backend, geometry, PASS) == "loops"
    assert not os.listdir(folder)


def test_a_folder_in_the_place_of_the_file(folder: Path) -> None:
    backend = backends.get("reference")
    autotune._path(backend).mkdir()
    with pytest.warns(RuntimeWarning, match="are ignored: .*[Dd]irectory"):
        assert autotune.choice(backend, Conv2dGeometry.parse("n2c1h6k2r3s1p0"), PASS) is None
    with pytest.warns(RuntimeWarning, match="by this process only: "):
        nc.tune(model(), (2, 1, 6, 6), passes=[PASS])
    assert os.listdir(folder) == [autotune._path(backend).name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_may_remember_whatever_other_threads_of_its_parent_did(tmp_path: Path) -> None:
    program = """
import os, signal, threading, warnings
from numbacnn import backends
from numbacnn.backends import autotune
from numbacnn.backends.geometry import Conv2dGeometry
warnings.simplefilter("ignore")
held, go = threading.Event(), threading.Event()
def hold():
    with autotune._lock:
        held.set()
        go.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    autotune.remember(backends.get("reference"), Conv2dGeometry.parse("n2c1h6k2r3s1p0"), "forward", "loops")
    os._exit(0)
go.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_errors() -> None:
    with pytest.raises(ValueError, match="`passes` 'sideways' must be "):
        nc.tune(model(), (2, 1, 6, 6), passes=["sideways"])
    with pytest.raises(ValueError, match="`input_shape`"):
        nc.tune(model(), (2, 6))
