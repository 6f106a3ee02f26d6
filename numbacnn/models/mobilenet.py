"""MobileNetV2, built from inverted residual blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer, number
from .architecture import remembered
from .arguments import rounded

__all__ = ["mobilenet_v2"]

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of each stage: expansion, channels, the number of blocks, the first one's stride."""
_WIDEST = 4.0


@remembered
def mobilenet_v2(
    in_channels: int = 3,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    dropout: float = 0.2,
    dtype: Any = np.float32,
) -> nn.Sequential:
    """MobileNetV2 for images (n, in_channels, 224, 224), giving logits (n, num_classes); every other size works too.

    After Sandler et al. 2018 ("MobileNetV2: inverted residuals and linear bottlenecks"). The state-dict keys are
    torchvision's.

    Args:
        in_channels, num_classes: as in ImageNet by default.
        width_mult: what all channels are multiplied by, above 0 and at most 4; the results are rounded to multiples of
            8, and the 1280 features of the last layer do not become fewer.
        dropout: what share of these features is dropped.
        dtype: float32 or float64.

    Raises:
        ValueError: numbers below 1, ``width_mult`` or ``dropout`` outside of what they may be.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in mobilenet_v2().parameters())
        3504872
    """
    if not number("width_mult", width_mult, 0, _WIDEST):
        raise ValueError(f"`width_mult` {width_mult!r} must be above 0")
    inputs, last = rounded(32 * width_mult), rounded(1280 * max(1.0, width_mult))
    features: list[nn.Layer] = [_unit(integer("in_channels", in_channels, 1), inputs, 3, 2, dtype=dtype)]
    for expansion, channels, blocks, stride in _STAGES:
        outputs = rounded(channels * width_mult)
        for block in range(blocks):
            features.append(_inverted_residual(inputs, outputs, 1 if block else stride, expansion, dtype))
            inputs = outputs
    features.append(_unit(inputs, last, 1, dtype=dtype))
    classifier = nn.Sequential(
        nn.Dropout(dropout), nn.Linear(last, integer("num_classes", num_classes, 1), dtype=dtype)
    )
    return nn.Sequential(
        {
            "features": nn.Sequential(*features),
            "avgpool": nn.GlobalAvgPool2d(),
            "flatten": nn.Flatten(),
            "classifier": classifier,
        }
    )


def _inverted_residual(in_channels: int, channels: int, stride: int, expansion: int, dtype: Any) -> nn.Layer:
    """A depthwise convolution between one to ``expansion`` times the channels and one back, which has no activation."""
    inner = expansion * in_channels
    body: list[nn.Layer] = [] if expansion == 1 else [_unit(in_channels, inner, 1, dtype=dtype)]
    body.append(_unit(inner, inner, 3, stride, inner, dtype))
    body += [nn.Conv2d(inner, channels, 1, bias=False, dtype=dtype), nn.BatchNorm2d(channels, dtype=dtype)]
    block = nn.Sequential({"conv": nn.Sequential(*body)})
    return nn.Add({"": block, "skip": nn.Identity()}) if stride == 1 and in_channels == channels else block


def _unit(
    in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1, dtype: Any = np.float32
) -> nn.Sequential:
    conv = partial(nn.Conv2d, padding=kernel_size // 2, groups=groups, bias=False, dtype=dtype)
    return nn.Sequential(
        conv(in_channels, channels, kernel_size, stride), nn.BatchNorm2d(channels, dtype=dtype), nn.ReLU6()
    )
