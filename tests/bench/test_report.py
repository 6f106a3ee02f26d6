"""What a benchmark refuses to write, and what it writes of the code."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.command import WrongResultError

CPU, GPU = {"peak_gflops": 100.0}, {"peak_gflops": 100.0, "gpu": "one"}


@pytest.mark.parametrize(
    ("machine", "row", "words"),
    [
        (CPU, {"model": "nin", "algorithm": "direct 3", "share_of_peak": 1.06}, "nin direct 3 is at 106%"),
        (CPU, {"model": "nin", "algorithm": "direct 3", "share_of_peak": 1.05}, None),
        (CPU, {"model": "nin", "algorithm": "direct 3", "share_of_peak": float("nan")}, "is at nan%"),
        (CPU, {"model": "nin", "algorithm": "winograd 2, direct 1", "share_of_peak": 3.0}, None),
        (CPU, {"model": "nin", "contender": "torch", "algorithm": "eager", "share_of_peak": 2.0}, "torch eager is at"),
        (GPU, {"model": "nin", "contender": "torch", "algorithm": "eager", "share_of_peak": 2.0}, None),
        (GPU, {"model": "nin", "contender": "numbacnn", "algorithm": "direct", "share_of_peak": 2.0}, "is at 200%"),
        (CPU, {"kernel": "relu", "algorithm": None, "share": 1.2}, "relu is at 120%"),
        (CPU, {"kernel": "relu", "algorithm": None, "share": None}, None),
        (CPU, {"problem": "a", "algorithm": "winograd", "share_of_peak": 2.0, "peer": "torch", "peer_gflops": 99.0,
               "others": {"torch.compile": {"gflops": 107.0}}}, "a winograd, torch.compile is at 107%"),
    ],
)  # fmt: skip
def test_shares_above_what_is_possible(machine: dict[str, Any], row: dict[str, Any], words: str | None) -> None:
    found = report.impossible({"machine": machine, "rows": [row]})
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_nothing_is_written_then(tmp_path: Path) -> None:
    path = tmp_path / "conv-cpu.json"
    with pytest.raises(WrongResultError, match="nothing is written: a direct is at 150%"):
        report.write_results(
            path, "conv", CPU, {}, {}, rows=[{"problem": "a", "algorithm": "direct", "share_of_peak": 1.5}]
        )
    assert not list(tmp_path.iterdir())
    report.write_results(path, "conv", CPU, {}, {}, rows=[])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["commit"] == report.commit()
    assert len(content["measured"]) == len("2026-01-02T03:04:05+00:00")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
def test_the_commit_says_whether_the_code_is_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit() == report.library() == "unknown"

    def git(*arguments: str) -> str:
        options = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    for folder in ("numbacnn", "examples", "bench/results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file.py").write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    head, library = git("rev-parse", "HEAD"), report.library()
    assert report.commit() == head
    assert library == git("rev-parse", "HEAD:numbacnn")
    (tmp_path / "bench" / "results" / "conv-cpu.json").write_text("{}", encoding="utf-8")
    (tmp_path / "README.md").write_text("tables", encoding="utf-8")
    assert report.commit() == head
    (tmp_path / "numbacnn" / "file.py").write_text("2", encoding="utf-8")
    assert report.commit() == f"{head}-dirty"
    git("commit", "-q", "-a", "-m", "two")
    assert report.library() != library
