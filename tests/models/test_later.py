"""The architectures after the book's: what is particular to each."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import models, nn
from numbacnn.backends import Backend
from numbacnn.models.resnet import squeeze_excitation
from numbacnn.models.shufflenet import shuffle_unit
from numbacnn.models.squeezenet import fire
from tests.models.test_models import count
from tests.models.test_models import weightless as weightless
from tests.models.variants import build
from tests.nn.test_gradients import check_gradients


@pytest.mark.parametrize(
    ("depth", "parameters", "millions"),
    [(20, 269_722, 40.6), (32, 464_154, 68.9), (44, 658_586, 97.2), (56, 853_018, 125.5), (110, 1_727_962, 252.9)],
)
def test_cifar_resnets_of_every_depth(weightless: None, depth: int, parameters: int, millions: float) -> None:
    """``millions`` of multiply-accumulate operations, for an image."""
    model = models.cifar_resnet(depth=depth)
    assert count(model) == parameters
    assert sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in model.layers()) == depth
    keys = [key for key in model.state_dict() if key.endswith("weight") and "bn" not in key]
    each = (depth - 2) // 6
    blocks = [f"layer{stage}.{i}.conv{j}.weight" for stage in (1, 2, 3) for i in range(each) for j in (1, 2)]
    assert keys == ["conv1.weight", *blocks, "linear.weight"]
    assert model.output_shape((2, 3, 32, 32)) == model.output_shape((2, 3, 1, 9)) == (2, 10)
    assert round(nc.summary(model, (1, 3, 32, 32)).flops / 2e6, 1) == millions


def test_shortcuts_take_every_other_pixel_and_pad_with_zeros(backend: Backend) -> None:
    block = models.cifar_resnet(width_divisor=4, dtype=np.float64)["layer2"][0].eval()
    block.load_state_dict({"conv2.weight": np.zeros((8, 8, 3, 3))}, strict=False)
    x = np.abs(np.random.default_rng(0).standard_normal((2, 4, 5, 6)))
    expected = np.zeros((2, 8, 3, 3))
    expected[:, 2:6] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(block(x), expected)


def test_squeeze_and_excitation_is_what_the_paper_says() -> None:
    layer = squeeze_excitation(6, 3, np.float64)
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 4))
    state = {name: np.asarray(array) for name, array in layer.state_dict().items()}
    inner = np.maximum(x.mean((2, 3)) @ state["fc1.weight"][:, :, 0, 0].T + state["fc1.bias"], 0)
    scale = 1 / (1 + np.exp(-(inner @ state["fc2.weight"][:, :, 0, 0].T + state["fc2.bias"])))
    np.testing.assert_allclose(layer(x), x * scale[:, :, None, None], rtol=0, atol=1e-12)


def test_a_shuffle_unit_keeps_half_of_the_channels() -> None:
    unit = shuffle_unit(8, 8, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((2, 8, 3, 3))
    np.testing.assert_array_equal(np.asarray(unit(x))[:, ::2], x[:, :4])
    with pytest.raises(ValueError, match="`channels` 2 must divide the number of channels, here 7"):
        shuffle_unit(7, 7)


@pytest.mark.parametrize(
    "block",
    [
        lambda: fire(3, 2, 4, np.float64),
        lambda: shuffle_unit(4, 4, dtype=np.float64),
        lambda: shuffle_unit(4, 6, 2, np.float64),
        lambda: squeeze_excitation(4, 2, np.float64),
    ],
)
def test_gradients_of_blocks(block) -> None:
    layer = block()
    channels = 3 if "squeeze_activation" in dict(layer.named_children()) else 4
    check_gradients(layer, np.random.default_rng(0).standard_normal((3, channels, 5, 5)), np.random.default_rng(1))


@pytest.mark.parametrize("name", ["series_fcn", "series_resnet"])
def test_series(name: str) -> None:
    model, x = build(name)
    assert model.output_shape((5, 2, 1)) == model.output_shape((5, 2, 400)) == (5, 6)
    table = nc.summary(model, x.shape)
    assert table.parameters == count(model) and table.rows[0].output_shape == (3, 6)


def test_parameters_of_series(weightless: None) -> None:
    assert count(models.series_fcn(3, 5)) == 264_962 + 2 * 8 * 128 + 3 * 129
    assert count(models.series_resnet(num_classes=2)) == 504_258


def test_widths_of_mobilenet(weightless: None) -> None:
    """As torchvision's state dicts have them; the last layer is never narrower than 1280."""
    assert count(models.mobilenet_v2(width_mult=0.5)) == 1_968_680
    assert count(models.mobilenet_v2(width_mult=1.4)) == 6_108_776
    for width_mult, features in ((0.35, 1280), (1.4, 1792)):
        state = models.mobilenet_v2(width_mult=width_mult).state_dict()
        assert state["classifier.1.weight"].shape == (1000, features)


@pytest.mark.parametrize(
    ("name", "last", "field"),
    [
        ("squeezenet", "features.12", (207, 16, -88)),
        ("cifar_resnet20", "layer3", (81, 4, -40)),
        ("mobilenet_v2", "features.18", (491, 32, -245)),
        ("shufflenet_v2", "conv5", (527, 32, -263)),
    ],
)
def test_receptive_fields(name: str, last: str, field: tuple[int, int, int]) -> None:
    assert nn.receptive_field(nn.upto(build(name)[0], last), (1, 3, 224, 224)) == tuple((n, n) for n in field)
