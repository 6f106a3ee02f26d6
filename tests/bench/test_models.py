"""The benchmark of models, on a network that takes a moment."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import machine, model_contenders, models, peak_memory, readme
from bench.train_contenders import MODELS, Model
from numbacnn import backends, nn

pytestmark = pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")


def tiny_torch() -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))


TINY = Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), tiny_torch, (1, 2, 2), 3, lr=0.5, batch_size=8)


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ceilings", lambda: {"peak_gflops": 100.0, "copy_gb_per_second": 10.0})
    monkeypatch.setitem(MODELS, "tiny", TINY)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    def main(*options: str) -> tuple[int, dict[str, Any]]:
        code = models.main(["--models", "tiny", "--budget", "0.01", f"--output-dir={tmp_path}", *options])
        file = tmp_path / "models-cpu.json"
        return code, json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    return main


def test_without_a_peer(run: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, results = run("--task", "train", "infer")
    assert code == 0
    assert [(row["task"], row["batch"], row["contender"]) for row in results["rows"]] == [
        ("train", 8, "numbacnn"),
        ("infer", 1, "numbacnn"),
        ("infer", 16, "numbacnn"),
    ]
    assert all(row["milliseconds"] > 0 and row["over_ours"] == 1 for row in results["rows"])
    assert "| train | tiny | 8 | " in readme.models_section(results)


def test_beside_its_peers(run: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path) -> None:
    available = [name for name in ("torch", "onnxruntime") if importlib.util.find_spec(name)]
    if "torch" not in available:
        pytest.skip("torch is not installed")
    code, results = run("--task", "train", "infer", "threads", "--peer", *available, "--batch-size", "4")
    assert code == 0
    rows = results["rows"]
    assert {row["contender"] for row in rows if row["task"] == "infer"} == {"numbacnn", *available}
    assert {(row["contender"], row["batch"]) for row in rows if row["task"] == "train"} == {
        ("numbacnn", 4),
        ("torch", 4),
    }
    assert {row["threads"] for row in rows if row["task"] == "threads"} >= {1}
    assert set(models.best_ratios(rows)) == {"train", "infer"}
    if importlib.util.find_spec("matplotlib"):
        assert {path.name for path in tmp_path.glob("*.png")} == {"models-cpu-train.png", "models-cpu-infer.png"}


def test_other_logits_are_an_error(
    run: Callable[..., tuple[int, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    makers = model_contenders.inference_makers

    def wrong(*arguments: Any) -> dict[str, Any]:
        found = makers(*arguments)
        other = found["numbacnn"]()._replace(run=lambda: np.ones((1, 3), np.float32))
        return {**found, "numbacnn folded": lambda: other}

    monkeypatch.setattr(models, "inference_makers", wrong)
    code, results = run("--task", "infer")
    assert (code, results) == (1, {})
    assert "tiny: logits of numbacnn folded differ by " in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_growth_of_memory_is_the_largest() -> None:
    size = 1 << 25
    grown = peak_memory.growth(lambda: np.ones(size, np.uint8) is None or np.ones(size // 2, np.uint8) is None)
    assert 0.9 * size <= grown < 1.9 * size


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_memory_and_start_are_of_other_processes(
    run: Callable[..., tuple[int, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def output_of(command: list[str], environment: dict[str, str]) -> str:
        commands.append((command[1:], bool(environment)))
        return "1048576\n"

    monkeypatch.setattr(models, "_output_of", output_of)
    code, results = run("--task", "memory", "start")
    assert code == 0
    assert commands == [
        (["-m", "bench.peak_memory", "tiny", "numbacnn", "8"], False),
        (["-c", models.FIRST_STEP], True),
        (["-c", models.FIRST_STEP], True),
    ]
    assert [row.get("peak_bytes") for row in results["rows"]] == [1 << 20, None, None]
    section = readme.models_section(results)
    assert "| tiny | 8 | 1.00 |" in section and "empty cache: " in section


def test_the_measured_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["peak_memory", "tiny", "numbacnn", "4"])
    monkeypatch.setattr(peak_memory, "growth", lambda run: run() or 7)
    assert peak_memory.main() == 0
    assert capsys.readouterr().out == "7\n"
