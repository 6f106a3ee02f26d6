"""What ``bench.scale`` measures: steps of ranks and of one process in turns, exchanges, and what its model needs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from numbacnn import backends
from numbacnn.sharding import PIECE_BYTES

from .command import say
from .model_contenders import algorithms_of, training_flops
from .report import Table, significant
from .scale_model import Computation, Link, fit, predict
from .scale_ranks import Ranks
from .scale_worker import EXCHANGES
from .timing import PAUSE, SelfTimed, Timing, interleave
from .train_contenders import MODELS, Task

__all__ = [
    "CHECKS",
    "MEMORY",
    "SHARDS",
    "SIZES",
    "STEPS",
    "WIRES",
    "Clock",
    "Step",
    "Wire",
    "checks",
    "computation_of",
    "exchanges",
    "hidden",
    "link_of",
    "named",
    "of_network",
    "of_two_ranks",
    "packing",
    "set_shares",
    "steps",
]

SHARDS = (8, 2)
"""Into which two ranks cut a batch: the usual number, and one for each."""
SIZES = tuple(1 << bits for bits in (12, 16, 20, 22, 24, 26))
"""Bytes of the arrays by whose exchange links are fitted."""
ENOUGH = 0.25
"""Seconds of what is done in a row, for one sample."""
MANY = 34
"""Ranks whose figures are added up, beside two."""
MEMORY = "memory"

STEPS = Table([("model", -7), ("link", -20), ("contender", -30), ("ms", 8), ("of 2 threads", 12), ("of 1 thread", 11)])
CHECKS = Table([("link", -20), ("contender", -30), ("predicted ms", 12), ("measured ms", 11), ("ratio", 5)])


LITTLE = 0.1


class Wire(NamedTuple):
    """Seconds from one machine to the other, and bits a second."""

    delay: float = 0.0
    rate: float | None = None


WIRES = {"wire": Wire(), "wire, 1 Gbit/s": Wire(rate=1e9), "wire, 1 Gbit/s, 1 ms": Wire(1e-3, 1e9)}
"""The first is as fast as the processors are."""


@dataclass
class Clock:
    """Shares out the time until ``end`` among ``parts`` of the work."""

    end: float
    parts: float

    def share(self, part: float) -> float:
        """Seconds for the next ``part`` of it; at least a moment."""
        left, self.parts = self.parts, self.parts - part
        return max(0.1, (self.end - time.perf_counter()) * part / left)


class Step(NamedTuple):
    """A contender: whose steps, into how many shards a batch is cut, and when gradients are exchanged."""

    of: Ranks
    shards: int | None
    exchange: str

    def warmed_up(self) -> SelfTimed:
        """Compiled, captured, and as many steps in a row as are long enough.

        A step that is not timed comes first each time: a virtual machine takes memory away that rests while others
        have their turn.
        """
        options = {"shards": self.shards, "exchange": self.exchange}
        taken = [self.of.slowest("step", **options) for _ in range(2)]
        if taken[-1] < ENOUGH:
            taken.append(self.of.slowest("step", **options))
        times = max(1, math.ceil(ENOUGH / taken[-1]))
        return SelfTimed(partial(self.of.slowest, "step", times=times, warm=True, **options))


def named(shards: int, exchange: str) -> str:
    """Two ranks as the tables call them."""
    when = {"overlapped": "overlapped", "after": "exchange after", "none": "no exchange"}[exchange]
    return f"2 ranks, {shards} shards, {when}"


def steps(model: str, link: str, contenders: Mapping[str, Step], budget: float) -> list[dict[str, Any]]:
    """A row for each contender, measured in turns; ratios are medians over rounds."""
    end = time.perf_counter() + budget
    ready = {name: step.warmed_up() for name, step in contenders.items()}
    timings = interleave(ready, budget=end - time.perf_counter(), pause=PAUSE)
    rows = []
    for name, timing in timings.items():
        row = {"model": model, "link": link, "contender": name, "milliseconds": 1e3 * timing.median}
        row |= {"quartiles": [1e3 * value for value in timing.quartiles], "samples": list(timing.samples)}
        row |= {"of_2_threads": _ratio(timings, "2 threads", name), "of_1_thread": _ratio(timings, "1 thread", name)}
        rows.append(row)
        ratios = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("of_2_threads", "of_1_thread"))
        say(STEPS.line([model, link, name, significant(1e3 * timing.median), *ratios]))
    return rows


def _ratio(timings: Mapping[str, Timing], of: str, over: str) -> float | None:
    """How many times as fast the second one is, round by round; None for the first itself, or without it."""
    if of not in timings or of == over:
        return None
    pairs = zip(timings[of].samples, timings[over].samples, strict=True)
    return statistics.median(first / second for first, second in pairs)


def of_two_ranks(both: Ranks) -> dict[str, Step]:
    """What is compared of two ranks."""
    return {named(shards, exchange): Step(both, shards, exchange) for shards in SHARDS for exchange in EXCHANGES}


def of_network(model: str, batch: int, two: Ranks, one: Ranks, both: Ranks, budget: float) -> list[dict[str, Any]]:
    """Steps of two ranks that share the memory, beside those of one process of two threads and of one.

    These rows tell operations and algorithms, so that none passes for faster than the machine.
    """
    for process in (two, one, both):
        process.every("prepare", model=model, samples=batch)
    alone = {"2 threads": Step(two, None, "none"), "1 thread": Step(one, None, "none")}
    cut = {f"2 threads, {SHARDS[0]} shards": Step(two, SHARDS[0], "none")}
    rows = steps(model, MEMORY, {**alone, **cut, **of_two_ranks(both)}, budget)
    task = Task(MODELS[model], batch, batch)
    flops, algorithm = training_flops(task), algorithms_of(task, backends.get("cpu"), True)
    for row in rows:
        row["batch_size"], row["algorithm"] = batch, algorithm
        row["gflops"] = 1e-6 * flops / row["milliseconds"]
    return rows


def set_shares(rows: Sequence[dict[str, Any]], peaks: Mapping[int, float]) -> None:
    """Have the share of the peak, of as many threads as a contender has, in all rows that tell operations."""
    for row in rows:
        if "gflops" in row:
            row["share_of_peak"] = row["gflops"] / peaks[1 if row["contender"] == "1 thread" else 2]


def packing(one: Ranks) -> float:
    """Seconds to copy and to add a byte."""
    size = 16 * PIECE_BYTES
    return statistics.median(one.ask("pack", size=size, times=4) for _ in range(3)) / size


def computation_of(one: Ranks, model: str, samples: int, copying: float) -> Computation:
    """What a rank of one thread computes of so many images, that are a shard."""
    one.ask("prepare", model=model, samples=max(samples, MANY))
    layers = one.ask("layers", samples=samples)
    (few, _), (many, length) = (min(one.ask("figures", ranks=count) for _ in range(3)) for count in (2, MANY))
    figures = max(0.0, many - few) / (MANY - 2)
    whole = layers["forward"] + math.fsum(layers["backward"]) + layers["update"]
    backward, gradients = tuple(layers["backward"]), tuple(layers["bytes"])
    return Computation(
        whole, layers["update"], backward, gradients, packing=copying, figures=figures, figure_bytes=length
    )


def exchanges(name: str, both: Ranks, sizes: Sequence[int], copying: float) -> dict[str, Any]:
    """Times of exchanges alone, and what fits them: of a phase, and of a byte."""
    times = []
    for size in sizes:
        first = both.slowest("exchange", size=size, times=2)
        calls = max(1, min(200, math.ceil(0.2 * ENOUGH / first)))
        times.append(statistics.median(both.slowest("exchange", size=size, times=calls) for _ in range(5)))
    sent = [max(taken - size * copying, 0.1 * taken) for size, taken in zip(sizes, times, strict=True)]
    phase, byte = fit(sizes, sent)
    return {"link": name, "bytes": list(sizes), "seconds": times, "phase_seconds": phase, "byte_seconds": byte}


def link_of(exchange: Mapping[str, Any], delay: float, free: Mapping[str, Any] | None) -> Link:
    """A link by its exchanges and those of one that is only as fast as processors are, which work all the time."""
    byte = exchange["byte_seconds"]
    working = byte if free is None else min(byte, free["byte_seconds"])
    return Link(max(0.0, exchange["phase_seconds"] - delay), delay, byte - working, working)


def checks(
    rows: Sequence[Mapping[str, Any]], computations: Mapping[int, Computation], links: Mapping[str, Link]
) -> list[dict[str, Any]]:
    """What the model says of the steps that were measured with an exchange, from those without."""
    found = []
    for name, link in links.items():
        times = {row["contender"]: 1e-3 * row["milliseconds"] for row in rows if row["link"] == name}
        for shards, computation in computations.items():
            alone = computation._replace(seconds=times[named(shards, "none")])
            for exchange in EXCHANGES[:2]:
                contender = named(shards, exchange)
                predicted = predict(alone, link, 2, PIECE_BYTES, exchange == "overlapped").seconds
                row = {"link": name, "contender": contender, "predicted_milliseconds": 1e3 * predicted}
                row |= {"milliseconds": 1e3 * times[contender], "ratio": predicted / times[contender]}
                found.append(row)
                cells = [f"{1e3 * value:.1f}" for value in (predicted, times[contender])]
                say(CHECKS.line([name, contender, *cells, f"{row['ratio']:.2f}"]))
    return found


def hidden(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each network, link and number of shards: what of the exchange is not seen where it is overlapped.

    That is 1 - (overlapped - none) / (after - none), of medians of what each round has; None where an exchange after
    the backward pass takes less than LITTLE of the step, as much as rounds differ.
    """
    found = []
    for model, link in dict.fromkeys((row["model"], row["link"]) for row in rows):
        times = {row["contender"]: row["samples"] for row in rows if (row["model"], row["link"]) == (model, link)}
        for shards in SHARDS:
            over, after, none = (times.get(named(shards, exchange)) for exchange in EXCHANGES)
            if over is None or after is None or none is None:  # not of two ranks
                continue
            whole, seen = (
                1e3 * statistics.median(with_it - without for with_it, without in zip(those, none, strict=True))
                for those in (after, over)
            )
            is_little = whole < LITTLE * 1e3 * statistics.median(none)
            row = {"model": model, "link": link, "shards": shards, "hidden": None if is_little else 1 - seen / whole}
            found.append({**row, "exchange_milliseconds": whole, "seen_milliseconds": seen})
    return found
