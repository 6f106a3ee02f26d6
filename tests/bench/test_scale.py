"""Several ranks beside one process: the model of a step, the command, its results and its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numba
import pytest

from bench import machine, scale, scale_report, scale_rows, tables
from bench.scale_model import BOUNDS, LONG, Computation, Link, cut_rounds, fit, gather_rounds, pieces, predict
from bench.scale_ranks import ranks
from tests.distributed.launching import with_mpi

PIECE = 1 << 20
ALONE = Computation(seconds=1.0, update=0.1, backward=(0.2, 0.3), gradients=(PIECE, 2 * PIECE))
"""Pieces are ready 0.3, 0 and 0 seconds before the end of the backward pass, which is 0.1 before that of the step."""
NOTHING = Link(0.0, 0.0, 0.0, 0.0)
STEP = {"model": "resnet", "link": "memory", "batch_size": 128, "of_2_threads": None, "of_1_thread": 1.9}


def test_pieces_are_ready_with_the_last_of_their_layers() -> None:
    assert pieces(ALONE, PIECE) == [(0.3, PIECE), (0.0, PIECE), (0.0, PIECE)]
    assert pieces(ALONE, 2 * PIECE) == [(0.0, 2 * PIECE), (0.0, PIECE)]
    assert pieces(ALONE, PIECE // 2)[:2] == [(0.3, PIECE // 2)] * 2


@pytest.mark.parametrize(
    ("ranks_", "link", "computation", "after", "overlapped", "bound"),
    [
        (1, Link(9.0, 9.0, 9.0, 9.0), ALONE, 1.0, 1.0, "computation"),
        (2, NOTHING, ALONE, 1.0, 1.0, "computation"),
        # Each of two ranks sends as many bytes as gradients have, 0.4 s for a piece; the first has 0.3 s before then.
        (2, Link(0.0, 0.0, 0.4 / PIECE, 0.0), ALONE, 2.2, 1.9, "bandwidth"),
        # Four ranks send one and a half times as many.
        (4, Link(0.0, 0.0, 0.2 / PIECE, 0.0), ALONE, 1.9, 1.6, "bandwidth"),
        # Two messages of the last piece, for the others are on their way beside it, and one of the figures.
        (2, Link(0.0, 0.1, 0.0, 0.0), ALONE, 1.3, 1.3, "latency"),
        (2, Link(0.1, 0.0, 0.0, 0.0), ALONE, 1.3, 1.3, "latency"),
        # Of eight pieces the last four wait for the first four.
        (2, Link(0.1, 0.0, 0.0, 0.0), ALONE._replace(gradients=(0, 8 * PIECE)), 1.5, 1.5, "latency"),
        # Figures that are long take another one.
        (2, Link(0.1, 0.0, 0.0, 0.0), ALONE._replace(figure_bytes=5000), 1.4, 1.4, "latency"),
        # What the processor does cannot be hidden.
        (2, Link(0.0, 0.0, 0.0, 0.1 / PIECE), ALONE, 1.3, 1.3, "processor"),
        (2, NOTHING, ALONE._replace(packing=0.1 / PIECE), 1.3, 1.3, "processor"),
        (8, NOTHING, ALONE._replace(figures=0.05), 1.4, 1.4, "figures"),
        (8, NOTHING, ALONE._replace(figures=0.005), 1.04, 1.04, "computation"),
    ],
)
def test_steps_by_hand(
    ranks_: int, link: Link, computation: Computation, after: float, overlapped: float, bound: str
) -> None:
    figures = (ranks_ - 1) * 4096 * (link.waiting + link.working)
    assert predict(computation, link, ranks_, PIECE, overlapped=False).seconds == pytest.approx(after + figures)
    found = predict(computation, link, ranks_, PIECE, overlapped=True)
    assert (found.seconds, found.bound) == (pytest.approx(overlapped + figures), bound)


def test_messages_that_follow_each_other() -> None:
    assert [cut_rounds(number) for number in (1, 2, 33, 34, 1024)] == [0, 1, 1, 2, 32]
    assert [gather_rounds(number, 4 * LONG) for number in (1, 2, 1024)] == [0, 1, 1023]
    assert [gather_rounds(number, 8) for number in (1, 2, 9, 1024)] == [0, 1, 4, 10]


def test_steps_take_no_less_with_a_slower_link_or_more_ranks_and_no_more_where_exchanges_overlap() -> None:
    computation = ALONE._replace(packing=1e-9, figures=1e-3, figure_bytes=1000)
    link = Link(1e-4, 1e-5, 1e-9, 1e-10)
    for overlapped in (True, False):
        least = predict(computation, link, 8, PIECE, overlapped).seconds
        for name, value in link._asdict().items():
            slower = predict(computation, link._replace(**{name: 50 * value}), 8, PIECE, overlapped).seconds
            assert slower > least or (overlapped and name == "waiting" and slower >= least)
        times = [predict(computation, link, number, PIECE, overlapped).seconds for number in (1, 2, 8, 64, 1024)]
        assert times == sorted(times) and times[-1] > 1.5 * times[0]
    for number in (2, 8, 1024):
        after, beside = (predict(computation, link, number, PIECE, overlapped).seconds for overlapped in (False, True))
        assert computation.seconds < beside < after, number


def test_a_link_is_fitted() -> None:
    sizes = [1 << 12, 1 << 18, PIECE, 5 * PIECE]
    times = [2 * 3e-4 + size / 1e9 for size in sizes]
    assert fit(sizes, times) == (pytest.approx(3e-4), pytest.approx(1e-9))
    # Four ranks send three halves of the bytes.
    assert fit(sizes, times, ranks=4) == (pytest.approx(3e-4), pytest.approx(1e-9 / 1.5))
    # What would be below 0 is 0, and the other one alone explains the times.
    assert fit([PIECE // 2, PIECE], [1.0, 2.5]) == (0.0, pytest.approx(0.9 / 0.41 / PIECE))
    assert fit([1 << 12, PIECE], [2e-4, 1e-4]) == (pytest.approx(3e4 / 5e8), 0.0)


def test_a_wire_takes_the_processor_as_long_as_one_without_a_rate() -> None:
    free = {"phase_seconds": 1e-4, "byte_seconds": 1e-9}
    assert scale_rows.link_of(free, 0.0, None) == Link(1e-4, 0.0, 0.0, 1e-9)
    slow = {"phase_seconds": 2e-3, "byte_seconds": 8e-9}
    assert scale_rows.link_of(slow, 1e-3, free) == Link(pytest.approx(1e-3), 1e-3, pytest.approx(7e-9), 1e-9)


def test_what_is_hidden_is_of_rounds() -> None:
    samples = {"no exchange": [1.0, 2.0, 5.0], "exchange after": [1.5, 2.5, 9.0], "overlapped": [1.1, 2.1, 5.1]}
    rows = [{**STEP, "contender": f"2 ranks, 2 shards, {when}", "samples": taken} for when, taken in samples.items()]
    (row,) = scale_rows.hidden(rows)
    assert (row["model"], row["link"], row["shards"]) == ("resnet", "memory", 2)
    assert row["hidden"] == pytest.approx(0.8)
    assert (row["exchange_milliseconds"], row["seen_milliseconds"]) == (pytest.approx(500), pytest.approx(100))
    assert scale_rows.hidden(rows[:2]) == []
    assert scale_rows.hidden([rows[0], {**rows[1], "samples": [1.0, 2.0, 5.0]}, rows[2]])[0]["hidden"] is None


def test_predictions_name_what_bounds_them() -> None:
    computation = Computation(
        1.0, 0.01, (0.3, 0.3), (40 << 20, 5 << 20), packing=2e-10, figures=1e-3, figure_bytes=70_000
    )
    rows = scale_report.predictions(computation, images=64, overhead=1e-4)
    assert len(rows) == 2 * len(scale_report.NETWORKS) * len(scale_report.RANKS)
    assert {row["bound"] for row in rows} <= set(BOUNDS)
    found = {(row["rank"], row["network"], row["ranks"]): row for row in rows}
    slow, fast = dict.fromkeys(row["rank"] for row in rows)
    assert slow == "this machine's, 64 images/s"
    assert all(found[kind, network, 1]["efficiency"] == 1 for kind in (slow, fast) for network in scale_report.NETWORKS)
    assert found[slow, "10 Gbit/s", 8]["bound"] == "computation"
    assert found[fast, "10 Gbit/s", 8]["bound"] == "bandwidth"
    assert found[fast, "400 Gbit/s", 1024]["bound"] == "figures"
    for kind in (slow, fast):
        ordered = [found[kind, network, 64]["efficiency"] for network in scale_report.NETWORKS]
        assert ordered == sorted(ordered)


@pytest.fixture
def results() -> dict[str, Any]:
    computation = Computation(1.0, 0.01, (0.3, 0.3), (40 << 20, 5 << 20), figures=1e-3)
    times = {"milliseconds": 100.0, "gflops": 20.0, "share_of_peak": 0.25}
    check = {"link": "memory", "contender": "2 ranks, 2 shards, exchange after", "ratio": 0.95}
    return {
        "machine": {"cpu": "one", "cores": 2, "threads": 2, "threading_layer": "omp", "peak_gflops": 100.0},
        "versions": {"numpy": "2.0"}, "measured": "2026-01-02T03:04:05", "commit": "0123456789abcdef", "missing": {},
        "rows": [{**STEP, **times, "contender": "2 threads"},
                 {**STEP, "link": "wire", "milliseconds": 50.0, "contender": "2 ranks", "of_1_thread": None}],
        "hidden": [{"model": "resnet", "link": "wire", "shards": 2, "hidden": 0.815, "exchange_milliseconds": 40.0,
                    "seen_milliseconds": 7.4}],
        "links": [{"link": "wire", "bytes": [4096, 1 << 26], "overhead": 1e-4, "latency": 1e-3, "waiting": 6e-9,
                   "working": 2e-9}],
        "checks": [{**check, "predicted_milliseconds": 95.0, "milliseconds": 100.0}],
        "predictions": scale_report.predictions(computation, 64, 1e-4),
    }  # fmt: skip


def test_the_section(results: dict[str, Any]) -> None:
    text = tables.scale_section(results)
    for line in (
        "| resnet | 128 | memory | 2 threads | 100 | 20.0 | 25 % |  | 1.90 |",
        "| resnet | 128 | wire | 2 ranks | 50.0 |  |  |  |  |",
        "| resnet | wire | 2 | 40.0 | 7.4 | 82 % |",
        "Exchanges alone, of arrays of 4 KiB to 64 MiB, fitted:",
        "| wire | 1,100 | 125 | 25 % |",
        "| memory | 2 ranks, 2 shards, exchange after | 95.0 | 100.0 | 0.95 |",
        "| a rank | network | a message, µs | 8 | 16 | 32 | 64 | 128 | 256 | 512 | 1024 |",
    ):
        assert line in text.splitlines()
    begin = "| this machine's, 64 images/s | 10 Gbit/s | 30 |"
    (line,) = (line for line in text.splitlines() if line.startswith(begin))
    assert line.split(" | ")[3] == "0.98" and line.endswith(" figures |")
    assert "beside the backward pass" not in tables.scale_section({**results, "hidden": []})


def test_the_picture(results: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scale_report.draw(results["predictions"], tmp_path / "scale-cpu.png", "resnet")
    assert (tmp_path / "scale-cpu.png").read_bytes().startswith(b"\x89PNG\r\n")


@with_mpi
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")
def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"peak_gflops": 1e4, "peak_gflops_1_thread": 1e4, "copy_gb_per_second": 10.0}
    monkeypatch.setattr(machine, "ceilings", lambda: rates)
    monkeypatch.setattr(scale, "peak_gflops", lambda threads: 2e4)
    monkeypatch.setattr(scale_rows, "ENOUGH", 0.01)
    monkeypatch.setattr(scale_rows, "PAUSE", 0.0)
    for module in (scale, scale_rows):
        monkeypatch.setattr(module, "SHARDS", (2,))
    assert scale.main(["--small", "--budget", "1", "--output-dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "scale-cpu.json").read_text(encoding="utf-8"))
    rows = {row["contender"]: row for row in found["rows"]}
    peak = 1e4 if found["machine"]["threads"] == 2 else 2e4
    for contender, most in {"1 thread": 1e4, "2 threads": peak, "2 ranks, 2 shards, overlapped": peak}.items():
        assert rows[contender]["share_of_peak"] == pytest.approx(rows[contender]["gflops"] / most)
    assert rows["2 threads"]["of_2_threads"] is None and rows["2 threads"]["of_1_thread"] > 0
    for when in ("overlapped", "exchange after", "no exchange"):
        row = rows[f"2 ranks, 2 shards, {when}"]
        assert len(row["samples"]) >= 3 and row["milliseconds"] > 0 and row["batch_size"] == 64
    assert sum(found["computation"]["gradients"]) == 4 * 61_706
    assert found["computation"]["figures"] >= 0 and found["computation"]["figure_bytes"] > 0
    (link,) = found["links"]
    assert (link["link"], len(link["seconds"]), link["waiting"]) == ("memory", 3, 0.0)
    assert all(row["predicted_milliseconds"] > 0 for row in found["checks"]) and found["checks"]
    assert "| 2 ranks, 2 shards, exchange after |" in tables.scale_section({**found, "older": False})
    assert "written: " in capsys.readouterr().out


def test_what_cannot_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        scale.main(["--models", "lenet"])
    assert ended.value.code == 2
    assert "resnet must be among them" in capsys.readouterr().err


def test_ranks_that_end_tell_why() -> None:
    with (
        pytest.raises(RuntimeError, match="no such luck"),
        ranks(1, 1, ["sh", "-c", "echo no such luck >&2; exit 3"]),
    ):
        pass
    with ranks(1, 1) as one, pytest.raises(RuntimeError, match="KeyError: 'alexnot'"):
        one.ask("prepare", model="alexnot", samples=2)
