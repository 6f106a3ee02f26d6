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
    and in a peer's row. ``gflops`` count no products with padding. ``difference`` is that of the loss or of the logits
    from ours. ``ratio``, in rows of ours, is the time of the best peer, named in ``best_peer``, over ours: above 1, we
    are faster.
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
    best_peer: str | None = None
    ratio: float | None = None


def train_steps(
    name: str,
    model: Model,
    batch_size: int,
    backend: Backend,
    peers: Peers,
    time_all: TimeAll,
    peak: float,
    kind: str = "train",
) -> tuple[list[Row], dict[str, str]]:
    """Rows of the training step, of ``kind``, and why contenders are missing.

    Args:
        name: what rows call the model.
        time_all: times functions, by name; what it is given second waits for those that only ask for work.
        peak: GFLOP/s of the machine.

    Raises WrongResultError where a loss is not ours.
    """
    task = Task(replace(model, lr=STEADY_LR), COMPARED_STEPS * batch_size, batch_size)
    with peers.case():
        contenders, missing, losses = train.warmed_up(task, lambda task: train.makers(task, backend, peers))
        functions = {contender.name: _step(contender) for contender in contenders}
        waits = {contender.name: contender.wait for contender in contenders} if backend.asynchronous else {}
        timings = time_all(functions, waits)
    ours = losses[contenders[0].name]
    algorithms = {contender.name: contender.mode or "" for contender in contenders}
    algorithms[contenders[0].name] = algorithms_of(task, backend, True)
    head = partial(Row, kind, name, batch_size)
    differences = {name: abs(loss - ours) / abs(ours) for name, loss in losses.items()}
    return _rows(head, timings, algorithms, differences, training_flops(task), peak, backend), missing


def _step(contender: Trainer) -> Callable[[], None]:
    return partial(contender.step, *next(contender.batches(1)))


def infer(
    name: str, model: Model, batch_size: int, backend: Backend, peers: Peers, time_all: TimeAll, peak: float
) -> tuple[list[Row], dict[str, str]]:
    """Rows of inference, and why contenders are missing; arguments and errors are those of :func:`train_steps`.

    The time of a peer whose logits are not ours does not count; where no peer has ours, it is ours that are wrong.
    """
    task = Task(model, batch_size, batch_size)
    with peers.case():
        contenders, missing, differences = _agreeing(inference_makers(task, backend, peers), f"{name} {batch_size}")
        timings = time_all(
            {name: contender.replay() for name, contender in contenders.items()},
            {name: contender.wait for name, contender in contenders.items() if contender.wait},
        )
    picked = algorithms_of(task, backend, False)
    algorithms = {name: picked if is_ours(name) else _way(name) for name in contenders}
    head = partial(Row, "infer", name, batch_size)
    return _rows(head, timings, algorithms, differences, inference_flops(task), peak, backend), missing


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
        difference = largest_difference(logits, ours)
        if difference <= BOUND:  # NaN is not
            contenders[name], differences[name] = contender, difference
            continue
        wrong[name] = f"its logits differ from ours by {difference:.1e} of the largest, more than {BOUND:.1e}"
        if is_ours(name):
            raise WrongResultError(f"{where}: {name}: {wrong[name]}")
    if wrong and all(map(is_ours, contenders)):
        raise WrongResultError("; ".join(f"{where}: {name}: {text}" for name, text in wrong.items()))
    return contenders, {**missing, **wrong}, differences


def _way(peer: str) -> str:
    if not peer.startswith("torch"):
        return "a process of its own"
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
            peak = peak_gflops(threads)
            yield train_steps(SCALED, MODELS[SCALED], batch_size, backend, peers, time_all, peak, "threads")[0]
    finally:
        numba.set_num_threads(most)
        peers.set_threads(most)


def _rows(
    head: Callable[..., Row],
    timings: Mapping[str, Timing],
    algorithms: Mapping[str, str],
    differences: Mapping[str, float],
    flops: int,
    peak: float,
    backend: Backend,
) -> list[Row]:
    best = best_of({name: timing.median for name, timing in timings.items() if not is_ours(name)})
    rows = []
    for name, timing in timings.items():
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
                share_of_peak=gflops / peak,
                threads=None if backend.asynchronous else numba.get_num_threads(),
                layer=layer(backend) if is_ours(name) else None,
                difference=differences[name],
                best_peer=best if is_ours(name) else None,
                ratio=timings[best].median / timing.median if best and is_ours(name) else None,
            )
        )
    return rows
