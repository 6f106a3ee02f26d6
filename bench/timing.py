"""Measuring contenders side by side, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["SelfTimed", "Timing", "interleave"]

MIN_ROUNDS = 5
# Rounds that take longer than this together need be no more than three: what disturbs a moment disturbs little of one.
MIN_LONG_ROUNDS, LONG = 3, 20.0
# Long beside what it costs to start waiting for a device and to hear that it is done.
MIN_SAMPLE = 2e-3
# A call as long as this has its caches and its threads warm for most of it, whatever ran before.
WARMS_ITSELF = 0.25
# The threads of a pool spin for milliseconds after a parallel region, on the cores that the next contender needs.
PAUSE = 0.03


@dataclass(frozen=True)
class Timing:
    """The seconds of a call in each sample, in their order; a sample is the mean of ``calls`` calls in a row."""

    samples: tuple[float, ...]
    calls: int = 1

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third, between samples by linear interpolation."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return first, third


@dataclass(frozen=True)
class SelfTimed:
    """A contender that is warmed and timed elsewhere, as in another process; ``sample()`` tells the seconds."""

    sample: Callable[[], float]

    def __call__(self) -> float:
        return self.sample()


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int | None = None,
    budget: float = 2.0,
    pause: float = PAUSE,
    waits: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Timing]:
    """Time every contender once a round, in their order, round after round.

    Before each sample the contender sleeps for ``pause`` seconds and is called once untimed, which warms caches and
    wakes threads; one whose calls take WARMS_ITSELF seconds or more is so called before its first sample only. A timed
    call includes giving back what it returned. A contender that only asks a device for work is called several times in
    a row and then waited for, all of that timed: as many calls as take MIN_SAMPLE seconds,
    which is found out before the first round. A :class:`SelfTimed` contender is only asked.

    Args:
        contenders: functions without arguments, by name.
        rounds: how many; by default as many as start within ``budget`` seconds, and at least MIN_ROUNDS or, where
            these take more than LONG seconds, MIN_LONG_ROUNDS.
        budget: seconds for everything.
        waits: of the contenders that only ask for work, what waits until that is done.

    Example:
        >>> timings = interleave({"sum": lambda: sum(range(9)), "len": lambda: len("abc")}, rounds=3, pause=0)
        >>> [(name, len(timing.samples)) for name, timing in timings.items()]
        [('sum', 3), ('len', 3)]
    """
    begin, done = time.perf_counter(), 0
    waits = waits or {}
    calls = {name: _enough_calls(run, waits[name]) if name in waits else 1 for name, run in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}

    def is_enough() -> bool:
        if rounds is not None:
            return done >= rounds
        spent = time.perf_counter() - begin
        return spent >= budget and done >= (MIN_LONG_ROUNDS if spent > LONG else MIN_ROUNDS)

    while not is_enough():
        for name, run in contenders.items():
            wait = waits.get(name, _nothing)
            time.sleep(pause)
            if isinstance(run, SelfTimed):
                samples[name].append(run())
                continue
            if not samples[name] or samples[name][-1] < WARMS_ITSELF:
                _seconds(run, wait, 1)
            samples[name].append(_seconds(run, wait, calls[name]) / calls[name])
        done += 1
    return {name: Timing(tuple(seconds), calls[name]) for name, seconds in samples.items()}


def _seconds(run: Callable[[], object], wait: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    wait()
    return time.perf_counter() - start


def _enough_calls(run: Callable[[], object], wait: Callable[[], object]) -> int:
    calls = 1
    _seconds(run, wait, 1)
    while _seconds(run, wait, calls) < MIN_SAMPLE:
        calls *= 2
    return calls


def _nothing() -> None:
    pass
