"""Grad-CAM: where a model is cut, and its heat by differences of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.grad_cam import blended, grad_cam, save_picture, split
from numbacnn import backends, nn
from numbacnn.backends import Backend
from tests.models.variants import ALL, build


def small() -> nn.Sequential:
    """A net whose scores are not linear in the maps of its last convolution."""
    nn.init.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, dtype=np.float64), nn.Tanh(), nn.MaxPool2d(2))
    last = {"conv": nn.Conv2d(3, 4, 3, dtype=np.float64), "norm": nn.BatchNorm2d(4, dtype=np.float64), "act": nn.ReLU()}
    head = nn.Sequential(
        nn.AvgPool2d(2), nn.Sigmoid(), nn.Flatten(), nn.Dropout(), nn.Linear(4 * 2 * 3, 3, dtype=np.float64)
    )
    return nn.Sequential({"features": features, "last": nn.Sequential(last), "head": head})


def test_heat_is_what_differences_of_the_score_say(backend: Backend) -> None:
    model = small()
    x = np.random.default_rng(0).standard_normal((1, 2, 12, 16))
    found = [grad_cam(model, x, target) for target in range(3)]
    assert not any(layer.training for layer in model.layers())
    assert all(not np.asarray(parameter.grad).any() for parameter in model.parameters())

    maps = np.asarray(model["last"](model["features"](x)))
    for target, heat in enumerate(found):
        weights = np.zeros(4)
        for channel, row, column in np.ndindex(*maps.shape[1:]):
            scores = []
            for step in (1e-5, -1e-5):
                moved = maps.copy()
                moved[0, channel, row, column] += step
                scores.append(float(np.asarray(model["head"](moved))[0, target]))
            weights[channel] += (scores[0] - scores[1]) / 2e-5 / maps[0, 0].size
        expected = bilinear(np.maximum((weights[:, None, None] * maps[0]).sum(0), 0), (12, 16))
        assert expected.any() and heat.shape == (12, 16)
        np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-5)


def bilinear(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Between pixel centres, as ``torch.nn.functional.interpolate`` does it."""
    for axis, new in enumerate(size):
        old = x.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        x = np.apply_along_axis(lambda line, at=at, old=old: np.interp(at, np.arange(old), line), axis, x)
    return x


@pytest.mark.parametrize("name", ALL)
def test_every_model_is_cut_behind_its_last_convolution(name: str) -> None:
    with backends.use_backend("reference"):
        model, x = build(name)
        body, head = split(model.eval(), x.shape)
        maps = body(x)
        np.testing.assert_allclose(head(maps), model(x), atol=1e-12)
    assert maps.ndim == 4 and not any(isinstance(layer, nn.Conv2d) for layer in head.layers())
    assert not isinstance(next(iter(head)), (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Sigmoid))


def test_nothing_that_speaks_for_a_class_is_no_heat() -> None:
    with backends.use_backend("reference"):
        model = small()
        for parameter in model["head"].parameters():
            parameter.value[...] = 0
        assert not grad_cam(model, np.ones((1, 2, 12, 16)), 1).any()


def test_a_model_without_convolutions_is_refused() -> None:
    with backends.use_backend("reference"), pytest.raises(ValueError, match="a Sequential with a Conv2d in it"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), np.ones((1, 1, 2, 2)), 0)


def test_a_picture_is_clear_where_there_is_no_heat(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 2, 5), np.uint8)
    heat = np.zeros((2, 5))
    heat[1] = (0, 0.25, 0.5, 0.75, 1)
    mixed = blended(picture, heat)
    assert mixed.dtype == np.uint8
    np.testing.assert_array_equal(mixed[:, 0], picture[:, 0])
    np.testing.assert_array_equal(mixed[:, 1, 0], picture[:, 1, 0])
    np.testing.assert_allclose(mixed[:, 1, 4], 0.3 * picture[:, 1, 4] + (0.7 * 128, 0, 0), atol=1)
    np.testing.assert_allclose(mixed[:, 1, 2], 0.65 * picture[:, 1, 2] + 0.35 * np.array([255, 255, 0]), atol=1)
    save_picture(tmp_path / "1.png", mixed)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "1.png")).transpose(2, 0, 1), mixed)
