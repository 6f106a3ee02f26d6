"""ResNet, ResNeXt, Wide ResNet and SE-ResNet, built from residual blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import chosen, divided, layout_defaults

__all__ = ["residual_block", "resnet", "squeeze_excitation"]

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@remembered
def resnet(
    in_channels: int | None = None,
    num_classes: int | None = None,
    depth: int = 18,
    width_divisor: int = 1,
    layout: str = "book",
    dtype: Any = np.float32,
    groups: int = 1,
    width_per_group: int = 64,
    se_reduction: int | None = None,
) -> nn.Sequential:
    """ResNet for images (n, in_channels, 96, 96), giving logits (n, num_classes); every other size works too.

    After He et al. 2016 ("Deep residual learning for image recognition"); also ResNeXt of Xie et al. 2017 ("Aggregated
    residual transformations for deep neural networks"), Wide ResNet of Zagoruyko and Komodakis 2016 ("Wide residual
    networks") and SE-ResNet of Hu et al. 2018 ("Squeeze-and-excitation networks"). With 1000 classes in torchvision's
    layout these are

    ==================  =======================================================  ===========
    network             arguments                                                parameters
    ==================  =======================================================  ===========
    ResNet-50           ``depth=50``                                             25,557,032
    ResNeXt-50 32x4d    ``depth=50, groups=32, width_per_group=4``               25,028,904
    ResNeXt-101 32x8d   ``depth=101, groups=32, width_per_group=8``              88,791,336
    Wide ResNet-50-2    ``depth=50, width_per_group=128``                        68,883,240
    Wide ResNet-101-2   ``depth=101, width_per_group=128``                       126,886,696
    SE-ResNet-50        ``depth=50, se_reduction=16``                            28,088,024
    ==================  =======================================================  ===========

    Args:
        in_channels, num_classes: 1 and 10 by default, 3 and 1000 in torchvision's layout.
        depth: 18, 34, 50, 101 or 152 layers with weights; from 50 on of bottleneck blocks.
        width_divisor: what all channels are divided by.
        layout: ``"book"``, Dive into Deep Learning's, or ``"torchvision"``: the convolutions have no bias, and the
            shortcut's is followed by batch normalisation. The state-dict keys are torchvision's in both; those of
            squeeze-and-excitation, which torchvision does not have, are timm's, ``se.fc1`` and ``se.fc2``.
        dtype: float32 or float64.
        groups, width_per_group: of the 3x3 convolutions of bottleneck blocks; in the first stage they have
            ``groups * width_per_group`` channels, in each other twice as many as in the one before it.
        se_reduction: what each block's channels are divided by inside of its squeeze-and-excitation, 16 in the paper;
            None for none.

    Raises:
        ValueError: another ``layout`` or ``depth``, numbers below 1, a ``width_divisor`` or ``se_reduction`` that does
            not divide the channels, or ``groups`` and ``width_per_group`` where there is no bottleneck.

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
    groups, width_per_group = integer("groups", groups, 1), integer("width_per_group", width_per_group, 1)
    if not bottleneck and (groups, width_per_group) != (1, 64):
        raise ValueError(
            f"`groups` {groups} and `width_per_group` {width_per_group} must be 1 and 64 for `depth` {depth}, whose "
            "blocks are no bottlenecks"
        )
    inner_widths = divided(width_divisor, *(groups * width_per_group * factor for factor in (1, 2, 4, 8)))
    inputs = widths[0]
    layers: dict[str, nn.Layer] = {
        "conv1": nn.Conv2d(in_channels, inputs, 7, stride=2, padding=3, bias=layout == "book", dtype=dtype),
        "bn1": nn.BatchNorm2d(inputs, dtype=dtype),
        "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    for stage, (blocks, channels, inner) in enumerate(zip(stages, widths, inner_widths, strict=True)):
        block = partial(
            residual_block, bottleneck=bottleneck, layout=layout, dtype=dtype,
            inner_channels=inner, groups=groups, se_reduction=se_reduction,
        )  # fmt: skip
        outputs = 4 * channels if bottleneck else channels
        layers[f"layer{stage + 1}"] = nn.Sequential(
            block(inputs, channels, 2 if stage else 1), *(block(outputs, channels) for _ in range(blocks - 1))
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
    inner_channels: int | None = None,
    groups: int = 1,
    se_reduction: int | None = None,
    shortcut: nn.Layer | None = None,
) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, channels, h / stride, w / stride): two 3x3 convolutions beside a shortcut.

    With ``bottleneck``, a 1x1 convolution to ``inner_channels``, or else ``channels``, a 3x3 in ``groups``, which has
    the stride, and a 1x1 to 4 ``channels``, the output's. Unless ``se_reduction`` is None, squeeze-and-excitation comes
    after these. The ``shortcut`` is, for None, a 1x1 convolution where the shape changes, else the input itself.
    """
    conv = partial(nn.Conv2d, bias=layout == "book", dtype=dtype)
    norm = partial(nn.BatchNorm2d, dtype=dtype)
    outputs = 4 * channels if bottleneck else channels
    inner = inner_channels if bottleneck and inner_channels is not None else channels
    body: dict[str, nn.Layer]
    if bottleneck:
        body = {
            **{"conv1": conv(in_channels, inner, 1), "bn1": norm(inner), "relu1": nn.ReLU()},
            **{"conv2": conv(inner, inner, 3, stride, padding=1, groups=groups), "bn2": norm(inner)},
            **{"relu2": nn.ReLU(), "conv3": conv(inner, outputs, 1), "bn3": norm(outputs)},
        }
    else:
        body = {
            **{"conv1": conv(in_channels, channels, 3, stride, padding=1), "bn1": norm(channels), "relu1": nn.ReLU()},
            **{"conv2": conv(channels, channels, 3, padding=1), "bn2": norm(channels)},
        }
    if se_reduction is not None:
        body["se"] = squeeze_excitation(outputs, se_reduction, dtype)
    if shortcut is None:
        shortcut = nn.Identity()
        if stride != 1 or in_channels != outputs:
            projection = conv(in_channels, outputs, 1, stride)
            shortcut = nn.Sequential(projection) if layout == "book" else nn.Sequential(projection, norm(outputs))
    return nn.Sequential({"": nn.Add({"": nn.Sequential(body), "downsample": shortcut}), "relu": nn.ReLU()})


def squeeze_excitation(channels: int, reduction: int = 16, dtype: Any = np.float32) -> nn.Graph:
    """(n, channels, h, w) -> the same shape: each channel times a number in 0..1, which all their means make.

    >>> squeeze_excitation(32, 8).output_shape((2, 32, 5, 5))
    (2, 32, 5, 5)
    """
    (inner,) = divided(reduction, channels, name="se_reduction")
    return nn.Graph(
        {
            "squeeze": (nn.GlobalAvgPool2d(), "x"),
            "fc1": (nn.Conv2d(channels, inner, 1, dtype=dtype), "squeeze"),
            "relu": (nn.ReLU(), "fc1"),
            "fc2": (nn.Conv2d(inner, channels, 1, dtype=dtype), "relu"),
            "sigmoid": (nn.Sigmoid(), "fc2"),
            "scale": (nn.Product(), "x", "sigmoid"),
        }
    )
