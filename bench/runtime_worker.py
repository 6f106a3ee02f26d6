"""One runtime at work in a process of its own, on networks that nothing is tuned to; ``bench.runtime`` starts it."""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import nn, optim, training
from numbacnn.backends.cpu.runtime import threads

from .worker import serve

__all__ = ["NETWORKS", "WORKS", "main"]

MIN_CALLS = 5
CLASSES = 10
TRAINING_BATCH = 16


def _block(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Layer]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _residual(inputs: int, outputs: int, stride: int) -> list[nn.Layer]:
    body = nn.Sequential(*_block(inputs, outputs, 3, stride), *_block(outputs, outputs)[:2])
    short = nn.Sequential(*_block(inputs, outputs, 1, stride)[:2]) if stride > 1 or inputs != outputs else nn.Identity()
    return [nn.Add(body, short), nn.ReLU()]


def _head(channels: int) -> list[nn.Layer]:
    return [nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(channels, CLASSES)]


def _digits() -> nn.Layer:
    layers = [*_block(1, 32), nn.MaxPool2d(2), *_block(32, 64), nn.MaxPool2d(2), *_block(64, 128)]
    return nn.Sequential(*layers, *_head(128))


def _residual_20() -> nn.Layer:
    layers, channels = _block(3, 16), 16
    for outputs in (16, 32, 64):
        for index in range(3):
            layers += _residual(channels, outputs, 2 if outputs > channels and index == 0 else 1)
            channels = outputs
    return nn.Sequential(*layers, *_head(64))


def _depthwise() -> nn.Layer:
    layers, channels = _block(3, 16, 3, 2), 16
    for outputs, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2)):
        layers += [*_block(channels, channels, 3, stride, channels), *_block(channels, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, *_head(channels))


NETWORKS: dict[str, tuple[Callable[[], nn.Layer], tuple[int, int, int]]] = {
    "lenet": (nc.models.lenet, (1, 28, 28)),
    "digits 32-64-128": (_digits, (1, 28, 28)),
    "residual-20": (_residual_20, (3, 32, 32)),
    "depthwise": (_depthwise, (3, 96, 96)),
}
"""What makes a network, and the channels and size of its images."""


def _layers(model: nn.Layer, x: np.ndarray) -> Callable[[], object]:
    return functools.partial(model.eval().forward, x)


def _session(model: nn.Layer, x: np.ndarray) -> Callable[[], object]:
    return functools.partial(nn.InferenceSession(nn.fold_batch_norm(model)), x)


def _step(model: nn.Layer, x: np.ndarray) -> Callable[[], object]:
    step = training.TrainingStep(model.train(), nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1e-3))
    return functools.partial(step, x, np.arange(len(x)) % CLASSES)


WORKS: dict[str, tuple[Callable[[nn.Layer, np.ndarray], Callable[[], object]], int]] = {
    "layer by layer, 1 image": (_layers, 1),
    "session, 1 image": (_session, 1),
    "session, 16 images": (_session, 16),
    f"training step, {TRAINING_BATCH} images": (_step, TRAINING_BATCH),
}
"""What makes the work of a network and its images, and how many these are."""


@functools.cache
def _work(network: str, work: str) -> Callable[[], object]:
    make, shape = NETWORKS[network]
    prepare, batch = WORKS[work]
    nc.manual_seed(0)
    run = prepare(make(), np.random.default_rng(0).random((batch, *shape), np.float32))
    for _ in range(3):
        run()
    return run


def measure(network: str, work: str, idle: float, seconds: float) -> dict[str, Any]:
    """The median and the mean of a call's seconds, after ``idle`` seconds of sleep each, for as long as ``seconds``."""
    run, samples, begin = _work(network, work), [], time.perf_counter()
    run()
    while len(samples) < MIN_CALLS or time.perf_counter() - begin < seconds:
        if idle:
            time.sleep(idle)
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return {"median": statistics.median(samples), "mean": statistics.fmean(samples), "calls": len(samples)}


def repeat(network: str, work: str) -> None:
    """Do it again and again, until the process is killed."""
    run = _work(network, work)
    print("ready", flush=True)
    while True:
        run()


def main(argv: Sequence[str] | None = None) -> None:
    """Answer ``measure``, or, given the names of a network and a work, repeat that."""
    parser = argparse.ArgumentParser(prog="python -m bench.runtime_worker", description=__doc__)
    parser.add_argument("--repeat", nargs=2, metavar=("NETWORK", "WORK"))
    arguments = parser.parse_args(argv)
    if arguments.repeat:
        repeat(*arguments.repeat)
    else:
        serve({"measure": measure, "layer": lambda: [threads.layer(), threads.number()]})


if __name__ == "__main__":
    sys.exit(main())
