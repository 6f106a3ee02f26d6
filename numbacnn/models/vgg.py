"""VGG, blocks of 3x3 convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import flag
from .alexnet import classifier
from .architecture import remembered
from .arguments import chosen, divided, layout_defaults

__all__ = ["vgg", "vgg_block"]

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@remembered
def vgg(
    in_channels: int | None = None,
    num_classes: int | None = None,
    depth: int = 11,
    width_divisor: int = 1,
    hidden_features: int = 4096,
    batch_norm: bool = False,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """VGG for images (n, in_channels, 224, 224), giving logits (n, num_classes).

    After Simonyan and Zisserman 2015 ("Very deep convolutional networks for large-scale image recognition"):
    five blocks, each halving the image, and AlexNet's linear layers.

    Args:
        in_channels, num_classes: 1 and 10 by default, 3 and 1000 in torchvision's layout.
        depth: 11, 13, 16 or 19 layers with weights.
        width_divisor: what the convolutions' channels are divided by; the book trains with 4.
        hidden_features: the size of the two hidden linear layers.
        batch_norm: whether there is batch normalisation after every convolution.
        layout: ``"book"``, a layer per block, or ``"torchvision"``: the same network under torchvision's state-dict
            keys. Torchvision's pooling to 7x7, the identity at this image size, is left out: 224 to 255 pixels.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``layout`` or ``depth``, numbers below 1, or a ``width_divisor`` that does not divide the
            channels.

    With one channel and ten classes, VGG-11 has 128,806,154 parameters.
    """
    in_channels, num_classes = layout_defaults(layout, in_channels, num_classes)
    widths = divided(width_divisor, 64, 128, 256, 512, 512)
    blocks = []
    inputs = in_channels
    for convolutions, channels in zip(chosen("depth", depth, _CONVOLUTIONS), widths, strict=True):
        blocks.append(vgg_block(convolutions, inputs, channels, batch_norm, dtype))
        inputs = channels
    head = classifier(inputs * 7 * 7, hidden_features, num_classes, dtype=dtype)
    if layout == "book":
        return nn.Sequential(*blocks, nn.Flatten(), *head)
    features = nn.Sequential(*(layer for block in blocks for layer in block))
    return nn.Sequential({"features": features, "flatten": nn.Flatten(), "classifier": nn.Sequential(*head)})


def vgg_block(
    convolutions: int, in_channels: int, out_channels: int, batch_norm: bool = False, dtype: Any = np.float32
) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, out_channels, h / 2, w / 2): 3x3 convolutions with ReLU, then max pooling."""
    layers: list[nn.Layer] = []
    for i in range(convolutions):
        layers.append(nn.Conv2d(out_channels if i else in_channels, out_channels, 3, padding=1, dtype=dtype))
        if flag("batch_norm", batch_norm):
            layers.append(nn.BatchNorm2d(out_channels, dtype=dtype))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.MaxPool2d(2, stride=2))
