"""What every architecture must do: count, have the printed shapes, save, refuse bad arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import models, nn
from numbacnn.backends import Backend
from numbacnn.models.densenet import dense_block
from tests.models.variants import ALL, CLASSIFIERS, build


def count(model: nn.Layer) -> int:
    return sum(parameter.size for parameter in model.parameters())


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros for weights, because to draw a hundred million numbers takes seconds."""
    for module in ("conv", "linear"):
        monkeypatch.setattr(f"numbacnn.nn.{module}.fan_in_uniform", lambda shape, fan_in, dtype: np.zeros(shape, dtype))


def maps(*sizes: tuple[int, int]) -> list[tuple[int, ...]]:
    return [(1, channels, size, size) for channels, size in sizes]


PRINTED: dict[str, tuple[int, int, list[tuple[int, ...]]]] = {
    "alexnet": (
        46_764_746,
        224,
        [
            *maps((96, 54), (96, 54), (96, 26), (256, 26), (256, 26), (256, 12), (384, 12), (384, 12)),
            *maps((384, 12), (384, 12), (256, 12), (256, 12), (256, 5)),
            *[(1, 6400), *[(1, 4096)] * 6, (1, 10)],
        ],
    ),
    "vgg": (
        128_806_154,
        224,
        [
            *maps((64, 112), (128, 56), (256, 28), (512, 14), (512, 7)),
            *[(1, 25_088), *[(1, 4096)] * 6, (1, 10)],
        ],
    ),
    "nin": (
        1_992_166,
        224,
        [
            *maps((96, 54), (96, 26), (256, 26), (256, 12), (384, 12), (384, 5), (384, 5), (10, 5), (10, 1)),
            (1, 10),
        ],
    ),
    "googlenet": (
        5_977_530,
        96,
        [
            *maps((64, 48), (64, 24), (64, 24), (192, 24), (192, 12), (256, 12), (480, 12), (480, 6)),
            *maps((512, 6), (512, 6), (512, 6), (528, 6), (832, 6), (832, 3), (832, 3), (1024, 3), (1024, 1)),
            *[(1, 1024), (1, 10)],
        ],
    ),
    "resnet": (
        11_178_378,
        96,
        [
            *maps((64, 48), (64, 48), (64, 48), (64, 24), (64, 24), (128, 12), (256, 6), (512, 3), (512, 1)),
            *[(1, 512), (1, 10)],
        ],
    ),
    "densenet": (758_226, 96, [*maps((248, 3), (248, 3), (248, 1)), (1, 248), (1, 10)]),
}


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_and_shapes_of_the_book(weightless: None, name: str) -> None:
    parameters, size, shapes = PRINTED[name]
    model, shape = getattr(models, name)(), (1, 1, size, size)
    assert count(model) == parameters
    for layer, expected in zip(model, shapes, strict=True):
        shape = layer.output_shape(shape)
        assert shape == expected


def test_shapes_inside_of_densenet() -> None:
    shape: tuple[int, ...] = (1, 1, 96, 96)
    shapes = [*maps((64, 48), (64, 48), (64, 48), (64, 24), (192, 24), (96, 12), (224, 12), (112, 6), (240, 6))]
    shapes += maps((120, 3), (248, 3), (248, 3))
    for layer, expected in zip(models.densenet()["features"], shapes, strict=True):
        shape = layer.output_shape(shape)
        assert shape == expected


