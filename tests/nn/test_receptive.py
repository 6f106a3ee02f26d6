"""Receptive fields against a probe of which inputs an output depends on."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
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


def conv_like(rng: np.random.Generator, channels: int) -> nn.Layer:
    """Of ``channels`` to 4, all weights above 0, along rows alone."""
    kernel, stride, dilation = (int(rng.integers(1, 4)) for _ in range(3))
    padding = int(rng.integers(0, min(kernel, 2)))
    options: dict[str, Any] = {"bias": False, "dtype": np.float64}
    if rng.random() < 0.6:
        output_padding = int(rng.integers(0, max(stride, dilation)))
        layer: Any = nn.ConvTranspose2d(
            channels, 4, (kernel, 1), (stride, 1), (padding, 0), (output_padding, 0), dilation=(dilation, 1), **options
        )
    else:
        layer = nn.Conv2d(channels, 4, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1), **options)
    layer.weight.value = np.ones(layer.weight.shape)
    return layer


def added_up(channels: int) -> nn.Layer:
    """Of ``channels`` to 4, each the sum of all."""
    layer = nn.Conv2d(channels, 4, 1, bias=False, dtype=np.float64)
    layer.weight.value = np.ones(layer.weight.shape)
    return layer


def upsample(rng: np.random.Generator) -> nn.Upsample:
    mode, align_corners = [("nearest", None), ("bilinear", None), ("bilinear", True)][rng.integers(3)]
    if rng.random() < 0.5:
        return nn.Upsample((int(rng.integers(1, 20)), 2), mode=mode, align_corners=align_corners)
    return nn.Upsample(None, (float(rng.choice([0.6, 1.5, 2.0, 2.3, 3.0])), 1), mode, align_corners)


RESIZING: dict[str, Callable[[np.random.Generator], list[nn.Layer]]] = {
    "ConvTranspose2d": lambda rng: [conv_like(rng, 4)],
    "Upsample": lambda rng: [upsample(rng)],
    "PixelShuffle": lambda rng: [nn.PixelShuffle(2), conv_like(rng, 1)],
    "PixelUnshuffle": lambda rng: [nn.ZeroPad2d((0, 4, 1, 4)), nn.Upsample((8, 4)), nn.PixelUnshuffle(2), added_up(16)],
    "AvgPool2d": lambda rng: [nn.AvgPool2d((2, 1), (int(rng.integers(1, 4)), 1))],
    "AdaptiveAvgPool2d": lambda rng: [nn.AdaptiveAvgPool2d((int(rng.integers(1, 7)), 2))],
}


def rows_seen(model: nn.Layer, x: np.ndarray) -> list[np.ndarray]:
    """By gradients: the rows of x that each row of the output depends on."""
    y = model.forward(x)
    found = []
    for row in range(y.shape[2]):
        dy = np.zeros(y.shape)
        dy[:, :, row] = 1
        model.forward(x)
        found.append(np.flatnonzero(np.abs(model.backward(dy)).max(axis=(0, 1, 3)) > 1e-12))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_no_element_has_a_gradient_outside_of_its_field(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with nc.use_backend("reference"):
        names = rng.choice(list(RESIZING), rng.integers(1, 4))
        model = nn.Sequential(*[layer for name in names for layer in RESIZING[name](rng)])
        shape = (1, 4, int(rng.integers(8, 14)), 6)
        try:
            model.output_shape(shape)
        except ValueError:
            pytest.skip("an image has become too small on the way")
        field = nn.receptive_field(model, shape)
        for row, seen in enumerate(rows_seen(model, np.zeros(shape))):
            (first, last), _ = field.pixels((row, 0))
            assert seen.size <= field.size[0]
            assert not seen.size or (first <= seen[0] and seen[-1] <= last), f"row {row} of {model}: {field}"


@pytest.mark.parametrize(
    ("make", "size", "jump", "start"),
    [
        (lambda: nn.ConvTranspose2d(4, 1, 2, 2), Fraction(3, 2), Fraction(1, 2), Fraction(-1, 2)),
        (lambda: nn.ConvTranspose2d(4, 1, 3, 2, 1), 2, Fraction(1, 2), Fraction(-1, 2)),
        (lambda: nn.PixelShuffle(2), Fraction(3, 2), Fraction(1, 2), Fraction(-1, 2)),
        (lambda: nn.Upsample(scale_factor=3), Fraction(5, 3), Fraction(1, 3), Fraction(-2, 3)),
        (lambda: nn.Upsample((18, 18)), Fraction(3, 2), Fraction(1, 2), Fraction(-1, 2)),
        (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), Fraction(5, 2), Fraction(1, 2), -1),
        (lambda: nn.Upsample((17, 17), mode="bilinear", align_corners=True), 2, Fraction(1, 2), Fraction(-1, 2)),
        (lambda: nn.AdaptiveAvgPool2d(6), Fraction(5, 2), Fraction(3, 2), Fraction(-1, 2)),
        (lambda: nn.AdaptiveAvgPool2d(3), 3, 3, 0),
        (lambda: nn.PixelUnshuffle(3), 3, 3, 0),
    ],
)
def test_fields_are_no_larger_than_they_must_be(make: Any, size: Any, jump: Any, start: Any) -> None:
    """Some element sees the first pixel that its field holds, and some the last."""
    with nc.use_backend("reference"):
        layer = make()
        for parameter in layer.parameters():
            parameter.value = np.ones(parameter.shape)
        field = nn.receptive_field(layer, (1, 4, 9, 9))
        assert field == ((size,) * 2, (jump,) * 2, (start,) * 2)
        ends = [
            (seen[0], seen[-1], *field.pixels((row, 0))[0])
            for row, seen in enumerate(rows_seen(layer, np.zeros((1, 4, 9, 9))))
            if seen.size
        ]
        assert any(first == stated for first, _, stated, _ in ends)
        assert any(last == stated for _, last, _, stated in ends)


def test_an_element_that_nothing_reaches_sees_no_pixel() -> None:
    with nc.use_backend("reference"):
        field = nn.receptive_field(nn.ConvTranspose2d(1, 1, 1, 2), (1, 1, 4, 4))
    assert field.pixels((2, 3)) == ((1, 1), (2, 1))


def test_the_summary_has_whole_pixels_and_jumps_in_parts_of_one(backend: Backend) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(1, 4, 2, 2), nn.PixelShuffle(2))
    text = str(nc.summary(model, (1, 1, 4, 4)))
    assert "1x1  1/2x1/2" in text and "1x1  1/4x1/4" in text and "?" not in text
    with pytest.raises(NotImplementedError, match="the window depends on the size of the image"):
        nn.Upsample(5).window()
