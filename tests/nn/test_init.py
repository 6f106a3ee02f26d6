"""Initial weights: their range, and that a seed fixes them."""

from __future__ import annotations

import math

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
