"""Layers that give images another size, or an array another shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import flip, images, one_of

__all__ = ["ENTRIES"]


def _pad(name: str, most: int) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        padding = one_of(rng, 1, (2, 0, 0, 1), (most, most, most, most), (0, 0, 0, 0), (-1, 2, 1, -2), (-2, -1, -1, 3))
        arguments = (padding, one_of(rng, 0.0, -2.5, 3)) if name == "ConstantPad2d" else (padding,)
        x = images(rng, dtype, one_of(rng, 1, 3, 17), 4, 5)
        return Case(lambda: getattr(nn, name)(*arguments), (x,), lambda torch: getattr(torch.nn, name)(*arguments))

    return Entry(name, draw)


def _upsample(rng: np.random.Generator, dtype: Any) -> Case:
    settings: dict[str, Any] = {"mode": one_of(rng, "nearest", "bilinear", "bilinear")}
    if flip(rng):
        settings["size"] = one_of(rng, 1, 3, 9, (10, 4), (4, 10), (4, 5), (2, 3))
    else:
        settings["scale_factor"] = one_of(rng, 1, 2, 3, (1.5, 2.3), 0.6, (0.5, 1.1), (1.2, 0.25))
    if settings["mode"] == "bilinear":
        settings["align_corners"] = one_of(rng, None, True, False)
    x = images(rng, dtype, one_of(rng, 1, 3, 17), 4, 5)
    return Case(lambda: nn.Upsample(**settings), (x,), lambda torch: torch.nn.Upsample(**settings))


def _pixel_shuffle(rng: np.random.Generator, dtype: Any) -> Case:
    r = one_of(rng, 1, 2, 3)
    x = images(rng, dtype, r**2 * one_of(rng, 1, 3, 5), 3, 2)
    return Case(lambda: nn.PixelShuffle(r), (x,), lambda torch: torch.nn.PixelShuffle(r))


def _pixel_unshuffle(rng: np.random.Generator, dtype: Any) -> Case:
    r = one_of(rng, 1, 2, 3)
    x = images(rng, dtype, one_of(rng, 1, 3, 5), 2 * r, 3 * r)
    return Case(lambda: nn.PixelUnshuffle(r), (x,), lambda torch: torch.nn.PixelUnshuffle(r))


def _channel_shuffle(rng: np.random.Generator, dtype: Any) -> Case:
    groups, length = one_of(rng, 1, 2, 3), one_of(rng, (3, 4), (5,), (2, 1, 3))
    x = rng.standard_normal((one_of(rng, 1, 3), groups * one_of(rng, 1, 4, 5), *length)).astype(dtype)
    return Case(lambda: nn.ChannelShuffle(groups), (x,), lambda torch: torch.nn.ChannelShuffle(groups))


def _pad_channels(rng: np.random.Generator, dtype: Any) -> Case:
    before, after = one_of(rng, (2, 2), (0, 3), (-1, 1), (2, -2), (-2, -1), (0, 0))
    x = rng.standard_normal((one_of(rng, 1, 3), one_of(rng, 4, 17), *one_of(rng, (3, 4), (5,), ()))).astype(dtype)
    # PyTorch pads by an axis counted from the last, which a layer of its own does for one number of axes only.
    padding = (0,) * 2 * (x.ndim - 2) + (before, after)
    return Case(
        lambda: nn.ZeroPadChannels((before, after)),
        (x,),
        lambda torch: {2: torch.nn.ConstantPad1d, 3: torch.nn.ConstantPad2d, 4: torch.nn.ConstantPad3d}[x.ndim](
            padding, 0
        ),
    )


def _unflatten(rng: np.random.Generator, dtype: Any) -> Case:
    shape, dim, sizes = one_of(
        rng,
        ((3, 24), 1, (2, 3, 4)),
        ((2, 24), -1, (-1, 2, 3)),
        ((3, 6, 2, 3), 1, (2, -1)),
        ((3, 6, 2, 4), -1, (2, 2)),
        ((1, 3, 4), 2, (4,)),
    )
    x = rng.standard_normal(shape).astype(dtype)
    return Case(lambda: nn.Unflatten(dim, sizes), (x,), lambda torch: torch.nn.Unflatten(dim, sizes))


def _reshape(rng: np.random.Generator, dtype: Any) -> Case:
    shape = one_of(rng, (24,), (2, 3, 4), (4, -1), (-1, 2, 2, 3), (6, 2, 2))
    x = rng.standard_normal(one_of(rng, (3, 24), (2, 3, 2, 4), (1, 2, 12))).astype(dtype)
    # PyTorch has none for the axes after the batch but this, which takes one of them.
    return Case(
        lambda: nn.Reshape(*shape),
        (x,),
        lambda torch: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Unflatten(1, shape)),
    )


ENTRIES = [
    _pad("ZeroPad2d", 6),
    _pad("ConstantPad2d", 6),
    _pad("ReflectionPad2d", 3),
    _pad("ReplicationPad2d", 6),
    _pad("CircularPad2d", 2),
    Entry("Upsample", _upsample),
    Entry("PixelShuffle", _pixel_shuffle),
    Entry("PixelUnshuffle", _pixel_unshuffle),
    Entry("ChannelShuffle", _channel_shuffle),
    Entry("ZeroPadChannels", _pad_channels),
    Entry("Unflatten", _unflatten),
    Entry("Reshape", _reshape),
]
