"""The small ResNets for images of 32 pixels, whose shortcuts have no weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import chosen, divided
from .resnet import residual_block

__all__ = ["cifar_resnet"]

_BLOCKS = {6 * n + 2: n for n in (3, 5, 7, 9, 18)}


@remembered
def cifar_resnet(
    in_channels: int = 3, num_classes: int = 10, depth: int = 20, width_divisor: int = 1, dtype: Any = np.float32
) -> nn.Sequential:
    """ResNet for small images (n, in_channels, 32, 32), giving logits (n, num_classes); every other size works too.

    After He et al. 2016 ("Deep residual learning for image recognition", section 4.2): three stages of 16, 32 and 64
    channels. Where the shape changes, the shortcut takes every other pixel and has channels of zeros around (the
    paper's option A), so that ResNets of 20, 32, 44, 56 and 110 layers have 0.27, 0.46, 0.66, 0.85 and 1.7 million
    parameters. The state-dict keys are those of the repository ``akamaster/pytorch_resnet_cifar10``, which has weights
    for all of them.

    Args:
        in_channels, num_classes: as in CIFAR-10 by default.
        depth: 20, 32, 44, 56 or 110 layers with weights.
        width_divisor: what all channels are divided by.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``depth``, numbers below 1, or a ``width_divisor`` that does not divide the channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in cifar_resnet().parameters())
        269722
    """
    blocks = chosen("depth", depth, _BLOCKS)
    widths = divided(width_divisor, 16, 32, 64)
    inputs = widths[0]
    in_channels = integer("in_channels", in_channels, 1)
    layers: dict[str, nn.Layer] = {
        "conv1": nn.Conv2d(in_channels, inputs, 3, padding=1, bias=False, dtype=dtype),
        "bn1": nn.BatchNorm2d(inputs, dtype=dtype),
        "relu": nn.ReLU(),
    }
    for stage, channels in enumerate(widths, 1):
        stack = []
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = _shortcut(inputs, channels) if stride > 1 else None
            stack.append(residual_block(inputs, channels, stride, layout="torchvision", dtype=dtype, shortcut=shortcut))
            inputs = channels
        layers[f"layer{stage}"] = nn.Sequential(*stack)
    last = nn.Linear(inputs, integer("num_classes", num_classes, 1), dtype=dtype)
    return nn.Sequential({**layers, "avgpool": nn.GlobalAvgPool2d(), "flatten": nn.Flatten(), "linear": last})


def _shortcut(in_channels: int, channels: int) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, channels, h / 2, w / 2): every other row and column, zeros on both sides."""
    more = channels - in_channels
    return nn.Sequential(nn.AvgPool2d(1, 2), nn.ZeroPadChannels((more // 2, more - more // 2)))
