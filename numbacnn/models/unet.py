"""U-Net: what convolutions find at every scale, brought back to each pixel."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import flag, integer, one_of
from .architecture import remembered

__all__ = ["unet"]


@remembered
def unet(
    in_channels: int = 3,
    num_classes: int = 2,
    width: int = 64,
    depth: int = 4,
    padding: str = "same",
    batch_norm: bool = False,
    up: str = "transposed",
    dtype: Any = np.float32,
) -> nn.Graph:
    """U-Net for images (n, in_channels, h, w), giving logits (n, num_classes, h, w): a class for each pixel.

    After Ronneberger et al. 2015 ("U-Net: convolutional networks for biomedical image segmentation"). Two convolutions
    of 3x3, ``depth`` times halved and doubled in channels; then as often twice as large with half of the channels,
    beside which what was found at that size on the way down is laid. With ``padding="valid"``, one channel and two
    classes it is the paper's, of 31,030,658 parameters, without its dropout, of which the paper does not say where it
    is: images of 572x572 pixels give logits of their inner 388x388.

    The state-dict keys are those of the package Pytorch-UNet, whose weights ``batch_norm=True`` takes.

    Args:
        in_channels: of the images.
        num_classes: of pixels; 1 for the logit of one class against the rest, or what an image is made into.
        width: the channels of the first convolutions.
        depth: how often images are halved, at least 1.
        padding: ``"same"``, so that logits are as large as the image, whose height and width 2**depth must divide; or
            ``"valid"`` as in the paper: convolutions without padding, and a centre cut out of what is laid beside.
        batch_norm: whether batch normalisation, which is later than the paper, follows each 3x3 convolution, which has
            no bias then.
        up: ``"transposed"``, the paper's convolution to twice the size and half of the channels, or ``"bilinear"``:
            interpolation that aligns corners, and fewer channels elsewhere instead.
        dtype: float32 or float64.

    Raises:
        ValueError: numbers below 1, another ``padding`` or ``up``, a ``width`` that is odd with ``"bilinear"``; when it
            is called, images that do not fit.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     model = unet(in_channels=1, num_classes=5, width=4, depth=2)
        >>> model.output_shape((1, 1, 32, 48))
        (1, 5, 32, 48)
    """
    from .unet_graph import UNet  # the other models need no graphs

    width, depth = integer("width", width, 1), integer("depth", depth, 1)
    valid = one_of("padding", padding, ("same", "valid")) == "valid"
    bilinear = one_of("up", up, ("transposed", "bilinear")) == "bilinear"
    if bilinear and width % 2:
        raise ValueError(f"`width` {width} must be even with `up` 'bilinear', which halves it")
    twice = partial(_double_conv, padding=0 if valid else 1, batch_norm=flag("batch_norm", batch_norm), dtype=dtype)
    channels = [width << level for level in range(depth + 1)]
    if bilinear:
        channels[-1] //= 2
    nodes: dict[str, tuple[Any, ...]] = {"inc": (twice(integer("in_channels", in_channels, 1), width), "x")}
    below = "inc"
    for level in range(1, depth + 1):
        halved = nn.Sequential(nn.MaxPool2d(2), twice(channels[level - 1], channels[level]))
        nodes[f"down{level}"] = (nn.Sequential({"maxpool_conv": halved}), below)
        below = f"down{level}"
    inputs = channels[-1]
    margin = 4  # pixels that convolutions take off each side between a value and what it is laid beside
    for step, level in enumerate(reversed(range(depth)), 1):
        beside = f"down{level}" if level else "inc"
        outputs = channels[level] // 2 if bilinear and level else channels[level]
        larger: nn.Layer
        if bilinear:
            larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            conv = twice(inputs + channels[level], outputs, inputs)
        else:
            larger = nn.ConvTranspose2d(inputs, channels[level], 2, stride=2, dtype=dtype)
            conv = twice(2 * channels[level], outputs)
        nodes[f"up{step}"] = (_up(larger, conv, margin if valid else 0), below, beside)
        below, inputs, margin = f"up{step}", outputs, 2 * (margin + 4)
    last = nn.Conv2d(inputs, integer("num_classes", num_classes, 1), 1, dtype=dtype)
    return UNet({**nodes, "outc": (nn.Sequential({"conv": last}), below)}, depth, valid)


def _double_conv(
    in_channels: int, channels: int, inner: int | None = None, *, padding: int, batch_norm: bool, dtype: Any
) -> nn.Sequential:
    layers: list[nn.Layer] = []
    inner = channels if inner is None else inner
    for inputs, outputs in ((in_channels, inner), (inner, channels)):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=padding, bias=not batch_norm, dtype=dtype))
        layers += [nn.BatchNorm2d(outputs, dtype=dtype)] * batch_norm
        layers.append(nn.ReLU())
    return nn.Sequential({"double_conv": nn.Sequential(*layers)})


def _up(larger: nn.Layer, conv: nn.Layer, margin: int) -> nn.Graph:
    """Of what comes from below and what is laid beside it, without ``margin`` pixels at each side."""
    nodes: dict[str, tuple[Any, ...]] = {"up": (larger, "x")}
    beside = "beside"
    if margin:
        nodes["crop"] = (nn.ZeroPad2d(-margin), beside)
        beside = "crop"
    return nn.Graph({**nodes, "cat": (nn.Concatenate(), beside, "up"), "conv": (conv, "cat")}, ["x", "beside"])
