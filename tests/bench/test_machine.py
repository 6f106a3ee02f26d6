"""The machine's description and its ceilings."""

from __future__ import annotations

import json

import numba
import numpy as np
import pytest

import numbacnn
from bench import ceilings, machine
from numbacnn import backends

pytestmark = pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")


def test_description_and_versions() -> None:
    described = machine.describe()
    json.dumps(described)
    assert described["cpu"]
    assert described["cores"] >= 1
    assert described["threads"] == numba.get_num_threads()
    versions = machine.versions("no-such-distribution")
    assert versions["numbacnn"] == numbacnn.__version__
    assert versions["numpy"] == np.__version__
    assert versions["numba"] == numba.__version__
    assert versions["no-such-distribution"] is None


def test_ceilings_measured_again_are_the_higher_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine, "ceilings", lambda: {"peak_gflops": 3.0, "peak_gflops_1_thread": 2.0, "copy_gb_per_second": 1.0}
    )
    facts = {"threads": 2, "peak_gflops": 4.0, "peak_gflops_1_thread": 1.0, "copy_gb_per_second": 1.0}
    again = machine.Machine("one", facts).examined_again()
    assert again.facts == {**facts, "peak_gflops_1_thread": 2.0}
    assert again.limits == "ceilings: 4.0 GFLOP/s in float32 on 2 threads, 2.0 on one, copying 1.0 GB/s"
    of_gpu = machine.Machine("a GPU", {"gpu": "one", "peak_gflops": 1.0})
    assert of_gpu.examined_again() == of_gpu


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")
def test_ceilings_are_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "MIN_SECONDS", 1e-4)
    monkeypatch.setattr(ceilings, "PAUSE", 0.0)
    monkeypatch.setattr(machine, "last_cache_bytes", lambda: 1 << 16)
    found = machine.ceilings()
    assert found.keys() == {"peak_gflops", "peak_gflops_1_thread", "copy_gb_per_second"}
    assert found["peak_gflops"] >= found["peak_gflops_1_thread"] > 1e-6
    assert all(rate < 1e6 for rate in found.values())
