"""Grad-CAM: its heat by differences of the scores, of which layer it is by default, and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, ops
from numbacnn.backends import Backend
from numbacnn.explain import blended, grad_cam
from numbacnn.nn.watching import Forward, watched
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


class Halved(nn.Layer):
    """A model of one's own, of a body that is not named in order."""

    def __init__(self, body: nn.Layer) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(4, 3, dtype=np.float64), nn.Tanh())
        self.body = body

    def forward(self, x: Any) -> Any:
        return 0.5 * self.head(self.body(x))

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return self.body.backward(self.head.backward(0.5 * np.asarray(dy)), input_gradient)


def conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, dtype=np.float64)


def residual() -> nn.Graph:
    """Of which nothing in its order says that it ends in a sum and an activation."""
    nn.init.manual_seed(1)
    return nn.Graph(
        {
            "stem": (conv(2, 4), "x"),
            "act": (nn.ReLU(), "stem"),
            "conv1": (conv(4, 4), "act"),
            "relu": (nn.ReLU(), "conv1"),
            "conv2": (conv(4, 4), "relu"),
            "norm": (nn.BatchNorm2d(4, dtype=np.float64), "conv2"),
            "sum": (nn.Sum(), "norm", "act"),
            "last": (nn.Tanh(), "sum"),
            "pool": (nn.GlobalAvgPool2d(), "last"),
            "flat": (nn.Flatten(), "pool"),
            "fc": (nn.Linear(4, 3, dtype=np.float64), "flat"),
            "end": (nn.Sigmoid(), "fc"),
        }
    )


def dense() -> nn.Sequential:
    nn.init.manual_seed(2)
    first = nn.Sequential(nn.BatchNorm2d(2, dtype=np.float64), nn.ReLU(), conv(2, 3))
    second = nn.Sequential(nn.BatchNorm2d(5, dtype=np.float64), nn.ReLU(), conv(5, 4))
    head = nn.Sequential(nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(9, 3, dtype=np.float64), nn.Tanh())
    return nn.Sequential(nn.DenseBlock(first, second), nn.AvgPool2d(2), head)


def heat_by_differences(model: nn.Layer, x: np.ndarray, target: int, name: str) -> np.ndarray:
    """Each number that the layer gives is moved, and the score watched."""
    layer = dict(reversed(model.named_layers()))[name]
    maps = np.asarray(nn.outputs(model, x, [name])[name])
    model.eval()

    def score(moved: np.ndarray) -> float:
        def replacing(_: str, other: nn.Layer, forward: Forward) -> Forward:
            return (lambda *inputs: other.backend.asarray(moved)) if other is layer else forward

        with watched(model, replacing):
            return float(np.asarray(model.forward(x))[0, target])

    weights = np.zeros(maps.shape[1])
    for channel, row, column in np.ndindex(*maps.shape[1:]):
        scores = []
        for step in (1e-5, -1e-5):
            moved = maps.copy()
            moved[0, channel, row, column] += step
            scores.append(score(moved))
        weights[channel] += (scores[0] - scores[1]) / 2e-5 / maps[0, 0].size
    expected = bilinear(np.maximum((weights[:, None, None] * maps[0]).sum(0), 0), x.shape[2:])
    assert expected.any()
    return expected / expected.max()


