"""LeNet, the convolutional network that reads handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import flag, integer, one_of
from .architecture import remembered

__all__ = ["lenet"]


@remembered
def lenet(
    in_channels: int = 1,
    num_classes: int = 10,
    pooling: str = "avg",
    batch_norm: bool = False,
    dtype: Any = np.float32,
) -> nn.Sequential:
    """LeNet-5 for images (n, in_channels, 28, 28), giving logits (n, num_classes).

    After LeCun et al. 1998 ("Gradient-based learning applied to document recognition"), in the simplified forms
    of Dive into Deep Learning: ``pooling="avg"`` pads the image by 2 and averages; ``pooling="max"`` does not pad,
    takes maxima, and so arrives at 16 maps of 4x4 instead of 5x5. ``batch_norm`` normalises before every activation
    (Ioffe and Szegedy 2015); the book's network with it does not pad with either pooling.

    Raises:
        ValueError: another ``pooling``, or numbers below 1.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in lenet().parameters())
        61706
    """
    pool = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}[one_of("pooling", pooling, ("avg", "max"))]
    padded = pooling == "avg" and not flag("batch_norm", batch_norm)
    size = 5 if padded else 4

    def normalized(layer: nn.Conv2d | nn.Linear, norm: type[nn.BatchNorm1d | nn.BatchNorm2d]) -> list[nn.Layer]:
        return [layer, norm(layer.weight.shape[0], dtype=dtype)] if batch_norm else [layer]

    return nn.Sequential(
        *normalized(nn.Conv2d(in_channels, 6, kernel_size=5, padding=2 if padded else 0, dtype=dtype), nn.BatchNorm2d),
        nn.Sigmoid(),
        pool(kernel_size=2, stride=2),
        *normalized(nn.Conv2d(6, 16, kernel_size=5, dtype=dtype), nn.BatchNorm2d),
        nn.Sigmoid(),
        pool(kernel_size=2, stride=2),
        nn.Flatten(),
        *normalized(nn.Linear(16 * size * size, 120, dtype=dtype), nn.BatchNorm1d),
        nn.Sigmoid(),
        *normalized(nn.Linear(120, 84, dtype=dtype), nn.BatchNorm1d),
        nn.Sigmoid(),
        nn.Linear(84, integer("num_classes", num_classes, 1), dtype=dtype),
    )
