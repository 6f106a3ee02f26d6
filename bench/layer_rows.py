"""Every layer, forward and backward, beside PyTorch's of the same name: rows of ``bench.kernels --peer torch``."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import nn
from numbacnn.backends import Backend, use_backend

from . import torch_worker
from .command import WrongResultError
from .problems import laid_out
from .timing import SelfTimed, Timing
from .worker import Worker

__all__ = ["IMAGES", "LAYERS", "PASSES", "SLOWER", "LayerRow", "inputs_of", "reason_of", "rows_of"]

ROOT = Path(__file__).parent.parent
IMAGES = (16, 64, 56, 56)
PASSES = ("forward", "backward")
BOUND = 1e-4
"""How far results may be from PyTorch's, relative to the largest."""

LAYERS: dict[str, tuple[tuple[int, ...], ...]] = {
    **dict.fromkeys(
        (
            *("ReLU()", "LeakyReLU()", "PReLU(64)", "ELU()", "SELU()", "CELU()", "GELU()", "GELU('tanh')", "SiLU()"),
            *("Mish()", "Softplus()", "Softsign()", "Hardsigmoid()", "Hardswish()", "Hardtanh()", "ReLU6()"),
            *("Sigmoid()", "Tanh()", "Softmax(1)", "LogSoftmax(1)", "Flatten()", "Unflatten(1, (8, 8))"),
            *("BatchNorm2d(64)", "GroupNorm(8, 64)", "InstanceNorm2d(64)", "LayerNorm((64, 56, 56))", "LayerNorm(56)"),
            *("LocalResponseNorm(5)", "MaxPool2d(2)", "AvgPool2d(2)", "MaxPool2d(3, 2, 1)", "LPPool2d(2, 2)"),
            *("AdaptiveAvgPool2d(7)", "AdaptiveMaxPool2d(7)", "AdaptiveAvgPool2d(1)", "Upsample(scale_factor=2)"),
            *("Upsample(scale_factor=2, mode='bilinear')", "PixelShuffle(2)", "PixelUnshuffle(2)", "ChannelShuffle(8)"),
            *("Dropout(0.5)", "Dropout2d(0.5)"),
            *("ZeroPad2d(1)", "ReflectionPad2d(1)", "ReplicationPad2d(1)", "CircularPad2d(1)"),
            *("Conv2d(64, 64, 3, padding=1)", "Conv2d(64, 64, 3, padding=1, padding_mode='reflect')"),
            *("ConvTranspose2d(64, 64, 4, 2, 1)", "ConvTranspose2d(64, 64, 2, 2)"),
        ),
        (IMAGES,),
    ),
    **dict.fromkeys(
        ("Conv1d(64, 64, 3, padding=1)", "ConvTranspose1d(64, 64, 4, 2, 1)", "MaxPool1d(2)", "AvgPool1d(2)",
         "BatchNorm1d(64)"),
        ((16, 64, 3136),),
    ),
    **dict.fromkeys(("Linear(1024, 1024)", "LayerNorm(1024)", "BatchNorm1d(1024)"), ((256, 1024),)),
}  # fmt: skip
"""What makes a layer, in ``nn`` and in ``torch.nn`` alike, and the shapes of its inputs."""

SLOWER = 0.9
"""A ratio below this needs a reason: what is nearer to 1 comes out on either side of it."""
REASONS = {
    ("Flatten", "Unflatten"): "a copy in the order of the axes; PyTorch's is a view of the same memory",
    ("Conv1d", "ConvTranspose1d", "MaxPool1d", "AvgPool1d", "BatchNorm1d(64)"): "lines are turned to channels last, as "
    "images of one row, and back",
    ("LayerNorm((", "LayerNorm(56)"): "images lie channels last, and are turned to rows",
    ("LayerNorm(1024)", "BatchNorm1d(1024)"): "1 MB in all: waking the second thread is a part of the time",
    ("GroupNorm",): "groups share pixels: a chunk is a sample, in the second cache; PyTorch's is a group",
    ("Dropout(",): "the mask is not kept: backward draws it again",
    (
        "Dropout2d",
        "PReLU",
        "ReLU()",
        "Sigmoid",
        "ZeroPad2d",
        "LeakyReLU",
        "Hardswish",
        "Hardtanh",
        "ReLU6",
        "AvgPool2d",
        "AdaptiveMaxPool2d",
    ): "both at the memory's rate",
    ("ChannelShuffle",): "channels of a pixel are neighbours, and each is moved by itself; PyTorch copies planes",
    ("AdaptiveAvgPool2d",): "sums are float64",
    ("Linear",): "matrix products of 256 rows, at 55 % of the peak",
}
"""Why a layer may be slower than PyTorch's, by how its text begins."""


