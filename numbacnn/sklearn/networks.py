"""Which network an estimator trains, and by what."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np

from .. import models, nn, optim
from ..nn import Layer
from ..ops.arguments import one_of
from .inputs import Shape

__all__ = ["ARCHITECTURES", "make_model", "make_optimizer"]

ARCHITECTURES = (
    *("alexnet", "cifar_resnet", "densenet", "efficientnet_lite0", "googlenet", "lenet", "mobilenet_v2", "nin"),
    *("resnet", "shufflenet_v2", "squeezenet", "vgg"),
)
"""Functions of `models` that make what gives (n, outputs) for images."""
OPTIMIZERS = {
    kind.__name__.lower(): kind
    for kind in (optim.Adagrad, optim.Adam, optim.AdamW, optim.Lion, optim.NAdam, optim.RMSprop, optim.SGD)
}
HIDDEN = (64, 64)
"""Features between the linear layers for rows."""
WIDTHS = (16, 32, 64)
"""Channels of the convolutions for images; of further ones, the last."""
LAST_SIZE = 4
"""The height and width that images are halved to, at most."""


def make_model(model: Any, shape: Shape, outputs: int, dtype: np.dtype[Any]) -> Layer:
    """What the argument ``model`` stands for, with new weights or, of a layer, with its own.

    Args:
        model: "small", one of `ARCHITECTURES`, a function of the channels, or features, and ``outputs``, or a layer.
        shape: of one sample.
        outputs: how many numbers are predicted of it.
        dtype: what "small" computes in for rows.
    """
    if isinstance(model, Layer):
        made = copy.deepcopy(model)
    elif isinstance(model, str):
        name = one_of("model", model, ("small", *ARCHITECTURES))
        if name == "small":
            return _small_for_images(shape, outputs) if len(shape) == 3 else _small_for_rows(shape, outputs, dtype)
        if len(shape) != 3:
            raise ValueError(f"`model` {name!r} takes images; `image_shape` must say what a row of `X` is")
        made = getattr(models, name)(in_channels=shape[0], num_classes=outputs)
    elif callable(model):
        made = model(shape[0], outputs)
        if not isinstance(made, Layer):
            raise TypeError(f"`model` must return a Layer, but returned {made!r}")
    else:
        raise TypeError(f"`model` {model!r} must be a name, a function of (channels, classes) or a Layer")
    _check_output(made, model, shape, outputs)
    return made


def _check_output(made: Layer, model: Any, shape: Shape, outputs: int) -> None:
    described = repr(model) if isinstance(model, str) else f"({type(made).__name__})"
    try:
        found = made.output_shape((1, *shape))
    except NotImplementedError:  # a layer of one's own may not say it
        found = tuple(made.predict(np.zeros((1, *shape), np.float32)).shape)
    except ValueError as error:
        raise ValueError(f"`model` {described} does not take samples of shape {shape}: {error}") from error
    if found != (1, outputs):
        raise ValueError(f"`model` {described} gives {found} for one sample of shape {shape}, must give {(1, outputs)}")


def _small_for_rows(shape: Shape, outputs: int, dtype: np.dtype[Any]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[Layer] = []
    for before, after in pairwise((*shape, *HIDDEN)):
        layers += [nn.Linear(before, after, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], outputs, dtype=dtype))


def _small_for_images(shape: Shape, outputs: int) -> nn.Sequential:
    """Two convolutions or more, each with ReLU and max pooling that halves what is longer than 1, then one linear."""
    channels, *size = shape
    layers: list[Layer] = []
    number = 0
    while number < 2 or max(size) > LAST_SIZE:
        width = WIDTHS[min(number, len(WIDTHS) - 1)]
        window = tuple(min(length, 2) for length in size)
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(window, ceil_mode=True)]
        channels, size, number = width, [-(-length // 2) for length in size], number + 1
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size[0] * size[1], outputs))


def make_optimizer(optimizer: Any, model: Layer, lr: float) -> optim.Optimizer:
    """What the argument ``optimizer`` stands for: a name, or a function of the parameters and the rate."""
    if isinstance(optimizer, str):
        kind = OPTIMIZERS[one_of("optimizer", optimizer, OPTIMIZERS)]
        return kind(model.parameters(), lr)
    if not callable(optimizer):
        raise TypeError(f"`optimizer` {optimizer!r} must be a name or a function of (parameters, lr)")
    made = optimizer(model.parameters(), lr)
    if not isinstance(made, optim.Optimizer):
        raise TypeError(f"`optimizer` must return an Optimizer, but returned {made!r}")
    return made
