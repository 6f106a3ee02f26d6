"""DenseNet, built from dense blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from .architecture import remembered
from .arguments import chosen, divided, layout_defaults

__all__ = ["dense_block", "densenet", "transition"]

_CONVOLUTIONS = {None: (4, 4, 4, 4), 121: (6, 12, 24, 16)}


@remembered
def densenet(
    in_channels: int | None = None,
    num_classes: int | None = None,
    depth: int | None = None,
    width_divisor: int = 1,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """DenseNet for images (n, in_channels, 96, 96), giving logits (n, num_classes); other sizes from 29 pixels on too.

    After Huang et al. 2017 ("Densely connected convolutional networks"), with growth rate 32.

    Args:
        in_channels, num_classes: 1 and 10 by default, 3 and 1000 in torchvision's layout.
        depth: None for Dive into Deep Learning's network, four blocks of four 3x3 convolutions, or 121 for the paper's
            DenseNet-121, whose 3x3 convolutions have a 1x1 convolution to 128 channels before them. Torchvision's
            layout has 121 only, and takes None for it.
        width_divisor: what all channels, and the growth rate, are divided by.
        layout: ``"book"``, or ``"torchvision"``: the convolutions have no bias. The state-dict keys are torchvision's
            in both.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``layout`` or ``depth``, numbers below 1, or a ``width_divisor`` that does not divide the
            channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in densenet().parameters())
        758226
    """
    in_channels, num_classes = layout_defaults(layout, in_channels, num_classes)
    book = layout == "book"
    if not book:
        depth = chosen("depth", depth, {None: 121, 121: 121})
    blocks = chosen("depth", depth, _CONVOLUTIONS)
    channels, growth = divided(width_divisor, 64, 32)
    features: dict[str, nn.Layer] = {
        "conv0": nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=book, dtype=dtype),
        "norm0": nn.BatchNorm2d(channels, dtype=dtype),
        "relu0": nn.ReLU(),
        "pool0": nn.MaxPool2d(3, stride=2, padding=1),
    }
    for i, convolutions in enumerate(blocks, 1):
        features[f"denseblock{i}"] = dense_block(convolutions, channels, growth, depth is not None, layout, dtype)
        channels += convolutions * growth
        if i < len(blocks):
            features[f"transition{i}"] = transition(channels, layout, dtype)
            channels //= 2
    features["norm5"] = nn.BatchNorm2d(channels, dtype=dtype)
    return nn.Sequential(
        {
            "features": nn.Sequential(features),
            "relu": nn.ReLU(),
            "avgpool": nn.GlobalAvgPool2d(),
            "flatten": nn.Flatten(),
            "classifier": nn.Linear(channels, num_classes, dtype=dtype),
        }
    )


def dense_block(
    convolutions: int,
    in_channels: int,
    growth: int,
    bottleneck: bool = False,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.DenseBlock:
    """(n, in_channels, h, w) -> (n, in_channels + convolutions * growth, h, w).

    Each batch normalisation, ReLU and 3x3 convolution to ``growth`` channels sees the input and the outputs of all
    before it; with ``bottleneck``, after the same with a 1x1 convolution to 4 ``growth`` channels.

    >>> dense_block(2, 3, 10).output_shape((4, 3, 8, 8))
    (4, 23, 8, 8)
    """
    conv = partial(nn.Conv2d, bias=layout == "book", dtype=dtype)
    norm = partial(nn.BatchNorm2d, dtype=dtype)

    def layer(channels: int) -> nn.Sequential:
        body = {"norm1": norm(channels), "relu1": nn.ReLU()}
        if bottleneck:
            body |= {"conv1": conv(channels, 4 * growth, 1), "norm2": norm(4 * growth), "relu2": nn.ReLU()}
            body |= {"conv2": conv(4 * growth, growth, 3, padding=1)}
        else:
            body |= {"conv1": conv(channels, growth, 3, padding=1)}
        return nn.Sequential(body)

    return nn.DenseBlock({f"denselayer{i + 1}": layer(in_channels + i * growth) for i in range(convolutions)})


def transition(in_channels: int, layout: str = "book", dtype: Any = np.float32) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, in_channels / 2, h / 2, w / 2)."""
    return nn.Sequential(
        {
            "norm": nn.BatchNorm2d(in_channels, dtype=dtype),
            "relu": nn.ReLU(),
            "conv": nn.Conv2d(in_channels, in_channels // 2, 1, bias=layout == "book", dtype=dtype),
            "pool": nn.AvgPool2d(2, stride=2),
        }
    )
