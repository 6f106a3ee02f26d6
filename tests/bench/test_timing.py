"""Measuring in turn, on a clock that only the contenders move."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import timing
from bench.timing import LONG, MIN_LONG_ROUNDS, MIN_ROUNDS, WARMS_ITSELF, SelfTimed, Timing, interleave


class Clock:
    """Stands for the module ``time``; keeps a record of what happened."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.events.append("pause")
        self.now += seconds

    def contender(self, name: str, *durations: float) -> Callable[[], None]:
        """A function whose calls take ``durations`` in turn, the last one from then on."""
        left = list(durations)

        def run() -> None:
            self.events.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(timing, "time", fake)
    return fake


def test_contenders_run_in_turn_each_warmed_after_a_pause(clock: Clock) -> None:
    interleave({"a": clock.contender("a", 0.1), "b": clock.contender("b", 0.2)}, rounds=3)
    assert clock.events == ["pause", "a", "a", "pause", "b", "b"] * 3


def test_a_long_call_is_warmed_once(clock: Clock) -> None:
    long = 1.01 * WARMS_ITSELF
    timings = interleave({"a": clock.contender("a", long, 2 * long, 3 * long, 4 * long)}, rounds=3)
    assert clock.events == ["pause", "a", *["a", "pause"] * 2, "a"]
    assert timings["a"].samples == pytest.approx((2 * long, 3 * long, 4 * long))


def test_only_the_second_call_is_timed(clock: Clock) -> None:
    warm_and_timed = (0.5, 0.03, 0.5, 0.01, 0.5, 0.02)
    timings = interleave({"a": clock.contender("a", *warm_and_timed), "b": clock.contender("b", 0.04)}, rounds=3)
    assert list(timings) == ["a", "b"]
    assert timings["a"].samples == pytest.approx((0.03, 0.01, 0.02))
    assert timings["a"].median == pytest.approx(0.02)
    assert timings["b"].samples == pytest.approx((0.04, 0.04, 0.04))


def test_who_is_timed_elsewhere_is_asked_in_turn(clock: Clock) -> None:
    answers = iter((3.0, 1.0))

    def ask() -> float:
        clock.events.append("asked")
        return next(answers)

    timings = interleave({"a": clock.contender("a", 0.1), "b": SelfTimed(ask)}, rounds=2)
    assert timings["b"] == Timing((3.0, 1.0))
    assert clock.events == ["pause", "a", "a", "pause", "asked"] * 2


def test_the_budget_sets_the_number_of_rounds(clock: Clock) -> None:
    timings = interleave({"a": clock.contender("a", 0.125)}, budget=10.0, pause=0.75)
    assert len(timings["a"].samples) == 10  # a round takes a second
    slow = interleave({"a": clock.contender("a", 0.9 * LONG / (MIN_ROUNDS + 1))}, budget=1.0)
    assert len(slow["a"].samples) == MIN_ROUNDS
    slower = interleave({"a": clock.contender("a", LONG)}, budget=1.0)
    assert len(slower["a"].samples) == MIN_LONG_ROUNDS


def test_a_given_number_of_rounds_is_kept_whatever_the_budget(clock: Clock) -> None:
    assert len(interleave({"a": clock.contender("a", 0.0)}, rounds=2, budget=1e9)["a"].samples) == 2
    assert len(interleave({"a": clock.contender("a", 1e9)}, rounds=7, budget=1.0)["a"].samples) == 7


def test_what_only_asks_for_work_is_called_in_a_row_and_waited_for(clock: Clock) -> None:
    queue: list[float] = []

    def ask() -> None:
        clock.events.append("ask")
        queue.append(3e-4)

    def wait() -> None:
        clock.events.append("wait")
        clock.now += sum(queue)
        queue.clear()

    timings = interleave({"a": ask, "b": clock.contender("b", 0.1)}, rounds=2, pause=0, waits={"a": wait})
    # 8 calls are the first power of two that takes MIN_SAMPLE seconds.
    assert timings["a"].calls == 8
    assert timings["a"].samples == pytest.approx((3e-4, 3e-4))
    assert (timings["b"].calls, timings["b"].samples) == (1, pytest.approx((0.1, 0.1)))
    found_out = [event for calls in (1, 1, 2, 4, 8) for event in (*["ask"] * calls, "wait")]
    sample = ["pause", "ask", "wait", *["ask"] * 8, "wait", "pause", "b", "b"]
    assert clock.events == [*found_out, *sample * 2]


@pytest.mark.parametrize(
    ("samples", "median", "quartiles"),
    [
        ((7.0,), 7.0, (7.0, 7.0)),
        ((1.0, 3.0), 2.0, (1.5, 2.5)),
        ((5.0, 1.0, 4.0, 2.0, 3.0), 3.0, (2.0, 4.0)),
        ((1.0, 1.0, 1.0, 1000.0), 1.0, (1.0, 250.75)),
    ],
)
def test_median_and_quartiles(samples: tuple[float, ...], median: float, quartiles: tuple[float, float]) -> None:
    assert Timing(samples).median == median
    assert Timing(samples).quartiles == pytest.approx(quartiles)
