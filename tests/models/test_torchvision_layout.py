"""The names and sizes of torchvision's models, and of one of timm's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from numbacnn import models
from tests.models.test_models import count
from tests.models.test_models import weightless as weightless

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def weight(*names: Any) -> list[str]:
    return [f"{name}.weight" for name in names]


def both(*names: Any) -> list[str]:
    return [f"{name}.{state}" for name in names for state in ("weight", "bias")]


def norm(name: str) -> list[str]:
    return [f"{name}.{state}" for state in ("weight", "bias", *STATISTICS)]


def alexnet_keys() -> list[str]:
    return both(*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6)))


def vgg_keys(*convolutions: int, batch_norm: bool = False) -> Iterator[str]:
    for i in convolutions:
        yield from both(f"features.{i}")
        if batch_norm:
            yield from norm(f"features.{i + 1}")
    yield from both(*(f"classifier.{i}" for i in (0, 3, 6)))


def googlenet_keys() -> Iterator[str]:
    blocks = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
    for unit in ("conv1", "conv2", "conv3", *(f"inception{block}.{branch}" for block in blocks for branch in branches)):
        yield from [*weight(f"{unit}.conv"), *norm(f"{unit}.bn")]
    yield from both("fc")


def resnet_keys(convolutions: int, *blocks: int, se: bool = False) -> Iterator[str]:
    yield from [*weight("conv1"), *norm("bn1")]
    for stage, number in enumerate(blocks, 1):
        for block in range(number):
            prefix = f"layer{stage}.{block}"
            for i in range(1, convolutions + 1):
                yield from [*weight(f"{prefix}.conv{i}"), *norm(f"{prefix}.bn{i}")]
            if se:
                yield from both(f"{prefix}.se.fc1", f"{prefix}.se.fc2")
            if block == 0 and (stage > 1 or convolutions == 3):
                yield from [*weight(f"{prefix}.downsample.0"), *norm(f"{prefix}.downsample.1")]
    yield from both("fc")


def densenet_keys() -> Iterator[str]:
    yield from [*weight("features.conv0"), *norm("features.norm0")]
    for block, layers in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, layers + 1):
            for i in (1, 2):
                prefix = f"features.denseblock{block}.denselayer{layer}"
                yield from [*norm(f"{prefix}.norm{i}"), *weight(f"{prefix}.conv{i}")]
        if block < 4:
            yield from [*norm(f"features.transition{block}.norm"), *weight(f"features.transition{block}.conv")]
    yield from [*norm("features.norm5"), *both("classifier")]


def mobilenet_keys() -> Iterator[str]:
    yield from [*weight("features.0.0"), *norm("features.0.1")]
    for block in range(1, 18):
        prefix = f"features.{block}.conv"
        units = 1 if block == 1 else 2
        for i in range(units):
            yield from [*weight(f"{prefix}.{i}.0"), *norm(f"{prefix}.{i}.1")]
        yield from [*weight(f"{prefix}.{units}"), *norm(f"{prefix}.{units + 1}")]
    yield from [*weight("features.18.0"), *norm("features.18.1"), *both("classifier.1")]


def squeezenet_keys(*modules: int) -> list[str]:
    fires = [f"features.{i}.{part}" for i in modules for part in ("squeeze", "expand1x1", "expand3x3")]
    return both("features.0", *fires, "classifier.1")


def shufflenet_keys() -> Iterator[str]:
    yield from [*weight("conv1.0"), *norm("conv1.1")]
    for stage, blocks in ((2, 4), (3, 8), (4, 4)):
        for block in range(blocks):
            branches = {"branch2": (0, 3, 5)} if block else {"branch1": (0, 2), "branch2": (0, 3, 5)}
            for branch, convolutions in branches.items():
                for i in convolutions:
                    prefix = f"stage{stage}.{block}.{branch}"
                    yield from [*weight(f"{prefix}.{i}"), *norm(f"{prefix}.{i + 1}")]
    yield from [*weight("conv5.0"), *norm("conv5.1"), *both("fc")]


TORCHVISION = {"layout": "torchvision"}
SQUEEZENET_1_0, SQUEEZENET_1_1 = (3, 4, 5, 7, 8, 9, 10, 12), (3, 4, 6, 7, 9, 10, 11, 12)
CASES = {
    "alexnet": (models.alexnet, TORCHVISION, 61_100_840, alexnet_keys()),
    "vgg11": (models.vgg, TORCHVISION, 132_863_336, [*vgg_keys(0, 3, 6, 8, 11, 13, 16, 18)]),
    "vgg11_bn": (
        models.vgg,
        {**TORCHVISION, "batch_norm": True},
        132_868_840,
        [*vgg_keys(0, 4, 8, 11, 15, 18, 22, 25, batch_norm=True)],
    ),
    "vgg16": (
        models.vgg,
        {**TORCHVISION, "depth": 16},
        138_357_544,
        [*vgg_keys(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)],
    ),
    "googlenet": (models.googlenet, TORCHVISION, 6_624_904, [*googlenet_keys()]),
    "resnet18": (models.resnet, TORCHVISION, 11_689_512, [*resnet_keys(2, 2, 2, 2, 2)]),
    "resnet34": (models.resnet, {**TORCHVISION, "depth": 34}, 21_797_672, [*resnet_keys(2, 3, 4, 6, 3)]),
    "resnet50": (models.resnet, {**TORCHVISION, "depth": 50}, 25_557_032, [*resnet_keys(3, 3, 4, 6, 3)]),
    "resnet101": (models.resnet, {**TORCHVISION, "depth": 101}, 44_549_160, [*resnet_keys(3, 3, 4, 23, 3)]),
    "resnet152": (models.resnet, {**TORCHVISION, "depth": 152}, 60_192_808, [*resnet_keys(3, 3, 8, 36, 3)]),
    "densenet121": (models.densenet, TORCHVISION, 7_978_856, [*densenet_keys()]),
    "resnext50_32x4d": (
        models.resnet,
        {**TORCHVISION, "depth": 50, "groups": 32, "width_per_group": 4},
        25_028_904,
        [*resnet_keys(3, 3, 4, 6, 3)],
    ),
    "resnext101_32x8d": (
        models.resnet,
        {**TORCHVISION, "depth": 101, "groups": 32, "width_per_group": 8},
        88_791_336,
        [*resnet_keys(3, 3, 4, 23, 3)],
    ),
    "wide_resnet50_2": (
        models.resnet,
        {**TORCHVISION, "depth": 50, "width_per_group": 128},
        68_883_240,
        [*resnet_keys(3, 3, 4, 6, 3)],
    ),
    "wide_resnet101_2": (
        models.resnet,
        {**TORCHVISION, "depth": 101, "width_per_group": 128},
        126_886_696,
        [*resnet_keys(3, 3, 4, 23, 3)],
    ),
    "seresnet50": (
        models.resnet,
        {**TORCHVISION, "depth": 50, "se_reduction": 16},
        28_088_024,
        [*resnet_keys(3, 3, 4, 6, 3, se=True)],
    ),
    "mobilenet_v2": (models.mobilenet_v2, {}, 3_504_872, [*mobilenet_keys()]),
    "squeezenet1_0": (models.squeezenet, {"version": "1_0"}, 1_248_424, squeezenet_keys(*SQUEEZENET_1_0)),
    "squeezenet1_1": (models.squeezenet, {}, 1_235_496, squeezenet_keys(*SQUEEZENET_1_1)),
    "shufflenet_v2_x0_5": (models.shufflenet_v2, {"width_mult": 0.5}, 1_366_792, [*shufflenet_keys()]),
    "shufflenet_v2_x1_0": (models.shufflenet_v2, {}, 2_278_604, [*shufflenet_keys()]),
    "shufflenet_v2_x1_5": (models.shufflenet_v2, {"width_mult": 1.5}, 3_503_624, [*shufflenet_keys()]),
    "shufflenet_v2_x2_0": (models.shufflenet_v2, {"width_mult": 2}, 7_393_996, [*shufflenet_keys()]),
}

SHAPES = {
    "alexnet": {"features.0.weight": (64, 3, 11, 11), "classifier.1.weight": (4096, 9216)},
    "vgg11": {"classifier.0.weight": (4096, 25_088), "classifier.6.bias": (1000,)},
    "googlenet": {
        "inception3a.branch3.1.conv.weight": (32, 16, 3, 3),
        "inception5b.branch4.1.conv.weight": (128, 832, 1, 1),
    },
    "resnet18": {"layer2.0.downsample.0.weight": (128, 64, 1, 1), "fc.weight": (1000, 512)},
    "resnet50": {"layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer4.2.conv3.weight": (2048, 512, 1, 1)},
    "densenet121": {
        "features.denseblock1.denselayer2.conv1.weight": (128, 96, 1, 1),
        "features.denseblock4.denselayer16.conv2.weight": (32, 128, 3, 3),
        "features.transition3.conv.weight": (512, 1024, 1, 1),
        "classifier.weight": (1000, 1024),
    },
    "resnext50_32x4d": {"layer1.0.conv2.weight": (128, 4, 3, 3), "layer4.2.conv1.weight": (1024, 2048, 1, 1)},
    "wide_resnet101_2": {"layer1.0.conv2.weight": (128, 128, 3, 3), "layer4.0.conv3.weight": (2048, 1024, 1, 1)},
    "seresnet50": {"layer1.0.se.fc1.weight": (16, 256, 1, 1), "layer4.2.se.fc2.weight": (2048, 128, 1, 1)},
    "mobilenet_v2": {
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "classifier.1.weight": (1000, 1280),
    },
    "squeezenet1_0": {"features.0.weight": (96, 3, 7, 7), "features.12.expand3x3.weight": (256, 64, 3, 3)},
    "squeezenet1_1": {"features.0.weight": (64, 3, 3, 3), "classifier.1.weight": (1000, 512, 1, 1)},
    "shufflenet_v2_x1_0": {
        "stage2.0.branch1.0.weight": (24, 1, 3, 3),
        "stage2.1.branch2.0.weight": (58, 58, 1, 1),
        "conv5.0.weight": (1024, 464, 1, 1),
    },
}


@pytest.mark.parametrize("name", CASES)
def test_keys_and_sizes(weightless: None, name: str) -> None:
    function, arguments, parameters, keys = CASES[name]
    model = function(**arguments)
    assert count(model) == parameters
    shapes = {key: array.shape for key, array in model.state_dict().items()}
    assert list(shapes) == keys
    assert shapes.items() >= SHAPES.get(name, {}).items()
    assert model.output_shape((2, 3, 224, 224)) == (2, 1000)


def test_one_channel_and_ten_classes_in_torchvision_s_layout() -> None:
    state = models.resnet(1, 10, width_divisor=16, layout="torchvision").state_dict()
    assert state["conv1.weight"].shape == (4, 1, 7, 7) and state["fc.weight"].shape == (10, 32)


def test_weights_with_auxiliary_classifiers_load_without_strict() -> None:
    model = models.googlenet(width_divisor=8, layout="torchvision")
    state = {name: np.full_like(array, 2) for name, array in model.state_dict().items()}
    state["aux1.fc1.weight"] = np.zeros((1024, 2048), np.float32)
    with pytest.raises(ValueError, match=r"unexpected aux1\.fc1\.weight"):
        model.load_state_dict(state)
    model.load_state_dict(state, strict=False)
    assert all(np.all(array == 2) for array in model.state_dict().values())


def test_alexnet_s_and_vgg_s_pooling_to_a_fixed_size_is_the_identity() -> None:
    alexnet = models.alexnet(width_divisor=32, hidden_features=8, layout="torchvision")["features"]
    assert {alexnet.output_shape((1, 3, size, size))[2:] for size in (223, 224, 230)} == {(6, 6)}
    vgg = models.vgg(width_divisor=64, hidden_features=8, layout="torchvision")["features"]
    assert {vgg.output_shape((1, 3, size, size))[2:] for size in (224, 255)} == {(7, 7)}
