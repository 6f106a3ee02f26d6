"""How each model is trained.

Those of Dive into Deep Learning on Fashion-MNIST as it does: ten epochs of SGD from Xavier-uniform weights. ``fast``
shows what a small model does in minutes when it is trained by later means. The ResNets for CIFAR-10 are trained as
their paper does it, but for the rate, which falls as a cosine, and so are the later networks, in fewer epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .. import models, nn

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A model and the settings that it is trained with."""

    build: Callable[[int, int], nn.Sequential]
    """The model for so many channels and classes."""
    size: int
    """Height and width of the images that it reads."""
    lr: float
    """For the recipe's optimizer."""
    batch_size: int
    resize: bool = True
    """Whether images of another size are made to fit."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``numbacnn train`` that are not as usual."""

    @property
    def optimizer(self) -> str:
        return str(self.options.get("optimizer", "sgd"))


def fast(in_channels: int, num_classes: int) -> nn.Sequential:
    """Two convolutions with batch normalisation, and a hidden layer, for images of 28x28 pixels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(48, 96, 3, padding=1, bias=False),
        nn.BatchNorm2d(96),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(96 * 7 * 7, 256),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(256, num_classes),
    )


FAST = {
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "augment": "flip",
    "epochs": 10,
    "label_smoothing": 0.05,
    "weight_decay": 0.05,
}

CIFAR = {
    "optimizer": "momentum",
    "schedule": "cosine",
    "augment": "crop",
    "epochs": 164,
    "weight_decay": 1e-4,
}
"""164 epochs of 50,000 images are the 64,000 steps of He et al. 2016."""
LATER = {**CIFAR, "augment": "flip", "epochs": 30}
# Without normalisation, and with a ReLU that ends in logits of 0, momentum does not get away from the start.
SQUEEZED = {**LATER, "optimizer": "adamw", "weight_decay": 0.01}


def _model(function: Callable[..., nn.Sequential], **options: Any) -> Callable[[int, int], nn.Sequential]:
    return partial(function, **options)


def _resnet50(**options: Any) -> Callable[[int, int], nn.Sequential]:
    return _model(models.resnet, depth=50, layout="torchvision", **options)


RECIPES = {
    "lenet": Recipe(_model(models.lenet), 28, 0.9, 256, resize=False),
    "lenet-bn": Recipe(_model(models.lenet, batch_norm=True), 28, 1.0, 256, resize=False),
    "fast": Recipe(fast, 28, 0.003, 128, resize=False, options=FAST),
    "alexnet": Recipe(_model(models.alexnet), 224, 0.01, 128),
    "vgg": Recipe(_model(models.vgg, width_divisor=4), 224, 0.05, 128),
    "nin": Recipe(_model(models.nin), 224, 0.1, 128),
    "googlenet": Recipe(_model(models.googlenet), 96, 0.1, 128),
    "resnet": Recipe(_model(models.resnet), 96, 0.05, 256),
    "densenet": Recipe(_model(models.densenet), 96, 0.1, 256),
    "resnet20": Recipe(_model(models.cifar_resnet), 32, 0.1, 128, options=CIFAR),
    "resnet56": Recipe(_model(models.cifar_resnet, depth=56), 32, 0.1, 128, options=CIFAR),
    "mobilenet_v2": Recipe(_model(models.mobilenet_v2), 96, 0.05, 128, options=LATER),
    "squeezenet": Recipe(_model(models.squeezenet), 96, 3e-4, 128, options=SQUEEZED),
    "shufflenet_v2": Recipe(_model(models.shufflenet_v2), 96, 0.1, 128, options=LATER),
    "resnext50": Recipe(_resnet50(groups=32, width_per_group=4), 96, 0.05, 64, options=LATER),
    "se_resnet50": Recipe(_resnet50(se_reduction=16), 96, 0.05, 64, options=LATER),
}
