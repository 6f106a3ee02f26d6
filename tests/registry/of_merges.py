"""Layers of several inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numbacnn import nn

from . import Case, Entry
from .drawing import one_of

__all__ = ["ENTRIES"]


def _module(torch: Any, function: Any) -> Any:
    class Merge(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return function(inputs)

    return Merge()


def _sum(rng: np.random.Generator, dtype: Any) -> Case:
    shape = one_of(rng, (2, 3, 4, 5), (3, 7))
    inputs = tuple(rng.standard_normal(shape).astype(dtype) for _ in range(one_of(rng, 1, 2, 3)))
    return Case(nn.Sum, inputs, lambda torch: _module(torch, sum))


def _concatenate(rng: np.random.Generator, dtype: Any) -> Case:
    n, rest = one_of(rng, 1, 2), one_of(rng, (3, 4), ())
    inputs = tuple(rng.standard_normal((n, c, *rest)).astype(dtype) for c in (2, 1, 16)[: one_of(rng, 1, 2, 3)])
    return Case(nn.Concatenate, inputs, lambda torch: _module(torch, lambda xs: torch.cat(xs, 1)))


def _product(rng: np.random.Generator, dtype: Any) -> Case:
    shape = one_of(rng, (2, 3, 4, 5), (1, 17, 3, 2), (3, 7))
    gate = (*shape[:2], 1, 1) if len(shape) == 4 else shape
    shapes = (shape, one_of(rng, shape, gate), gate)[: one_of(rng, 1, 2, 3)]
    inputs = tuple(rng.standard_normal(one).astype(dtype) for one in shapes)
    return Case(nn.Product, inputs, lambda torch: _module(torch, math.prod))


ENTRIES = [Entry("Sum", _sum), Entry("Product", _product), Entry("Concatenate", _concatenate)]
