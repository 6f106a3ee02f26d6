"""Receptive fields against a probe of which inputs an output depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn import nn
from numbacnn.backends import Backend
from tests.strategies import SIMULATED

Pair = tuple[int, int]


def test_two_small_kernels_see_nine_inputs(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 2))
    assert nn.receptive_field(model, (1, 1, 8, 8)) == ((3, 3), (1, 1), (0, 0))


def _conv(*arguments: Any, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(1, 1, *arguments, **options)


@pytest.mark.parametrize(
    ("model", "size", "jump", "start"),
    [
        (lambda: nn.Sequential(), (1, 1), (1, 1), (0, 0)),
        (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1), nn.Dropout()), (1, 1), (1, 1), (0, 0)),
        (lambda: _conv((3, 5), stride=(2, 1), dilation=(1, 3)), (3, 13), (2, 1), (0, 0)),
        (lambda: nn.Sequential(_conv(7, 2, 3), nn.MaxPool2d(3, 2, 1), _conv(3)), (19, 19), (4, 4), (-5, -5)),
        (lambda: _conv((2, 3), padding=((1, 0), (2, 5))), (2, 3), (1, 1), (-1, -2)),
        (lambda: nn.Concat(_conv(3, padding=1), _conv(5, padding=2)), (5, 5), (1, 1), (-2, -2)),
        (lambda: nn.Add(nn.Identity(), _conv(3, padding=1)), (3, 3), (1, 1), (-1, -1)),
        # Windows side by side, of which neither contains the other.
        (lambda: nn.Add(_conv(2, padding="same"), _conv(2, padding="same_lower")), (3, 3), (1, 1), (-1, -1)),
        (lambda: nn.Sequential(_conv(3), nn.GlobalAvgPool2d(), _conv(1)), (20, 30), (0, 0), (0, 0)),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding=1), (3, 3), (1, 1), (-1, -1)),
        (lambda: nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 2, 2)), (3, 3), (1, 1), (-1, -1)),
        (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(150, 1)), (20, 30), (0, 0), (0, 0)),
        (lambda: nn.Add(nn.GlobalAvgPool2d(), _conv(30, (5, 9), padding=(7, 2))), (30, 32), (5, 9), (-7, -2)),
    ],
)
def test_of_known_models(backend: Backend, model: Callable[[], nn.Layer], size: Pair, jump: Pair, start: Pair) -> None:
    assert nn.receptive_field(model(), (1, 1, 20, 30)) == (size, jump, start)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[dict], int]:
    """One to three windows that slide down an image, and an image height at which the third output sees no border."""
    windows, size, jump, border = [], 1, 1, 0
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        padding = draw(st.integers(0, kernel // 2))
        kind = draw(st.sampled_from(["conv", "max", "branches"] + ["avg"] * (dilation == 1)))
        windows.append({"kind": kind, "kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding})
        border += padding * jump
        size += dilation * (kernel - 1) * jump
        jump *= stride
    # Output i starts `border` above row i * jump.
    first = -(-border // jump)
    return windows, (first + 1) * jump + size + 2 * border + 4 * jump


def _vertical(window: dict) -> nn.Layer:
    kernel, stride, dilation = (window["kernel"], 1), (window["stride"], 1), (window["dilation"], 1)
    padding = (window["padding"], 0)
    if window["kind"] == "max":
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    if window["kind"] == "avg":
        return nn.AvgPool2d(kernel, stride, padding)
    conv = nn.Conv2d(1, 1, kernel, stride, padding, dilation, bias=False)
    conv.weight.value = np.ones(conv.weight.shape)
    return conv if window["kind"] == "conv" else nn.Sequential(nn.ReLU(), nn.Add(conv))


@given(columns())
@settings(max_examples=8 if SIMULATED else 40)
def test_against_a_probe_of_every_input(backend: Backend, drawn: tuple[list[dict], int]) -> None:
    windows, height = drawn
    model = nn.Sequential(*map(_vertical, windows))
    border, jump_so_far = 0, 1
    for window in windows:
        border += window["padding"] * jump_so_far
        jump_so_far *= window["stride"]
    field = nn.receptive_field(model, (1, 1, height, 1))
    # One image for each row, with that row alone lit: all weights are positive, so every output that sees it lights up.
    outputs = np.asarray(model(np.eye(height, dtype=np.float32).reshape(height, 1, height, 1)))[:, 0, :, 0]
    first = -(-border // field.jump[0])
    for unit in (first, first + 1):
        seen = np.flatnonzero(outputs[:, unit])
        assert field.pixels((unit, 0)) == ((seen[0], seen[-1]), (0, 0))
    assert seen[-1] - seen[0] + 1 == field.size[0] and field.jump == (jump_so_far, 1) and field.start == (-border, 0)


@pytest.mark.parametrize(
    "kernel, stride, padding, output_padding", [(3, 2, 1, 1), (4, 2, 1, 0), (5, 3, 0, 2), (2, 2, 0, 0)]
)
def test_the_field_after_a_transposed_convolution_holds_all_that_is_seen(
    kernel: int, stride: int, padding: int, output_padding: int
) -> None:
    with nc.use_backend("reference"):
        pool = nn.AvgPool2d(stride)
        up = nn.ConvTranspose2d(1, 1, kernel, stride, padding, output_padding, dtype=np.float64)
    model = nn.Sequential(pool, up)
    up.weight.value = np.ones(up.weight.shape)
    field = nn.receptive_field(model, (1, 1, 12, 12))
    y = model.forward(np.zeros((1, 1, 12, 12)))
    for row in range(y.shape[2]):
        dy = np.zeros(y.shape)
        dy[0, 0, row, 0] = 1
        model.forward(np.zeros((1, 1, 12, 12)))
        seen = np.flatnonzero(model.backward(dy).any(axis=(0, 1, 3)))
        (first, last), _ = field.pixels((row, 0))
        assert not seen.size or (first <= seen[0] and seen[-1] <= last)


def test_a_transposed_convolution_whose_neighbours_are_closer_than_pixels_has_no_field(backend: Backend) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(1, 1, 2, 2))
    with pytest.raises(NotImplementedError, match=r"layer '0', ConvTranspose2d.*`stride` \(2, 2\) does not divide"):
        nn.receptive_field(model, (1, 1, 4, 4))
    assert nc.summary(model, (1, 1, 4, 4)).rows[1].receptive_field is None
    with pytest.raises(NotImplementedError, match="depends on its place"):
        model[0].window()
