"""Inference of one model on a batch that stays on the device: ours in two ways, and the peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn import nn, ops
from numbacnn.backends import Backend, use_backend

from .contender import Contender
from .conv_rows import PASSES
from .peers import Peers
from .problems import convolutions, flops
from .train_contenders import Task

__all__ = ["algorithms_of", "images", "inference_flops", "inference_makers", "training_flops"]

Makers = dict[str, Callable[[], Contender]]


def images(task: Task) -> np.ndarray:
    """A batch of pixels, 0 to 1."""
    return np.random.default_rng(task.seed).random((task.batch_size, *task.model.image_shape), np.float32)


def inference_makers(task: Task, backend: Backend, peers: Peers) -> Makers:
    """Who computes the logits of :func:`images`, by name, we first."""
    with use_backend(backend.name):
        model = task.network().eval()
    return {
        "numbacnn": lambda: _ours(model.forward, task, backend),
        "numbacnn session": lambda: _ours(nn.InferenceSession(nn.fold_batch_norm(model)), task, backend),
        **peers.inference(task, images(task)),
    }


def _ours(model: Callable[[Any], Any], task: Task, backend: Backend) -> Contender:
    x = backend.asarray(images(task))
    wait = backend.synchronize if backend.asynchronous else None
    return Contender(lambda: model(x), backend.to_numpy, wait)


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


def algorithms_of(task: Task, backend: Backend, training: bool) -> str:
    """What ``auto`` picks for the convolutions, with the number of passes: ``"im2col 3, loops 2"``.

    No gradient is computed for the input of the first one.
    """
    with use_backend("reference"):
        network = task.model.ours()
    picked: Counter[str] = Counter()
    for index, g in enumerate(convolutions(network, (task.batch_size, *task.model.image_shape))):
        choice = ops.conv2d_choice(g, backend=backend)
        for pass_ in PASSES if training else PASSES[:1]:
            if index or pass_ != "backward_input":
                picked[choice[pass_]] += 1
    return ", ".join(f"{name} {number}" for name, number in picked.most_common())
