"""Convolutions of lines and transposed ones, pooling of lines, adaptive pooling, power-average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import distinct, flip, images, one_of

__all__ = ["ENTRIES"]


def _convolution(name: str) -> Entry:
    """With ``output_padding`` where it is a transposed one, which is smaller than the stride or the dilation."""
    axes, transposed = int(name[-2]), "Transpose" in name

    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        def each(*values: int) -> Any:
            """For one axis or both, often alike for both."""
            drawn = tuple(one_of(rng, *values) for _ in range(axes))
            return one_of(rng, drawn[0], drawn)

        groups = one_of(rng, 1, 1, 2, 3)
        settings: dict[str, Any] = {
            "in_channels": groups * one_of(rng, 1, 2),
            "out_channels": groups * one_of(rng, 1, 2, 5),
            "kernel_size": each(2, 3, 4),
            "stride": each(1, 2, 3),
            "padding": each(0, 1),
            "dilation": each(1, 2),
            "groups": groups,
            "bias": flip(rng),
        }
        if transposed:
            stride, dilation = (np.broadcast_to(settings[each], axes) for each in ("stride", "dilation"))
            most = np.maximum(stride, dilation)
            settings["output_padding"] = tuple(int(rng.integers(0, size)) for size in most)
        else:
            settings["padding_mode"] = one_of(rng, "zeros", "reflect", "replicate", "circular")
        sizes = (one_of(rng, 1, 2, 4), 3)[-axes:] if transposed else (9, 10)[-axes:]
        x = rng.standard_normal((one_of(rng, 1, 3), settings["in_channels"], *sizes)).astype(dtype)
        return Case(
            lambda: getattr(nn, name)(**settings, dtype=dtype),
            (x,),
            lambda torch: getattr(torch.nn, name)(**settings),
        )

    return Entry(name, draw)


def _pool1d(name: str, **kinds: Any) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        settings: dict[str, Any] = {
            "kernel_size": one_of(rng, 2, 3, (4,)),
            "stride": one_of(rng, None, 1, (2,)),
            "padding": one_of(rng, 0, 1, (1,)),
            "ceil_mode": flip(rng),
            **{key: one_of(rng, *values) for key, values in kinds.items()},
        }
        x = distinct(rng, dtype, one_of(rng, 1, 2), one_of(rng, 1, 3, 17), 11)
        return Case(lambda: getattr(nn, name)(**settings), (x,), lambda torch: getattr(torch.nn, name)(**settings))

    return Entry(name, draw)


def _adaptive(name: str) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        size = one_of(rng, 1, 3, None, (2, 5), (4, None), (None, 4), (7, 3), (9, 8))
        x = distinct(rng, dtype, one_of(rng, 1, 2), one_of(rng, 1, 3, 17), *one_of(rng, (7, 6), (8, 9), (6, 9)))
        theirs = (None, None) if size is None else size
        return Case(lambda: getattr(nn, name)(size), (x,), lambda torch: getattr(torch.nn, name)(theirs))

    return Entry(name, draw)


def _lp_pool2d(rng: np.random.Generator, dtype: Any) -> Case:
    norm = one_of(rng, 1, 2, 2.0, 3, 0.5, 1.5)
    settings: dict[str, Any] = {
        "kernel_size": one_of(rng, 2, (3, 2)),
        "stride": one_of(rng, None, 1, (2, 3)),
        "ceil_mode": flip(rng),
    }
    x = images(rng, dtype, one_of(rng, 1, 3, 17), 7, 6)
    if norm != 2:  # of which the others may make nothing real
        x = np.abs(x) + x.dtype.type(0.1)
    return Case(lambda: nn.LPPool2d(norm, **settings), (x,), lambda torch: torch.nn.LPPool2d(norm, **settings))


ENTRIES = [
    *map(_convolution, ("Conv1d", "ConvTranspose1d", "ConvTranspose2d")),
    _pool1d("MaxPool1d", dilation=(1, 2)),
    _pool1d("AvgPool1d", count_include_pad=(True, False)),
    *map(_adaptive, ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d")),
    Entry("LPPool2d", _lp_pool2d),
]
