"""The costs that plans of convolutions are chosen by, fitted to this machine: ``python -m bench.calibrate --help``.

A plan's cycles are a sum of costs, each times a number that sizes tell. So plans of convolutions drawn at random are
timed, good ones and others, and the costs are those of the least squared relative error. What the draws do not tell
stays as it is: every cost is drawn a little to the one in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numba
import numpy as np

from numbacnn.backends.cpu.convolution import (
    direct_data,
    direct_weight,
    direct_weight_plan,
    winograd_data,
    winograd_weight,
)
from numbacnn.backends.cpu.convolution.bands import CORES
from numbacnn.backends.cpu.convolution.correlation import forward_correlation, forward_strides
from numbacnn.backends.cpu.convolution.winograd_transforms import TRANSFORMS
from numbacnn.backends.cpu.vector import costs, tiles
from numbacnn.backends.cpu.vector.simd import VECTOR_BYTES
from numbacnn.backends.geometry import Conv2dGeometry

from .command import UserError, exit_code, say, whole_number
from .report import Table, geometric_mean

__all__ = ["Sample", "fit", "main", "rewritten"]

TABLE = Path(costs.__file__)
COSTS = Table([("table", -15), ("cost", -18), ("now", 8), ("fitted", 8)])
ITEMSIZE = 4
# Of a convolution that is drawn: long enough to be timed, short enough for hundreds.
MACS = (3e6, 2e8)
CALLS, TILE_CALLS = 7, 60
# Plans of a convolution that are timed: those that the table takes for the best, and others.
BEST, OTHERS, NOT_HOPELESS = 3, 3, 4.0
# How much of a sample's weight a cost has that stays as it is.
INERTIA = 0.003
SWEEPS = 3000


class Sample(NamedTuple):
    """A plan that was timed."""

    problem: str
    numbers: np.ndarray
    """What each cost is multiplied by, and last what is the same for all costs."""
    seconds: float


class Timed(NamedTuple):
    """A plan, and how it is run; ``cycles`` are a function of costs."""

    cycles: Callable[[Any], float]
    run: Callable[[], object]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.calibrate",
        description="Fit the costs by which the CPU backend chooses plans of convolutions to this machine.",
        epilog="Printed are the costs in the table and the fitted ones, how far off the times are that both tell, and "
        "how much longer the plan takes that both choose than the best one that was timed.",
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the convolutions that are drawn (default: 0)")
    add("--problems", type=whole_number, default=60, metavar="N", help="how many of each kind (default: 60)")
    add("--write", action="store_true", help="write the table into the package's source")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Everything that the command does once its options are read."""
    if numba.get_num_threads() < CORES:
        raise UserError(f"plans are made for {CORES} threads, but there is one")
    numba.set_num_threads(CORES)
    rates, cycle = tile_rates()
    say("tiles of 1, 2, ... vectors, multiply-adds a cycle: " + ", ".join(f"{rate:.2f}" for rate in rates))
    say(f"a cycle: {1e9 * cycle:.3f} ns\n{COSTS.header()}")
    fitted = {}
    with contextlib.ExitStack() as stack:
        with_rates = tuple(tile._replace(rate=rate) for tile, rate in zip(tiles.TILES, rates, strict=True))
        for module in (direct_data, direct_weight_plan, winograd_data, winograd_weight):
            stack.enter_context(mock.patch.object(module, "TILES", with_rates))
        for name, plans in PLANS.items():
            rng, now = np.random.default_rng(arguments.seed), getattr(costs, name)
            samples = [
                sample
                for g in _draw(rng, arguments.problems, name.startswith("WINOGRAD"))
                for sample in _timed(g, plans(g, rng), now)
            ]
            # Of all threads together: each has its part of them.
            fitted[name], call = fit(samples, now, cycle / CORES)
            for cost in now._fields:
                say(COSTS.line([name, cost, f"{getattr(now, cost):.3g}", f"{getattr(fitted[name], cost):.3g}"]))
            for which, table in (("table", now), ("fitted", fitted[name])):
                say(_quality(which, samples, table, cycle / CORES, call))
    if arguments.write:
        TABLE.write_text(rewritten(TABLE.read_text(), rates, fitted))
        say(f"written: {TABLE}")


