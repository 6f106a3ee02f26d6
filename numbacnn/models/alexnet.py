"""AlexNet, the network that won ImageNet 2012."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..ops.arguments import integer
from .architecture import remembered
from .arguments import divided, layout_defaults

__all__ = ["alexnet", "classifier"]


@remembered
def alexnet(
    in_channels: int | None = None,
    num_classes: int | None = None,
    width_divisor: int = 1,
    hidden_features: int = 4096,
    layout: str = "book",
    dtype: Any = np.float32,
) -> nn.Sequential:
    """AlexNet for images (n, in_channels, 224, 224), giving logits (n, num_classes).

    After Krizhevsky et al. 2012 ("ImageNet classification with deep convolutional neural networks"), without its split
    over two GPUs.

    Args:
        in_channels, num_classes: 1 and 10 by default, 3 and 1000 in torchvision's layout.
        width_divisor: what the convolutions' channels are divided by.
        hidden_features: the size of the two hidden linear layers.
        layout: ``"book"``, Dive into Deep Learning's, or ``"torchvision"``: its narrower network under its state-dict
            keys. Torchvision's pooling to 6x6, the identity at this image size, is left out: 223 to 230 pixels.
        dtype: float32 or float64.

    Raises:
        ValueError: another ``layout``, numbers below 1, or a ``width_divisor`` that does not divide the channels.

    With one channel and ten classes it has 46,764,746 parameters.
    """
    in_channels, num_classes = layout_defaults(layout, in_channels, num_classes)
    book = layout == "book"
    c1, c2, c3, c4, c5 = divided(width_divisor, *((96, 256, 384, 384, 256) if book else (64, 192, 384, 256, 256)))
    conv = partial(nn.Conv2d, dtype=dtype)
    features = [
        *(conv(in_channels, c1, 11, stride=4, padding=0 if book else 2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(conv(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(conv(c2, c3, 3, padding=1), nn.ReLU()),
        *(conv(c3, c4, 3, padding=1), nn.ReLU()),
        *(conv(c4, c5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
    ]
    if book:
        return nn.Sequential(
            *features, nn.Flatten(), *classifier(c5 * 5 * 5, hidden_features, num_classes, dtype=dtype)
        )
    fc6, relu6, dropout6, fc7, relu7, dropout7, fc8 = classifier(c5 * 6 * 6, hidden_features, num_classes, dtype=dtype)
    return nn.Sequential(
        {
            "features": nn.Sequential(*features),
            "flatten": nn.Flatten(),
            "classifier": nn.Sequential(dropout6, fc6, relu6, dropout7, fc7, relu7, fc8),
        }
    )


def classifier(in_features: int, hidden_features: int, num_classes: int, dtype: Any = np.float32) -> list[nn.Layer]:
    """The layers after the features, VGG's too: linear, ReLU, Dropout 0.5, the same again, linear."""
    hidden_features = integer("hidden_features", hidden_features, 1)
    return [
        *(nn.Linear(in_features, hidden_features, dtype=dtype), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(hidden_features, hidden_features, dtype=dtype), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(hidden_features, num_classes, dtype=dtype),
    ]
