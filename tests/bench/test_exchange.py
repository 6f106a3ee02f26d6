"""The comparison with other runtimes, with runtimes of our own in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from bench import exchange
from bench.onnx_suites import Tally

RESULTS: dict[str, Any] = {
    "machine": {"cpu": "one"}, "versions": {"numbacnn": "0.1", "onnx": "1.2"}, "measured": "2026-01-02T03:04:05",
    "commit": "0123456789abcdef", "settings": {"batch_size": 2, "runtimes": ["onnxruntime", "opencv"]},
    "rows": [{"model": "lenet", "image_shape": [1, 28, 28], "outputs": [10], "largest": 1.25,
              "differences": {"onnxruntime": 1.19e-7, "opencv": 0.0}}],
    "light": [
        {"network": "vgg", "recorded": 1e-3, "recorded_values": 1, "difference": 2.5e-8, "drawn_largest": 0.25,
         "drawn_difference": 1e-6},
        {"network": "densenet", "recorded": 2.0, "recorded_values": 7, "difference": 0.0, "drawn_largest": 3.0,
         "drawn_difference": 1e-6},
    ],
    "suites": [{"suite": "node", "passed": 3, "excluded": 1, "total": 4}],
}  # fmt: skip


def ours(path: Path, x: np.ndarray) -> np.ndarray:
    return nc.onnx.load(path)(x)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but this package is needed."""
    monkeypatch.setattr(exchange, "PACKAGES", {})
    monkeypatch.setattr(exchange, "RUNTIMES", {"onnxruntime": ours, "openvino": ours, "opencv": ours})
    monkeypatch.setattr(exchange.onnx_suites, "light_networks", list)
    monkeypatch.setattr(exchange.onnx_suites, "run_suite", lambda suite: Tally(passed=5, excluded=2))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(exchange, "PACKAGES", {"numpy": "numpy", "nothing_of_this_name": "other-name"})
    assert exchange.main(["--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error == 'error: other-name must be installed: pip install "numbacnn[test-onnx]"\n'
    assert not list(tmp_path.iterdir())


def test_the_file_of_results(alone: None, tmp_path: Path) -> None:
    assert exchange.main(["--models", "lenet", "lenet, batch norm", "--output-dir", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "exchange.json").read_text(encoding="utf-8"))
    assert content["versions"]["numbacnn"] == nc.__version__ and content["commit"]
    row = content["rows"][0]
    assert row["model"] == "lenet" and row["outputs"] == [10] and row["largest"] > 0.1
    assert list(row["differences"]) == ["onnxruntime", "openvino", "opencv"]
    assert max(row["differences"].values()) <= 1e-5
    assert content["suites"][0] == {"suite": "node", "passed": 5, "excluded": 2, "total": 7}


def test_outputs_that_differ_are_an_error(
    alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(exchange.RUNTIMES, "openvino", lambda path, x: 1.001 * ours(path, x))
    assert exchange.main(["--models", "lenet", "--output-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: openvino's outputs of lenet differ by ")
    monkeypatch.setitem(exchange.RUNTIMES, "openvino", lambda path, x: ours(path, x)[:1])
    assert exchange.main(["--models", "lenet", "--output-dir", str(tmp_path)]) == 1
    assert "have the shape (1, 10), must have (2, 10)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_test_that_fails_is_an_error(
    alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(exchange.onnx_suites, "run_suite", lambda suite: Tally(1, 0, {"test_relu": "it is wrong"}))
    assert exchange.main(["--models", "--output-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: 1 tests of node fail, the first is test_relu: it is wrong\n"


def test_every_architecture_takes_part() -> None:
    assert {name.partition(",")[0] for name in exchange.MODELS} == set(nc.models.__all__)


def test_the_sections_of_the_page() -> None:
    first, *lines = exchange.models_section(RESULTS).splitlines()
    assert first.startswith("one; numbacnn 0.1, onnx 1.2; measured 2026-01-02 at 0123456789. The largest absolute ")
    assert lines[1:] == [
        "| model | picture | output | largest output | onnxruntime | opencv |",
        "|---|---|---|---:|---:|---:|",
        "| lenet | 1x28x28 | 10 | 1.25 | 1.2e-07 | 0.0e+00 |",
    ]
    assert exchange.light_section(RESULTS).splitlines()[2:] == [
        "| vgg | 0.001 everywhere | 2.5e-08 | 0.25 | 1.0e-06 |",
        "| densenet | 2, 7 values | 0.0e+00 | 3 | 1.0e-06 |",
    ]
    assert exchange.suites_section(RESULTS).splitlines()[2:] == ["| node | 3 | 1 | 4 |"]