def fit(samples: Sequence[Sample], now: Any, cycle: float) -> tuple[Any, float]:
    """The costs of least squared relative error, and the seconds that every call takes besides."""
    times = np.array([sample.seconds for sample in samples])
    numbers = np.stack([sample.numbers for sample in samples]) * cycle / times[:, None]
    columns = np.column_stack([numbers[:, :-1] * np.array(now), times.min() / times])
    # In multiples of what the costs are now, so that all are drawn to 1 alike.
    pull = np.array([INERTIA * len(samples)] * len(now) + [0.0])
    square = columns.T @ columns + np.diag(pull)
    goal = columns.T @ (1 - numbers[:, -1]) + pull
    factors = np.ones(len(goal))
    for _ in range(SWEEPS):
        for i in range(len(goal)):
            rest = square[i] @ factors - square[i, i] * factors[i]
            factors[i] = max(0.0, (goal[i] - rest) / square[i, i])
    return type(now)(*(factors[:-1] * np.array(now)).tolist()), float(factors[-1] * times.min())


def rewritten(text: str, rates: Sequence[float], fitted: dict[str, Any]) -> str:
    """The source of the table with these numbers in it.

    >>> rewritten("TILE_RATES = (1.0,)", [0.51, 0.975], {})
    'TILE_RATES = (0.51, 0.975)'
    """
    text = re.sub(r"(?m)^TILE_RATES = \(.*\)$", f"TILE_RATES = ({', '.join(f'{rate:.3g}' for rate in rates)})", text)
    for name, table in fitted.items():
        lines = "".join(f"    {cost}={float(f'{value:.3g}')},\n" for cost, value in table._asdict().items())
        text, count = re.subn(rf"(?ms)^{name} = (\w+)\(.*?\)$", rf"{name} = \1(\n{lines})", text)
        if count != 1:
            raise ValueError(f"`text` has {count} tables {name}, must have one")
    return text


def _quality(which: str, samples: Sequence[Sample], table: Any, cycle: float, call: float) -> str:
    weights = np.array([*table, 1.0]) * cycle
    told = {id(sample): float(sample.numbers @ weights) + call for sample in samples}
    off = statistics.median(abs(told[id(sample)] / sample.seconds - 1) for sample in samples)
    of_problem: dict[str, list[Sample]] = {}
    for sample in samples:
        of_problem.setdefault(sample.problem, []).append(sample)
    longer = [
        min(of, key=lambda sample: told[id(sample)]).seconds / min(sample.seconds for sample in of)
        for of in of_problem.values()
    ]
    return (
        f"  {which}: times are {off:.0%} off, what is chosen takes {geometric_mean(longer):.3f} times the best plan's"
    )


def tile_rates() -> tuple[list[float], float]:
    """Multiply-adds a cycle of each tile, and the seconds of a cycle: those of the best tile as it is in the table."""
    depth, times, size = 64, 300, np.dtype(np.float32)
    seconds = []
    for tile in tiles.TILES:
        width = tile.vectors * VECTOR_BYTES // size.itemsize
        a, b, c = (np.ones(count, size) for count in (tile.rows * depth, depth * width, tile.rows * width))
        arguments = (
            tile.microkernel.address(size), a, np.arange(tile.rows) * depth, np.arange(depth), depth, b,
            np.arange(depth) * width, np.zeros(width, size), c, np.arange(tile.rows) * width, width,
        )  # fmt: skip
        work = functools.partial(_repeat_tile, times, *arguments)
        work()
        seconds.append(min(_seconds(work) for _ in range(TILE_CALLS)) / (times * depth * tile.rows * tile.vectors))
    best = max(costs.TILE_RATES)
    return [best * min(seconds) / value for value in seconds], min(seconds) * best


@numba.njit
def _repeat_tile(times, tile, a, row_at, step, depth, b, b_at, bias, c, c_at, count):  # type: ignore[no-untyped-def]
    for _ in range(times):
        tiles.multiply(tile, a, 0, row_at, 0, step, 0, depth, depth, b, 0, b_at, 0, bias, 0, c, 0, c_at, 0, count, 0)


def _draw(rng: np.random.Generator, count: int, for_winograd: bool) -> Iterator[Conv2dGeometry]:
    """Convolutions of ordinary sizes."""
    while count:
        window = int(rng.choice((3, 5) if for_winograd else (1, 1, 3, 3, 5, 7)))
        stride = 1 if for_winograd else int(rng.choice((1, 1, 2)))
        size, n = int(rng.integers(window, 64)), int(rng.choice((1, 2, 8)))
        c, k = (int(4 * 2 ** rng.uniform(0, 6.5)) for _ in range(2))
        pad = window // 2
        g = Conv2dGeometry(n, c, size, size, k, window, window, stride, stride, pad, pad, pad, pad)
        if MACS[0] <= g.macs <= MACS[1]:
            count -= 1
            yield g


def _timed(g: Conv2dGeometry, plans: Sequence[Timed], now: Any) -> Iterator[Sample]:
    kind, names = type(now), now._fields
    for plan in plans:
        nothing = plan.cycles(kind(*[0.0] * len(names)))
        each = [plan.cycles(kind(*[float(i == j) for j in range(len(names))])) - nothing for i in range(len(names))]
        plan.run()
        yield Sample(
            g.descriptor, np.array([*each, nothing]), statistics.median(_seconds(plan.run) for _ in range(CALLS))
        )


