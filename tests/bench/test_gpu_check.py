"""The one call for a GPU machine, with a stand-in for Python that only writes down what it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import conv, models, train
from bench.book import PUBLISHED

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu_check.sh"
PYTHON = """#!/usr/bin/env bash
echo "asked for: $*"
[ "$1" = -c ] && exit "${TORCH:-1}"
[ "$2" = "$HANGING" ] && sleep 60
[ "$2" = "$FAILING" ] && exit 3
[ "$2" = "$MISSING" ] && echo "there is none" && exit 77
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
    environment.update(
        {"PYTHON": str(python), "FAILING": "", "HANGING": "", "MISSING": "", "BITS": "the same", **settings}
    )
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
        *("info", "small", "conv", "steps", "train", "kernels", "nccl", "seeds", "lenet", "tests"),
        *("memcheck", "racecheck", "compiled", "models"),
    ]
    skipped = {stage for stage, result in results.items() if result.startswith("skipped: ")}
    assert skipped == {"nccl", "seeds", "memcheck", "racecheck", "models"}
    assert results["nccl"] == "skipped: NCCL is between GPUs, of the backend cuda, not cpu"
    assert {result for stage, result in results.items() if stage not in skipped} == {"ok"}
    assert "asked for: -m numbacnn.info\n" in logs["info"]
    assert "-m pytest --backend cpu -p no:cacheprovider --no-cov" in logs["tests"]
    assert "-m bench.conv --backend cpu --peer torch cudnn --problem deep lenet " in logs["conv"]
    assert "-m bench.train --backend cpu --peer torch --run eager graph " in logs["train"]
    folder = tmp_path / "results"
    for stage, run, output in (("steps", "eager graph", folder), ("compiled", "compile", folder / "compiled")):
        assert "-m bench.models --backend cpu --task train --peer torch --models " in logs[stage]
        assert f" --run {run} " in logs[stage] and logs[stage].endswith(f"--output-dir {output}\n")
    assert logs["lenet"].count("--dataset shapes --seed 0 --epochs 2") == 2
    for stage, command in (("conv", conv), ("train", train), ("steps", models), ("compiled", models)):
        asked = [line for line in logs[stage].splitlines() if f"-m {command.__name__} " in line]
        assert command.parse_arguments(asked[0].split()[4:]).backend == "cpu"  # or it exits with code 2


def test_a_failed_stage_leaves_the_others_alone(tmp_path: Path) -> None:
    code, results, _ = check(tmp_path, "info", "conv", "kernels", FAILING="bench.conv")
    assert code == 1
    assert results == {"info": "ok", "conv": "failed: exit code 3", "kernels": "ok"}
    # A second call, of other stages, leaves their lines alone.
    code, results, _ = check(tmp_path, "lenet", "conv", FAILING="bench.train")
    assert code == 0
    assert results == {"info": "ok", "kernels": "ok", "lenet": "ok", "conv": "ok"}


def test_a_stage_that_hangs_is_ended(tmp_path: Path) -> None:
    code, results, _ = check(tmp_path, "info", "kernels", HANGING="numbacnn.info", SECONDS_IN_ALL="2")
    assert code == 1
    assert results["info"] == "failed: out of time"
    assert results["kernels"] == "skipped: no time left"


def test_nccl_needs_its_packages(tmp_path: Path) -> None:
    """What is said last is why."""
    code, results, logs = check(tmp_path, "nccl")
    assert (code, results, logs["nccl"]) == (0, {"nccl": "ok"}, "asked for: -m bench.gpu_nccl\n")
    _, results, _ = check(tmp_path, "nccl", MISSING="bench.gpu_nccl")
    assert results == {"nccl": "skipped: there is none"}


def test_other_bits_fail(tmp_path: Path) -> None:
    code, results, logs = check(tmp_path, "lenet", BITS="")
    assert (code, results) == (1, {"lenet": "failed: exit code 1"})
    assert logs["lenet"].endswith("the same seed gave other bits\n")


