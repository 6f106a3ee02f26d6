"""What the rates of the machine are measured by does the work that is counted, on all threads at once."""

from __future__ import annotations

import threading
from pathlib import Path

import numba
import numpy as np
import pytest

from bench import ceilings
from bench.ceilings import CHAINS, LANES, Mix, Traffic
from bench.command import UserError

with_compiler = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the compiler is off")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_all_threads_are_at_work_at_the_same_time(threads: int) -> None:
    meeting = threading.Barrier(threads, timeout=30)
    seen: dict[int, int] = {}

    def work(number: int) -> None:
        seen[number] = threading.get_ident()
        meeting.wait()  # passes only if all of them are here at once

    assert ceilings.together(threads, work) > 0
    assert sorted(seen) == list(range(threads))
    assert len(set(seen.values())) == threads


@with_compiler
def test_every_multiply_add_that_is_counted_is_done() -> None:
    for steps in (1, 7):
        assert ceilings.multiply_add(1.0, 1.0, steps) == steps * CHAINS * LANES
    assert ceilings.multiply_add(2.0, 1.0, 3) == 7 * CHAINS * LANES


@with_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_the_peak_is_the_work_of_all_threads_over_their_time(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def together(number: int, work: object) -> float:
        calls.append(number)
        return 1.0 if len(calls) == 6 else 3.0

    monkeypatch.setattr(ceilings, "together", together)
    monkeypatch.setattr(ceilings, "PAUSE", 0.0)
    assert ceilings.peak_gflops(threads, 5) == pytest.approx(2e-9 * CHAINS * LANES * 1024 * threads)
    assert calls == [1] * 3 + [threads] * 5


def test_the_peak_needs_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings.config, "DISABLE_JIT", True)
    with pytest.raises(UserError, match="unset NUMBA_DISABLE_JIT"):
        ceilings.peak_gflops(1)


@pytest.mark.parametrize("ahead", [0, 8])
@pytest.mark.parametrize("streams", [1, 2, 5])
def test_traffic_touches_what_it_counts(streams: int, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "WAYS", ((4, streams, ahead),))
    traffic = Traffic(2, 4 * 2 * 36)
    for rows in traffic._arrays:
        rows[...] = 1.0
    monkeypatch.setattr(ceilings, "together", lambda threads, work: [work(number) for number in range(threads)] and 2.0)
    # 10 turns of 40 elements: reads all of them, writes half as many, updates a quarter
    assert traffic.seconds(Mix(400, 200, 100)) == pytest.approx(800 * 2.0 / (4 * 10 * (4 + 2 + 2) * 2))
    totals = np.arange(4.0, 44, 4).reshape(-1, streams).T.ravel()
    for source, target, own in traffic._arrays:
        assert (source == 1).all()
        np.testing.assert_array_equal(target[:20], np.repeat(totals, 2))
        assert (target[20:] == 1).all()
        assert own.tolist() == [2.0] * 10 + [1.0] * 30


def test_bytes_of_a_mix() -> None:
    assert Mix(read=1, written=20, updated=300).bytes == 621


def test_the_last_caches_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "CACHE_FOLDER", tmp_path)
    assert ceilings.last_cache_bytes() == ceilings.USUAL_CACHE
    for cpu in range(4):
        for index, (level, size, shared) in enumerate((("2", "1024K", f"{cpu}"), ("3", "32768K", f"{cpu // 2}"))):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
                (folder / name).write_text(f"{text}\n", encoding="ascii")
    assert ceilings.last_cache_bytes() == 2 * 32768 << 10


def test_the_traffic_of_memory_fits_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "memory_bytes", lambda: 24 << 30)
    assert ceilings.traffic_of_memory(32 << 20) == ceilings.IN_MEMORY * 32 << 20
    # Each of the threads has three arrays of its share.
    assert 3 * ceilings.traffic_of_memory(480 << 20) < (24 << 30) / 8
    monkeypatch.setattr(ceilings, "memory_bytes", lambda: 0)
    assert ceilings.traffic_of_memory(480 << 20) == ceilings.IN_MEMORY * 480 << 20
