"""Every architecture in narrow: the model and an input shape that takes milliseconds."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from numbacnn import models, nn

_LENET, _ALEXNET, _VGG = (
    models.lenet,
    partial(models.alexnet, hidden_features=8),
    partial(models.vgg, hidden_features=8),
)

BOOK: dict[str, tuple[Any, tuple[int, ...]]] = {
    "lenet": (_LENET, (2, 1, 28, 28)),
    "lenet_bn": (partial(_LENET, batch_norm=True), (4, 1, 28, 28)),
    "alexnet": (partial(_ALEXNET, width_divisor=32), (1, 1, 195, 195)),
    "vgg11": (partial(_VGG, width_divisor=64), (1, 1, 224, 224)),
    "nin": (partial(models.nin, width_divisor=32), (2, 1, 67, 67)),
    "googlenet": (partial(models.googlenet, width_divisor=8), (2, 1, 17, 17)),
    "resnet18": (partial(models.resnet, width_divisor=16), (3, 1, 33, 33)),
    "densenet": (partial(models.densenet, width_divisor=16), (3, 1, 40, 40)),
}

_TORCHVISION: dict[str, tuple[Any, tuple[int, ...]]] = {
    "alexnet_tv": (partial(_ALEXNET, width_divisor=32), (1, 3, 224, 224)),
    "vgg11_bn_tv": (partial(_VGG, width_divisor=64, batch_norm=True), (1, 3, 224, 224)),
    "googlenet_tv": (partial(models.googlenet, width_divisor=8), (4, 3, 44, 44)),
    "resnet34_tv": (partial(models.resnet, depth=34, width_divisor=16), (3, 3, 33, 33)),
    "resnet50_tv": (partial(models.resnet, depth=50, width_divisor=16), (3, 3, 33, 33)),
    "densenet121_tv": (partial(models.densenet, width_divisor=32), (3, 3, 40, 40)),
}

EFFICIENTNET = (partial(models.efficientnet_lite0, num_classes=6, width_divisor=8), (3, 3, 64, 64))

_RESNET50 = partial(models.resnet, num_classes=6, depth=50, width_divisor=16, layout="torchvision")
_CIFAR = partial(models.cifar_resnet, num_classes=6, width_divisor=4)

LATER: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mobilenet_v2": (partial(models.mobilenet_v2, num_classes=6, width_mult=0.25), (3, 3, 40, 40)),
    "squeezenet": (partial(models.squeezenet, num_classes=6, width_divisor=8), (2, 3, 33, 33)),
    "shufflenet_v2": (partial(models.shufflenet_v2, num_classes=6, width_mult=0.5, width_divisor=8), (3, 3, 40, 40)),
    "se_resnet50": (partial(_RESNET50, se_reduction=4), (3, 3, 33, 33)),
    "cifar_resnet20": (_CIFAR, (3, 3, 11, 11)),
}

OTHERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "squeezenet_1_0": (partial(LATER["squeezenet"][0], version="1_0"), (2, 3, 47, 47)),
    "resnext50": (partial(_RESNET50, groups=4, width_per_group=32), (3, 3, 33, 33)),
    "wide_resnet50": (partial(_RESNET50, width_per_group=128), (3, 3, 33, 33)),
    "cifar_resnet56": (partial(_CIFAR, depth=56), (3, 3, 10, 10)),
    "series_fcn": (partial(models.series_fcn, 2, 6, width_divisor=16), (3, 2, 20)),
    "series_resnet": (partial(models.series_resnet, 2, 6, width_divisor=16), (3, 2, 21)),
}
"""Those of lines, and what is much like another, which fewer tests are about."""

ALL = {
    **BOOK,
    **LATER,
    "efficientnet_lite0": EFFICIENTNET,
    **{
        name: (partial(function, num_classes=6, layout="torchvision"), shape)
        for name, (function, shape) in _TORCHVISION.items()
    },
}

UNETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "unet": (partial(models.unet, 1, 3, 2, 2), (2, 1, 12, 8)),
    "unet_bn": (partial(models.unet, 1, 3, 2, 2, batch_norm=True), (2, 1, 12, 8)),
    "unet_bilinear": (partial(models.unet, 2, 3, 2, 2, batch_norm=True, up="bilinear"), (2, 2, 12, 8)),
    "unet_valid": (partial(models.unet, 1, 2, 2, 2, "valid"), (1, 1, 44, 44)),
}
DCGANS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dcgan_generator": (partial(models.dcgan_generator, 5, 2, 2, 16), (3, 5, 1, 1)),
    "dcgan_discriminator": (partial(models.dcgan_discriminator, 2, 2, 16), (3, 2, 16, 16)),
}

CLASSIFIERS = [name for name in models.__all__ if not name.startswith(("unet", "dcgan"))]
"""The architectures that name what an image shows."""


def build(name: str, seed: int = 0) -> tuple[nn.Sequential, np.ndarray]:
    """The model of the name, float64 and seeded, and an input."""
    function, shape = {**ALL, **OTHERS, **UNETS, **DCGANS}[name]
    nn.init.manual_seed(seed)
    return function(dtype=np.float64), np.random.default_rng(seed).standard_normal(shape)