def reason_of(text: str) -> str:
    """Of a layer out of LAYERS; empty where there is none."""
    return next((reason for starts, reason in REASONS.items() if text.startswith(starts)), "")


@dataclass(frozen=True)
class LayerRow:
    """A pass of a layer; ``ratio`` is PyTorch's time, of its faster memory format, over ours: above 1, we win."""

    kernel: str
    pass_: str
    milliseconds: float
    quartiles: tuple[float, float]
    rounds: int
    peer: str
    peer_milliseconds: float
    ratio: float


def inputs_of(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Normal numbers."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def rows_of(
    layers: Sequence[str],
    backend: Backend,
    threads: int,
    time_all: Callable[[dict[str, Callable[[], object]]], dict[str, Timing]],
) -> Iterator[LayerRow]:
    """The rows of layers out of LAYERS, of PyTorch in a process of its own. WrongResultError where results differ."""
    command = [sys.executable, "-m", "bench.torch_layer_worker", f"{threads}"]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        worker = stack.enter_context(Worker(command, {"PYTHONPATH": str(ROOT), **torch_worker.ENVIRONMENT}))
        for text in layers:
            shapes = LAYERS[text]
            with use_backend(backend):
                layer = eval(text, {name: getattr(nn, name) for name in nn.__all__}).train()
            state = Path(folder) / "state.npz"
            np.savez(state, **layer.state_dict())
            kinds = worker.ask("make", text=text, shapes=shapes, state=str(state))
            inputs = [laid_out(backend, x) if x.ndim == 4 else backend.asarray(x) for x in inputs_of(shapes)]
            y = layer.forward(*inputs)
            dy = backend.asarray(np.random.default_rng(1).standard_normal(y.shape, np.float32))
            dy = laid_out(backend, backend.to_numpy(dy)) if len(y.shape) == 4 else dy
            dx = layer.backward(dy)
            if not layer.random_state():  # which PyTorch draws in another way
                _check(text, worker, Path(folder), [backend.to_numpy(y), backend.to_numpy(dx)])
            passes = {"forward": partial(layer.forward, *inputs), "backward": partial(layer.backward, dy)}
            for pass_ in PASSES:
                contenders: dict[str, Callable[[], object]] = {"numbacnn": passes[pass_]}
                contenders |= {kind: SelfTimed(partial(worker.ask, "sample", kind=kind, pass_=pass_)) for kind in kinds}
                layer.drop_saved()  # a backward pass may come again where it belongs to one forward pass alone
                layer.forward(*inputs)
                timings = time_all(contenders)
                ours = timings["numbacnn"]
                best = min(kinds, key=lambda kind: timings[kind].median)
                yield LayerRow(
                    kernel=text,
                    pass_=pass_,
                    milliseconds=1e3 * ours.median,
                    quartiles=(1e3 * ours.quartiles[0], 1e3 * ours.quartiles[1]),
                    rounds=len(ours.samples),
                    peer=best,
                    peer_milliseconds=1e3 * timings[best].median,
                    ratio=timings[best].median / ours.median,
                )


def _check(text: str, worker: Worker, folder: Path, ours: list[np.ndarray]) -> None:
    """PyTorch's results for the same numbers are ours."""
    paths = [str(folder / "y.npy"), str(folder / "dx.npy")]
    worker.ask("outputs", paths=paths)
    for path, pass_, value in zip(paths, PASSES, ours, strict=True):
        theirs: Any = np.load(path)
        scale = float(np.abs(theirs).max(initial=0)) or 1.0
        difference = float(np.abs(theirs - value).max(initial=0)) / scale if theirs.shape == value.shape else math.inf
        if not difference <= BOUND:
            raise WrongResultError(f"{text} {pass_}: ours and PyTorch's differ by {difference:.1e} of the largest")
