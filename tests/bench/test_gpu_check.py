"""The one call for a GPU machine, with a stand-in for Python that only writes down what it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu_check.sh"
PYTHON = """#!/usr/bin/env bash
echo "asked for: $*"
[ "$1" = -c ] && exit "${TORCH:-1}"
[ "$2" = "$HANGING" ] && sleep 60
[ "$2" = "$FAILING" ] && exit 3
while [ $# -gt 0 ]; do
    if [ "$1" = --output-dir ]; then
        mkdir -p "$2"
        echo "${BITS:-$2}" >"$2/model.safetensors"
        echo {} >"$2/history.jsonl"
    fi
    shift
done
exit 0
"""

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("bash", "timeout", "sha256sum")), reason="a tool is missing"
)


def check(tmp_path: Path, *stages: str, **settings: str) -> tuple[int, dict[str, str], dict[str, str]]:
    """The exit code, the result of each stage, and the logs."""
    python = tmp_path / "python"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBACNN_DATA"}
    environment.update({"PYTHON": str(python), "FAILING": "", "HANGING": "", "BITS": "the same", **settings})
    done = subprocess.run(
        [str(SCRIPT), str(tmp_path / "results"), *stages], env=environment, capture_output=True, text=True, timeout=120
    )
    folder = tmp_path / "results" / "gpu_check"
    rows = [line.split(None, 2) for line in (folder / "summary.txt").read_text(encoding="utf-8").splitlines()[1:]]
    assert (folder / "summary.txt").read_text(encoding="utf-8") in done.stdout
    logs = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.log")}
    return done.returncode, {stage: result for stage, _, result in rows}, logs


def test_every_stage_is_run_on_the_backend(tmp_path: Path) -> None:
    code, results, logs = check(tmp_path, TORCH="0", BACKEND="cpu")
    assert code == 0
    assert list(results) == [
        *("info", "small", "lenet", "seeds", "tests", "conv", "train", "kernels", "memcheck", "racecheck", "models")
    ]
    skipped = {stage for stage, result in results.items() if result.startswith("skipped: ")}
    assert skipped == {"seeds", "memcheck", "racecheck", "models"}
    assert {result for stage, result in results.items() if stage not in skipped} == {"ok"}
    assert "asked for: -m numbacnn.info\n" in logs["info"]
    assert "-m pytest --backend cpu -p no:cacheprovider --no-cov" in logs["tests"]
    for stage in ("conv", "train"):
        assert f"-m bench.{stage} --backend cpu --peer torch" in logs[stage]
    assert logs["lenet"].count("--dataset shapes --seed 0 --epochs 2") == 2


def test_a_failed_stage_leaves_the_others_alone(tmp_path: Path) -> None:
    code, results, _ = check(tmp_path, "info", "conv", "kernels", FAILING="bench.conv")
    assert code == 1
    assert results == {"info": "ok", "conv": "failed: exit code 3", "kernels": "ok"}


def test_a_stage_that_hangs_is_ended(tmp_path: Path) -> None:
    code, results, _ = check(tmp_path, "info", "kernels", HANGING="numbacnn.info", SECONDS_IN_ALL="2")
    assert code == 1
    assert results["info"] == "failed: out of time"
    assert results["kernels"] == "skipped: no time left"


def test_other_bits_fail(tmp_path: Path) -> None:
    code, results, logs = check(tmp_path, "lenet", BITS="")
    assert (code, results) == (1, {"lenet": "failed: exit code 1"})
    assert logs["lenet"].endswith("the same seed gave other bits\n")


def test_without_a_peer_and_with_data(tmp_path: Path) -> None:
    code, results, logs = check(tmp_path, "train", "seeds", NUMBACNN_DATA=str(tmp_path))
    assert (code, results) == (0, {"train": "ok", "seeds": "ok"})
    assert "without a peer" in logs["train"]
    assert "--peer" not in logs["train"]
    assert [line for line in logs["seeds"].splitlines() if line.startswith("seed")] == [f"seed {n}" for n in range(5)]
    kept = sorted(path.name for path in (tmp_path / "results" / "gpu_check").glob("history-*"))
    assert kept == [f"history-seed{n}.jsonl" for n in range(5)]


def test_models_that_are_done_are_not_trained_again(tmp_path: Path) -> None:
    settings = {"NUMBACNN_DATA": str(tmp_path), "MODELS": "nin vgg", "MODEL_SEEDS": "0 1"}
    done = tmp_path / "results" / "models" / "nin-seed1.jsonl"
    done.parent.mkdir(parents=True)
    done.write_text("as it was", encoding="utf-8")
    code, results, logs = check(tmp_path, "models", **settings)
    assert (code, results) == (0, {"models": "ok"})
    for model, seed in (("nin", 0), ("vgg", 0), ("vgg", 1)):
        assert (
            f"-m examples.train --model {model} --backend cuda --dataset fashion-mnist --seed {seed} " in logs["models"]
        )
    assert "--model nin --backend cuda --dataset fashion-mnist --seed 1" not in logs["models"]
    assert f"-m bench.book {done.parent}\n" in logs["models"]
    assert {path.name for path in done.parent.iterdir()} == {
        *("nin-seed0.jsonl", "nin-seed1.jsonl", "vgg-seed0.jsonl", "vgg-seed1.jsonl")
    }
    assert done.read_text(encoding="utf-8") == "as it was"


def test_an_unknown_stage(tmp_path: Path) -> None:
    done = subprocess.run([str(SCRIPT), str(tmp_path), "all"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: stage 'all' must be one of info small")
    assert not list(tmp_path.iterdir())
