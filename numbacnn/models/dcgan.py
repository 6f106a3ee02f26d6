"""DCGAN: a generator that draws images from noise, and the discriminator that tells them from real ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered

__all__ = ["dcgan_discriminator", "dcgan_generator"]


@remembered
def dcgan_generator(
    latent: int = 100, out_channels: int = 3, width: int = 64, image_size: int = 64, dtype: Any = np.float32
) -> nn.Sequential:
    """DCGAN's generator: noise (n, latent, 1, 1) -> images (n, out_channels, image_size, image_size) in -1..1.

    After Radford et al. 2016 ("Unsupervised representation learning with deep convolutional generative adversarial
    networks"), as PyTorch's example has it, under its state-dict keys: a transposed convolution to 4x4 pixels, and as
    many of stride 2 as it takes; batch normalisation and ReLU behind each but the last, tanh behind that.

    The paper draws all weights from a normal distribution of standard deviation 0.02. Here they start as the layers'.

    Args:
        latent: how many numbers an image is drawn from.
        out_channels: of the images.
        width: the channels before the last convolution; there are twice as many before each earlier one.
        image_size: 4, 5, 6 or 7, which is what the first convolution gives, doubled once or more often: 8, 16, 32, 64,
            28, 96 and others.
        dtype: float32 or float64.

    Raises:
        ValueError: numbers below 1, another ``image_size``.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in dcgan_generator().parameters())
        3576704
    """
    first, steps = _halved("image_size", image_size)
    inputs, out_channels = integer("latent", latent, 1), integer("out_channels", out_channels, 1)
    conv = partial(nn.ConvTranspose2d, bias=False, dtype=dtype)
    outputs = integer("width", width, 1) << (steps - 1)
    layers: list[nn.Layer] = [conv(inputs, outputs, first)]
    for _ in range(steps - 1):
        layers += [nn.BatchNorm2d(outputs, dtype=dtype), nn.ReLU(), conv(outputs, outputs // 2, 4, 2, 1)]
        outputs //= 2
    layers += [nn.BatchNorm2d(width, dtype=dtype), nn.ReLU(), conv(width, out_channels, 4, 2, 1), nn.Tanh()]
    return nn.Sequential({"main": nn.Sequential(*layers)})


@remembered
def dcgan_discriminator(
    in_channels: int = 3, width: int = 64, image_size: int = 64, dtype: Any = np.float32
) -> nn.Sequential:
    """DCGAN's discriminator: images (n, in_channels, image_size, image_size) -> logits (n, 1) of their being real.

    The mirror image of :func:`dcgan_generator`, with leaky ReLU of slope 0.2. There is no sigmoid at its end:
    `nn.BCEWithLogitsLoss` has it.

    Args:
        in_channels: of the images.
        width: the channels behind the first convolution; there are twice as many behind each later one.
        image_size: as of :func:`dcgan_generator`.
        dtype: float32 or float64.

    Raises:
        ValueError: numbers below 1, another ``image_size``.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in dcgan_discriminator().parameters())
        2765568
    """
    last, steps = _halved("image_size", image_size)
    conv = partial(nn.Conv2d, bias=False, dtype=dtype)
    inputs = integer("width", width, 1)
    layers: list[nn.Layer] = [conv(integer("in_channels", in_channels, 1), inputs, 4, 2, 1), nn.LeakyReLU(0.2)]
    for _ in range(steps - 1):
        layers += [conv(inputs, 2 * inputs, 4, 2, 1), nn.BatchNorm2d(2 * inputs, dtype=dtype), nn.LeakyReLU(0.2)]
        inputs *= 2
    layers.append(conv(inputs, 1, last))
    return nn.Sequential({"main": nn.Sequential(*layers), "flatten": nn.Flatten()})


def _halved(name: str, size: int) -> tuple[int, int]:
    """4 to 7, and how often that is doubled to be ``size``."""
    smallest, steps = integer(name, size, 1), 0
    while smallest % 2 == 0 and smallest > 7:
        smallest, steps = smallest // 2, steps + 1
    if not steps or smallest not in range(4, 8):
        raise ValueError(f"`{name}` {size} must be 4, 5, 6 or 7, doubled once or more often")
    return smallest, steps
