"""The machine's description and its ceilings."""

from __future__ import annotations

import json

import numba
import numpy as np
import pytest

import numbacnn
from bench import machine
from numbacnn import backends
from numbacnn.backends.cpu.tiles import LARGEST
from numbacnn.info import register_tile

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


def test_the_peak_s_kernel_does_the_work_that_is_counted() -> None:
    result = np.zeros(3, np.float32)
    machine._multiply_resident(3, result, LARGEST.routine, 5)
    assert result.tolist() == [5 * machine.DEPTH] * 3
    rows, columns = register_tile()
    assert 4 * machine.DEPTH * (rows + columns) < 32 * 1024
    assert (rows, columns * 4 % 16) == (machine.ROWS, 0)


def test_ceilings_are_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LEAST_SECONDS", 1e-4)
    assert 1e-6 < machine.peak_gflops(seconds=0.01) < 1e6
    assert 1e-6 < machine.copy_bandwidth(elements=3 * machine.COPY_BLOCK + 5, seconds=0.01) < 1e5
