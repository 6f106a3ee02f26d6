"""Networks drawn at random from a seed, for tables of networks that nothing is tuned to.

A network is a line of blocks, such as ``3x48x48: conv 24 3 2 | separable 48 3 1 | head 10``, from which it is built and
by which it is printed. ``draw(seed, number)`` gives the same line on every machine.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from numbacnn import nn
from numbacnn.backends import use_backend

__all__ = ["KINDS", "Drawn", "draw", "model_name", "named", "network_of"]

CLASSES = 10
SIZES = (28, 32, 48, 64, 96)
# Not multiples of a vector's lanes only.
WIDTHS = (8, 12, 16, 20, 24, 32, 40)
MAX_CHANNELS = 320
SMALLEST_MAP = 3
WITHOUT_NORM = ("plain", "fire")
# Floating-point operations of a forward pass of one image, so that all can be measured in minutes.
FLOPS = (2e6, 6e8)


class Drawn(NamedTuple):
    """``text`` is ``CxHxW: block | block | ...``, which :func:`network_of` builds."""

    name: str
    text: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w)."""
        c, h, w = map(int, self.text.partition(":")[0].split("x"))
        return c, h, w


def draw(seed: int, number: int) -> Drawn:
    """Network ``number`` of those that ``seed`` stands for; their kinds take turns.

    >>> draw(0, 1) == draw(0, 1) != draw(1, 1)
    True
    """
    rng = np.random.default_rng([seed, number])
    kind = list(KINDS)[number % len(KINDS)]
    while True:
        found = Drawn(f"{kind}-{seed}.{number}", _text(kind, rng))
        with use_backend("reference"):
            flops = network_of(found.text).flops((1, *found.image_shape))
        if FLOPS[0] <= flops <= FLOPS[1]:
            return found


def named(name: str) -> Drawn:
    """The network that has this name; ValueError if none has.

    >>> named("separable-0.1") == draw(0, 1)
    True
    """
    seed, _, number = name.rpartition("-")[2].partition(".")
    found = draw(int(seed), int(number)) if seed.isdecimal() and number.isdecimal() else None
    if found is None or found.name != name:
        raise ValueError(f"`name` is {name!r}, must be KIND-SEED.NUMBER of a network that is drawn, as separable-0.1")
    return found


def model_name(models: Iterable[str]) -> Callable[[str], str]:
    """The type of an option that takes the name of one of ``models`` or of a drawn network."""

    def parse(name: str) -> str:
        try:
            return name if name in models else named(name).name
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def network_of(text: str) -> nn.Sequential:
    """The network that the line describes; ValueError for a block that there is not."""
    shape, _, blocks = text.partition(":")
    image = tuple(map(int, shape.split("x")))
    layers: list[nn.Layer] = []
    channels = image[0]
    for block in blocks.split("|"):
        name, *numbers = block.split()
        if name not in _BLOCKS:
            raise ValueError(f"`text` has a block {name!r}, must have {', '.join(_BLOCKS)}: {text!r}")
        if name == "flat":
            channels = math.prod(nn.Sequential(*layers).output_shape((1, *image)))
        new, channels = _BLOCKS[name](channels, *map(int, numbers))
        layers += new
    return nn.Sequential(*layers)


