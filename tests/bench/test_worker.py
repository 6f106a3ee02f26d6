"""Processes that are asked in turns."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from bench import worker
from bench.worker import Worker, timed

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from bench.worker import serve

def add(a, b):
    print("printed")
    os.system("echo by a library")
    return a + b

def end(code):
    print("last words", file=sys.stderr)
    os._exit(code)

serve({"add": add, "end": end, "hang": sys.stdin.read, "fail": lambda: [][1], "pid": os.getpid})
"""


def start() -> Worker:
    return Worker([sys.executable, "-c", PROGRAM, str(ROOT)])


def test_one_process_answers_one_request_after_the_other() -> None:
    with start() as one, start() as other:
        assert one.ask("add", a=1, b=2) == 3
        assert other.ask("add", a="x", b="y") == "xy"
        pids = one.ask("pid"), other.ask("pid")
        assert pids == (one.ask("pid"), other.ask("pid"))
        assert pids[0] != pids[1]


def test_what_fails_is_said_and_the_process_goes_on() -> None:
    with start() as one:
        with pytest.raises(RuntimeError, match="IndexError: list index out of range"):
            one.ask("fail")
        assert one.ask("add", a=1, b=1) == 2
        with pytest.raises(RuntimeError, match="last words"):
            one.ask("end", code=3)
        with pytest.raises(RuntimeError, match="last words"):
            one.ask("pid")


def test_a_process_that_says_nothing() -> None:
    with (
        Worker([sys.executable, "-c", "raise SystemExit(7)"]) as one,
        pytest.raises(RuntimeError, match="ended with exit code 7"),
    ):
        one.ask("pid")


def test_a_request_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TIMEOUT", 3.0)
    with start() as one, pytest.raises(RuntimeError):
        one.ask("hang")


def test_seconds_of_a_call_are_those_after_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = [0.0], [100.0, 3.0, 2.0, 1.0]

    def run() -> None:
        now[0] += durations.pop(0)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert timed(run) == 3.0
    durations[:] = [100.0, 3.0, 2.0, 1.0]
    assert timed(run, least=4.0) == 2.5