def test_a_dense_block_adds_channels(backend: Backend) -> None:
    block = dense_block(2, 3, 10)
    x = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    y = np.asarray(block(x))
    assert y.shape == block.output_shape(x.shape) == (4, 23, 8, 8)
    np.testing.assert_array_equal(y[:, :3], x)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_vgg_of_every_depth(weightless: None, depth: int) -> None:
    model = models.vgg(depth=depth, width_divisor=64, hidden_features=8)
    assert sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in model.layers()) == depth
    assert model.output_shape((2, 1, 224, 224)) == (2, 10)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnet_of_every_depth(weightless: None, depth: int) -> None:
    model = models.resnet(depth=depth, width_divisor=16)
    names = [name for name, layer in model.named_layers() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len([name for name in names if "downsample" not in name]) == depth
    assert len([name for name in names if "downsample" in name]) == (4 if depth >= 50 else 3)
    assert model.output_shape((2, 1, 96, 96)) == (2, 10)


def test_the_book_s_narrow_vgg(weightless: None) -> None:
    assert round(count(models.vgg(width_divisor=4)) / 1e6, 1) == 43.1


@pytest.mark.parametrize(("name", "smallest"), [("nin", 67), ("googlenet", 1), ("resnet18", 1), ("densenet", 29)])
def test_other_image_sizes(name: str, smallest: int) -> None:
    model, _ = build(name)
    assert model.output_shape((2, 1, smallest, smallest)) == model.output_shape((2, 1, 300, 310)) == (2, 10)
    with pytest.raises(ValueError, match=r"does not fit|must not be empty"):
        model.output_shape((2, 1, smallest - 1, smallest - 1))


@pytest.mark.parametrize("name", ALL)
def test_a_state_dict_makes_two_models_equal(name: str) -> None:
    (first, x), (second, _) = build(name, 0), build(name, 1)
    first(x)
    before = np.asarray(second.eval()(x))
    second.load_state_dict(first.state_dict())
    after = np.asarray(second(x))
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, first.eval()(x))


@pytest.mark.parametrize("name", [name for name in ALL if name != "lenet"])
def test_training_differs_from_evaluation(name: str) -> None:
    model, x = build(name)
    assert any(isinstance(layer, (nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d)) for layer in model.layers()) == (
        name != "googlenet"
    )
    training, evaluation = np.asarray(model(x)), np.asarray(model.eval()(x))
    assert np.array_equal(training, evaluation) == (name == "googlenet")
    np.testing.assert_array_equal(model(x), evaluation)


@pytest.mark.parametrize("name", ALL)
def test_names_are_distinct_and_the_model_prints(name: str) -> None:
    model, x = build(name)
    leaves = [name for name, layer in model.named_layers() if not list(layer.named_children())]
    assert len(leaves) == len(set(leaves))
    lines = repr(model).splitlines()
    assert sum("Conv2d(" in line for line in lines) == sum(isinstance(layer, nn.Conv2d) for layer in model.layers())
    assert nc.summary(model, x.shape).parameters == count(model)


LAYOUTS = {name: ["book", "torchvision"] for name in ("alexnet", "vgg", "googlenet", "resnet", "densenet")}
GMACS = {
    **{"alexnet": 0.71, "vgg": 7.61, "googlenet": 1.50, "resnet": 1.81, "densenet": 2.83},
    **{"mobilenet_v2": 0.30, "squeezenet": 0.35, "shufflenet_v2": 0.14},
}
"""Of torchvision's models for one image of 224 pixels, as its documentation has them."""
OF_IMAGES = [name for name in CLASSIFIERS if not name.startswith("series")]


@pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name in OF_IMAGES for layout in LAYOUTS.get(name, ["book"])]
)
def test_summary_of_every_architecture(weightless: None, name: str, layout: str) -> None:
    torchvision = layout == "torchvision"
    model = getattr(models, name)(**({"layout": layout} if name in LAYOUTS else {}))
    shapes = {**{name: (1, 1, size, size) for name, (_, size, _) in PRINTED.items()}, "lenet": (1, 1, 28, 28)}
    shapes["cifar_resnet"] = (1, 3, 32, 32)
    shape = (1, 3, 224, 224) if torchvision else shapes.get(name, (1, 3, 224, 224))
    table = nc.summary(model, shape)
    seen: set[str] = set()
    for row, (layer_name, layer) in zip(table.rows, model.named_layers(), strict=True):
        assert row.layer == type(layer).__name__
        # A child with the name '' has that of its container.
        assert row.name == ("" if layer_name in seen else layer_name.rpartition(".")[2])
        seen.add(layer_name)
    assert table.parameters == table.rows[0].parameters == count(model)
    assert table.rows[0].output_shape == (1, 1000 if shape[2] == 224 and shape[1] == 3 else 10)
    for row in table.rows:
        assert row.receptive_field is not None
        assert min(row.receptive_field.size) >= 1 and min(row.receptive_field.jump) >= 0
        assert max(*row.receptive_field.size, *row.receptive_field.jump) < 10_000
    assert table.rows[0].receptive_field.size == table.rows[-1].receptive_field.size == shape[2:]
    assert len(str(table).splitlines()) == len(table.rows) + 4
    if name in GMACS and shape[1] == 3:
        assert round(table.flops / 2e9, 2) == GMACS[name]


