"""SqueezeNet, built from fire modules."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import chosen, divided

__all__ = ["fire", "squeezenet"]

_VERSIONS: dict[str, tuple[int, int, tuple[int | None, ...]]] = {
    "1_0": (96, 7, (None, 16, 16, 32, None, 32, 48, 48, 64, None, 64)),
    "1_1": (64, 3, (None, 16, 16, None, 32, 32, None, 48, 48, 64, 64)),
}
"""The first convolution's channels and kernel size; then the channels that fire modules squeeze to, None for pools."""


@remembered
def squeezenet(
    in_channels: int = 3,
    num_classes: int = 1000,
    version: str = "1_1",
    width_divisor: int = 1,
    dropout: float = 0.5,
    dtype: Any = np.float32,
) -> nn.Sequential:
    """SqueezeNet for images (n, in_channels, 224, 224), giving logits (n, num_classes); other sizes work too.

    After Iandola et al. 2016 ("SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size").
    The last convolution makes the classes, and ReLU comes after it, too: logits are never negative. The state-dict keys
    are torchvision's.

    Args:
        in_channels, num_classes: as in ImageNet by default.
        version: ``"1_0"``, the paper's, of 1,248,424 parameters, or ``"1_1"``, the authors' second one, which pools
            earlier and takes 2.4 times less computation.
        width_divisor: what all channels are divided by.
        dropout: what share of the features before the last convolution is dropped.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``version``, numbers below 1, a ``width_divisor`` that does not divide the channels, or
            ``dropout`` outside 0..1.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in squeezenet().parameters())
        1235496
    """
    first, kernel_size, modules = chosen("version", version, _VERSIONS)
    (inputs,) = divided(width_divisor, first)
    in_channels, num_classes = integer("in_channels", in_channels, 1), integer("num_classes", num_classes, 1)
    features: list[nn.Layer] = [nn.Conv2d(in_channels, inputs, kernel_size, stride=2, dtype=dtype), nn.ReLU()]
    for squeeze in modules:
        if squeeze is None:
            features.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            continue
        narrow, wide = divided(width_divisor, squeeze, 4 * squeeze)
        features.append(fire(inputs, narrow, wide, dtype))
        inputs = 2 * wide
    classes = nn.Conv2d(inputs, num_classes, 1, dtype=dtype)
    classifier = nn.Sequential(nn.Dropout(dropout), classes, nn.ReLU(), nn.GlobalAvgPool2d())
    return nn.Sequential({"features": nn.Sequential(*features), "classifier": classifier, "flatten": nn.Flatten()})


def fire(in_channels: int, squeeze: int, expand: int, dtype: Any = np.float32) -> nn.Sequential:
    """(n, in_channels, h, w) -> (n, 2 expand, h, w): a 1x1 convolution, then one of 1x1 and one of 3x3 side by side.

    >>> fire(8, 2, 6).output_shape((1, 8, 5, 5))
    (1, 12, 5, 5)
    """
    conv = partial(nn.Conv2d, dtype=dtype)

    def branch(kernel_size: int) -> nn.Sequential:
        return nn.Sequential({"": conv(squeeze, expand, kernel_size, padding=kernel_size // 2), "relu": nn.ReLU()})

    return nn.Sequential(
        {
            "squeeze": conv(in_channels, squeeze, 1),
            "squeeze_activation": nn.ReLU(),
            "": nn.Concat({"expand1x1": branch(1), "expand3x3": branch(3)}),
        }
    )
