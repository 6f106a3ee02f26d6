"""Kernels that a captured step needs are compiled by helpers too, and a helper that ends changes nothing."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import disk_cache
from numbacnn.backends.cpu.runtime import kernel as kernels
from numbacnn.backends.cpu.runtime import machine_code, precompile
from numbacnn.backends.cpu.runtime.kernel import compiled_microkernel, kernel
from numbacnn.backends.cpu.runtime.microkernel import ELEMENTS, INTEGER
from numbacnn.backends.cpu.runtime.precompile import Request, compile_all, serve

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

KEY = (int(np.dtype(np.float32).num) << 8 | 1, -1), ((np.dtype(np.float32), 1), float)


@kernel
def first(chunk, x, value):
    x[chunk] = value


@kernel
def second(chunk, x, value):
    x[chunk] = 2 * value


@kernel
def third(chunk, x, value):
    x[chunk] = 3 * value


@kernel
def fourth(chunk, x, value):
    x[chunk] = 4 * value


@compiled_microkernel(ELEMENTS, INTEGER)
def doubled(x, start, count):
    for i in range(start, start + count):
        x[i] *= 2


KERNELS = (first, second, third, fourth)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_folder", disk_cache._folder.__wrapped__)  # which remembers
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine_code, "_addresses", {})
    for each in KERNELS:
        monkeypatch.setattr(each, "_entries", {})


def check_all():
    for factor, each in enumerate(KERNELS, 1):
        x = np.zeros(3, np.float32)
        each(3, x, 0.5)
        np.testing.assert_array_equal(x, np.full(3, 0.5 * factor))


@pytest.fixture
def with_a_helper(empty_cache, monkeypatch):
    monkeypatch.setattr(precompile, "MIN_KERNELS_PER_HELPER", 1)
    monkeypatch.setattr(precompile.threads, "number", lambda: 2)
    monkeypatch.setattr(precompile.threads, "needs", tuple)
    return monkeypatch


class Meanwhile:
    """What this process has to do first, when helpers were started, and nobody else can: ``work``."""

    def __init__(self, work):
        self.definition = self.prepare = work

    def is_cached(self):
        return False


def requests():
    return [Request(each, KEY) for each in KERNELS]


def test_a_helper_leaves_what_it_compiles_in_the_cache(with_a_helper):
    started = []

    class Watched(precompile._Helper):
        def __init__(self, sent):
            super().__init__(sent)
            started.append(self)

    with_a_helper.setattr(precompile, "_Helper", Watched)
    # This process waits until the helper has taken everything.
    compile_all([*requests(), Request(Meanwhile(lambda: started[0]._feeder.join()), ())])
    assert all(each.is_cached(*KEY) for each in KERNELS)
    assert not any(each._entries for each in KERNELS)
    with_a_helper.setattr(kernels, "compile_function", None)
    check_all()


SAYING = "import sys; sys.stdout.write({!r}); sys.stdout.flush(); "


@pytest.mark.parametrize(
    "command",
    [
        "raise SystemExit(1)",
        SAYING.format("." * 100),
        SAYING.format(precompile.GREETING.decode() + ".."),
        SAYING.format(precompile.GREETING.decode() + "?") + "sys.stdin.read()",
        SAYING.format("no greeting") + "import time; time.sleep(3600)",
        "import time; time.sleep(3600)",
        "import subprocess; subprocess.run(['sleep', '5'])",
    ],
)
def test_a_helper_that_ends_early_or_answers_otherwise_leaves_its_share_to_this_process(with_a_helper, command):
    with_a_helper.setattr(precompile, "SERVE", command)
    compile_all(requests())
    check_all()


def test_a_helper_that_does_not_end_its_work_is_given_up(with_a_helper):
    taking = SAYING.format(precompile.GREETING.decode() + ".")
    with_a_helper.setattr(
        precompile,
        "SERVE",
        taking + "import signal; signal.signal(15, signal.SIG_IGN); import time; time.sleep(3600)",
    )
    with_a_helper.setattr(precompile, "MAX_SECONDS", 0.5)
    started = []

    class Watched(precompile._Helper):
        def __init__(self, sent):
            super().__init__(sent)
            started.append(self)
            while not self._asked:
                time.sleep(0.01)

    with_a_helper.setattr(precompile, "_Helper", Watched)
    compile_all(requests())
    assert started[0]._process.returncode is not None
    check_all()


def test_nothing_is_imported_from_the_current_folder(empty_cache, tmp_path):
    """Neither by a program that looks there last, nor by one that does not look there at all."""
    here = tmp_path / "here"
    here.mkdir()
    for module in ("pickle", "gc", "contextlib", "subprocess", "numba", "numpy", "sitecustomize"):
        (here / f"{module}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{module} ')")
    script = f"""
