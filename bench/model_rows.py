"""Measuring one model: its training step or its inference, everybody in turns, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numba
import numpy as np

from numbacnn.backends import Backend

from . import train
from .ceilings import peak_gflops
from .command import WrongResultError
from .contender import Contender, best_of, is_ours, largest_difference, reason
from .machine import layer
from .model_contenders import algorithms_of, inference_flops, inference_makers, training_flops
from .peers import BOUND, Peers
from .precision import FULL, compared_with
from .timing import Timing
from .train_contenders import MODELS, Model, Task
from .train_contenders import Contender as Trainer

__all__ = ["Row", "infer", "scale_threads", "train_steps"]

# A batch is trained on again and again; with the recipe's rate the loss may leave the finite numbers on the way.
STEADY_LR = 1e-3
# Steps from the same weights whose losses are compared: the second one's follows from the first one's gradients.
COMPARED_STEPS = 2
SCALED = "lenet"

Functions = Mapping[str, Callable[[], object]]
TimeAll = Callable[[Functions, Functions], dict[str, Timing]]


@dataclass(frozen=True)
class Row:
    """A contender on one task of one model with one batch size.

    Times are milliseconds a call. ``algorithm`` is ours for the convolutions, each with the number of passes that it
    computes, or how a peer runs. ``threads`` is None on a GPU, ``layer``, by which our kernels are run on them, there
    and in a peer's row. ``gflops`` count no products with padding, and ``share_of_peak`` is that of ``precision``.
    ``difference`` is that of the loss or of the logits from ours in float32. ``ratio``, in rows of ours, is the time of
    the best peer in the same precision, named in ``best_peer``, over ours: above 1, we are faster.
    """

    task: str
    model: str
    batch_size: int
    contender: str
    algorithm: str
    milliseconds: float
    quartiles: tuple[float, float]
    rounds: int
    calls: int
    gflops: float
    share_of_peak: float
    threads: int | None
    layer: str | None
    difference: float
    precision: str = FULL
    layout: str | None = None
    best_peer: str | None = None
    ratio: float | None = None


def train_steps(
    name: str,
    model: Model,
    batch_size: int,
    backend: Backend,
    peers: Peers,
    time_all: TimeAll,
    peaks: Mapping[str, float],
    kind: str = "train",
) -> tuple[list[Row], dict[str, str]]:
    """Rows of the training step, of ``kind``, and why contenders are missing.

    Args:
        name: what rows call the model.
        time_all: times functions, by name; what it is given second waits for those that only ask for work.
        peaks: GFLOP/s of the machine in each precision that is measured of ours.

    Raises WrongResultError where a loss is not ours.
    """
    task = Task(replace(model, lr=STEADY_LR), COMPARED_STEPS * batch_size, batch_size)
    with peers.case():
        contenders, missing, losses = train.warmed_up(
            task, lambda task: train.makers(task, backend, peers, tuple(peaks))
        )
        functions = {contender.name: _step(contender) for contender in contenders}
        waits = {contender.name: contender.wait for contender in contenders} if backend.asynchronous else {}
        timings = time_all(functions, waits)
    ours = losses[contenders[0].name]
    algorithms = {
        contender.name: algorithms_of(task, backend, True, contender.precision)
        if is_ours(contender.name)
        else contender.mode or ""
        for contender in contenders
    }
    head = partial(Row, kind, name, batch_size)
    differences = {name: abs(loss - ours) / abs(ours) for name, loss in losses.items()}
    ways = {one.name: (one.precision, getattr(one, "layout", None)) for one in contenders}
    return _rows(head, timings, ways, algorithms, differences, training_flops(task), peaks, backend), missing


def _step(contender: Trainer) -> Callable[[], None]:
    return partial(contender.step, *next(contender.batches(1)))


def infer(
    name: str,
    model: Model,
    batch_size: int,
    backend: Backend,
    peers: Peers,
    time_all: TimeAll,
    peaks: Mapping[str, float],
) -> tuple[list[Row], dict[str, str]]:
    """Rows of inference, and why contenders are missing; arguments and errors are those of :func:`train_steps`.

    The time of a peer whose logits are not ours does not count; where no peer has ours, it is ours that are wrong.
    """
    task = Task(model, batch_size, batch_size)
    with peers.case():
        makers = inference_makers(task, backend, peers, tuple(peaks))
        contenders, missing, differences = _agreeing(makers, f"{name} {batch_size}")
        timings = time_all(
            {name: contender.replay() for name, contender in contenders.items()},
            {name: contender.wait for name, contender in contenders.items() if contender.wait},
        )
    algorithms = {
        name: algorithms_of(task, backend, False, one.precision) if is_ours(name) else _way(name)
        for name, one in contenders.items()
    }
    head = partial(Row, "infer", name, batch_size)
    ways = {name: (one.precision, one.layout) for name, one in contenders.items()}
    return _rows(head, timings, ways, algorithms, differences, inference_flops(task), peaks, backend), missing


def _agreeing(
    makers: Mapping[str, Callable[[], Contender]], where: str
) -> tuple[dict[str, Contender], dict[str, str], dict[str, float]]:
    """Who computes what the first one does, why others do not take part, and the differences."""
    contenders: dict[str, Contender] = {}
    missing: dict[str, str] = {}
    differences: dict[str, float] = {}
    wrong: dict[str, str] = {}
    ours = np.empty(0)
    for name, make in makers.items():
        try:
            contender = make()
            logits = contender.to_numpy(contender.run())
        except Exception as error:
            if is_ours(name):
                raise
            missing[name] = reason(error)
            continue
        if not contenders:
            ours = logits
        difference, bound = largest_difference(logits, ours), contender.bound or BOUND
        if difference <= bound:  # NaN is not
            contenders[name], differences[name] = contender, difference
            continue
        wrong[name] = f"its logits differ from ours by {difference:.1e} of the largest, more than {bound:.1e}"
        if is_ours(name):
            raise WrongResultError(f"{where}: {name}: {wrong[name]}")
    if wrong and all(map(is_ours, contenders)):
        raise WrongResultError("; ".join(f"{where}: {name}: {text}" for name, text in wrong.items()))
    return contenders, {**missing, **wrong}, differences


def _way(peer: str) -> str:
    if not peer.startswith("torch"):
        return "a process of its own"
    if peer.startswith("torch CUDA graph"):
        return "captured"
    return "compiled" if peer.startswith("torch.compile") else "eager"


def scale_threads(batch_size: int, backend: Backend, peers: Peers, time_all: TimeAll) -> Iterator[list[Row]]:
    """Rows of LeNet's training step with 1 thread, with 2, up to as many as are set when this begins.

    Their shares are those of the peak of as many threads.
    """
    most = numba.get_num_threads()
    try:
        for threads in range(1, most + 1):
            numba.set_num_threads(threads)
            peers.set_threads(threads)
            peaks = {FULL: peak_gflops(threads)}
            yield train_steps(SCALED, MODELS[SCALED], batch_size, backend, peers, time_all, peaks, "threads")[0]
    finally:
        numba.set_num_threads(most)
        peers.set_threads(most)


def _rows(
    head: Callable[..., Row],
    timings: Mapping[str, Timing],
    ways: Mapping[str, tuple[str, str | None]],
    algorithms: Mapping[str, str],
    differences: Mapping[str, float],
    flops: int,
    peaks: Mapping[str, float],
    backend: Backend,
) -> list[Row]:
    """A row of each contender, with its precision and layout from ``ways``."""
    rows = []
    for name, timing in timings.items():
        precision, layout = ways[name]
        equal = [peer for peer in timings if not is_ours(peer) and ways[peer][0] == compared_with(precision)]
        best = best_of({peer: timings[peer].median for peer in equal}) if is_ours(name) else None
        gflops = 1e-9 * flops / timing.median
        first, third = timing.quartiles
        rows.append(
            head(
                contender=name,
                algorithm=algorithms[name],
                milliseconds=1e3 * timing.median,
                quartiles=(1e3 * first, 1e3 * third),
                rounds=len(timing.samples),
                calls=timing.calls,
                gflops=gflops,
                share_of_peak=gflops / peaks.get(precision, peaks[FULL]),
                threads=None if backend.asynchronous else numba.get_num_threads(),
                layer=layer(backend) if is_ours(name) else None,
                difference=differences[name],
                precision=precision,
                layout=layout,
                best_peer=best,
                ratio=timings[best].median / timing.median if best else None,
            )
        )
    return rows
