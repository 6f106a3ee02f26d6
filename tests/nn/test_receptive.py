"""Receptive fields against a probe of which inputs an output depends on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import nn
from numbacnn.backends import Backend
from tests.strategies import SIMULATED


def test_two_small_kernels_see_nine_inputs(backend: Backend) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 2))
    size, jump = nn.receptive_field(model, (1, 1, 8, 8))
    assert size == (3, 3) and jump == (1, 1)


@pytest.mark.parametrize(
    ("model", "size", "jump"),
    [
        (lambda: nn.Sequential(), (1, 1), (1, 1)),
        (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1), nn.Dropout()), (1, 1), (1, 1)),
        (lambda: nn.Conv2d(1, 1, (3, 5), stride=(2, 1), dilation=(1, 3)), (3, 13), (2, 1)),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(1, 1, 3)), (19, 19), (4, 4)),
        (lambda: nn.Concat(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 5, padding=2)), (5, 5), (1, 1)),
        (lambda: nn.Add(nn.Identity(), nn.Conv2d(1, 1, 3, padding=1)), (3, 3), (1, 1)),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.GlobalAvgPool2d(), nn.Conv2d(1, 1, 1)), (20, 30), (0, 0)),
        (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(150, 1), nn.ReLU()), (20, 30), (0, 0)),
    ],
)
def test_of_known_models(backend: Backend, model, size: tuple[int, int], jump: tuple[int, int]) -> None:
    assert nn.receptive_field(model(), (1, 1, 20, 30)) == (size, jump)


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
    size, jump = nn.receptive_field(model, (1, 1, height, 1))
    # One image for each row, with that row alone lit: all weights are positive, so every output that sees it lights up.
    outputs = np.asarray(model(np.eye(height, dtype=np.float32).reshape(height, 1, height, 1)))[:, 0, :, 0]
    first = -(-border // jump[0])
    seen = [np.flatnonzero(outputs[:, i]) for i in (first, first + 1)]
    assert seen[0][-1] - seen[0][0] + 1 == size[0]
    assert seen[0][0] == first * jump[0] - border
    assert seen[1][0] - seen[0][0] == jump[0]
    assert size[1] == 1 and jump[1] == 1
