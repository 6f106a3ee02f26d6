"""Pooling of lines, adaptive pooling, power-average pooling: what the registry does not ask."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, ops
from numbacnn.backends import Backend
from numbacnn.backends.geometry import AdaptivePool2dGeometry, Pool2dGeometry


def test_windows_of_one_size_are_plain_ones_side_by_side() -> None:
    assert ops.adaptive_pool2d_geometry((2, 3, 8, 9), (4, 3)) == Pool2dGeometry(2, 3, 8, 9, 2, 3, 2, 3)
    assert ops.adaptive_pool2d_geometry((2, 3, 8, 9), (None, 1)) == Pool2dGeometry(2, 3, 8, 9, 1, 9, 1, 9)
    assert ops.adaptive_pool2d_geometry((2, 3, 8, 9), (4, 2)) == AdaptivePool2dGeometry(2, 3, 8, 9, 4, 2)
    with pytest.raises(ValueError, match=r"`output_size` .* is too large for `x`"):
        ops.adaptive_pool2d_geometry((1, 1, 3, 1000), (1, 2**30))


def test_one_output_is_global_pooling(backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    adaptive, whole = nn.AdaptiveAvgPool2d(1), nn.GlobalAvgPool2d()
    np.testing.assert_array_equal(backend.to_numpy(adaptive(x)), backend.to_numpy(whole(x)))
    assert nn.receptive_field(adaptive, (1, 3, 20, 30)) == ((20, 30), (0, 0), (0, 0))
    assert adaptive.window() is whole.window()


def test_the_receptive_field_of_adaptive_pooling(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveMaxPool2d((9, 14)))
    assert nn.receptive_field(model, (1, 1, 20, 30)) == ((4, 4), (2, 2), (0, 0))
    uneven = nn.receptive_field(model, (1, 1, 20, 31))
    assert uneven.jump == (2, Fraction(29, 14)) and math.floor(uneven.size[1]) == 5
    with pytest.raises(NotImplementedError, match="the window depends on the size of the image"):
        model[1].window()


def test_the_maximum_of_overlapping_windows_gets_both_gradients(backend: Backend) -> None:
    layer = nn.AdaptiveMaxPool2d((1, 2))
    y = layer(np.array([[[[1.0, 5.0, 2.0]]]]))
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[5, 5]]]])
    dx = layer.backward(np.array([[[[1.0, 10.0]]]]))
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[[0, 11, 0]]]])


@pytest.mark.parametrize("norm", [1, 2, 3, 1.5])
def test_a_window_of_zeros_has_a_finite_gradient(backend: Backend, norm: float) -> None:
    layer = nn.LPPool2d(norm, 2)
    x = np.zeros((1, 1, 2, 4), np.float32)
    x[..., 3] = 1
    y = layer(x)
    np.testing.assert_allclose(backend.to_numpy(y), [[[[0, 2 ** (1 / norm)]]]], rtol=1e-6)
    dx = backend.to_numpy(layer.backward(np.ones((1, 1, 1, 2), np.float32)))
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(dx[0, 0, 0, 3], 2 ** (1 / norm - 1), rtol=1e-6)


def test_a_negative_sum_has_no_length(backend: Backend) -> None:
    y = backend.to_numpy(ops.lp_pool2d([[[[-1, -2], [1, 3]]]], 3, (1, 2)))
    assert np.isnan(y[0, 0, 0, 0])
    np.testing.assert_allclose(y[0, 0, 1, 0], 28 ** (1 / 3), rtol=1e-6)


def test_what_stays_as_it_was_given(backend: Backend) -> None:
    assert repr(nn.MaxPool1d(2, padding=(1,))) == (
        "MaxPool1d(kernel_size=2, stride=2, padding=(1,), dilation=1, ceil_mode=False)"
    )
    assert repr(nn.AvgPool1d([3], 2)) == "AvgPool1d(kernel_size=[3], stride=2, padding=0)"
    assert repr(nn.AvgPool2d(2, divisor_override=3)) == (
        "AvgPool2d(kernel_size=2, stride=2, padding=0, divisor_override=3)"
    )
    assert repr(nn.AdaptiveAvgPool2d((5, None))) == "AdaptiveAvgPool2d(output_size=(5, None))"
    assert repr(nn.LPPool2d(1.5, 3, ceil_mode=True)) == (
        "LPPool2d(norm_type=1.5, kernel_size=3, stride=3, ceil_mode=True)"
    )


def test_a_network_of_lines_learns(backend: Backend) -> None:
    nc.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3), nn.Tanh(),
        nn.ConvTranspose1d(4, 2, 2, stride=2), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    lines, labels = np.random.default_rng(0).standard_normal((8, 1, 8)), np.arange(8) % 2
    loss, optimizer = nn.CrossEntropyLoss(), nc.optim.Adam(model.parameters(), lr=0.05)
    step = nc.training.TrainingStep(model, loss, optimizer)
    losses = []
    for _ in range(40):
        step(lines, labels)
        losses.append(float(loss.forward(model(lines), labels)))
    assert losses[-1] < 0.5 * losses[0]
