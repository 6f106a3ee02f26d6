"""Small models drawn by hypothesis, in float64, each with the shape of an input that fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from numbacnn import nn
from numbacnn.nn.layer import Layer
from tests.strategies import SIMULATED

Shape = tuple[int, ...]

# In the simulator larger stacks, and convolutions whose threads wait for each other, take minutes.
MAX_LAYERS, MAX_IMAGES, MAX_CHANNELS, MAX_PIXELS = (2, 2, 2, 4) if SIMULATED else (4, 3, 4, 8)
ALGORITHMS = [*["loops"] * (8 if SIMULATED else 1), "auto", "im2col"]
BRANCH_ALGORITHM = "loops" if SIMULATED else "auto"


@st.composite
def stacks(draw: st.DrawFn, random: bool = True) -> tuple[nn.Sequential, Shape]:
    """A `Sequential` of one to four drawn layers, perhaps with a linear head; `random` allows dropout."""
    nn.init.manual_seed(draw(st.integers(0, 1000)))
    input_shape = shape = (
        draw(st.integers(1, MAX_IMAGES)),
        draw(st.integers(1, MAX_CHANNELS)),
        draw(st.integers(3, MAX_PIXELS)),
        draw(st.integers(3, MAX_PIXELS)),
    )
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, MAX_LAYERS))):
        layers.append(draw(_layer(shape, random)))
        shape = layers[-1].output_shape(shape)
    if draw(st.booleans()):
        layers.append(nn.Flatten())
        shape = layers[-1].output_shape(shape)
        layers.append(nn.Linear(shape[1], draw(st.integers(1, 4)), bias=draw(st.booleans()), dtype=np.float64))
    return nn.Sequential(*layers), input_shape


@st.composite
def _layer(draw: st.DrawFn, shape: Shape, random: bool) -> Layer:
    n, c, h, w = shape
    kinds = ["conv", "conv", "max", "avg", "global", "relu", "sigmoid", "tanh", "concat", "add", "nested"]
    kinds += ["norm"] * (n * h * w >= 4) + ["dropout"] * random
    kind = draw(st.sampled_from(kinds))
    if kind == "conv":
        return draw(_conv(shape))
    if kind in ("max", "avg"):
        return draw(_pool(shape, kind))
    if kind == "norm":
        # A variance near zero would make the finite differences useless.
        return nn.BatchNorm2d(c, eps=0.1, dtype=np.float64)
    if kind == "dropout":
        return nn.Dropout(draw(st.sampled_from([0.0, 0.3, 0.5])))
    if kind == "concat":
        return nn.Concat(*(_same_conv(draw, c) for _ in range(draw(st.integers(1, 3)))), nn.Identity())
    if kind == "add":
        return nn.Add(nn.Sequential(_same_conv(draw, c, c), nn.Tanh()), nn.Identity(), _same_conv(draw, c, c))
    if kind == "nested":
        return nn.Sequential(nn.Sequential(_same_conv(draw, c)), nn.Sequential(), nn.Tanh())
    return {"global": nn.GlobalAvgPool2d, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}[kind]()


@st.composite
def _conv(draw: st.DrawFn, shape: Shape) -> nn.Conv2d:
    _, c, h, w = shape
    padding = ((draw(st.integers(0, 2)), draw(st.integers(0, 2))), (draw(st.integers(0, 2)), draw(st.integers(0, 2))))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    kernel = [
        draw(st.integers(1, min(4, (size + sum(sides) - 1) // step + 1)))
        for size, sides, step in zip((h, w), padding, dilation, strict=True)
    ]
    groups = draw(st.sampled_from([g for g in (1, 2, c) if c % g == 0]))
    return nn.Conv2d(
        c,
        groups * draw(st.integers(1, 2)),
        tuple(kernel),
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        algorithm=draw(st.sampled_from(ALGORITHMS)),
        dtype=np.float64,
    )


@st.composite
def _pool(draw: st.DrawFn, shape: Shape, kind: str) -> Layer:
    kernel = tuple(draw(st.integers(1, min(4, size))) for size in shape[2:])
    options: dict[str, Any] = {
        "stride": draw(st.sampled_from([None, 1, (2, 1)])),
        "padding": tuple(draw(st.integers(0, size // 2)) for size in kernel),
        "ceil_mode": draw(st.booleans()),
    }
    if kind == "max":
        return nn.MaxPool2d(kernel, **options)
    return nn.AvgPool2d(kernel, count_include_pad=draw(st.booleans()), **options)


def _same_conv(draw: st.DrawFn, c: int, out: int | None = None) -> nn.Conv2d:
    padding = draw(st.sampled_from(["same", "same_lower"]))
    out, kernel = out or draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return nn.Conv2d(c, out, kernel, padding=padding, algorithm=BRANCH_ALGORITHM, dtype=np.float64)
