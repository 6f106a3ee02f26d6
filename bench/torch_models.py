"""The book's networks as one writes them in PyTorch, under our state-dict keys; some in torchvision's layout too.

Where the width can be divided, ``width_divisor`` is that of our models. Imports PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["BOOK", "DenseNet", "GoogLeNet", "ResNet", "alexnet", "head", "lenet", "nin", "vgg"]


def lenet(batch_norm: bool = False) -> nn.Sequential:
    """For images of 28x28 pixels."""

    def norm(layer: Any) -> list[Any]:
        return [layer] if batch_norm else []

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=0 if batch_norm else 2), *norm(nn.BatchNorm2d(6)), nn.Sigmoid(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), *norm(nn.BatchNorm2d(16)), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(256 if batch_norm else 400, 120), *norm(nn.BatchNorm1d(120)), nn.Sigmoid()),
        *(nn.Linear(120, 84), *norm(nn.BatchNorm1d(84)), nn.Sigmoid(), nn.Linear(84, 10)),
    )


def head(inputs: int, hidden: int) -> list[nn.Module]:
    """The linear layers of AlexNet and VGG."""
    return [
        *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 10)),
    ]


def alexnet(width_divisor: int = 1, hidden: int = 4096) -> nn.Sequential:
    """For images of 224x224 pixels."""
    c1, c2, c3, c4, c5 = (channels // width_divisor for channels in (96, 256, 384, 384, 256))
    return nn.Sequential(
        *(nn.Conv2d(1, c1, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(), nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), *head(25 * c5, hidden)),
    )


def vgg(width_divisor: int = 1, hidden: int = 4096) -> nn.Sequential:
    """VGG-11, for images of 224x224 pixels."""
    blocks = []
    inputs = 1
    for convolutions, channels in ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)):
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            outputs = channels // width_divisor
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2, 2)))
    return nn.Sequential(*blocks, nn.Flatten(), *head(49 * inputs, hidden))


def nin(width_divisor: int = 1) -> nn.Sequential:
    """For images of 224x224 pixels."""
    c1, c2, c3 = (channels // width_divisor for channels in (96, 256, 384))

    def block(inputs: int, outputs: int, *options: int) -> nn.Sequential:
        convolutions = (nn.Conv2d(inputs, outputs, *options), nn.Conv2d(outputs, outputs, 1))  # type: ignore[arg-type]
        return nn.Sequential(
            *(layer for conv in (*convolutions, nn.Conv2d(outputs, outputs, 1)) for layer in (conv, nn.ReLU()))
        )

    return nn.Sequential(
        *(block(1, c1, 11, 4), nn.MaxPool2d(3, 2), block(c1, c2, 5, 1, 2), nn.MaxPool2d(3, 2), block(c2, c3, 3, 1, 1)),
        *(nn.MaxPool2d(3, 2), nn.Dropout(0.5), block(c3, 10, 3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class Unit(nn.Module):
    """A convolution and ReLU, in torchvision's layout with batch normalisation."""

    def __init__(self, book: bool, *arguments: int, **options: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*arguments, bias=book, **options)  # type: ignore[arg-type]
        self.bn = nn.Identity() if book else nn.BatchNorm2d(arguments[1], eps=0.001)

    def forward(self, x: Any) -> Any:
        return functional.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, book: bool, inputs: int, c1: int, c2: int, c2_out: int, c3: int, c3_out: int, c4: int) -> None:
        super().__init__()
        k = 5 if book else 3
        self.branch1 = Unit(book, inputs, c1, 1)
        self.branch2 = nn.Sequential(Unit(book, inputs, c2, 1), Unit(book, c2, c2_out, 3, padding=1))
        self.branch3 = nn.Sequential(Unit(book, inputs, c3, 1), Unit(book, c3, c3_out, k, padding=k // 2))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=not book), Unit(book, inputs, c4, 1)
        )

    def forward(self, x: Any) -> Any:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """The book's, for images of one channel; or torchvision's, for three."""

    def __init__(self, book: bool = True, width_divisor: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.book = book

        def block(*channels: int) -> Inception:
            return Inception(book, *(number // width_divisor for number in channels))

        c1, c3, c5 = (channels // width_divisor for channels in (64, 192, 1024))
        self.conv1 = Unit(book, 1 if book else 3, c1, 7, stride=2, padding=3)
        self.conv2 = Unit(book, c1, c1, 1)
        self.conv3 = Unit(book, c1, c3, 3, padding=1)
        self.inception3a = block(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = block(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = block(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = block(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = block(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = block(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = block(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = block(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = block(832, 384, 192, 384, 48, 128, 128)
        self.dropout = nn.Dropout(0.0 if book else 0.2)
        self.fc = nn.Linear(c5, num_classes)

    def forward(self, x: Any) -> Any:
        def pool(x: Any, k: int = 3) -> Any:
            return (
                functional.max_pool2d(x, 3, 2, padding=1)
                if self.book
                else functional.max_pool2d(x, k, 2, ceil_mode=True)
            )

        x = pool(self.conv1(x))
        x = pool(self.conv3(self.conv2(x)))
        x = pool(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = pool(self.inception4e(self.inception4d(x)), 2)
        x = functional.adaptive_avg_pool2d(self.inception5b(self.inception5a(x)), 1)
        return self.fc(self.dropout(torch.flatten(x, 1)))


class Block(nn.Module):
    """Convolutions beside a shortcut."""

    def __init__(self, book: bool, bottleneck: bool, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * (4 if bottleneck else 1)
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=book)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=book)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=book)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=book)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=book)
            self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=book))
            if not book:
                self.downsample.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(functional.relu(y)))
        return functional.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """The book's, for images of one channel, ResNet-18 unless told otherwise; or torchvision's, for three."""

    def __init__(
        self,
        book: bool = True,
        bottleneck: bool = False,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        width_divisor: int = 1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        inputs = 64 // width_divisor
        self.conv1 = nn.Conv2d(1 if book else 3, inputs, 7, stride=2, padding=3, bias=book)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.stages = []
        for i, number in enumerate(blocks):
            width = (64 // width_divisor) << i
            layers = []
            for j in range(number):
                layers.append(Block(book, bottleneck, inputs, width, 2 if i and not j else 1))
                inputs = width * (4 if bottleneck else 1)
            self.stages.append(f"layer{i + 1}")
            setattr(self, f"layer{i + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class DenseLayer(nn.Module):
    """A convolution that puts its output beside its input."""

    def __init__(self, book: bool, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        if book:
            self.conv1 = nn.Conv2d(inputs, growth, 3, padding=1)
        else:
            self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(4 * growth)
            self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        y = self.conv1(functional.relu(self.norm1(x)))
        if hasattr(self, "conv2"):
            y = self.conv2(functional.relu(self.norm2(y)))
        return torch.cat([x, y], 1)


class DenseNet(nn.Module):
    """The book's, for images of one channel; or torchvision's, for three."""

    def __init__(
        self,
        book: bool = True,
        blocks: tuple[int, ...] = (4, 4, 4, 4),
        width_divisor: int = 1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        channels, growth = 64 // width_divisor, 32 // width_divisor
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(1 if book else 3, channels, 7, stride=2, padding=3, bias=book))
        self.features.add_module("norm0", nn.BatchNorm2d(channels))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        for i, layers in enumerate(blocks, 1):
            block = nn.Sequential()
            for j in range(1, layers + 1):
                block.add_module(f"denselayer{j}", DenseLayer(book, channels, growth))
                channels += growth
            self.features.add_module(f"denseblock{i}", block)
            if i < len(blocks):
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(channels))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=book))
                transition.add_module("pool", nn.AvgPool2d(2, stride=2))
                self.features.add_module(f"transition{i}", transition)
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(functional.relu(self.features(x)), 1), 1))


BOOK = {
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg": lambda: vgg(width_divisor=4),
    "nin": nin,
    "googlenet": GoogLeNet,
    "resnet": ResNet,
    "densenet": DenseNet,
}
"""By the names of the recipes, with their widths."""