def bilinear(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Between pixel centres, as ``torch.nn.functional.interpolate`` does it."""
    for axis, new in enumerate(size):
        old = x.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        x = np.apply_along_axis(lambda line, at=at, old=old: np.interp(at, np.arange(old), line), axis, x)
    return x


def test_heat_is_what_differences_of_the_score_say(backend: Backend) -> None:
    model = small().train()
    x = np.random.default_rng(0).standard_normal((1, 2, 12, 16))
    found = [grad_cam(model, x, target) for target in range(3)]
    for target, heat in enumerate(found):
        assert heat.shape == (12, 16) and heat.dtype == np.float32
        np.testing.assert_allclose(heat, heat_by_differences(model, x, target, "last"), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "name", "default"),
    [
        (small, "features.0", False),  # whose activation is otherwise computed along with it
        (small, "last.conv", False),
        (residual, "last", True),
        (residual, "conv2", False),
        (residual, "act", False),  # which two nodes use
        (dense, "0", True),
        (dense, "0.0.1", False),
        (lambda: Halved(nn.Sequential(conv(2, 4), nn.ReLU())), "body.1", True),
        (lambda: Halved(nn.Add(conv(2, 4), nn.Sequential(conv(2, 3), nn.ReLU(), conv(3, 4)))), "body", True),
        (lambda: Halved(nn.Add(conv(2, 4), nn.Sequential(conv(2, 3), nn.ReLU(), conv(3, 4)))), "body.1.0", False),
    ],
)
def test_layers_of_all_kinds_of_models(make: Any, name: str, default: bool) -> None:
    with backends.use_backend("reference"):
        nn.init.manual_seed(0)
        model = make()
        x = np.random.default_rng(1).standard_normal((1, 2, 6, 8))
        if make is small:
            x = np.random.default_rng(1).standard_normal((1, 2, 12, 16))
        target = 0 if name.startswith("last.") else 1  # one that something speaks for
        expected = heat_by_differences(model, x, target, name)
        np.testing.assert_allclose(grad_cam(model, x, target, name), expected, atol=1e-5)
        if default:
            np.testing.assert_allclose(grad_cam(model, x, target), expected, atol=1e-5)


def split(model: nn.Sequential, shape: tuple[int, ...]) -> tuple[nn.Sequential, nn.Sequential]:
    """What makes the feature maps of the last convolution, its norm and activation among it, and what is behind it."""
    chain = list(chained(model))
    end = max(i + 1 for i, layer in enumerate(chain) if any(isinstance(inner, nn.Conv2d) for inner in layer.layers()))
    for layer in chain[:end]:
        shape = layer.output_shape(shape)
    while end < len(chain) and not list(chain[end].children()) and chain[end].window() is None:
        if chain[end].output_shape(shape) != shape:
            break
        end += 1
    return nn.Sequential(*chain[:end]), nn.Sequential(*chain[end:])


def chained(layer: nn.Layer) -> list[nn.Layer]:
    return [inner for child in layer for inner in chained(child)] if type(layer) is nn.Sequential else [layer]


@pytest.mark.parametrize("name", ALL)
def test_a_chain_of_layers_could_be_cut_in_two(name: str) -> None:
    with backends.use_backend("reference"):
        model, x = build(name)
        heat = grad_cam(model, x[:1], 2)
        body, head = split(model.eval(), x[:1].shape)
        maps = body(x[:1])
        assert maps.ndim == 4 and not any(isinstance(layer, nn.Conv2d) for layer in head.layers())
        with nn.enable_grad():
            scores = head(maps)
        gradient = head.backward(np.eye(scores.shape[1])[[2]])
    expected = np.maximum((gradient.mean(axis=(2, 3), keepdims=True) * maps).sum(1, keepdims=True), 0)
    expected = ops.interpolate2d(expected, x.shape[2:], mode="bilinear", backend="reference")[0, 0]
    np.testing.assert_allclose(heat, expected / (expected.max() or 1), atol=1e-6)


def test_the_model_is_as_before(backend: Backend) -> None:
    model = small()
    model["features"].eval()
    model["last"]["conv"].weight.requires_grad = False
    x = np.random.default_rng(0).standard_normal((2, 2, 12, 16))
    scores, dy = model(x), np.random.default_rng(1).standard_normal((2, 3))
    expected = backend.to_numpy(model.backward(dy))
    kept = [(p.requires_grad, backend.to_numpy(p.grad).copy()) for p in model.parameters()]
    modes, state, random = [layer.training for layer in model.layers()], model.state_dict(), model.random_state()
    grad_cam(model, x[:1], 1)
    assert [layer.training for layer in model.layers()] == modes and model.random_state() == random
    assert not any({"forward", "backward"} & set(vars(layer)) for layer in model.layers())
    for parameter, (requires_grad, gradient) in zip(model.parameters(), kept, strict=True):
        assert parameter.requires_grad is requires_grad
        np.testing.assert_array_equal(backend.to_numpy(parameter.grad), gradient)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    np.testing.assert_array_equal(backend.to_numpy(model.backward(dy)), expected)
    assert scores.shape == (2, 3)


def test_pixels_in_bytes_are_scaled() -> None:
    with backends.use_backend("reference"):
        model, pixels = small(), np.random.default_rng(0).integers(0, 256, (1, 2, 12, 16), np.uint8)
        heat = grad_cam(model, pixels, 0)
        np.testing.assert_allclose(heat, grad_cam(model, np.float32(pixels) / 255, 0), atol=1e-5)
    assert heat.any()


def test_nothing_that_speaks_for_a_class_is_no_heat() -> None:
    with backends.use_backend("reference"):
        model = small()
        for parameter in model["head"].parameters():
            parameter.value[...] = 0
        assert not grad_cam(model, np.ones((1, 2, 12, 16)), 1).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": np.ones((2, 2, 12, 16))}, r"`x` \(2, 2, 12, 16\) must be one sample"),
        ({"x": np.ones((1, 2))}, r"`x` \(1, 2\) must be an image"),
        ({"target": 3}, "`target` 3 must be"),
        ({"target": -1}, "`target` -1 must be"),
        ({"layer": "tail"}, "`layer` 'tail' must be a layer of the model, which has features"),
        ({"layer": "head.4"}, r"`layer` 'head.4', a Linear, must give feature maps \(1, c, h, w\), not \(1, 3\)"),
    ],
)
def test_what_cannot_be_explained(arguments: dict[str, Any], words: str) -> None:
    with backends.use_backend("reference"), pytest.raises(ValueError, match=words):
        grad_cam(small(), **{"x": np.ones((1, 2, 12, 16)), "target": 0, **arguments})


def test_a_model_without_convolutions_or_scores_is_refused() -> None:
    with backends.use_backend("reference"):
        with pytest.raises(ValueError, match="the model, a Sequential, must run a Conv2d, or `layer` must name"):
            grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), np.ones((1, 1, 2, 2)), 0)
        with pytest.raises(ValueError, match=r"must give scores of the shape \(1, classes\), not \(1, 3, 2, 2\)"):
            grad_cam(nn.Conv2d(1, 3, 1), np.ones((1, 1, 2, 2)), 0)


def test_a_layer_that_the_scores_do_not_depend_on() -> None:
    class Aside(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.aside, self.unused, self.flat = nn.ReLU(), nn.ReLU(), nn.Flatten()

        def forward(self, x: Any) -> Any:
            self.aside(x)
            return self.flat(x)

        def backward(self, dy: Any, input_gradient: bool = True) -> Any:
            return self.flat.backward(dy)

    with backends.use_backend("reference"):
        with pytest.raises(ValueError, match="the scores do not depend on `layer`, ReLU"):
            grad_cam(Aside(), np.ones((1, 1, 2, 2)), 0, "aside")
        with pytest.raises(ValueError, match="`layer` 'unused', a ReLU, is not run by the model's forward pass"):
            grad_cam(Aside(), np.ones((1, 1, 2, 2)), 0, "unused")


def test_a_picture_is_clear_where_there_is_no_heat() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 2, 5), np.uint8)
    heat = np.zeros((2, 5))
    heat[1] = (0, 0.25, 0.5, 0.75, 1)
    mixed = blended(picture, heat)
    assert mixed.dtype == np.uint8
    np.testing.assert_array_equal(mixed[:, 0], picture[:, 0])
    np.testing.assert_array_equal(mixed[:, 1, 0], picture[:, 1, 0])
    np.testing.assert_allclose(mixed[:, 1, 4], 0.3 * picture[:, 1, 4] + (0.7 * 128, 0, 0), atol=1)
    np.testing.assert_allclose(mixed[:, 1, 2], 0.65 * picture[:, 1, 2] + 0.35 * np.array([255, 255, 0]), atol=1)
