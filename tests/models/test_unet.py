"""U-Net: names, sizes, the images that fit, and what becomes of it in sessions, steps and files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import models, nn, optim
from numbacnn.backends import Backend
from numbacnn.models.architecture import architecture_of
from numbacnn.training import TrainingStep
from tests.models.test_models import count
from tests.models.test_models import weightless as weightless
from tests.models.test_torchvision_layout import both, norm, weight
from tests.strategies import SIMULATED


def double_conv(prefix: str) -> list[str]:
    at = f"{prefix}.double_conv"
    return [*weight(f"{at}.0"), *norm(f"{at}.1"), *weight(f"{at}.3"), *norm(f"{at}.4")]


def test_names_and_sizes_are_those_of_pytorch_unet(weightless: None) -> None:
    model = models.unet(num_classes=2, batch_norm=True)
    keys = double_conv("inc")
    for level in range(1, 5):
        keys += double_conv(f"down{level}.maxpool_conv.1")
    for step in range(1, 5):
        keys += [*both(f"up{step}.up"), *double_conv(f"up{step}.conv")]
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert list(shapes) == [*keys, *both("outc.conv")]
    assert shapes["up1.up.weight"] == (1024, 512, 2, 2)
    assert shapes["up1.conv.double_conv.0.weight"] == (512, 1024, 3, 3)
    assert count(model) == 31_037_698
    assert count(models.unet(num_classes=2, batch_norm=True, up="bilinear")) == 17_263_042


def test_the_paper_s_has_its_parameters_and_sizes(weightless: None) -> None:
    model = models.unet(in_channels=1, num_classes=2, padding="valid")
    expected, inputs = 64 * 2 + 2, 1
    for channels in (64, 128, 256, 512, 1024):
        expected += 9 * channels * (inputs + channels) + 2 * channels
        inputs = channels
    for channels in (512, 256, 128, 64):
        expected += 4 * inputs * channels + channels + 9 * channels * (inputs + channels) + 2 * channels
        inputs = channels
    assert count(model) == expected == 31_030_658
    assert model.output_shape((1, 1, 572, 572)) == (1, 2, 388, 388)
    sides = [layer.padding[0] for layer in model.layers() if isinstance(layer, nn.ZeroPad2d)]
    # (64 - 56) / 2 and so on, of the numbers in the paper's figure.
    assert sides == [-4, -16, -40, -88]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_images_fit_or_an_error_says_which_do(padding: str, depth: int) -> None:
    model = models.unet(1, 3, 2, depth, padding)
    step, lost, fitting = 2**depth, 4 * (padding == "valid"), 0
    for size in range(1, 130):
        shape = (1, 1, size, size)
        sizes = [float(size)]
        for _ in range(depth):
            sizes.append((sizes[-1] - lost) / 2)
        sizes.append(sizes[-1] - lost)
        for _ in range(depth):
            sizes.append(2 * sizes[-1] - lost)
        if min(sizes) >= 1 and all(map(float.is_integer, sizes)):
            fitting += 1
            assert model.output_shape(shape) == (1, 3, sizes[-1], sizes[-1])
        else:
            with pytest.raises(ValueError, match=rf"must have a height and width of a multiple of {step}"):
                model.output_shape(shape)
    assert fitting > 1


def test_the_error_names_sizes_that_would_do() -> None:
    model = models.unet(1, 2, 2, 2)
    message = r"images of shape \(2, 1, 30, 33\) must .* multiple of 4, at least 4, .*: 32 and 32 would do"
    for run in (model, model.predict, model.eval()):
        with pytest.raises(ValueError, match=message):
            run(np.zeros((2, 1, 30, 33), np.float32))
    with pytest.raises(ValueError, match=r"multiple of 16 plus 12, at least 188, .*: 572 and 188 would do"):
        models.unet(1, 2, 1, padding="valid").output_shape((1, 1, 570, 9))


def test_receptive_fields(weightless: None) -> None:
    """The bottom sees 32 pixels, 4 apart; half of those more, and four at each scale, what is made of it."""
    model, shape = models.unet(width=2, depth=2), (1, 3, 64, 64)
    found = {row.name: row.receptive_field for row in nc.summary(model, shape).rows if row.depth <= 1}
    fields = [(field.size[0], field.jump[0]) for name in ("down2", "up1", "up2") if (field := found[name])]
    assert fields == [(32, 4), (32 + 2 + 8, 2), (42 + 1 + 4, 1)]
    assert nn.receptive_field(model, shape) == found[""]


@pytest.mark.skipif(SIMULATED, reason="training takes minutes in the simulator")
def test_a_captured_step_is_the_plain_one(fast_backend: Backend) -> None:
    rng, weights = np.random.default_rng(0), []
    x, masks = rng.random((4, 1, 16, 16), np.float32), rng.integers(0, 3, (4, 16, 16))
    for capture in (False, True):
        nc.manual_seed(0)
        model = models.unet(1, 3, 8, 2, batch_norm=True)
        step = TrainingStep(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), 1e-2), capture=capture)
        for _ in range(4):
            step(x, masks)
            weights.append([np.asarray(parameter.value).copy() for parameter in model.parameters()])
        assert step.mode == ("captured" if capture else "plain")
    for plain, captured in zip(weights[:4], weights[4:], strict=True):
        assert all(map(np.array_equal, plain, captured))


def test_in_a_folder_and_folded(tmp_path: Path) -> None:
    model = models.unet(3, 4, 4, 2, batch_norm=True, up="bilinear")
    made_by = architecture_of(model)
    assert made_by is not None and made_by.name == "unet" and made_by.arguments["up"] == "bilinear"
    nc.save_pretrained(tmp_path, model)
    assert "pipeline_tag: image-segmentation" in (tmp_path / "README.md").read_text()
    again = nc.from_pretrained(tmp_path)
    x = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    np.testing.assert_array_equal(again(x), model.eval()(x))
    folded = nn.fold_batch_norm(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.layers())
    np.testing.assert_allclose(folded(x), model(x), rtol=0, atol=1e-5)
    table = nc.summary(model, x.shape)
    assert table.parameters == count(model) and table.rows[0].output_shape == (2, 4, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "`in_channels` 0 must be at least 1"),
        ({"num_classes": 0}, "`num_classes` 0 must be at least 1"),
        ({"width": 0}, "`width` 0 must be at least 1"),
        ({"width": 3, "up": "bilinear"}, "`width` 3 must be even with `up` 'bilinear'"),
        ({"depth": 0}, "`depth` 0 must be at least 1"),
        ({"padding": "full"}, "`padding` 'full' must be one of 'same', 'valid'"),
        ({"up": "nearest"}, "`up` 'nearest' must be one of 'transposed', 'bilinear'"),
        ({"dtype": np.float16}, "`dtype` float16 must be"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partial(models.unet, width=2, depth=1)(**arguments)
