"""Networks that classify series, of convolutions along the time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import divided

__all__ = ["series_fcn", "series_resnet"]


@remembered
def series_fcn(
    in_channels: int = 1, num_classes: int = 10, width_divisor: int = 1, dtype: Any = np.float32
) -> nn.Sequential:
    """A fully convolutional network for series (n, in_channels, length), giving logits (n, num_classes).

    After Wang, Yan and Oates 2017 ("Time series classification from scratch with deep neural networks: a strong
    baseline"): three convolutions with batch normalisation, then the mean over the time, whatever the length.

    Args:
        in_channels, num_classes: 1 and 10 by default.
        width_divisor: what all channels are divided by.
        dtype: float32 or float64.

    Raises:
        ValueError: numbers below 1, or a ``width_divisor`` that does not divide the channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     model = series_fcn(num_classes=2)
        >>> sum(parameter.size for parameter in model.parameters()), model.output_shape((8, 1, 140))
        (264962, (8, 2))
    """
    widths = divided(width_divisor, 128, 256, 128)
    body = _convolutions(integer("in_channels", in_channels, 1), widths, (8, 5, 3), dtype)
    return nn.Sequential({**body, "relu3": nn.ReLU(), **_head(widths[-1], num_classes, dtype)})


@remembered
def series_resnet(
    in_channels: int = 1, num_classes: int = 10, width_divisor: int = 1, dtype: Any = np.float32
) -> nn.Sequential:
    """A residual network for series (n, in_channels, length), giving logits (n, num_classes).

    After Wang, Yan and Oates 2017, as `series_fcn`: three blocks of three convolutions each, whose shortcuts have batch
    normalisation, and a convolution of one point where the number of channels changes.

    Args:
        in_channels, num_classes: 1 and 10 by default.
        width_divisor: what all channels are divided by.
        dtype: float32 or float64.

    Raises:
        ValueError: numbers below 1, or a ``width_divisor`` that does not divide the channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in series_resnet(num_classes=2).parameters())
        504258
    """
    inputs = integer("in_channels", in_channels, 1)
    blocks: dict[str, nn.Layer] = {}
    for i, channels in enumerate(divided(width_divisor, 64, 128, 128), 1):
        body = nn.Sequential(_convolutions(inputs, (channels,) * 3, (8, 5, 3), dtype))
        projection = [] if inputs == channels else [nn.Conv1d(inputs, channels, 1, dtype=dtype)]
        shortcut = nn.Sequential(*projection, nn.BatchNorm1d(channels, dtype=dtype))
        blocks[f"block{i}"] = nn.Sequential({"": nn.Add({"": body, "shortcut": shortcut}), "relu": nn.ReLU()})
        inputs = channels
    return nn.Sequential({**blocks, **_head(inputs, num_classes, dtype)})


def _convolutions(
    in_channels: int, channels: tuple[int, ...], kernel_sizes: tuple[int, ...], dtype: Any
) -> dict[str, nn.Layer]:
    """Convolutions that keep the length, each with batch normalisation, and ReLU between them."""
    conv = partial(nn.Conv1d, padding="same", dtype=dtype)
    layers: dict[str, nn.Layer] = {}
    for i, (outputs, kernel_size) in enumerate(zip(channels, kernel_sizes, strict=True), 1):
        relu = {} if i == len(channels) else {f"relu{i}": nn.ReLU()}
        layers |= {
            f"conv{i}": conv(in_channels, outputs, kernel_size),
            f"bn{i}": nn.BatchNorm1d(outputs, dtype=dtype),
            **relu,
        }
        in_channels = outputs
    return layers


def _head(features: int, num_classes: int, dtype: Any) -> dict[str, nn.Layer]:
    """The mean over the time, of lines as images of one row, and a linear layer."""
    last = nn.Linear(features, integer("num_classes", num_classes, 1), dtype=dtype)
    pooling = {"image": nn.Unflatten(2, (1, -1)), "avgpool": nn.GlobalAvgPool2d(), "flatten": nn.Flatten()}
    return {**pooling, "fc": last}
