"""The networks as torchvision, timm and the repositories of their authors write them in PyTorch, some of them narrow.

Imports PyTorch. The classes keep the names of attributes that weights are published under.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["PEERS"]


def unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[Any]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        layers = [nn.Sequential(*unit(inputs, inner, 1), nn.ReLU6())] if expansion > 1 else []
        layers.append(nn.Sequential(*unit(inner, inner, 3, stride, inner), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, *unit(inner, outputs, 1))

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """With ``width_mult`` 0.25: the channels that torchvision rounds to."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[Any] = [nn.Sequential(*unit(3, 8, 3, 2), nn.ReLU6())]
        rows = [(1, 8, 1, 1), (6, 8, 2, 2), (6, 8, 3, 2), (6, 16, 4, 2), (6, 24, 3, 1), (6, 40, 3, 2), (6, 80, 1, 1)]
        inputs = 8
        for expansion, outputs, blocks, stride in rows:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, 1 if block else stride, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, nn.Sequential(*unit(80, 1280, 1), nn.ReLU6()))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 6))

    def forward(self, x: Any) -> Any:
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    """An eighth of the channels."""

    def __init__(self, version: str) -> None:
        super().__init__()

        def pool() -> Any:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        if version == "1_0":
            features = [nn.Conv2d(3, 12, 7, 2), nn.ReLU(), pool(), Fire(12, 2, 8), Fire(16, 2, 8), Fire(16, 4, 16)]
            features += [pool(), Fire(32, 4, 16), Fire(32, 6, 24), Fire(48, 6, 24), Fire(48, 8, 32), pool()]
            features += [Fire(64, 8, 32)]
        else:
            features = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), pool(), Fire(8, 2, 8), Fire(16, 2, 8), pool()]
            features += [Fire(16, 4, 16), Fire(32, 4, 16), pool(), Fire(32, 6, 24), Fire(48, 6, 24), Fire(48, 8, 32)]
            features += [Fire(64, 8, 32)]
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(64, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x)).flatten(1)


class ShuffleUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        if stride > 1:
            self.branch1 = nn.Sequential(*unit(inputs, inputs, 3, 2, inputs), *unit(inputs, half, 1), nn.ReLU())
        first = unit(inputs if stride > 1 else half, half, 1)
        self.branch2 = nn.Sequential(
            *first, nn.ReLU(), *unit(half, half, 3, stride, half), *unit(half, half, 1), nn.ReLU()
        )

    def forward(self, x: Any) -> Any:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            y = torch.cat((x1, self.branch2(x2)), 1)
        else:
            y = torch.cat((self.branch1(x), self.branch2(x)), 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleNetV2(nn.Module):
    """With ``width_mult`` 0.5, an eighth of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*unit(3, 3, 3, 2), nn.ReLU())
        stages = []
        for inputs, outputs, blocks in ((3, 6, 4), (6, 12, 8), (12, 24, 4)):
            others = [ShuffleUnit(outputs, outputs, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(ShuffleUnit(inputs, outputs, 2), *others))
        self.stage2, self.stage3, self.stage4 = stages
        self.conv5 = nn.Sequential(*unit(24, 128, 1), nn.ReLU())
        self.fc = nn.Linear(128, 6)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(self.conv1(x), 3, 2, 1)
        return self.fc(self.conv5(self.stage4(self.stage3(self.stage2(x)))).mean((2, 3)))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, groups: int, reduction: int | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = unit(inputs, inner, 1)
        self.conv2, self.bn2 = unit(inner, inner, 3, stride, groups)
        self.conv3, self.bn3 = unit(inner, outputs, 1)
        self.se = SqueezeExcitation(outputs, outputs // reduction) if reduction else nn.Identity()
        self.downsample = nn.Sequential(*unit(inputs, outputs, 1, stride)) if inputs != outputs else nn.Identity()

    def forward(self, x: Any) -> Any:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.se(self.bn3(self.conv3(y))) + self.downsample(x)).relu()


class ResNet50(nn.Module):
    """``inner`` is how wide the 3x3 convolutions of the first stage are; all others are a sixteenth of the paper's."""

    def __init__(self, inner: int, groups: int = 1, reduction: int | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        inputs = 4
        for stage, blocks in enumerate((3, 4, 6, 3)):
            layers = []
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(Bottleneck(inputs, inner << stage, 16 << stage, stride, groups, reduction))
                inputs = 16 << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(128, 6)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


class CifarBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.zeros = stride, outputs // 4
        self.conv1, self.bn1 = unit(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = unit(outputs, outputs)

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
        return (y + x).relu()


class CifarResNet(nn.Module):
    """A quarter of the channels."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = unit(3, 4)
        inputs = 4
        for stage, outputs in enumerate((4, 8, 16), 1):
            layers = [CifarBlock(inputs, outputs, 1 if stage == 1 else 2)]
            layers += [CifarBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
            inputs = outputs
        self.linear = nn.Linear(16, 6)

    def forward(self, x: Any) -> Any:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return self.linear(functional.avg_pool2d(x, x.shape[2:]).flatten(1))


class Series(nn.Module):
    """Three convolutions along the time, with a shortcut if ``residual``."""

    def __init__(self, inputs: int, channels: tuple[int, int, int], residual: bool = False) -> None:
        super().__init__()
        for i, (outputs, kernel) in enumerate(zip(channels, (8, 5, 3), strict=True), 1):
            setattr(self, f"conv{i}", nn.Conv1d(inputs if i == 1 else channels[i - 2], outputs, kernel, padding="same"))
            setattr(self, f"bn{i}", nn.BatchNorm1d(outputs))
        self.residual = residual
        if residual:
            projection = [] if inputs == channels[-1] else [nn.Conv1d(inputs, channels[-1], 1)]
            self.shortcut = nn.Sequential(*projection, nn.BatchNorm1d(channels[-1]))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        y = self.bn3(self.conv3(y))
        return (y + self.shortcut(x) if self.residual else y).relu()


class SeriesFCN(Series):
    """A sixteenth of the channels."""

    def __init__(self) -> None:
        super().__init__(2, (8, 16, 8))
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Any) -> Any:
        return self.fc(super().forward(x).mean(2))


class SeriesResNet(nn.Module):
    """A sixteenth of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2, self.block3 = (
            Series(inputs, (outputs,) * 3, True) for inputs, outputs in ((2, 4), (4, 8), (8, 8))
        )
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Any) -> Any:
        return self.fc(self.block3(self.block2(self.block1(x))).mean(2))


PEERS: dict[str, Callable[[], Any]] = {
    "mobilenet_v2": MobileNetV2,
    "squeezenet": lambda: SqueezeNet("1_1"),
    "squeezenet_1_0": lambda: SqueezeNet("1_0"),
    "shufflenet_v2": ShuffleNetV2,
    "resnext50": lambda: ResNet50(8, groups=4),
    "wide_resnet50": lambda: ResNet50(8),
    "se_resnet50": lambda: ResNet50(4, reduction=4),
    "cifar_resnet20": lambda: CifarResNet(3),
    "cifar_resnet56": lambda: CifarResNet(9),
    "series_fcn": SeriesFCN,
    "series_resnet": SeriesResNet,
}
"""By the names of `tests.models.variants`."""
