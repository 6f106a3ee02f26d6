"""The same networks in PyTorch, with the same weights, give the same logits and gradients; runs where PyTorch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numbacnn import nn as ours
from numbacnn.cli.recipes import RECIPES
from tests.models.variants import ALL, OTHERS, build

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # PyTorch's own

from bench import torch_models as peers  # noqa: E402
from tests.models import torch_peers  # noqa: E402

nn = torch.nn


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
    return Classified(features, 7, [*peers.head(8 * 49, 8)[:-1], nn.Linear(8, 6)])


class InvertedResidual(nn.Module):
    """A block of EfficientNet-Lite, whose padding is a step of its own, as in TensorFlow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, 1e-3, 0.01)
        self.pad = nn.ZeroPad2d({(3, 1): 1, (5, 1): 2, (3, 2): (0, 1, 0, 1), (5, 2): (1, 2, 1, 2)}[kernel, stride])
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, 1e-3, 0.01)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, 1e-3, 0.01)

    def forward(self, x: Any) -> Any:
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(self.pad(y))))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """After the package EfficientNet-PyTorch, without what Lite leaves out; an eighth of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 4, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(4, 1e-3, 0.01)
        rows = [(4, 2, 3, 1, 1), (2, 3, 3, 2, 6), (3, 3, 3, 1, 6), (3, 5, 5, 2, 6), (5, 5, 5, 1, 6), (5, 10, 3, 2, 6)]
        rows += [(10, 10, 3, 1, 6)] * 2 + [(10, 14, 5, 1, 6)] + [(14, 14, 5, 1, 6)] * 2 + [(14, 24, 5, 2, 6)]
        rows += [(24, 24, 5, 1, 6)] * 3 + [(24, 40, 3, 1, 6)]
        self._blocks = nn.ModuleList([InvertedResidual(*row) for row in rows])
        self._conv_head = nn.Conv2d(40, 160, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(160, 1e-3, 0.01)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(160, 6)

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu6(self._bn0(self._conv_stem(nn.functional.pad(x, (0, 1, 0, 1)))))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(self._dropout(x.mean((2, 3))))


PEERS = {
    **torch_peers.PEERS,
    "efficientnet_lite0": EfficientNetLite0,
    "lenet": peers.lenet,
    "lenet_bn": lambda: peers.lenet(batch_norm=True),
    "alexnet": lambda: peers.alexnet(32, hidden=8),
    "vgg11": lambda: peers.vgg(64, hidden=8),
    "nin": lambda: peers.nin(32),
    "googlenet": lambda: peers.GoogLeNet(width_divisor=8),
    "resnet18": lambda: peers.ResNet(width_divisor=16),
    "densenet": lambda: peers.DenseNet(width_divisor=16),
    "alexnet_tv": torchvision_alexnet,
    "vgg11_bn_tv": torchvision_vgg,
    "googlenet_tv": lambda: peers.GoogLeNet(False, 8, num_classes=6),
    "resnet34_tv": lambda: peers.ResNet(False, False, (3, 4, 6, 3), 16, num_classes=6),
    "resnet50_tv": lambda: peers.ResNet(False, True, (3, 4, 6, 3), 16, num_classes=6),
    "densenet121_tv": lambda: peers.DenseNet(False, (6, 12, 24, 16), 32, num_classes=6),
}


@pytest.mark.parametrize("name", [*ALL, *OTHERS])
def test_logits_gradients_and_statistics(name: str) -> None:
    check_against(PEERS[name], name)


def check_against(make_peer: Callable[[], Any], name: str) -> None:
    """The model of a name and what it is in PyTorch have the same weights, outputs, gradients and statistics."""
    torch.manual_seed(0)
    peer = make_peer().double()
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


@pytest.mark.parametrize("name", peers.BOOK)
def test_at_full_width_they_have_the_same_parameters(name: str) -> None:
    with torch.device("meta"):
        shapes = {key: tuple(array.shape) for key, array in peers.BOOK[name]().state_dict().items()}
    model = RECIPES[name].build(1, 10)
    assert {key: array.shape for key, array in model.state_dict().items()} == shapes
