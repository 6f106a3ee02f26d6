"""Layers that a network begins with: convolution, linear, pooling, batch normalisation, activations, shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import away_from_zero, distinct, flip, images, one_of

__all__ = ["ENTRIES"]


def _conv2d(rng: np.random.Generator, dtype: Any) -> Case:
    groups = one_of(rng, 1, 1, 2, 3)
    settings: dict[str, Any] = {
        "in_channels": groups * one_of(rng, 1, 2),
        "out_channels": groups * one_of(rng, 1, 2, 5),
        "kernel_size": (one_of(rng, 1, 2, 3), one_of(rng, 1, 3)),
        "stride": one_of(rng, 1, 2, (1, 2)),
        "padding": one_of(rng, 0, 1, (2, 0)),
        "dilation": one_of(rng, 1, (2, 1)),
        "groups": groups,
        "bias": flip(rng),
        "padding_mode": one_of(rng, "zeros", "reflect", "replicate", "circular"),
    }
    x = images(rng, dtype, settings["in_channels"], 5, 6)
    return Case(lambda: nn.Conv2d(**settings, dtype=dtype), (x,), lambda torch: torch.nn.Conv2d(**settings))


def _linear(rng: np.random.Generator, dtype: Any) -> Case:
    sizes, bias = (one_of(rng, 1, 3, 17), one_of(rng, 1, 5, 16)), flip(rng)
    x = rng.standard_normal((one_of(rng, 1, 4), sizes[0])).astype(dtype)
    return Case(
        lambda: nn.Linear(*sizes, bias=bias, dtype=dtype), (x,), lambda torch: torch.nn.Linear(*sizes, bias=bias)
    )


def _pool(name: str, **kinds: Any) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        kernel = one_of(rng, 2, 3, (3, 2))
        settings: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": one_of(rng, None, 1, (2, 1)),
            "padding": one_of(rng, 0, 1),
            "ceil_mode": flip(rng),
            **{key: one_of(rng, *values) for key, values in kinds.items()},
        }
        x = distinct(rng, dtype, one_of(rng, 1, 2), one_of(rng, 1, 3, 17), 7, 6)
        return Case(lambda: getattr(nn, name)(**settings), (x,), lambda torch: getattr(torch.nn, name)(**settings))

    return Entry(name, draw)


def _batch_norm(name: str, *sizes: tuple[int, ...]) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        channels = one_of(rng, 1, 3, 17)
        settings = {
            "eps": one_of(rng, 1e-5, 1e-2),
            "momentum": one_of(rng, 0.1, 0.5),
            "affine": one_of(rng, True, True, False),
            "track_running_stats": one_of(rng, True, True, False),
        }
        x = 2 * rng.standard_normal((one_of(rng, 2, 5), channels, *one_of(rng, *sizes))).astype(dtype) + 1
        return Case(
            lambda: getattr(nn, name)(channels, **settings, dtype=dtype),
            (x.astype(dtype),),
            lambda torch: getattr(torch.nn, name)(channels, **settings),
        )

    return Entry(name, draw)


def _elementwise(name: str) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        shape = one_of(rng, (2, 3, 4, 5), (3, 7), (1, 17, 2, 3))
        return Case(
            lambda: getattr(nn, name)(), (away_from_zero(rng, dtype, shape),), lambda torch: getattr(torch.nn, name)()
        )

    return Entry(name, draw)


def _dropout(rng: np.random.Generator, dtype: Any) -> Case:
    p, shape = one_of(rng, 0.0, 0.3, 1.0), one_of(rng, (2, 3, 4, 5), (3, 7))
    x = rng.standard_normal(shape).astype(dtype)
    return Case(lambda: nn.Dropout(p), (x,), lambda torch: torch.nn.Dropout(p))


def _global_avg_pool2d(rng: np.random.Generator, dtype: Any) -> Case:
    return Case(nn.GlobalAvgPool2d, (images(rng, dtype, 3, 4, 5),), lambda torch: torch.nn.AdaptiveAvgPool2d(1))


ENTRIES = [
    Entry("Conv2d", _conv2d),
    Entry("Linear", _linear),
    _pool("MaxPool2d", dilation=(1, (1, 2))),
    _pool("AvgPool2d", count_include_pad=(True, False), divisor_override=(None, None, 3)),
    Entry("Dropout", _dropout, is_random=True),
    Entry("GlobalAvgPool2d", _global_avg_pool2d),
    _batch_norm("BatchNorm1d", (), (4,)),
    _batch_norm("BatchNorm2d", (3, 4)),
    _batch_norm("SyncBatchNorm", (), (4,), (3, 4)),
    *map(_elementwise, ("ReLU", "Sigmoid", "Tanh", "Identity", "Flatten")),
]
