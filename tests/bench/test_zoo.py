"""The benchmark of drawn networks, on ones that take a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numba
import pytest

from bench import machine, tables, zoo
from bench.drawn import Drawn
from bench.train_contenders import MODELS, Model
from numbacnn import backends

pytestmark = pytest.mark.skipif(backends.available()["cpu"] is not None, reason="the cpu backend cannot be used")

SMALL = "1x8x8: conv 4 3 1 | residual 8 2 | head 10"


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ceilings", lambda: {"peak_gflops": 1e6, "copy_gb_per_second": 10.0})
    monkeypatch.setattr(zoo, "peak_gflops", lambda threads: 1e5 * threads)
    monkeypatch.setattr(zoo, "draw", lambda seed, number: Drawn(f"residual-{seed}.{number}", SMALL))
    monkeypatch.setitem(MODELS, "tiny", zoo._model_of(Drawn("tiny", "1x4x4: conv 2 3 1 | max 4 4 | head 10")))


def run(folder: Path, *more: str) -> int:
    options = ("--models", "tiny", "--drawn", "1", "--rounds", "1", "--output-dir", str(folder))
    return zoo.main([*options, *more])


def test_rows_of_every_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = numba.get_num_threads()
    assert run(tmp_path, "--seed", "5", "--threads", "1", "--batch-size", "1", "3") == 0
    assert numba.get_num_threads() == before
    printed = capsys.readouterr().out
    assert f"residual-5.0  {SMALL}" in printed
    content = json.loads((tmp_path / "zoo-cpu.json").read_text(encoding="utf-8"))
    assert content["settings"]["drawn"] == {"residual-5.0": SMALL}
    cases = [(row["model"], row["task"], row["batch_size"], row["contender"]) for row in content["rows"]]
    sessions = ("numbacnn", "numbacnn session")
    assert cases == [
        case
        for model in ("tiny", "residual-5.0")
        for case in (
            *((model, "train", batch, "numbacnn") for batch in (1, 3)),
            *((model, "infer", batch, name) for batch in (1, 3) for name in sessions),
        )
    ]
    assert {row["threads"] for row in content["rows"]} == {1}
    assert all(row["share_of_peak"] == pytest.approx(row["gflops"] / 1e5) for row in content["rows"])


def test_a_norm_that_sees_one_value_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = zoo._model_of(Drawn("alone", "1x1x1: conv 2 1 1 | head 10"))
    monkeypatch.setitem(MODELS, "tiny", alone)
    assert run(tmp_path, "--drawn", "0", "--threads", "1", "--batch-size", "1", "--task", "train", "infer") == 0
    content = json.loads((tmp_path / "zoo-cpu.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in content["rows"]} == {"infer"}
    assert "more than one value per channel" in content["missing"]["train tiny 1 on 1 threads"]


def test_an_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Model(MODELS["tiny"].ours, MODELS["tiny"].torch, (2, 4, 4), 10, 0.1)
    monkeypatch.setitem(MODELS, "tiny", broken)
    with pytest.raises(ValueError, match="channels"):
        run(tmp_path, "--drawn", "0", "--threads", "1", "--batch-size", "2", "--task", "infer")


ROW: dict[str, Any] = {"task": "train", "model": "lenet", "batch_size": 16, "contender": "numbacnn", "algorithm": "",
       "milliseconds": 1.0, "quartiles": (1.0, 1.0), "rounds": 1, "calls": 1, "gflops": 1.0, "share_of_peak": 0.1,
       "threads": 2, "layer": "workers", "difference": 0.0, "best_peer": "torch", "ratio": 2.0}  # fmt: skip
ROWS = [
    ROW,
    {**ROW, "model": "plain-0.0", "ratio": 0.5},
    {**ROW, "model": "fire-0.1", "ratio": 8.0},
    {**ROW, "model": "fire-0.1", "contender": "torch", "ratio": None, "best_peer": None},
    {**ROW, "task": "infer", "contender": "numbacnn", "ratio": 0.1},  # layer by layer
    {**ROW, "task": "infer", "contender": "numbacnn session", "ratio": 1.5, "batch_size": 1},
]


def test_the_means() -> None:
    rows = [zoo.Row(**row) for row in ROWS]
    assert zoo.summary(rows, ["plain-0.0", "fire-0.1"]) == [
        "2 threads, infer, batch 1, named: mean of 1 is 1.50, worst 1.50 (lenet)",
        "2 threads, train, batch 16, drawn: mean of 2 is 2.00, worst 0.50 (plain-0.0)",
        "2 threads, train, batch 16, named: mean of 1 is 2.00, worst 2.00 (lenet)",
    ]


def test_the_section_of_the_readme() -> None:
    results = {
        "machine": {"cpu": "one", "cores": 2, "threads": 2, "threading_layer": "workers", "peak_gflops": 100.0},
        "versions": {"numpy": "2.0"}, "measured": "2026-01-02T03:04:05", "commit": "0123456789abcdef", "rows": ROWS,
        "missing": {"mnn": "not installed"},
        "settings": {"seed": 0, "drawn": {"plain-0.0": "1x8x8: head 10", "fire-0.1": "1x9x9: head 10"}},
    }  # fmt: skip
    lines = tables.zoo_section(results).splitlines()
    assert lines[2:] == [
        "- plain-0.0: `1x8x8: head 10`",
        "- fire-0.1: `1x9x9: head 10`",
        "",
        "| network | infer 1, 2 t. | train 16, 2 t. |",
        "|---|---:|---:|",
        "| lenet | 1.50 | 2.00 |",
        "| plain-0.0 |  | 0.50 |",
        "| fire-0.1 |  | 8.00 |",
        "| geometric mean, named | 1.50 | 2.00 |",
        "| geometric mean, drawn |  | 2.00 |",
        "",
        "Missing: mnn: not installed",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "sleep"], "invalid choice: 'sleep'"),
        (["--seed", "-1"], "--seed and --drawn must not be below 0"),
        (["--batch-size", "0"], "'0' must be a whole number"),
    ],
)
def test_bad_options(options: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_more_threads_than_there_are(tmp_path: Path, capsys: Any) -> None:
    assert run(tmp_path, "--threads", "1000") == 2
    assert capsys.readouterr().err.startswith("error: --threads 1000 is more than the ")