def test_without_a_peer_and_with_data(tmp_path: Path) -> None:
    code, results, logs = check(tmp_path, "conv", "train", "compiled", "tests", "seeds", NUMBACNN_DATA=str(tmp_path))
    skipped = "skipped: there is nothing to compile without the peer torch"
    assert (code, results) == (0, {"conv": "ok", "train": "ok", "compiled": skipped, "tests": "ok", "seeds": "ok"})
    assert "--no-cov" not in logs["tests"] and "-o addopts=--import-mode=importlib " in logs["tests"]
    asked = "asked for: -c from bench import peers; peers.load(['{}'], 1, 'cuda')"
    assert f"without the peer 'cudnn': {asked.format('cudnn')}\n" in logs["conv"]
    for stage in ("conv", "train"):
        assert f"without the peer 'torch': {asked.format('torch')}\n" in logs[stage]
        assert "--peer" not in logs[stage]
    assert [line for line in logs["seeds"].splitlines() if line.startswith("seed")] == [f"seed {n}" for n in range(5)]
    kept = sorted(path.name for path in (tmp_path / "results" / "gpu_check").glob("history-*"))
    assert kept == [f"history-seed{n}.jsonl" for n in range(5)]


def trained(log: str) -> list[tuple[str, str]]:
    """Models and seeds that were asked for."""
    calls = [line.split() for line in log.splitlines() if line.startswith("asked for: -m examples.train ")]
    return [(words[words.index("--model") + 1], words[words.index("--seed") + 1]) for words in calls]


def test_every_model_of_the_book_is_trained_once(tmp_path: Path) -> None:
    data = {"NUMBACNN_DATA": str(tmp_path)}
    code, results, logs = check(tmp_path, "models", **data)
    assert (code, results) == (0, {"models": "ok"})
    assert sorted(trained(logs["models"])) == sorted((model, seed) for model in PUBLISHED for seed in "012")
    folder = tmp_path / "results" / "models"
    last = f"--backend cuda --dataset fashion-mnist --seed 2 --output-dir {folder}/vgg/seed2 --resume\n"
    assert last in logs["models"]
    assert logs["models"].endswith(f"asked for: -m bench.book {folder}\n")
    assert [path.name for path in (folder / "vgg" / "seed2").iterdir()] == ["history.jsonl"]

    code, results, logs = check(tmp_path, "models", **data)
    assert (code, results, trained(logs["models"])) == (0, {"models": "ok"}, [])
    assert "-m bench.book" in logs["models"]


def test_training_goes_on_in_the_next_call(tmp_path: Path) -> None:
    run = tmp_path / "results" / "models" / "nin" / "seed1"
    run.mkdir(parents=True)
    (run / "history.jsonl").write_text("{}\n", encoding="utf-8")
    (run / "checkpoint.safetensors").write_text("after one epoch", encoding="utf-8")
    begun = tmp_path / "results" / "models" / "vgg" / "seed0"
    begun.mkdir(parents=True)
    (begun / "history.jsonl").touch()  # stopped within the first epoch
    settings = {"NUMBACNN_DATA": str(tmp_path), "MODELS": "nin vgg", "MODEL_SEEDS": "0 1"}
    code, results, logs = check(tmp_path, "models", **settings, HANGING="examples.train", SECONDS_IN_ALL="2")
    assert (code, results) == (0, {"models": "unfinished: 0 of 4 trainings are done"})
    assert trained(logs["models"]) == [("nin", "0")]
    assert "bench.book" not in logs["models"]
    code, results, logs = check(tmp_path, "models", **settings)
    assert (code, results) == (0, {"models": "ok"})
    assert trained(logs["models"]) == [("nin", "0"), ("nin", "1"), ("vgg", "0"), ("vgg", "1")]


@pytest.mark.parametrize("failing", ["examples.train", "bench.book"])
def test_a_model_that_fails_leaves_the_others_alone(failing: str, tmp_path: Path) -> None:
    settings = {"NUMBACNN_DATA": str(tmp_path), "MODELS": "nin vgg", "MODEL_SEEDS": "0 1", "FAILING": failing}
    code, results, logs = check(tmp_path, "models", **settings)
    assert (code, results) == (1, {"models": "failed: exit code 3"})
    assert len(trained(logs["models"])) == 4


def test_an_unknown_stage(tmp_path: Path) -> None:
    done = subprocess.run([str(SCRIPT), str(tmp_path), "all"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: stage 'all' must be one of info small")
    assert not list(tmp_path.iterdir())
