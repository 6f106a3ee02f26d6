"""Every architecture learns a few images, series or masks by heart; a session then says what it learned."""

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

Samples = tuple[np.ndarray, np.ndarray]


def drawn(size: int) -> Samples:
    """64 of the built-in images."""
    dataset = shapes("train", 64, image_size=size)
    images = dataset.images
    return ((images - images.mean()) / images.std()).astype(np.float32), dataset.labels


def waves() -> Samples:
    """Of three frequencies, in noise."""
    rng, labels = np.random.default_rng(0), np.arange(12) % 3
    lines = np.sin(np.outer(labels + 1, np.arange(40) / 3) + rng.uniform(0, 6, (12, 1)))
    return (lines + rng.normal(0, 0.3, lines.shape)).astype(np.float32)[:, None], labels


def boxes() -> Samples:
    """One of two colours in each image, in noise, and whose pixel each is."""
    masks = np.zeros((4, 16, 16), np.int64)
    masks[:2, 3:9, 4:12], masks[2:, 6:14, 2:9] = 1, 2
    noise = np.random.default_rng(0).normal(0, 0.3, (4, 1, 16, 16))
    return (masks[:, None] * 0.5 + noise).astype(np.float32), masks


# Narrow, to take seconds: the samples, the learning rate and the steps that are more than enough. NiN's blocks are as
# wide as its number of classes: among ten channels, too many can be zero for good.
CASES: dict[str, tuple[Callable[..., nn.Sequential], Callable[[], Samples], float, int]] = {
    "lenet": (models.lenet, partial(drawn, 28), 5e-3, 200),
    "alexnet": (partial(models.alexnet, width_divisor=8, hidden_features=256), partial(drawn, 195), 3e-3, 100),
    "vgg11": (partial(models.vgg, width_divisor=32, hidden_features=256), partial(drawn, 224), 3e-3, 100),
    "nin": (partial(models.nin, num_classes=40, width_divisor=4), partial(drawn, 67), 2e-3, 200),
    "googlenet": (partial(models.googlenet, width_divisor=4), partial(drawn, 32), 1e-3, 100),
    "resnet18": (partial(models.resnet, width_divisor=8), partial(drawn, 32), 3e-3, 100),
    "densenet": (partial(models.densenet, width_divisor=8), partial(drawn, 32), 3e-3, 120),
    "mobilenet_v2": (partial(models.mobilenet_v2, 1, 10, 0.25), partial(drawn, 20), 3e-3, 150),
    "squeezenet": (partial(models.squeezenet, 1, 40, width_divisor=4), partial(drawn, 33), 2e-3, 200),
    "shufflenet_v2": (partial(models.shufflenet_v2, 1, 10, 0.5, 2), partial(drawn, 32), 3e-3, 120),
    "se_resnet18": (partial(models.resnet, width_divisor=8, se_reduction=2), partial(drawn, 32), 3e-3, 100),
    "cifar_resnet20": (partial(models.cifar_resnet, 1, width_divisor=2), partial(drawn, 16), 3e-3, 150),
    "series_fcn": (partial(models.series_fcn, num_classes=3, width_divisor=8), waves, 3e-3, 60),
    "series_resnet": (partial(models.series_resnet, num_classes=3, width_divisor=8), waves, 3e-3, 60),
    "unet": (partial(models.unet, 1, 3, 8, 2, batch_norm=True), boxes, 1e-2, 100),
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
def test_all_samples_are_learned(fast_backend: Backend, name: str) -> None:
    build, samples, lr, steps = CASES[name]
    x, labels = samples()
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
    session = nn.InferenceSession(model.eval())
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(session(x)), np.asarray(model(x)))
    assert session.mode is not None and session.mode.startswith("captured")
