"""Measured choices of algorithms: taken, remembered, forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import numba
import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, nn, ops
from numbacnn.backends import cache, tuned
from numbacnn.backends.geometry import Conv2dGeometry

tune_module = __import__("sys").modules["numbacnn.nn.tune"]
PASS = "forward"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "kernel_folder", lambda prefix, packages, *versions: tmp_path)
    monkeypatch.setattr(tuned, "_tables", {})
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
    tuned._tables.clear()  # as in a new process
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
    "content", ["no json", "[]", json.dumps({"n2c1h6k2r3s1p0 forward": "an algorithm of the past"})]
)
def test_a_damaged_or_foreign_file_is_as_none(folder: Path, content: str) -> None:
    backend = backends.get("reference")
    geometry = Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    tuned._path(backend).write_text(content, encoding="utf-8")
    assert tuned.choice(backend, geometry, PASS) is None
    tuned.remember(backend, geometry, PASS, "loops")
    tuned._tables.clear()
    assert tuned.choice(backend, geometry, PASS) == "loops"


def test_choices_are_of_a_number_of_threads() -> None:
    backend, geometry = backends.get("reference"), Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    most = numba.get_num_threads()
    if most == 1:
        pytest.skip("there is one thread")
    tuned.remember(backend, geometry, PASS, "loops")
    try:
        numba.set_num_threads(1)
        assert tuned.choice(backend, geometry, PASS) is None
    finally:
        numba.set_num_threads(most)
    assert tuned.choice(backend, geometry, PASS) == "loops"


def test_without_a_folder_the_process_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "kernel_folder", lambda *arguments: None)
    backend, geometry = backends.get("reference"), Conv2dGeometry.parse("n2c1h6k2r3s1p0")
    tuned.remember(backend, geometry, PASS, "loops")
    assert tuned.choice(backend, geometry, PASS) == "loops"


def test_errors() -> None:
    with pytest.raises(ValueError, match="`passes` 'sideways' must be "):
        nc.tune(model(), (2, 1, 6, 6), passes=["sideways"])
    with pytest.raises(ValueError, match="`input_shape`"):
        nc.tune(model(), (2, 6))
