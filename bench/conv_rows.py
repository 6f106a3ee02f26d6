"""Measuring one convolution: who takes part, whether they agree, how long they take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import numba
import numpy as np

from numbacnn import backends, ops
from numbacnn.backends.contract import Backend, ConvPass
from numbacnn.backends.geometry import Conv2dGeometry

from .command import UserError, WrongResultError
from .contender import Contender, best_of, captured, reason
from .machine import layer
from .peers import Peers
from .precision import FULL, LAYOUTS, bounded, compared_with, suffix, using
from .problems import flops, laid_out
from .timing import Timing

__all__ = ["PASSES", "Row", "call_backend", "check", "measure", "reduction_length"]

PASSES: tuple[ConvPass, ...] = get_args(ConvPass)

WITH_OPERANDS = ("im2col", "implicit_gemm")
"""Algorithms that multiply what the precision names; the others always compute in float32."""

Functions = dict[str, Callable[[], object]]
TimeAll = Callable[[Functions, Functions], dict[str, Timing]]


@dataclass(frozen=True)
class Row:
    """One algorithm on one pass of one problem, and the peers that were measured in the same rounds.

    Times are milliseconds a call, on a GPU of a replay of what it launches; ``gflops`` count no products with padding,
    and ``share_of_peak`` is that of ``precision``. ``difference`` is the largest one from another contender in full
    float32, relative to the largest magnitude. ``threads``, and ``layer``, by which they are run, are None on a GPU.
    ``peer`` names the fastest peer in the same precision, and ``ratio`` is its time over ours: above 1, we are faster.
    ``others`` are the other peers, by name: ``milliseconds``, ``quartiles``, ``gflops``, ``ratio``, ``precision``, and
    as far as they are known the ``layout`` of images and weights and the ``algorithm``.
    """

    problem: str
    pass_: ConvPass
    algorithm: str
    auto: bool
    milliseconds: float
    quartiles: tuple[float, float]
    rounds: int
    calls: int
    gflops: float
    share_of_peak: float
    workspace_bytes: int
    threads: int | None
    layer: str | None
    difference: float
    precision: str = FULL
    layout: str | None = None
    peer: str | None = None
    peer_milliseconds: float | None = None
    peer_quartiles: tuple[float, float] | None = None
    peer_gflops: float | None = None
    peer_precision: str | None = None
    peer_layout: str | None = None
    peer_algorithm: str | None = None
    ratio: float | None = None
    others: dict[str, dict[str, Any]] = field(default_factory=dict)


def measure(
    g: Conv2dGeometry,
    passes: Sequence[ConvPass],
    algorithms: Sequence[str],
    backend: Backend,
    peers: Peers,
    time_all: TimeAll,
    peaks: Mapping[str, float],
    wrong: list[str],
) -> Iterator[Row]:
    """The rows of one problem, pass by pass; the contenders of a pass are checked and then timed together.

    Args:
        peers: the libraries that take part.
        time_all: times functions, by name; what it is given second waits for those that only ask for work.
        peaks: GFLOP/s of the machine in each precision that is measured of ours.
        wrong: gains what is said of ours that are farther off than their precision allows, and are left out.

    A library that is farther off than its own bound is left out, and ``peers.missing`` tells why; where every one is,
    it is ours that are wrong. Raises UserError for a problem that does not fit in memory and WrongResultError where
    contenders disagree.
    """
    arrays = random_operands(g)
    x, weight, bias, dy = arrays
    ours = [laid_out(backend, x), backend.asarray(weight), backend.asarray(bias), laid_out(backend, dy)]
    wait = backend.synchronize if backend.asynchronous else None
    # On the CPU nobody's calls are captured.
    capture = partial(captured, backend) if backend.asynchronous else None
    picked: dict[str, dict[str, str]] = {}
    for precision in peaks:
        with using(precision):
            picked[precision] = ops.conv2d_choice(g, backend=backend)
    count = flops(g)
    with peers.case():
        theirs = peers.conv2d(g, *arrays)
        for pass_ in passes:
            contenders = {
                algorithm + suffix(precision): Contender(
                    partial(_in_precision, precision, call_backend, backend, g, pass_, algorithm, ours),
                    backend.to_numpy,
                    wait,
                    None if precision == FULL else bounded(precision),
                    capture,
                    precision=precision,
                    algorithm=algorithm,
                )
                for precision in peaks
                for algorithm in algorithms
                if precision == FULL or algorithm in WITH_OPERANDS
            }
            own = dict(contenders)
            rivals: dict[str, Contender] = {}
            for name, make in theirs[pass_].items():
                try:
                    rivals[name] = make()
                    rivals[name].run()
                except Exception as error:
                    rivals.pop(name, None)
                    peers.missing[f"{g.descriptor} {pass_} {name}"] = reason(error)
            contenders.update(rivals)
            judges = dict(contenders)
            if FULL not in peaks:
                exact = partial(call_backend, backend, g, pass_, algorithms[0], ours)
                judges = {f"{algorithms[0]} in float32": Contender(exact, backend.to_numpy), **judges}
            if len(judges) == 1:
                definition = partial(call_backend, backends.get("reference"), g, pass_, "loops", arrays)
                judges["the reference backend"] = Contender(definition)
            differences, inaccurate = check(judges, g, pass_)
            for name in [name for name in own if name in inaccurate]:
                wrong.append(inaccurate.pop(name))
                del contenders[name], own[name]
            if rivals and inaccurate.keys() == rivals.keys():
                raise WrongResultError("; ".join(inaccurate.values()))
            for name, why in inaccurate.items():
                peers.missing[f"{g.descriptor} {pass_} {name}"] = why
                del contenders[name], rivals[name]
            timings = time_all(
                {name: contender.replay() for name, contender in contenders.items()},
                {name: contender.wait for name, contender in contenders.items() if contender.wait},
            )
            for name, contender in own.items():
                precision, algorithm = contender.precision, str(contender.algorithm)
                equal = {key for key, rival in rivals.items() if rival.precision == compared_with(precision)}
                best = best_of({key: timings[key].median for key in equal})
                timing = timings[name]
                gflops = 1e-9 * count / timing.median
                beside = {name: _beside(timings[name], timing, count, rival) for name, rival in rivals.items()}
                with using(precision):
                    workspace = backend.conv2d_workspace(g, pass_, algorithm, 4)
                yield Row(
                    problem=g.descriptor,
                    pass_=pass_,
                    algorithm=algorithm,
                    auto=picked[precision][pass_] == algorithm,
                    milliseconds=timing.median * 1e3,
                    quartiles=_milliseconds(timing.quartiles),
                    rounds=len(timing.samples),
                    calls=timing.calls,
                    gflops=gflops,
                    share_of_peak=gflops / peaks[precision],
                    workspace_bytes=workspace,
                    threads=None if backend.asynchronous else numba.get_num_threads(),
                    layer=layer(backend),
                    difference=differences[name],
                    precision=precision,
                    layout=layout_of(ours[0]),
                    **(_first(best, beside.pop(best)) if best else {}),
                    others=beside,
                )


def random_operands(g: Conv2dGeometry) -> list[np.ndarray]:
    """x, weight, bias and dy in float32."""
    rng = np.random.default_rng(0)
    try:
        return [rng.standard_normal(shape, np.float32) for shape in (g.x_shape, g.weight_shape, (g.k,), g.y_shape)]
    except (MemoryError, ValueError) as error:  # ValueError: more elements than an address can count
        raise UserError(f"problem {g.descriptor!r} does not fit in memory") from error


def _in_precision(precision: str, call: Callable[..., Any], *arguments: Any) -> Any:
    with using(precision):
        return call(*arguments)


def call_backend(backend: Backend, g: Conv2dGeometry, pass_: ConvPass, algorithm: str, operands: Sequence[Any]) -> Any:
    """One pass on the backend's arrays x, weight, bias and dy."""
    x, weight, bias, dy = operands
    if pass_ == "forward":
        return backend.conv2d(x, weight, bias, g, algorithm)
    if pass_ == "backward_input":
        return backend.conv2d_backward_input(dy, weight, g, algorithm)
    return backend.conv2d_backward_weight(dy, x, g, algorithm)


