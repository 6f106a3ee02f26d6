"""Two checkouts in turns: here the same one twice, and one that computes something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numba
import pytest

from bench import compare
from numbacnn import backends

pytestmark = [
    pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used"),
    pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off"),
]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A checkout of the package alone, as an older commit may be of anything but that."""
    folder = tmp_path / "other"
    shutil.copytree(compare.ROOT / "numbacnn", folder / "numbacnn", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(other: Path, tmp_path: Path, *options: str) -> int:
    return compare.main(
        [str(other), "--models", "lenet", "--pairs", "1", "--rounds", "2", "--output-dir", str(tmp_path), *options]
    )


def test_rows_mean_and_worst_case(other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(other, tmp_path) == 0
    content = json.loads((tmp_path / "compare-cpu.json").read_text(encoding="utf-8"))
    rows = content["rows"]
    assert [(row["task"], row["model"], row["batch_size"]) for row in rows] == [
        *(("train", "lenet", 256), ("infer", "lenet", 1), ("infer", "lenet", 16))
    ]
    product = 1.0
    for row in rows:
        assert row["difference"] == 0.0  # the same bits
        assert row["ratio"] == pytest.approx(row["other_milliseconds"] / row["milliseconds"])
        assert (row["rounds"], row["threads"]) == (2, numba.get_num_threads())
        product *= row["ratio"]
    assert content["summary"]["geometric_mean"] == pytest.approx(product ** (1 / 3))
    worst = content["summary"]["worst"]
    assert worst == min(rows, key=lambda row: row["ratio"])
    last = capsys.readouterr().out.splitlines()[-2]
    assert last == (
        f"geomean of 3: {product ** (1 / 3):.3f}; worst: {worst['task']} lenet {worst['batch_size']}: "
        f"{worst['ratio']:.3f}"
    )


def test_the_package_is_the_other_s(other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = other / "numbacnn" / "models" / "lenet.py"
    text = file.read_text(encoding="utf-8") + "\n\noriginal = lenet\n\n\ndef lenet():\n"
    file.write_text(f"{text}    raise TypeError('broken')\n", encoding="utf-8")
    assert run(other, tmp_path, "--task", "infer") == 2
    assert capsys.readouterr().err == f"error: {other}: infer lenet 1: TypeError: broken\n"
    file.write_text(f"{text}    return nn.Sequential(original(), nn.ReLU())\n", encoding="utf-8")
    assert run(other, tmp_path, "--task", "infer") == 1
    assert "error: infer lenet 1: the results differ by " in capsys.readouterr().err
    assert not (tmp_path / "compare-cpu.json").exists()


def test_a_folder_that_is_no_checkout(tmp_path: Path, capsys: Any) -> None:
    assert compare.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is no checkout: it has no numbacnn/__init__.py\n"


def test_a_drawn_network(other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(other, tmp_path, "--models", "plain-0.0", "--task", "infer") == 0
    content = json.loads((tmp_path / "compare-cpu.json").read_text(encoding="utf-8"))
    assert [(row["model"], row["difference"]) for row in content["rows"]] == 2 * [("plain-0.0", 0.0)]
    for name in ("plain-0.1", "lenets", "plain-0.x"):
        with pytest.raises(SystemExit):
            run(other, tmp_path, "--models", name)
        assert f"`name` is {name!r}, must be KIND-SEED.NUMBER" in capsys.readouterr().err


def test_turns_begin_with_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    started: list[str] = []

    class Fake:
        def __init__(self, name: Path) -> None:
            self.name = name
            started.append(str(name))

        def ask(self, what: str, **_: Any) -> Any:
            if what == "prepare":
                return {"package": str(self.name / "numbacnn"), "results": [1.0]}
            asked.append(str(self.name))
            return {"ours": 2.0, "other": 3.0}[str(self.name)]

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(compare, "_worker", Fake)
    monkeypatch.setattr(compare, "PAUSE", 0.0)
    row = compare.measure((Path("ours"), Path("other")), ("infer", "nin", 1), 1, pairs=2, rounds=3)
    first = ["ours", "other", "other", "ours", "ours", "other"]
    assert asked == [*first, *({"ours": "other", "other": "ours"}[name] for name in first)]
    assert started == ["ours", "other", "other", "ours"]
    assert (row["ratio"], row["pairs"], row["rounds"]) == (1.5, 2, 6)
