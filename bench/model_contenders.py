"""Inference of one model on a batch that stays on the device: ours in two ways, and the peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from numbacnn import nn, ops
from numbacnn.backends import Backend, use_backend

from .contender import Contender
from .conv_rows import PASSES
from .peers import Peers
from .precision import FULL, bounded, suffix, using
from .problems import convolutions, flops
from .train_contenders import Task

__all__ = ["algorithms_of", "images", "inference_flops", "inference_makers", "training_flops"]

Makers = dict[str, Callable[[], Contender]]


def images(task: Task) -> np.ndarray:
    """A batch of pixels, 0 to 1."""
    return np.random.default_rng(task.seed).random((task.batch_size, *task.model.image_shape), np.float32)


def inference_makers(task: Task, backend: Backend, peers: Peers, precisions: Sequence[str] = (FULL,)) -> Makers:
    """Who computes the logits of :func:`images`, by name, we first."""
    with use_backend(backend.name):
        model = task.network().eval()

    def session(precision: str) -> Contender:
        return _ours(nn.InferenceSession(nn.fold_batch_norm(model)), task, backend, precision)

    found: Makers = {}
    for precision in precisions:
        found["numbacnn" + suffix(precision)] = partial(_ours, model.forward, task, backend, precision)
        found[f"numbacnn{suffix(precision)} session"] = partial(session, precision)
    return {**found, **peers.inference(task, images(task))}


def _ours(model: Callable[[Any], Any], task: Task, backend: Backend, precision: str) -> Contender:
    x = backend.asarray(images(task))
    wait = backend.synchronize if backend.asynchronous else None

    def run() -> Any:
        with using(precision):
            return model(x)

    bound = None if precision == FULL else bounded(precision)
    return Contender(run, backend.to_numpy, wait, bound, precision=precision)


def inference_flops(task: Task) -> int:
    """Floating-point operations of a forward pass: what ``summary`` counts, but for products with padding."""
    model, shape = _model_and_shape(task)
    return model.flops(shape) - sum(2 * g.macs - flops(g) for g in convolutions(model, shape))


def training_flops(task: Task) -> int:
    """Those of a step: backward as many again for the weights and for the inputs, but for the first layer's input."""
    return 3 * inference_flops(task) - _first_flops(*_model_and_shape(task))


def _model_and_shape(task: Task) -> tuple[nn.Layer, tuple[int, ...]]:
    with use_backend("reference"):
        return task.model.ours(), (task.batch_size, *task.model.image_shape)


def _first_flops(layer: nn.Layer, shape: tuple[int, ...]) -> int:
    """Of the first layer that has any."""
    children = layer.child_inputs(shape)
    if children:
        return next((found for _, child, inner in children if (found := _first_flops(child, inner))), 0)
    return sum(map(flops, convolutions(layer, shape))) or layer.flops(shape)


def algorithms_of(task: Task, backend: Backend, training: bool, precision: str = FULL) -> str:
    """What ``auto`` picks for the convolutions in a precision, with the number of passes: ``"im2col 3, loops 2"``.

    No gradient is computed for the input of the first one.
    """
    with use_backend("reference"):
        network = task.model.ours()
    picked: Counter[str] = Counter()
    for index, g in enumerate(convolutions(network, (task.batch_size, *task.model.image_shape))):
        with using(precision):
            choice = ops.conv2d_choice(g, backend=backend)
        for pass_ in PASSES if training else PASSES[:1]:
            if index or pass_ != "backward_input":
                picked[choice[pass_]] += 1
    return ", ".join(f"{name} {number}" for name, number in picked.most_common())
