"""DCGAN: the parameters and names of PyTorch's example, sizes of images, a step of both halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import models, nn, optim
from numbacnn.backends import Backend
from numbacnn.training import CapturedFunction
from tests.models.test_models import count
from tests.models.test_models import weightless as weightless
from tests.models.test_torchvision_layout import norm, weight
from tests.strategies import SIMULATED


def test_names_and_sizes_are_those_of_pytorch_s_example(weightless: None) -> None:
    generator, discriminator = models.dcgan_generator(), models.dcgan_discriminator()
    assert count(generator) == 3_576_704 and count(discriminator) == 2_765_568
    keys = [key for i in (0, 3, 6, 9) for key in (*weight(f"main.{i}"), *norm(f"main.{i + 1}"))]
    assert list(generator.state_dict()) == [*keys, "main.12.weight"]
    keys = [key for i in (2, 5, 8) for key in (*weight(f"main.{i}"), *norm(f"main.{i + 1}"))]
    assert list(discriminator.state_dict()) == ["main.0.weight", *keys, "main.11.weight"]
    assert generator.state_dict()["main.0.weight"].shape == (100, 512, 4, 4)
    assert generator.output_shape((2, 100, 1, 1)) == (2, 3, 64, 64)
    assert discriminator.output_shape((2, 3, 64, 64)) == (2, 1)


@pytest.mark.parametrize("size", [8, 10, 12, 14, 28, 32, 96, 128])
def test_sizes_of_images(size: int) -> None:
    generator = models.dcgan_generator(5, 2, 2, size)
    assert generator.output_shape((3, 5, 1, 1)) == (3, 2, size, size)
    assert models.dcgan_discriminator(2, 2, size).output_shape((3, 2, size, size)) == (3, 1)


class Halves:
    """Both halves, and a step of theirs on batches of real images."""

    def __init__(self, backend: Backend) -> None:
        with nc.use_backend(backend.name):
            nc.manual_seed(0)
            self.generator, self.discriminator = models.dcgan_generator(4, 1, 8, 8), models.dcgan_discriminator(1, 8, 8)
            self.bce = nn.BCEWithLogitsLoss()
        self.of_generator, self.of_discriminator = (
            optim.Adam(model.parameters(), 5e-3, betas=(0.5, 0.999)) for model in (self.generator, self.discriminator)
        )

    def step(self, real: Any, noise: Any, ones: Any, zeros: Any) -> Any:
        self.of_discriminator.zero_grad()
        value = self.bce.compute(self.discriminator.forward(real), ones)
        self.discriminator.backward(self.bce.backward(), input_gradient=False)
        drawn = self.generator.forward(noise)
        self.bce.compute(self.discriminator.forward(drawn), zeros)
        self.discriminator.backward(self.bce.backward(), input_gradient=False)
        self.of_discriminator.step()
        self.of_generator.zero_grad()
        self.bce.compute(self.discriminator.forward(drawn), ones)
        self.generator.backward(self.discriminator.backward(self.bce.backward()), input_gradient=False)
        self.of_generator.step()
        return value

    def captured(self) -> CapturedFunction:
        models = self.generator, self.discriminator
        return CapturedFunction(self.step, *models, self.bce, self.of_generator, self.of_discriminator)

    def weights(self) -> list[np.ndarray]:
        return [np.asarray(parameter.value).copy() for parameter in self.generator.parameters()]


@pytest.mark.skipif(SIMULATED, reason="training takes minutes in the simulator")
def test_a_captured_step_of_both_is_the_plain_one_and_draws_what_it_was_shown(backend: Backend) -> None:
    """All real images are one grey, which the generator draws soon."""
    real, ones = np.full((8, 1, 8, 8), 0.6, np.float32), np.ones((8, 1), np.float32)
    zeros = np.zeros_like(ones)
    noise = np.random.default_rng(0).standard_normal((40, 8, 4, 1, 1), np.float32)
    plain, other = Halves(backend), Halves(backend)
    captured = other.captured()
    for i, batch in enumerate(noise):
        captured(real, batch, ones, zeros)
        if i < 3:
            plain.step(*map(backend.asarray, (real, batch, ones, zeros)))
            assert all(map(np.array_equal, plain.weights(), other.weights()))
    drawn = np.asarray(other.generator.predict(noise[0]))
    assert drawn.shape == (8, 1, 8, 8) and abs(drawn.mean() - 0.6) < 0.25


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (models.dcgan_generator, {"latent": 0}, "`latent` 0 must be at least 1"),
        (models.dcgan_generator, {"out_channels": 0}, "`out_channels` 0 must be at least 1"),
        (models.dcgan_generator, {"width": 0}, "`width` 0 must be at least 1"),
        (models.dcgan_generator, {"image_size": 36}, "`image_size` 36 must be 4, 5, 6 or 7, doubled once or more"),
        (models.dcgan_generator, {"image_size": 7}, "`image_size` 7 must be 4, 5, 6 or 7, doubled once or more"),
        (models.dcgan_generator, {"dtype": np.float16}, "`dtype` float16 must be"),
        (models.dcgan_discriminator, {"in_channels": 0}, "`in_channels` 0 must be at least 1"),
        (models.dcgan_discriminator, {"width": 0}, "`width` 0 must be at least 1"),
        (models.dcgan_discriminator, {"image_size": 3}, "`image_size` 3 must be 4, 5, 6 or 7, doubled once or more"),
        (models.dcgan_discriminator, {"dtype": np.float16}, "`dtype` float16 must be"),
    ],
)
def test_bad_arguments(function: Callable[..., Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(**arguments)
