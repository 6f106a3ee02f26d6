"""How Dive into Deep Learning trains each model on Fashion-MNIST: ten epochs of SGD from Xavier-uniform weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numbacnn import models, nn

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A model and the settings that it is trained with."""

    build: Callable[[int, int], nn.Sequential]
    """The model for so many channels and classes."""
    size: int
    """Height and width of the images that it reads."""
    lr: float
    batch_size: int
    resize: bool = True
    """Whether images of another size are made to fit."""


def _model(function: Callable[..., nn.Sequential], **options: Any) -> Callable[[int, int], nn.Sequential]:
    return partial(function, **options)


RECIPES = {
    "lenet": Recipe(_model(models.lenet), 28, 0.9, 256, resize=False),
    "lenet-bn": Recipe(_model(models.lenet, batch_norm=True), 28, 1.0, 256, resize=False),
    "alexnet": Recipe(_model(models.alexnet), 224, 0.01, 128),
    "vgg": Recipe(_model(models.vgg, width_divisor=4), 224, 0.05, 128),
    "nin": Recipe(_model(models.nin), 224, 0.1, 128),
    "googlenet": Recipe(_model(models.googlenet), 96, 0.1, 128),
    "resnet": Recipe(_model(models.resnet), 96, 0.05, 256),
    "densenet": Recipe(_model(models.densenet), 96, 0.1, 256),
}