def _some(found: list[Timed], now: Any, rng: np.random.Generator) -> list[Timed]:
    """The best and some others that are not hopeless."""
    ordered = sorted(found, key=lambda plan: plan.cycles(now))
    limit = NOT_HOPELESS * ordered[0].cycles(now)
    others = [plan for plan in ordered[BEST:] if plan.cycles(now) <= limit]
    picked = rng.permutation(len(others))[:OTHERS]
    return [*ordered[:BEST], *[others[i] for i in picked]]


def _arrays(g: Conv2dGeometry) -> list[np.ndarray]:
    """x, weight, y and dweight, images channels last."""
    rng = np.random.default_rng(0)
    shapes = ((g.n, g.h, g.w, g.c), g.weight_shape, (g.n, g.oh, g.ow, g.k), g.weight_shape)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def _direct_data(g: Conv2dGeometry, rng: np.random.Generator) -> list[Timed]:
    c, w = forward_correlation(g), forward_strides(g)
    problem = direct_data.Problem(c, w, g.n, g.c, g.k, g.c, 1, ITEMSIZE)
    x, weight, y, _ = _arrays(g)
    empty = np.empty(0, np.float32)

    def timed(candidate: direct_data.Candidate) -> Timed:
        plan = direct_data.made(problem, candidate, 0.0)
        work = lambda: direct_data.correlate(c, x, weight, w, empty, y, 1)  # noqa: E731
        return Timed(lambda of: direct_data.cycles_of(problem, candidate, of), _with_plan(direct_data, plan, work))

    return _some([timed(candidate) for candidate in direct_data.candidates(problem)], costs.DIRECT_DATA, rng)


def _direct_weight(g: Conv2dGeometry, rng: np.random.Generator) -> list[Timed]:
    x, _, dy, dweight = _arrays(g)

    def timed(kind: direct_weight_plan.Kind) -> Timed:
        work = lambda: direct_weight.correlate_weights(dy, x, dweight, g)  # noqa: E731
        plan = direct_weight_plan.made(g, ITEMSIZE, kind)
        return Timed(
            lambda of: direct_weight_plan.made(g, ITEMSIZE, kind, of).cycles, _with_plan(direct_weight, plan, work)
        )

    return [timed(kind) for kind in direct_weight_plan.kinds(g, ITEMSIZE)]


def _winograd_data(g: Conv2dGeometry, rng: np.random.Generator) -> list[Timed]:
    c, w = forward_correlation(g), forward_strides(g)
    x, weight, y, _ = _arrays(g)
    sizes = (c, g.n, g.c, g.k, ITEMSIZE)

    def timed(t: Any, tile: tiles.Tile) -> Timed:
        work = lambda: winograd_data.correlate(c, x, weight, w, np.empty(0, np.float32), y)  # noqa: E731
        plan = winograd_data.made(t, tile, *sizes)
        return Timed(lambda of: winograd_data.made(t, tile, *sizes, of).cycles, _with_plan(winograd_data, plan, work))

    found = [timed(t, tile) for t in TRANSFORMS if t.taps == g.kh for tile in tiles.TILES]
    return _some(found, costs.WINOGRAD_DATA, rng)


def _winograd_weight(g: Conv2dGeometry, rng: np.random.Generator) -> list[Timed]:
    x, _, dy, dweight = _arrays(g)

    def timed(t: Any, tile: tiles.Tile) -> Timed:
        work = lambda: winograd_weight.correlate(dy, x, dweight, g)  # noqa: E731
        plan = winograd_weight.made(t, tile, g, ITEMSIZE)
        return Timed(
            lambda of: winograd_weight.made(t, tile, g, ITEMSIZE, of).cycles, _with_plan(winograd_weight, plan, work)
        )

    found = [timed(t, tile) for t in TRANSFORMS if t.taps == g.kh for tile in tiles.TILES]
    return _some(found, costs.WINOGRAD_WEIGHT, rng)


def _with_plan(module: Any, plan: Any, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with mock.patch.object(module, "plan_of", lambda *_: plan):
            return work()

    return run


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


PLANS = {
    "DIRECT_DATA": _direct_data,
    "DIRECT_WEIGHT": _direct_weight,
    "WINOGRAD_DATA": _winograd_data,
    "WINOGRAD_WEIGHT": _winograd_weight,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for what the user can put right."""
    arguments = parse(argv)
    threads = numba.get_num_threads()
    try:
        return exit_code(lambda: run(arguments))
    finally:
        numba.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
