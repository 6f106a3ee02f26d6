"""GoogLeNet, built from Inception blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from .architecture import remembered
from .arguments import divided, layout_defaults

__all__ = ["conv_unit", "googlenet", "inception"]


@remembered
def googlenet(
    in_channels: int | None = None,
    num_classes: int | None = None,
    width_divisor: int = 1,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """GoogLeNet for images (n, in_channels, 96, 96), giving logits (n, num_classes); other sizes work too.

    After Szegedy et al. 2015 ("Going deeper with convolutions"), without the auxiliary classifiers.

    Args:
        in_channels, num_classes: 1 and 10 by default, 3 and 1000 in torchvision's layout.
        width_divisor: what all channels are divided by.
        layout: ``"book"``, Dive into Deep Learning's, or ``"torchvision"``: batch normalisation with eps 0.001 after
            every convolution, 3x3 in the place of 5x5, pooling with ``ceil_mode`` and Dropout 0.2, for images of 224
            pixels. The state-dict keys are torchvision's in both.
        dtype: float32 or float64.

    Torchvision's weights load with ``strict=False``, because the model has no ``aux1.*`` and ``aux2.*``; they expect
    its ``transform_input``, which is to say images with pixels in -1..1, (pixel - 0.5) / 0.5.

    Raises:
        ValueError: another ``layout``, numbers below 1, or a ``width_divisor`` that does not divide the channels.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in googlenet().parameters())
        5977530
    """
    in_channels, num_classes = layout_defaults(layout, in_channels, num_classes)
    unit = partial(conv_unit, layout=layout, dtype=dtype)

    def block(inputs: int, *channels: int) -> nn.Concat:
        c0, c1, c2, c2_out, c3, c3_out, c4 = divided(width_divisor, inputs, *channels)
        return inception(c0, c1, (c2, c2_out), (c3, c3_out), c4, layout=layout, dtype=dtype)

    def pool(kernel_size: int = 3) -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, padding=1) if layout == "book" else nn.MaxPool2d(kernel_size, 2, ceil_mode=True)

    c1, c3, c5 = divided(width_divisor, 64, 192, 1024)
    layers = {
        "conv1": unit(in_channels, c1, 7, stride=2, padding=3),
        "maxpool1": pool(),
        "conv2": unit(c1, c1, 1),
        "conv3": unit(c1, c3, 3, padding=1),
        "maxpool2": pool(),
        "inception3a": block(192, 64, 96, 128, 16, 32, 32),
        "inception3b": block(256, 128, 128, 192, 32, 96, 64),
        "maxpool3": pool(),
        "inception4a": block(480, 192, 96, 208, 16, 48, 64),
        "inception4b": block(512, 160, 112, 224, 24, 64, 64),
        "inception4c": block(512, 128, 128, 256, 24, 64, 64),
        "inception4d": block(512, 112, 144, 288, 32, 64, 64),
        "inception4e": block(528, 256, 160, 320, 32, 128, 128),
        "maxpool4": pool(2),
        "inception5a": block(832, 256, 160, 320, 32, 128, 128),
        "inception5b": block(832, 384, 192, 384, 48, 128, 128),
        "avgpool": nn.GlobalAvgPool2d(),
        "flatten": nn.Flatten(),
    }
    if layout == "torchvision":
        layers["dropout"] = nn.Dropout(0.2)
    return nn.Sequential({**layers, "fc": nn.Linear(c5, num_classes, dtype=dtype)})


def inception(
    in_channels: int,
    c1: int,
    c2: tuple[int, int],
    c3: tuple[int, int],
    c4: int,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Concat:
    """Four branches of ``c1``, ``c2[1]``, ``c3[1]`` and ``c4`` channels side by side, of the input's height and width.

    A 1x1 convolution; one to ``c2[0]`` channels, then 3x3; one to ``c3[0]``, then 5x5 (torchvision: 3x3); 3x3 max
    pooling, then 1x1.
    """
    unit = partial(conv_unit, layout=layout, dtype=dtype)
    large = 5 if layout == "book" else 3
    return nn.Concat(
        {
            "branch1": unit(in_channels, c1, 1),
            "branch2": nn.Sequential(unit(in_channels, c2[0], 1), unit(*c2, 3, padding=1)),
            "branch3": nn.Sequential(unit(in_channels, c3[0], 1), unit(*c3, large, padding=large // 2)),
            "branch4": nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(in_channels, c4, 1)),
        }
    )


def conv_unit(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """A convolution and ReLU; in torchvision's layout without bias and with batch normalisation between."""
    book = layout == "book"
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=book, dtype=dtype)
    norm = {} if book else {"bn": nn.BatchNorm2d(out_channels, eps=0.001, dtype=dtype)}
    return nn.Sequential({"conv": conv, **norm, "relu": nn.ReLU()})
