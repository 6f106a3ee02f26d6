"""Measuring contenders side by side, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "interleave"]

FEWEST_ROUNDS = 5
# The threads of a pool spin for milliseconds after a parallel region, on the cores that the next contender needs.
PAUSE = 0.02


@dataclass(frozen=True)
class Timing:
    """The seconds of each timed call, in the order of the calls."""

    samples: tuple[float, ...]

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


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int | None = None,
    budget: float = 2.0,
    pause: float = PAUSE,
) -> dict[str, Timing]:
    """Time every contender once a round, in their order, round after round.

    Before each timed call the contender sleeps for ``pause`` seconds and is called once untimed, which warms caches and
    wakes threads. A timed call includes giving back what it returned.

    Args:
        contenders: functions without arguments, by name.
        rounds: how many; by default as many as start within ``budget`` seconds, and at least FEWEST_ROUNDS.
        budget: seconds for everything.

    Example:
        >>> timings = interleave({"sum": lambda: sum(range(9)), "len": lambda: len("abc")}, rounds=3, pause=0)
        >>> [(name, len(timing.samples)) for name, timing in timings.items()]
        [('sum', 3), ('len', 3)]
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    fewest, budget = (FEWEST_ROUNDS, budget) if rounds is None else (rounds, 0.0)
    begin, done = time.perf_counter(), 0
    while done < fewest or time.perf_counter() - begin < budget:
        for name, run in contenders.items():
            time.sleep(pause)
            run()
            start = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - start)
        done += 1
    return {name: Timing(tuple(seconds)) for name, seconds in samples.items()}
