"""NiN, the network in network: 1x1 convolutions in the place of linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import divided

__all__ = ["nin", "nin_block"]


@remembered
def nin(in_channels: int = 1, num_classes: int = 10, width_divisor: int = 1, dtype: Any = np.float32) -> nn.Sequential:
    """NiN for images (n, in_channels, 224, 224), giving logits (n, num_classes); 67 pixels are enough.

    After Lin et al. 2014 ("Network in network"), with Dive into Deep Learning's sizes. ``width_divisor`` divides the
    channels, other than the last ones, which are the classes.

    Raises:
        ValueError: numbers below 1, or a ``width_divisor`` that does not divide the channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in nin().parameters())
        1992166
    """
    c1, c2, c3 = divided(width_divisor, 96, 256, 384)
    num_classes = integer("num_classes", num_classes, 1)
    return nn.Sequential(
        nin_block(in_channels, c1, 11, stride=4, dtype=dtype),
        nn.MaxPool2d(3, stride=2),
        nin_block(c1, c2, 5, padding=2, dtype=dtype),
        nn.MaxPool2d(3, stride=2),
        nin_block(c2, c3, 3, padding=1, dtype=dtype),
        nn.MaxPool2d(3, stride=2),
        nn.Dropout(0.5),
        nin_block(c3, num_classes, 3, padding=1, dtype=dtype),
        nn.GlobalAvgPool2d(),
        nn.Flatten(),
    )


def nin_block(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0, dtype: Any = np.float32
) -> nn.Sequential:
    """A convolution and two 1x1 convolutions, each with ReLU: linear layers applied to every pixel."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dtype=dtype), nn.ReLU()),
        *(nn.Conv2d(out_channels, out_channels, 1, dtype=dtype), nn.ReLU()),
        *(nn.Conv2d(out_channels, out_channels, 1, dtype=dtype), nn.ReLU()),
    )
