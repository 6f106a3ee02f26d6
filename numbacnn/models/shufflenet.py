"""ShuffleNet V2, built from units that split, transform and shuffle channels."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import chosen, divided

__all__ = ["shuffle_unit", "shufflenet_v2"]

_BLOCKS = (4, 8, 4)
_CHANNELS = {
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}
"""Of the first convolution, the three stages and the last convolution."""


@remembered
def shufflenet_v2(
    in_channels: int = 3,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    width_divisor: int = 1,
    dtype: Any = np.float32,
) -> nn.Sequential:
    """ShuffleNet V2 for images (n, in_channels, 224, 224), giving logits (n, num_classes); every other size works too.

    After Ma et al. 2018 ("ShuffleNet V2: practical guidelines for efficient CNN architecture design"). The state-dict
    keys are torchvision's.

    Args:
        in_channels, num_classes: as in ImageNet by default.
        width_mult: 0.5, 1, 1.5 or 2, the paper's networks of 1,366,792, 2,278,604, 3,503,624 and 7,393,996 parameters.
        width_divisor: what all channels are divided by.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``width_mult``, numbers below 1, or a ``width_divisor`` that does not divide the channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in shufflenet_v2().parameters())
        2278604
    """
    inputs, *widths, last = divided(width_divisor, *chosen("width_mult", width_mult, _CHANNELS))
    in_channels, num_classes = integer("in_channels", in_channels, 1), integer("num_classes", num_classes, 1)
    layers: dict[str, nn.Layer] = {
        "conv1": nn.Sequential(*_unit(in_channels, inputs, 3, 2, dtype=dtype), nn.ReLU()),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    for stage, (blocks, channels) in enumerate(zip(_BLOCKS, widths, strict=True), 2):
        units = (shuffle_unit(channels, channels, dtype=dtype) for _ in range(blocks - 1))
        layers[f"stage{stage}"] = nn.Sequential(shuffle_unit(inputs, channels, 2, dtype), *units)
        inputs = channels
    layers["conv5"] = nn.Sequential(*_unit(inputs, last, 1, dtype=dtype), nn.ReLU())
    head = {"avgpool": nn.GlobalAvgPool2d(), "flatten": nn.Flatten(), "fc": nn.Linear(last, num_classes, dtype=dtype)}
    return nn.Sequential({**layers, **head})


def shuffle_unit(in_channels: int, channels: int, stride: int = 1, dtype: Any = np.float32) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, channels, h / stride, w / stride): two branches of half of the channels, shuffled.

    With stride 1 the first branch is the first half of the input, as it is, and the other one transforms the second
    half; with stride 2 both transform all of it. ``channels`` are even, and with stride 1 as many as ``in_channels``.

    >>> shuffle_unit(6, 10, stride=2).output_shape((1, 6, 8, 8))
    (1, 10, 4, 4)
    """
    (half,) = divided(2, channels, name="channels")
    unit = partial(_unit, dtype=dtype)
    first: nn.Layer = nn.ZeroPadChannels((0, -half))
    second: dict[str, nn.Layer] = {"half": nn.ZeroPadChannels((-half, 0))}
    inputs = half
    if stride > 1:
        inputs, second = in_channels, {}
        first = nn.Sequential(*unit(inputs, inputs, 3, stride, groups=inputs), *unit(inputs, half, 1), nn.ReLU())
    transform = [
        *(*unit(inputs, half, 1), nn.ReLU()),
        *(*unit(half, half, 3, stride, groups=half), *unit(half, half, 1), nn.ReLU()),
    ]
    second |= {str(i): layer for i, layer in enumerate(transform)}
    return nn.Sequential(
        {"": nn.Concat({"branch1": first, "branch2": nn.Sequential(second)}), "shuffle": nn.ChannelShuffle(2)}
    )


def _unit(
    in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1, dtype: Any = np.float32
) -> list[nn.Layer]:
    conv = partial(nn.Conv2d, padding=kernel_size // 2, groups=groups, bias=False, dtype=dtype)
    return [conv(in_channels, channels, kernel_size, stride), nn.BatchNorm2d(channels, dtype=dtype)]
