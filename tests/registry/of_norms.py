"""Normalisation of each sample by itself, batch normalisation's other settings, local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import flip, one_of

__all__ = ["ENTRIES"]


def _drawn(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    return (2 * rng.standard_normal(shape) + 1).astype(dtype)


def _group_norm(rng: np.random.Generator, dtype: Any) -> Case:
    groups = one_of(rng, 1, 2, 5)
    channels = groups * one_of(rng, 1, 2, 3)
    settings = {"eps": one_of(rng, 1e-3, 1e-2), "affine": flip(rng)}
    positions = one_of(rng, (), (7,), (3, 4), (1, 1))
    # A group of one number is normalised to zero, with a slope that is nothing but rounding.
    if positions in ((), (1, 1)) and channels == groups:
        channels *= 4
    x = _drawn(rng, dtype, one_of(rng, 1, 3), channels, *positions)
    of_dtype = {**settings, "dtype": dtype}
    return Case(
        lambda: nn.GroupNorm(groups, channels, **of_dtype),
        (x,),
        lambda torch: torch.nn.GroupNorm(groups, channels, **settings),
    )


def _instance_norm(name: str, *positions: tuple[int, ...]) -> Entry:
    def draw(rng: np.random.Generator, dtype: Any) -> Case:
        channels = one_of(rng, 1, 3, 17)
        settings = {
            "eps": one_of(rng, 1e-3, 1e-2),
            "momentum": one_of(rng, 0.1, 0.5),
            "affine": flip(rng),
            "track_running_stats": flip(rng),
        }
        x = _drawn(rng, dtype, one_of(rng, 1, 3), channels, *one_of(rng, *positions))
        return Case(
            lambda: getattr(nn, name)(channels, **settings, dtype=dtype),
            (x,),
            lambda torch: getattr(torch.nn, name)(channels, **settings),
        )

    return Entry(name, draw)


def _layer_norm(rng: np.random.Generator, dtype: Any) -> Case:
    shape = one_of(rng, (4, 6), (3, 4, 5), (2, 3, 4, 5), (3, 2, 1, 4))
    last = one_of(rng, 1, len(shape) - 1)
    normalized: Any = one_of(rng, shape[-last:], list(shape[-last:])) if last > 1 else shape[-1]
    settings = {"eps": one_of(rng, 1e-3, 1e-2), "elementwise_affine": flip(rng), "bias": flip(rng)}
    return Case(
        lambda: nn.LayerNorm(normalized, **settings, dtype=dtype),
        (_drawn(rng, dtype, *shape),),
        lambda torch: torch.nn.LayerNorm(normalized, **settings),
    )


def _local_response_norm(rng: np.random.Generator, dtype: Any) -> Case:
    settings = {
        "size": one_of(rng, 1, 2, 3, 5, 8),
        "alpha": one_of(rng, 1e-4, 0.5),
        "beta": one_of(rng, 0.75, 0.5, 1.0, 0.6),
        "k": one_of(rng, 1.0, 2.0),
    }
    x = _drawn(rng, dtype, one_of(rng, 1, 3), one_of(rng, 1, 4, 17), *one_of(rng, (5,), (3, 4)))
    return Case(lambda: nn.LocalResponseNorm(**settings), (x,), lambda torch: torch.nn.LocalResponseNorm(**settings))


ENTRIES = [
    Entry("GroupNorm", _group_norm),
    _instance_norm("InstanceNorm1d", (7,), (2,)),
    _instance_norm("InstanceNorm2d", (3, 4), (1, 5)),
    Entry("LayerNorm", _layer_norm),
    Entry("LocalResponseNorm", _local_response_norm),
]
