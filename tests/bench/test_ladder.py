"""The picture of the ladder shows the committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import ladder, tables

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

ROW = {"problem": tables.LADDER, "pass": "forward", "peer": "torch", "peer_gflops": 150.0}
RESULTS: dict[str, Any] = {
    "machine": {"cpu": "one", "threads": 2, "peak_gflops": 200.0},
    "measured": "2026-01-02T03:04:05",
    "commit": "0123456789abcdef",
    "rows": [
        {**ROW, "algorithm": "loops", "gflops": 50.0, "share_of_peak": 0.25},
        {**ROW, "algorithm": "direct", "gflops": 100.0, "share_of_peak": 0.5},
        {**ROW, "problem": "n1c3h8k4r3s1p1", "algorithm": "direct", "gflops": 1.0, "share_of_peak": 0.005},
        {**ROW, "pass": "backward_input", "peer": None, "algorithm": "loops", "gflops": 20.0, "share_of_peak": 0.1},
    ],
}


def test_the_rungs_are_those_of_one_problem() -> None:
    assert ladder.rungs(RESULTS) == {
        "forward": [("loops", 50.0, 0.25), ("direct", 100.0, 0.5), ("torch", 150.0, 0.75)],
        "backward_input": [("loops", 20.0, 0.1)],
    }


def test_the_picture_in_the_documentation_is_of_the_committed_results() -> None:
    results = tables.results_of(ladder.RESULTS)
    if results is None:
        assert not ladder.PICTURE.exists()
    else:
        said = "it is of other results: run `python -m bench.ladder`"
        with Image.open(ladder.PICTURE) as picture:
            assert picture.info["Description"] == ladder.measured(results), said


def test_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    (tmp_path / f"{ladder.RESULTS}.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    output = tmp_path / "new" / "ladder.png"
    assert ladder.main([f"--output={output}"]) == 0
    assert capsys.readouterr().out == f"wrote {output}\n"
    with Image.open(output) as picture:
        assert picture.info["Description"] == "one, 2 threads; measured 2026-01-02 at 0123456789"
        assert picture.width == 1200 and len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_without_results_of_that_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    for rows in (None, RESULTS["rows"][2:3]):
        if rows:
            (tmp_path / f"{ladder.RESULTS}.json").write_text(json.dumps({**RESULTS, "rows": rows}), encoding="utf-8")
        assert ladder.main([f"--output={tmp_path / 'x.png'}"]) == 2
        assert f"no results of {tables.LADDER}: run `python -m bench.conv" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
