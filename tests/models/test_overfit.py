"""Every architecture learns 64 images by heart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import models, nn, optim
from numbacnn.backends import Backend
from numbacnn.data import shapes
from numbacnn.training import TrainingStep
from tests.strategies import SIMULATED

# Narrow, to take seconds: the size of the images, the learning rate and the steps that are more than enough. NiN's
# blocks are as wide as its number of classes: among ten channels, too many can be zero for good.
CASES: dict[str, tuple[Callable[..., nn.Sequential], int, float, int]] = {
    "lenet": (models.lenet, 28, 5e-3, 200),
    "alexnet": (partial(models.alexnet, width_divisor=8, hidden_features=256), 195, 3e-3, 100),
    "vgg11": (partial(models.vgg, width_divisor=32, hidden_features=256), 224, 3e-3, 100),
    "nin": (partial(models.nin, num_classes=40, width_divisor=4), 67, 2e-3, 200),
    "googlenet": (partial(models.googlenet, width_divisor=4), 32, 1e-3, 100),
    "resnet18": (partial(models.resnet, width_divisor=8), 32, 3e-3, 100),
    "densenet": (partial(models.densenet, width_divisor=8), 32, 3e-3, 120),
    "mobilenet_v2": (partial(models.mobilenet_v2, 1, 10, 0.25), 20, 3e-3, 150),
    "squeezenet": (partial(models.squeezenet, 1, 40, width_divisor=4), 33, 2e-3, 200),
    "shufflenet_v2": (partial(models.shufflenet_v2, 1, 10, 0.5, 2), 32, 3e-3, 120),
    "se_resnet18": (partial(models.resnet, width_divisor=8, se_reduction=2), 32, 3e-3, 100),
    "cifar_resnet20": (partial(models.cifar_resnet, 1, width_divisor=2), 16, 3e-3, 150),
}


def start(model: nn.Sequential) -> None:
    """Biases of zero; for convolutions twice Xavier's variance, as ReLU needs (He et al. 2015).

    Where ReLU gives the logits, as in NiN, those begin above its zero.
    """
    nn.init.xavier_uniform(model)
    convolutions = [layer for layer in model.layers() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        layer.weight.value = np.sqrt(2) * np.asarray(layer.weight.value)
        if layer.bias is not None:
            last = layer is convolutions[-1] and not any(isinstance(other, nn.Linear) for other in model.layers())
            layer.bias.value = np.full(layer.bias.shape, float(last))


@pytest.mark.skipif(SIMULATED, reason="training takes hours in the simulator")
@pytest.mark.parametrize("name", CASES)
def test_all_of_64_images_are_learned(fast_backend: Backend, name: str) -> None:
    build, size, lr, steps = CASES[name]
    dataset = shapes("train", 64, image_size=size)
    images, labels = dataset.images, dataset.labels
    x = ((images - images.mean()) / images.std()).astype(np.float32)
    nc.manual_seed(0)
    model = build()
    start(model)
    step = TrainingStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr))
    accuracies: list[float] = []
    while 1 not in accuracies and 10 * len(accuracies) < steps:
        for _ in range(10):
            step(x, labels)
        accuracies.append(float((np.asarray(model.predict(x)).argmax(axis=1) == labels).mean()))
    assert accuracies[-1] == 1, accuracies