@pytest.mark.parametrize(
    ("function", "options", "last", "field"),
    [
        (models.alexnet, {}, "features.12", (195, 32, -66)),
        (models.vgg, {"depth": 16}, "features.30", (212, 32, -90)),
        (models.resnet, {"depth": 18}, "layer4", (435, 32, -217)),
        (models.resnet, {"depth": 50}, "layer4", (427, 32, -213)),
    ],
)
def test_receptive_fields_of_known_models(
    weightless: None, function: Callable[..., Any], options: dict[str, Any], last: str, field: tuple[int, int, int]
) -> None:
    part = nn.upto(function(layout="torchvision", **options), last)
    assert nn.receptive_field(part, (1, 3, 224, 224)) == tuple((number, number) for number in field)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (models.alexnet, {"layout": "torch"}, "`layout` 'torch' must be one of 'book', 'torchvision'"),
        (models.vgg, {"depth": 12}, "`depth` 12 must be one of 11, 13, 16, 19"),
        (models.resnet, {"depth": 121}, "`depth` 121 must be one of 18, 34, 50, 101, 152"),
        (models.densenet, {"depth": 18}, "`depth` 18 must be one of None, 121"),
        (models.densenet, {"depth": 18, "layout": "torchvision"}, "`depth` 18 must be one of None, 121"),
        (models.resnet, {"groups": 2}, "`groups` 2 and `width_per_group` 64 must be 1 and 64 for `depth` 18, whose"),
        (models.resnet, {"depth": 50, "groups": 0}, "`groups` 0 must be at least 1"),
        (models.resnet, {"se_reduction": 3}, "`se_reduction` 3 must divide the number of channels, here 64"),
        (models.cifar_resnet, {"depth": 18}, "`depth` 18 must be one of 20, 32, 44, 56, 110"),
        (models.mobilenet_v2, {"width_mult": 0}, "`width_mult` 0 must be above 0"),
        (models.mobilenet_v2, {"width_mult": 5}, r"`width_mult` 5 must be in 0\.\.4"),
        (models.mobilenet_v2, {"dropout": -1}, "`p` -1 must be in 0"),
        (models.squeezenet, {"version": "1_2"}, "`version` '1_2' must be one of '1_0', '1_1'"),
        (models.shufflenet_v2, {"width_mult": 0.75}, r"`width_mult` 0\.75 must be one of 0\.5, 1\.0, 1\.5, 2\.0"),
        (models.shufflenet_v2, {"width_divisor": 8}, "`width_divisor` 8 must divide the number of channels, here 116"),
        (
            models.series_resnet,
            {"width_divisor": 128},
            "`width_divisor` 128 must divide the number of channels, here 64",
        ),
        (models.nin, {"width_divisor": 5}, "`width_divisor` 5 must divide the number of channels, here 96"),
        (models.vgg, {"hidden_features": 0}, "`hidden_features` 0 must be at least 1"),
        (models.googlenet, {"width_divisor": 0}, "`width_divisor` 0 must be at least 1"),
        (models.resnet, {"in_channels": 0}, "`in_channels` 0 must be at least 1"),
        *((getattr(models, name), {"num_classes": 0}, "`num_classes` 0 must be at least 1") for name in CLASSIFIERS),
        *((getattr(models, name), {"dtype": np.float16}, "`dtype` float16 must be") for name in CLASSIFIERS),
    ],
)
def test_bad_arguments(function: Callable[..., Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(**arguments)


@pytest.mark.parametrize(("name", "size"), [("alexnet", 256), ("alexnet_tv", 256), ("vgg11", 96), ("vgg11_bn_tv", 256)])
def test_images_that_the_linear_layers_do_not_fit(name: str, size: int) -> None:
    model, x = build(name)
    with pytest.raises(ValueError, match="features"):
        model.output_shape((1, x.shape[1], size, size))