import os, sys
from numbacnn.backends.cpu.runtime import kernel, machine_code, precompile
from tests.backends.cpu.test_precompile import KERNELS, Meanwhile, requests
if {{there}}:
    sys.path.insert(0, "")
os.chdir({str(here)!r})
precompile.MIN_KERNELS_PER_HELPER, precompile.threads.number, precompile.threads.needs = 1, lambda: 2, tuple
started = []

class Watched(precompile._Helper):
    def __init__(self, sent):
        super().__init__(sent)
        started.append(self)

precompile._Helper = Watched
wait = precompile.Request(Meanwhile(lambda: started[0]._feeder.join()), ())
precompile.compile_all([*requests(), wait])
assert not any(each._entries for each in KERNELS)
"""
    root = str(Path(__file__).parents[3])
    for there in (False, True):
        environment = {
            **os.environ, "PYTHONPATH": root, "NUMBA_CACHE_DIR": str(tmp_path / f"cache {there}"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", script.format(there=there)], env=environment, capture_output=True, text=True,
            timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "imported").exists()


def test_where_the_package_lies_in_the_current_folder_it_is_found_first(monkeypatch, tmp_path):
    root = str(Path(precompile.__file__).parents[4])
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    assert precompile._search_path() == [os.path.realpath(root), "/elsewhere"]
    monkeypatch.chdir(tmp_path)
    assert precompile._search_path() == ["/elsewhere", os.path.realpath(tmp_path)]
    monkeypatch.setattr(sys, "path", ["/elsewhere", Path("/path")])
    assert precompile._search_path() == ["/elsewhere"]


@pytest.mark.parametrize("reason", ["host", "frozen", "switch"])
def test_where_no_python_may_be_started_none_is(with_a_helper, tmp_path, reason):
    started = tmp_path / "started"
    host = tmp_path / ("host-application" if reason == "host" else "python3")
    host.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 3600\n")
    host.chmod(0o755)
    with_a_helper.setattr(sys, "executable", str(host))
    if reason == "frozen":
        with_a_helper.setattr(sys, "frozen", True, raising=False)
    if reason == "switch":
        with_a_helper.setenv("NUMBACNN_COMPILE_PROCESSES", "0")
    compile_all(requests())
    assert all(each._entries for each in KERNELS)
    assert not started.exists()
    check_all()


def test_the_number_of_processes_is_the_users_to_say(with_a_helper):
    started = []

    class Counted(precompile._Helper):
        def __init__(self, sent):
            started.append(self)
            self._process = None

    with_a_helper.setattr(precompile, "_Helper", Counted)
    with_a_helper.setenv("NUMBACNN_COMPILE_PROCESSES", "3")
    compile_all(requests())
    assert len(started) == 3
    for text in ("many", "-1", "", "1.5"):
        with_a_helper.setenv("NUMBACNN_COMPILE_PROCESSES", text)
        with pytest.raises(ValueError, match=r"NUMBACNN_COMPILE_PROCESSES .* must be a whole number"):
            compile_all(requests())


@pytest.mark.parametrize("executable", [None, "", "/nowhere/python"])
def test_where_no_helper_can_be_started_this_process_compiles_all(with_a_helper, executable):
    with_a_helper.setattr(sys, "executable", executable)
    compile_all(requests())
    assert all(each._entries for each in KERNELS)
    check_all()


def test_what_the_cache_has_needs_no_helper(empty_cache, monkeypatch):
    for each in KERNELS:
        each.prepare(*KEY)
        assert each.is_cached(*KEY)
        each._entries.clear()
    monkeypatch.setattr(subprocess, "Popen", None)
    compile_all(requests())
    check_all()


def test_where_nothing_can_be_cached_nothing_is_compiled_ahead(with_a_helper, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with_a_helper.setattr(config, "CACHE_DIR", str(blocked))
    with_a_helper.setattr(subprocess, "Popen", None)
    compile_all(requests())
    assert not any(each._entries for each in KERNELS)
    check_all()


def test_a_failure_here_ends_the_helpers_and_is_told(with_a_helper):
    def fail():
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        compile_all([*requests(), Request(Meanwhile(fail), ())])
    assert threading.active_count() == before


def test_serving_ends_with_the_requests(empty_cache):
    sent = io.BytesIO(b"".join(pickle.dumps((r.name, r.arguments)) for r in requests()[:2]))
    answers = io.BytesIO()
    serve(sent, answers)
    assert answers.getvalue() == precompile.GREETING + b"..."
    assert first._entries and second._entries and not third._entries


def test_routines_are_asked_for_by_dtype(empty_cache):
    assert not doubled.is_cached(np.dtype(np.float64))
    compile_all([Request(doubled, (np.dtype(np.float64),))])
    assert doubled.is_cached(np.dtype(np.float64))