def reduction_length(g: Conv2dGeometry, pass_: ConvPass) -> int:
    """How many products are summed into one element of the pass's result."""
    if pass_ == "forward":
        return g.taps
    return g.k // g.groups * g.kh * g.kw if pass_ == "backward_input" else g.n * g.oh * g.ow


def check(
    contenders: dict[str, Contender], g: Conv2dGeometry, pass_: ConvPass
) -> tuple[dict[str, float], dict[str, str]]:
    """Each contender's largest difference from another one, relative to the largest magnitude; who is too far off.

    Raises WrongResultError where two differ by more than the bound that every backend keeps in float32,
    ``1e-5 sqrt(K)``. A contender with a bound of its own is held to that, against the first one, and is told of, with
    the reason, where it is farther off; it takes no part in the differences.
    """
    results = {name: np.asarray(contender.to_numpy(contender.run())) for name, contender in contenders.items()}
    float32_bound = 1e-5 * math.sqrt(reduction_length(g, pass_))
    of_float32 = [name for name, contender in contenders.items() if contender.bound is None]
    largest = dict.fromkeys(results, 0.0)
    for one, other in itertools.combinations(of_float32, 2):
        difference, text = _difference(results, one, other, float32_bound)
        if text is not None:
            raise WrongResultError(f"{g.descriptor} {pass_}: {text}")
        largest[one], largest[other] = max(largest[one], difference), max(largest[other], difference)
    inaccurate: dict[str, str] = {}
    for name, contender in contenders.items():
        if contender.bound is not None:
            _, text = _difference(results, of_float32[0], name, max(float32_bound, contender.bound))
            if text is not None:
                inaccurate[name] = f"{g.descriptor} {pass_}: {text}"
    return largest, inaccurate