def _text(kind: str, rng: np.random.Generator) -> str:
    size, channels = int(rng.choice(SIZES)), int(rng.choice((1, 3)))
    width, growth = int(rng.choice(WIDTHS)), float(rng.choice((1.5, 2.0)))
    image = f"{channels}x{size}x{size}"
    stem = rng.choice((3, 5, 7)) if size > 32 else 3
    first = "plain" if kind in WITHOUT_NORM else "conv"
    blocks = [f"{first} {width} {stem} {2 if size >= 48 else 1}"]
    size = -(-size // 2) if size >= 48 else size
    while size >= 2 * SMALLEST_MAP and width <= MAX_CHANNELS and (len(blocks) == 1 or rng.random() < 0.9):
        width = 4 * round(width * growth / 4)
        blocks += KINDS[kind](width, rng)
        size = -(-size // 2)
    head = f"flat {int(rng.choice((64, 120, 256)))}" if kind == "plain" else "head"
    return f"{image}: {' | '.join([*blocks, f'{head} {CLASSES}'])}"


# Each gives the blocks of a stage, which halves the map, of so many channels.
def _plain(width: int, rng: np.random.Generator) -> list[str]:
    return [*[f"plain {width} {rng.choice((3, 3, 5))} 1"] * int(rng.integers(1, 3)), "max 2 2"]


def _separable(width: int, rng: np.random.Generator) -> list[str]:
    window = rng.choice((3, 3, 5))
    return [f"separable {width} {window} 2", *[f"separable {width} {window} 1"] * int(rng.integers(0, 3))]


def _inverted(width: int, rng: np.random.Generator) -> list[str]:
    window, expansion = rng.choice((3, 5)), rng.choice((3, 4, 6))
    after = [f"inverted {width} {window} 1 {expansion}"] * int(rng.integers(0, 3))
    return [f"inverted {width} {window} 2 {expansion}", *after]


def _residual(width: int, rng: np.random.Generator) -> list[str]:
    return [f"residual {width} 2", *[f"residual {width} 1"] * int(rng.integers(0, 3))]


def _bottleneck(width: int, rng: np.random.Generator) -> list[str]:
    return [f"bottleneck {width} 2", *[f"bottleneck {width} 1"] * int(rng.integers(0, 3))]


def _fire(width: int, rng: np.random.Generator) -> list[str]:
    return [f"max {rng.choice((2, 3))} 2", *[f"fire {max(4, width // 4)} {width // 2}"] * int(rng.integers(1, 4))]


def _dense(width: int, rng: np.random.Generator) -> list[str]:
    growth = int(rng.choice((8, 12, 16, 24)))
    return [f"dense {growth} {int(rng.integers(2, 5))}", f"narrow {width}", "avg 2 2"]


KINDS: dict[str, Callable[[int, np.random.Generator], list[str]]] = {
    "plain": _plain,
    "separable": _separable,
    "residual": _residual,
    "fire": _fire,
    "inverted": _inverted,
    "dense": _dense,
    "bottleneck": _bottleneck,
}

Layers = tuple[list[nn.Layer], int]
"""Layers, and the channels behind them."""


def _unit(channels: int, outputs: int, window: int, stride: int, groups: int = 1) -> list[nn.Layer]:
    conv = nn.Conv2d(channels, outputs, window, stride=stride, padding=window // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def _conv(channels: int, outputs: int, window: int, stride: int) -> Layers:
    return [*_unit(channels, outputs, window, stride), nn.ReLU()], outputs


def _without_norm(channels: int, outputs: int, window: int, stride: int) -> Layers:
    return [nn.Conv2d(channels, outputs, window, stride=stride, padding=window // 2), nn.ReLU()], outputs


def _depthwise_and_pointwise(channels: int, outputs: int, window: int, stride: int) -> Layers:
    depthwise = [*_unit(channels, channels, window, stride, channels), nn.ReLU()]
    return [*depthwise, *_unit(channels, outputs, 1, 1), nn.ReLU()], outputs


def _inverted_residual(channels: int, outputs: int, window: int, stride: int, expansion: int) -> Layers:
    inner = channels * expansion
    body = nn.Sequential(
        *(*_unit(channels, inner, 1, 1), nn.ReLU(), *_unit(inner, inner, window, stride, inner), nn.ReLU()),
        *_unit(inner, outputs, 1, 1),
    )
    return [nn.Add(body, nn.Identity()) if stride == 1 and channels == outputs else body], outputs


def _with_shortcut(body: nn.Sequential, channels: int, outputs: int, stride: int) -> Layers:
    changes = stride > 1 or channels != outputs
    shortcut = nn.Sequential(*_unit(channels, outputs, 1, stride)) if changes else nn.Identity()
    return [nn.Add(body, shortcut), nn.ReLU()], outputs


def _basic_block(channels: int, outputs: int, stride: int) -> Layers:
    body = nn.Sequential(*_unit(channels, outputs, 3, stride), nn.ReLU(), *_unit(outputs, outputs, 3, 1))
    return _with_shortcut(body, channels, outputs, stride)


def _bottleneck_block(channels: int, outputs: int, stride: int) -> Layers:
    inner = max(4, outputs // 4)
    body = nn.Sequential(
        *(*_unit(channels, inner, 1, 1), nn.ReLU(), *_unit(inner, inner, 3, stride), nn.ReLU()),
        *_unit(inner, outputs, 1, 1),
    )
    return _with_shortcut(body, channels, outputs, stride)


def _fire_module(channels: int, squeezed: int, expanded: int) -> Layers:
    small = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
    large = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())
    return [nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Concat(small, large)], 2 * expanded


def _dense_block(channels: int, growth: int, count: int) -> Layers:
    layers: list[nn.Layer] = []
    for number in range(count):
        before = channels + number * growth
        conv = nn.Conv2d(before, growth, 3, padding=1, bias=False)
        layers.append(nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(), conv))
    return [nn.DenseBlock(*layers)], channels + count * growth


def _narrow(channels: int, outputs: int) -> Layers:
    return [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, outputs, 1, bias=False)], outputs


def _max(channels: int, window: int, stride: int) -> Layers:
    return [nn.MaxPool2d(window, stride, padding=window // 3)], channels


def _avg(channels: int, window: int, stride: int) -> Layers:
    return [nn.AvgPool2d(window, stride)], channels


def _head(channels: int, classes: int) -> Layers:
    return [nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(channels, classes)], classes


def _hidden_head(features: int, hidden: int, classes: int) -> Layers:
    return [nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)], classes


_BLOCKS: dict[str, Callable[..., Layers]] = {
    "conv": _conv,
    "plain": _without_norm,
    "separable": _depthwise_and_pointwise,
    "inverted": _inverted_residual,
    "residual": _basic_block,
    "bottleneck": _bottleneck_block,
    "fire": _fire_module,
    "dense": _dense_block,
    "narrow": _narrow,
    "max": _max,
    "avg": _avg,
    "head": _head,
    "flat": _hidden_head,
}
