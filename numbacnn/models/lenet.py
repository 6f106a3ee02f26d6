"""LeNet, the convolutional network that reads handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn

__all__ = ["lenet"]


def lenet(in_channels: int = 1, num_classes: int = 10, pooling: str = "avg", dtype: Any = np.float32) -> nn.Sequential:
    """LeNet-5 for images (n, in_channels, 28, 28), giving logits (n, num_classes).

    After LeCun et al. 1998 ("Gradient-based learning applied to document recognition"), in the two simplified forms
    of Dive into Deep Learning: ``pooling="avg"`` pads the image by 2 and averages; ``pooling="max"`` does not pad,
    takes maxima, and so arrives at 16 maps of 4x4 instead of 5x5.

    Raises:
        ValueError: another ``pooling``, or numbers below 1.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in lenet().parameters())
        61706
    """
    if pooling not in ("avg", "max"):
        raise ValueError(f"`pooling` {pooling!r} must be 'avg' or 'max'")
    pool, padding, size = (nn.AvgPool2d, 2, 5) if pooling == "avg" else (nn.MaxPool2d, 0, 4)
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, kernel_size=5, padding=padding, dtype=dtype),
        nn.Sigmoid(),
        pool(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5, dtype=dtype),
        nn.Sigmoid(),
        pool(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(16 * size * size, 120, dtype=dtype),
        nn.Sigmoid(),
        nn.Linear(120, 84, dtype=dtype),
        nn.Sigmoid(),
        nn.Linear(84, num_classes, dtype=dtype),
    )