def _difference(results: dict[str, np.ndarray], one: str, other: str, bound: float) -> tuple[float, str | None]:
    """Relative to the largest magnitude, and what is wrong with it where it is above the bound."""
    first, second = results[one], results[other]
    if first.shape != second.shape:
        return math.inf, f"{one} and {other} give the shapes {first.shape} and {second.shape}"
    scale = max(float(np.abs(first).max()), float(np.abs(second).max()))
    difference = float(np.abs(first - second).max()) / scale if scale else 0.0
    if difference <= bound:  # NaN is not
        return difference, None
    return difference, f"{one} and {other} differ by {difference:.1e} of the largest magnitude, more than {bound:.1e}"


def layout_of(images: Any) -> str:
    """How the backend lays out images: one of LAYOUTS."""
    strides = getattr(images, "strides", None)
    return LAYOUTS[strides is not None and strides[1] < strides[3]]


def _beside(theirs: Timing, ours: Timing, count: int, rival: Contender) -> dict[str, Any]:
    known = {"layout": rival.layout, "algorithm": rival.algorithm}
    return {
        "milliseconds": theirs.median * 1e3,
        "quartiles": _milliseconds(theirs.quartiles),
        "gflops": 1e-9 * count / theirs.median,
        "ratio": theirs.median / ours.median,
        "precision": rival.precision,
        **{key: value for key, value in known.items() if value is not None},
    }


def _first(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    ratio = figures.pop("ratio")
    return {"peer": name, **{f"peer_{key}": value for key, value in figures.items()}, "ratio": ratio}


def _milliseconds(pair: tuple[float, float]) -> tuple[float, float]:
    return pair[0] * 1e3, pair[1] * 1e3
