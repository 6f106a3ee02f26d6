"""The test suites of the package `onnx`: what is loaded computes what they have recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from bench.onnx_suites import SUITES, light_network, light_networks, run_suite, with_drawn_weights

onnx = pytest.importorskip("onnx")

LEAST = {"node": 478, "pytorch-converted": 67, "pytorch-operator": 33, "simple": 5}
"""How many must pass."""


@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str) -> None:
    tally = run_suite(suite)
    assert not tally.wrong
    assert tally.passed >= LEAST[suite]


@pytest.mark.parametrize("name", light_networks())
def test_light_network(name: str, tmp_path: Path) -> None:
    case, path = light_network(name), tmp_path / "model.onnx"
    onnx.save(case.proto, path)
    (x,), (expected,) = case.inputs, case.outputs
    np.testing.assert_allclose(nc.onnx.load(path).predict(x), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", light_networks())
def test_light_network_with_weights_that_matter(name: str, tmp_path: Path) -> None:
    """Recorded outputs are one number, whatever most layers do."""
    runtime = pytest.importorskip("onnxruntime")
    case, path = light_network(name), tmp_path / "model.onnx"
    onnx.save(with_drawn_weights(case.proto), path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: case.inputs[0]})
    y = nc.onnx.load(path).predict(case.inputs[0])
    assert expected.std() > 1e-2 * np.abs(expected).max()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
