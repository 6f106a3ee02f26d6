"""The same networks in PyTorch, with the same weights, give the same logits and gradients; runs where PyTorch is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import nn as ours
from tests.models.variants import ALL, build

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own

nn, F = torch.nn, torch.nn.functional


def lenet(batch_norm: bool = False) -> Any:
    def norm(layer: Any) -> list[Any]:
        return [layer] if batch_norm else []

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=0 if batch_norm else 2), *norm(nn.BatchNorm2d(6)), nn.Sigmoid(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), *norm(nn.BatchNorm2d(16)), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(256 if batch_norm else 400, 120), *norm(nn.BatchNorm1d(120)), nn.Sigmoid()),
        *(nn.Linear(120, 84), *norm(nn.BatchNorm1d(84)), nn.Sigmoid(), nn.Linear(84, 10)),
    )


def head(inputs: int) -> list[Any]:
    return [
        *(nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 10)),
    ]


def alexnet() -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 11, stride=4), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), *head(200)),
    )


def vgg() -> Any:
    def block(convolutions: int, inputs: int, outputs: int) -> Any:
        layers = []
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.MaxPool2d(2, 2))

    blocks = (block(1, 1, 1), block(1, 1, 2), block(2, 2, 4), block(2, 4, 8), block(2, 8, 8))
    return nn.Sequential(*blocks, nn.Flatten(), *head(8 * 49))


def nin() -> Any:
    def block(inputs: int, outputs: int, *options: int) -> Any:
        convolutions = (nn.Conv2d(inputs, outputs, *options), nn.Conv2d(outputs, outputs, 1))
        return nn.Sequential(
            *(layer for conv in (*convolutions, nn.Conv2d(outputs, outputs, 1)) for layer in (conv, nn.ReLU()))
        )

    return nn.Sequential(
        *(block(1, 3, 11, 4), nn.MaxPool2d(3, 2), block(3, 8, 5, 1, 2), nn.MaxPool2d(3, 2), block(8, 12, 3, 1, 1)),
        *(nn.MaxPool2d(3, 2), nn.Dropout(0.5), block(12, 10, 3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class Unit(nn.Module):
    def __init__(self, book: bool, *arguments: int, **options: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*arguments, bias=book, **options)
        self.bn = nn.Identity() if book else nn.BatchNorm2d(arguments[1], eps=0.001)

    def forward(self, x: Any) -> Any:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
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
    """An eighth of the width."""

    def __init__(self, book: bool) -> None:
        super().__init__()
        self.book = book
        self.conv1 = Unit(book, 1 if book else 3, 8, 7, stride=2, padding=3)
        self.conv2 = Unit(book, 8, 8, 1)
        self.conv3 = Unit(book, 8, 24, 3, padding=1)
        self.inception3a = Inception(book, 24, 8, 12, 16, 2, 4, 4)
        self.inception3b = Inception(book, 32, 16, 16, 24, 4, 12, 8)
        self.inception4a = Inception(book, 60, 24, 12, 26, 2, 6, 8)
        self.inception4b = Inception(book, 64, 20, 14, 28, 3, 8, 8)
        self.inception4c = Inception(book, 64, 16, 16, 32, 3, 8, 8)
        self.inception4d = Inception(book, 64, 14, 18, 36, 4, 8, 8)
        self.inception4e = Inception(book, 66, 32, 20, 40, 4, 16, 16)
        self.inception5a = Inception(book, 104, 32, 20, 40, 4, 16, 16)
        self.inception5b = Inception(book, 104, 48, 24, 48, 6, 16, 16)
        self.dropout = nn.Dropout(0.0 if book else 0.2)
        self.fc = nn.Linear(128, 10 if book else 6)

    def forward(self, x: Any) -> Any:
        def pool(x: Any, k: int = 3) -> Any:
            return F.max_pool2d(x, 3, 2, padding=1) if self.book else F.max_pool2d(x, k, 2, ceil_mode=True)

        x = pool(self.conv1(x))
        x = pool(self.conv3(self.conv2(x)))
        x = pool(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = pool(self.inception4e(self.inception4d(x)), 2)
        x = F.adaptive_avg_pool2d(self.inception5b(self.inception5a(x)), 1)
        return self.fc(self.dropout(torch.flatten(x, 1)))


class Block(nn.Module):
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
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """A sixteenth of the width."""

    def __init__(self, book: bool, bottleneck: bool, *blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1 if book else 3, 4, 7, stride=2, padding=3, bias=book)
        self.bn1 = nn.BatchNorm2d(4)
        self.stages = []
        inputs = 4
        for i, number in enumerate(blocks):
            layers = []
            for j in range(number):
                layers.append(Block(book, bottleneck, inputs, 4 << i, 2 if i and not j else 1))
                inputs = (4 << i) * (4 if bottleneck else 1)
            self.stages.append(f"layer{i + 1}")
            setattr(self, f"layer{i + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, 10 if book else 6)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class DenseLayer(nn.Module):
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
        y = self.conv1(F.relu(self.norm1(x)))
        if hasattr(self, "conv2"):
            y = self.conv2(F.relu(self.norm2(y)))
        return torch.cat([x, y], 1)


class DenseNet(nn.Module):
    def __init__(self, book: bool, channels: int, growth: int, *blocks: int) -> None:
        super().__init__()
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
        self.classifier = nn.Linear(channels, 10 if book else 6)

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(F.relu(self.features(x)), 1), 1))


class Classified(nn.Module):
    """Torchvision's AlexNet and VGG."""

    def __init__(self, features: list[Any], size: int, classifier: list[Any]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(size)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def torchvision_alexnet() -> Any:
    features = [
        *(nn.Conv2d(3, 2, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(2, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]
    hidden = [nn.Dropout(), nn.Linear(8 * 36, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU()]
    return Classified(features, 6, [*hidden, nn.Linear(8, 6)])


def torchvision_vgg() -> Any:
    features: list[Any] = []
    inputs = 3
    for outputs in (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0):
        if outputs:
            features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        else:
            features.append(nn.MaxPool2d(2, 2))
    return Classified(features, 7, [*head(8 * 49)[:-1], nn.Linear(8, 6)])


PEERS = {
    "lenet": lenet,
    "lenet_bn": lambda: lenet(batch_norm=True),
    "alexnet": alexnet,
    "vgg11": vgg,
    "nin": nin,
    "googlenet": lambda: GoogLeNet(True),
    "resnet18": lambda: ResNet(True, False, 2, 2, 2, 2),
    "densenet": lambda: DenseNet(True, 4, 2, 4, 4, 4, 4),
    "alexnet_tv": torchvision_alexnet,
    "vgg11_bn_tv": torchvision_vgg,
    "googlenet_tv": lambda: GoogLeNet(False),
    "resnet34_tv": lambda: ResNet(False, False, 3, 4, 6, 3),
    "resnet50_tv": lambda: ResNet(False, True, 3, 4, 6, 3),
    "densenet121_tv": lambda: DenseNet(False, 2, 1, 6, 12, 24, 16),
}


@pytest.mark.parametrize("name", ALL)
def test_logits_gradients_and_statistics(name: str) -> None:
    torch.manual_seed(0)
    peer = PEERS[name]().double()
    model, x = build(name)
    for key, array in peer.state_dict().items():
        if "running" in key or array.dim() == 1:
            array.uniform_(0.5, 1.5)
    model.load_state_dict({key: array.numpy() for key, array in peer.state_dict().items()})
    assert list(model.state_dict()) == list(peer.state_dict())

    def assert_close(array: Any, expected: Any, what: str) -> None:
        expected = expected.detach().numpy()
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-9 * (1 + np.abs(expected).max()), err_msg=what)

    assert_close(model.eval()(x), peer.eval()(torch.tensor(x)), "logits in evaluation")
    for layer in [*model.layers(), *peer.modules()]:
        if isinstance(layer, (ours.Dropout, nn.Dropout)):
            layer.p = 0.0
    tensor = torch.tensor(x, requires_grad=True)
    expected, logits = peer.train()(tensor), model.train()(x)
    assert_close(logits, expected, "logits")
    dy = np.random.default_rng(1).standard_normal(logits.shape)
    expected.backward(torch.tensor(dy))
    assert_close(model.backward(dy), tensor.grad, "input gradient")
    gradients = {key: parameter.grad for key, parameter in peer.named_parameters()}
    for key, parameter in model.named_parameters():
        assert_close(parameter.grad, gradients.pop(key), key)
    assert not gradients
    state = peer.state_dict()
    for key, buffer in model.named_buffers():
        assert_close(buffer.value, state[key], key)
