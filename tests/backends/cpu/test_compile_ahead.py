"""Kernels that a captured step needs are compiled by helpers too, and a helper that ends changes nothing."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import cache
from numbacnn.backends.cpu import compile_ahead
from numbacnn.backends.cpu.compile_ahead import Request, compile_all, serve
from numbacnn.backends.cpu.jit import kernel, routine

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


@routine
def doubled(x, start, count):
    for i in range(start, start + count):
        x[i] *= 2


KERNELS = (first, second, third, fourth)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_folder", cache._folder.__wrapped__)  # which remembers
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    for each in KERNELS:
        monkeypatch.setattr(each, "_entries", {})


def check_all():
    for factor, each in enumerate(KERNELS, 1):
        x = np.zeros(3, np.float32)
        each(3, x, 0.5)
        np.testing.assert_array_equal(x, np.full(3, 0.5 * factor))


@pytest.fixture
def with_a_helper(empty_cache, monkeypatch):
    monkeypatch.setattr(compile_ahead, "WORTH_HELPER", 1)
    monkeypatch.setattr(compile_ahead.threads, "number", lambda: 2)
    return monkeypatch


def requests():
    return [Request(each, KEY) for each in KERNELS]


def test_a_helper_leaves_what_it_compiles_in_the_cache(with_a_helper):
    started = []

    class Watched(compile_ahead._Helper):
        def __init__(self, sent):
            super().__init__(sent)
            started.append(self)

    with_a_helper.setattr(compile_ahead, "_Helper", Watched)
    # This process waits until the helper has taken everything.
    with_a_helper.setattr(compile_ahead.threads, "prepare", lambda: started[0]._feeder.join())
    compile_all(requests())
    assert all(each.is_cached(*KEY) for each in KERNELS)
    assert not any(each._entries for each in KERNELS)
    check_all()
    assert all(entry.compiled.cache_hits == 1 for each in KERNELS for entry in each._entries.values())


@pytest.mark.parametrize("command", ["raise SystemExit(1)", "import sys; sys.stdout.write('..'); sys.stdout.flush()"])
def test_a_helper_that_ends_early_leaves_its_share_to_this_process(with_a_helper, command):
    with_a_helper.setattr(compile_ahead, "SERVE", command)
    compile_all(requests())
    check_all()


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

    with_a_helper.setattr(compile_ahead.threads, "prepare", fail)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        compile_all(requests())
    assert threading.active_count() == before


def test_serving_ends_with_the_requests(empty_cache):
    sent = io.BytesIO(b"".join(pickle.dumps((r.name, r.arguments)) for r in requests()[:2]))
    answers = io.BytesIO()
    serve(sent, answers)
    assert answers.getvalue() == b"..."
    assert first._entries and second._entries and not third._entries


def test_routines_are_asked_for_by_dtype(empty_cache):
    assert not doubled.is_cached(np.dtype(np.float64))
    compile_all([Request(doubled, (np.dtype(np.float64),))])
    assert doubled.is_cached(np.dtype(np.float64))
