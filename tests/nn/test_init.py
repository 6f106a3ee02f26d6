"""Initial weights: their range, and that a seed fixes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend


def test_a_seed_fixes_every_draw(backend: Backend) -> None:
    def make(dtype: type = np.float32) -> list[np.ndarray]:
        nc.manual_seed(5)
        conv = nn.Conv2d(3, 8, 3, dtype=dtype)
        dropout = nn.Dropout()
        linear = nn.Linear(10, 5, dtype=dtype)
        nn.init.xavier_uniform(linear)
        return [*(np.asarray(p.value) for p in (*conv.parameters(), *linear.parameters())), np.array(dropout.seed)]

    for once, again, wide in zip(make(), make(), make(np.float64), strict=True):
        np.testing.assert_array_equal(once, again)
        np.testing.assert_array_equal(once, wide.astype(once.dtype))
    assert not np.array_equal(nn.Linear(10, 5).weight.value, nn.Linear(10, 5).weight.value)


def test_a_block_has_a_generator_of_its_own(backend: Backend) -> None:
    nc.manual_seed(5)
    expected = [nn.init.draw_seed() for _ in range(3)]
    nc.manual_seed(5)
    assert nn.init.draw_seed() == expected[0]
    with nn.init.seeded(5):
        assert nn.init.draw_seed() == expected[0]
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(nn.init.draw_seed).result() == expected[1]
        nc.manual_seed(5)
        assert [nn.init.draw_seed() for _ in range(2)] == expected[:2]
    assert nn.init.draw_seed() == expected[2]


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda: nn.Conv2d(6, 40, (3, 5)), 6 * 3 * 5),
        (lambda: nn.Conv2d(6, 300, (3, 5), groups=3), 2 * 3 * 5),
        (lambda: nn.Linear(100, 300), 100),
    ],
)
def test_default_weights_fill_the_range_of_their_fan_in(backend: Backend, make, fan_in: int) -> None:
    nc.manual_seed(1)
    layer, bound = make(), 1 / math.sqrt(fan_in)
    for parameter, share in ((layer.weight, 0.99), (layer.bias, 0.9)):
        assert share * bound < np.abs(np.asarray(parameter.value)).max() <= bound * (1 + 1e-6)
    assert abs(np.mean(np.asarray(layer.weight.value))) < 5 * bound / math.sqrt(3 * layer.weight.size)


def test_xavier_uniform_draws_weights_and_leaves_the_rest(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(4, 30, 3), nn.BatchNorm2d(30), nn.Sequential(nn.Linear(120, 80)))
    before = model.state_dict()
    nn.init.xavier_uniform(model)
    after = model.state_dict()
    assert [name for name in after if (after[name] != before[name]).any()] == ["0.weight", "2.0.weight"]
    for name, fans in (("0.weight", (4 + 30) * 9), ("2.0.weight", 120 + 80)):
        bound = math.sqrt(6 / fans)
        assert 0.99 * bound < np.abs(after[name]).max() <= bound * (1 + 1e-6)
    weight = model[0].weight
    nn.init.xavier_uniform(weight)
    assert not np.array_equal(weight.value, after["0.weight"])


def weights(make: Callable[[nn.Layer], None], *shape: int) -> np.ndarray:
    nc.manual_seed(3)
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2:])
    bias = np.array(layer.state_dict()["bias"])
    make(layer)
    np.testing.assert_array_equal(layer.state_dict()["bias"], bias)
    return layer.state_dict()["weight"]


SHAPES = ((120, 80), (64, 32, 3, 5))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize(("nonlinearity", "gain"), [("relu", math.sqrt(2)), ("tanh", 5 / 3), ("leaky_relu", None)])
def test_kaiming_s_range(shape: tuple[int, ...], mode: str, nonlinearity: str, gain: float | None) -> None:
    taps = math.prod(shape[2:])
    fan = shape[1] * taps if mode == "fan_in" else shape[0] * taps
    std = (gain or math.sqrt(2 / (1 + 0.3**2))) / math.sqrt(fan)
    options = {"a": 0.3, "mode": mode, "nonlinearity": nonlinearity}
    uniform = weights(lambda layer: nn.init.kaiming_uniform(layer, **options), *shape)
    assert 0.99 * math.sqrt(3) * std < np.abs(uniform).max() <= math.sqrt(3) * std * (1 + 1e-6)
    normal = weights(lambda layer: nn.init.kaiming_normal(layer, **options), *shape)
    assert abs(normal.std() / std - 1) < 0.05 and np.abs(normal).max() > 2.5 * std


@pytest.mark.parametrize("shape", SHAPES)
def test_xavier_s_normal_numbers(shape: tuple[int, ...]) -> None:
    std = 2 * math.sqrt(2 / ((shape[0] + shape[1]) * math.prod(shape[2:])))
    values = weights(lambda layer: nn.init.xavier_normal(layer, 2), *shape)
    assert abs(values.std() / std - 1) < 0.05 and np.abs(values).max() > 2.5 * std


def test_truncated_numbers_stay_within() -> None:
    values = weights(lambda layer: nn.init.trunc_normal(layer, 1.0, 2.0, 0.0, 1.5), 200, 100)
    assert values.min() >= 0 and values.max() <= 1.5 and values.min() < 0.01 and values.max() > 1.49
    bias = nn.Linear(3, 5).bias
    nn.init.trunc_normal(bias, std=0.02)
    assert np.abs(np.asarray(bias.value)).max() < 0.2


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7), (4, 3, 2, 2)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    values = weights(lambda layer: nn.init.orthogonal(layer, 3.0), *shape).reshape(shape[0], -1)
    product = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    np.testing.assert_allclose(product, 9 * np.eye(len(product)), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.init.kaiming_normal(nn.Linear(2, 2), mode="fan"), ValueError, "`mode` 'fan' must be one of"),
        (lambda: nn.init.kaiming_normal(nn.Linear(2, 2), nonlinearity="x"), ValueError, "`nonlinearity` 'x' must be"),
        (lambda: nn.init.xavier_normal(nn.Linear(2, 2), gain=-1), ValueError, "`gain` -1 must be at least 0"),
        (
            lambda: nn.init.orthogonal(nn.Linear(2, 2).bias),
            ValueError,
            r"`target` of shape \(2,\) must have at least 2",
        ),
        (lambda: nn.init.orthogonal(3), TypeError, "`target` of type int must be a Layer or a Parameter"),
        (lambda: nn.init.trunc_normal(nn.Linear(2, 2), a=1, b=0), ValueError, "`a` 1.0 must be below `b` 0.0"),
        (lambda: nn.init.trunc_normal(nn.Linear(2, 2), a=9, b=10), ValueError, "less than a 10,000th"),
    ],
)
def test_what_cannot_be_drawn(make: Callable[[], None], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.torch
def test_gains_are_pytorch_s() -> None:
    torch = pytest.importorskip("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        slope = 0.2 if name == "leaky_relu" else None
        expected = torch.nn.init.calculate_gain(name, slope)
        assert nn.init.calculate_gain(name, slope or 0.01) == pytest.approx(expected)
