"""Measuring one model: its training step or its inference, everybody in turns, and whether they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numba
import numpy as np

from numbacnn import ops
from numbacnn.backends import Backend, use_backend

from . import conv_rows, train
from .command import WrongResultError
from .model_contenders import inference_flops, inference_makers, largest_difference, training_flops
from .problems import convolutions
from .timing import Timing
from .train_contenders import MODELS, Contender, Task

__all__ = ["PEERS", "Peers", "Row", "algorithms_of", "infer", "is_ours", "scale_threads", "train_steps"]

PEERS = {"torch": ("torch", "torch CUDA graph"), "torch-compile": ("torch.compile",), "onnxruntime": ("onnxruntime",)}
"""What a peer takes part with, by the name that ``--peer`` takes."""
# A batch is trained on again and again; with the recipe's rate the loss may leave the finite numbers on the way.
STEADY_LR = 1e-3
# Steps from the same weights whose losses are compared: the second one's follows from the first one's gradients.
COMPARED_STEPS = 2
# Logits of a deep network, relative to the largest.
LOGIT_BOUND = 1e-3
SCALED = "lenet"

Functions = dict[str, Callable[[], object]]
TimeAll = Callable[[Functions, Functions], dict[str, Timing]]


class Peers(NamedTuple):
    """The packages that take part or None, and the peers that are asked for."""

    torch: Any = None
    onnxruntime: Any = None
    names: Sequence[str] = ()

    def taking_part(self, makers: Mapping[str, Any]) -> dict[str, Any]:
        """Of the makers of contenders by name, ours and those of the peers."""
        wanted = {contender for name in self.names for contender in PEERS[name]}
        return {name: make for name, make in makers.items() if is_ours(name) or name in wanted}


@dataclass(frozen=True)
class Row:
    """A contender on one task of one model with one batch size.

    Times are milliseconds a call. ``algorithm`` is ours for the convolutions, each with the number of passes that it
    computes, or how a peer runs. ``threads`` is None on a GPU. ``difference`` is that of the loss or of the logits from
    ours. ``ratio``, in rows of ours, is the time of the best peer, named in ``best_peer``, over ours: above 1, we are
    faster.
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
    difference: float
    best_peer: str | None = None
    ratio: float | None = None


def is_ours(contender: str) -> bool:
    """Whether it is one of our contenders."""
    return contender.startswith("numbacnn")


def algorithms_of(task: Task, backend: Backend, training: bool) -> str:
    """What ``auto`` picks for the convolutions, with the number of passes: ``"im2col 3, loops 2"``.

    No gradient is computed for the input of the first one.
    """
    with use_backend("reference"):
        network = task.model.ours()
    picked: Counter[str] = Counter()
    for index, g in enumerate(convolutions(network, (task.batch_size, *task.model.image_shape))):
        choice = ops.conv2d_choice(g, backend=backend)
        for pass_ in conv_rows.PASSES if training else conv_rows.PASSES[:1]:
            if index or pass_ != "backward_input":
                picked[choice[pass_]] += 1
    return ", ".join(f"{name} {number}" for name, number in picked.most_common())


def train_steps(
    model: str, batch_size: int, backend: Backend, peers: Peers, time_all: TimeAll, peak: float, kind: str = "train"
) -> tuple[list[Row], dict[str, str]]:
    """Rows of the training step, of ``kind``, and why contenders are missing.

    Args:
        time_all: times functions, by name; what it is given second waits for those that only ask for work.
        peak: GFLOP/s of the machine.

    Raises WrongResultError where a loss is not ours.
    """
    task = Task(replace(MODELS[model], lr=STEADY_LR), COMPARED_STEPS * batch_size, batch_size)
    contenders, missing, losses = train.warmed_up(
        task, lambda task: peers.taking_part(train.makers(task, backend, peers.torch))
    )
    functions = {contender.name: _step(contender) for contender in contenders}
    waits = {contender.name: contender.wait for contender in contenders} if backend.asynchronous else {}
    ours = losses[contenders[0].name]
    algorithms = {contender.name: contender.mode or "" for contender in contenders}
    algorithms[contenders[0].name] = algorithms_of(task, backend, True)
    head = partial(Row, kind, model, batch_size)
    differences = {name: abs(loss - ours) / abs(ours) for name, loss in losses.items()}
    flops = training_flops(task)
    return _rows(head, time_all(functions, waits), algorithms, differences, flops, peak, backend), missing


def _step(contender: Contender) -> Callable[[], None]:
    return partial(contender.step, *next(contender.batches(1)))


def infer(
    model: str, batch_size: int, backend: Backend, peers: Peers, time_all: TimeAll, peak: float
) -> tuple[list[Row], dict[str, str]]:
    """Rows of inference, and why contenders are missing; arguments and errors are those of :func:`train_steps`."""
    task = Task(MODELS[model], batch_size, batch_size)
    makers = inference_makers(task, backend, peers.torch, peers.onnxruntime, numba.get_num_threads())
    contenders: dict[str, conv_rows.Contender] = {}
    missing, differences = {}, {}
    ours = np.empty(0)
    for name, make in peers.taking_part(makers).items():
        try:
            contender = make()
            logits = contender.to_numpy(contender.run())
        except Exception as error:
            if is_ours(name):
                raise
            # The library, its compiler or the device refuses, each in its own way.
            missing[name] = (" ".join(str(error).split()) or type(error).__name__)[:200]
            continue
        if not contenders:
            ours = logits
        contenders[name], differences[name] = contender, largest_difference(logits, ours)
        if not differences[name] <= LOGIT_BOUND:  # so that NaN is refused too
            raise WrongResultError(
                f"{model} with a batch of {batch_size}: logits of {name} differ from ours by {differences[name]:.1e} "
                f"of the largest, more than {LOGIT_BOUND:.1e}"
            )
    timings = time_all(
        {name: contender.run for name, contender in contenders.items()},
        {name: contender.wait for name, contender in contenders.items() if contender.wait},
    )
    picked = algorithms_of(task, backend, False)
    algorithms = {name: picked if is_ours(name) else _MODES.get(name, "") for name in contenders}
    head = partial(Row, "infer", model, batch_size)
    return _rows(head, timings, algorithms, differences, inference_flops(task), peak, backend), missing


_MODES = {"torch": "eager", "torch.compile": "compiled"}


def scale_threads(
    batch_size: int, backend: Backend, peers: Peers, time_all: TimeAll, peak: float
) -> Iterator[list[Row]]:
    """Rows of LeNet's training step with 1 thread, with 2, up to as many as are set when this begins."""
    most = numba.get_num_threads()
    try:
        for threads in range(1, most + 1):
            _set_threads(threads, peers.torch)
            yield train_steps(SCALED, batch_size, backend, peers, time_all, peak, "threads")[0]
    finally:
        _set_threads(most, peers.torch)


def _set_threads(threads: int, torch: Any) -> None:
    numba.set_num_threads(threads)
    if torch is not None:
        torch.set_num_threads(threads)


def _rows(
    head: Callable[..., Row],
    timings: Mapping[str, Timing],
    algorithms: Mapping[str, str],
    differences: Mapping[str, float],
    flops: int,
    peak: float,
    backend: Backend,
) -> list[Row]:
    rivals = [name for name in timings if not is_ours(name)]
    best = min(rivals, key=lambda name: timings[name].median, default=None)
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
                difference=differences[name],
                best_peer=best if is_ours(name) else None,
                ratio=timings[best].median / timing.median if best and is_ours(name) else None,
            )
        )
    return rows
