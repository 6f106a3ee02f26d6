"""ResNet, built from residual blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from .architecture import remembered
from .arguments import chosen, divided, layout_defaults

__all__ = ["residual_block", "resnet"]

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@remembered
def resnet(
    in_channels: int | None = None,
    num_classes: int | None = None,
    depth: int = 18,
    width_divisor: int = 1,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """ResNet for images (n, in_channels, 96, 96), giving logits (n, num_classes); every other size works too.

    After He et al. 2016 ("Deep residual learning for image recognition").

    Args:
        in_channels, num_classes: 1 and 10 by default, 3 and 1000 in torchvision's layout.
        depth: 18, 34, 50, 101 or 152 layers with weights; from 50 on of bottleneck blocks.
        width_divisor: what all channels are divided by.
        layout: ``"book"``, Dive into Deep Learning's, or ``"torchvision"``: the convolutions have no bias, and the
            shortcut's is followed by batch normalisation. The state-dict keys are torchvision's in both.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``layout`` or ``depth``, numbers below 1, or a ``width_divisor`` that does not divide the
            channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in resnet().parameters())
        11178378
    """
    in_channels, num_classes = layout_defaults(layout, in_channels, num_classes)
    stages = chosen("depth", depth, _BLOCKS)
    widths = divided(width_divisor, 64, 128, 256, 512)
    bottleneck = depth >= 50
    inputs = widths[0]
    layers: dict[str, nn.Layer] = {
        "conv1": nn.Conv2d(in_channels, inputs, 7, stride=2, padding=3, bias=layout == "book", dtype=dtype),
        "bn1": nn.BatchNorm2d(inputs, dtype=dtype),
        "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    for stage, (blocks, channels) in enumerate(zip(stages, widths, strict=True)):
        stride = 2 if stage else 1
        outputs = 4 * channels if bottleneck else channels
        layers[f"layer{stage + 1}"] = nn.Sequential(
            residual_block(inputs, channels, stride, bottleneck, layout, dtype),
            *(residual_block(outputs, channels, 1, bottleneck, layout, dtype) for _ in range(blocks - 1)),
        )
        inputs = outputs
    head = {"avgpool": nn.GlobalAvgPool2d(), "flatten": nn.Flatten(), "fc": nn.Linear(inputs, num_classes, dtype=dtype)}
    return nn.Sequential({**layers, **head})


def residual_block(
    in_channels: int,
    channels: int,
    stride: int = 1,
    bottleneck: bool = False,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, channels, h / stride, w / stride): two 3x3 convolutions beside a shortcut.

    With ``bottleneck``, a 1x1 convolution to ``channels``, a 3x3, which has the stride, and a 1x1 to 4 ``channels``,
    the output's. The shortcut is a 1x1 convolution where the shape changes, else the input itself.
    """
    conv = partial(nn.Conv2d, bias=layout == "book", dtype=dtype)
    norm = partial(nn.BatchNorm2d, dtype=dtype)
    outputs = 4 * channels if bottleneck else channels
    if bottleneck:
        body = {
            **{"conv1": conv(in_channels, channels, 1), "bn1": norm(channels), "relu1": nn.ReLU()},
            **{"conv2": conv(channels, channels, 3, stride, padding=1), "bn2": norm(channels), "relu2": nn.ReLU()},
            **{"conv3": conv(channels, outputs, 1), "bn3": norm(outputs)},
        }
    else:
        body = {
            **{"conv1": conv(in_channels, channels, 3, stride, padding=1), "bn1": norm(channels), "relu1": nn.ReLU()},
            **{"conv2": conv(channels, channels, 3, padding=1), "bn2": norm(channels)},
        }
    shortcut: nn.Layer = nn.Identity()
    if stride != 1 or in_channels != outputs:
        projection = conv(in_channels, outputs, 1, stride)
        shortcut = nn.Sequential(projection) if layout == "book" else nn.Sequential(projection, norm(outputs))
    return nn.Sequential({"": nn.Add({"": nn.Sequential(body), "downsample": shortcut}), "relu": nn.ReLU()})
