"""Winograd's convolution (``winograd_data.py``, ``winograd_weight.py``) where it applies: 3 x 3 and 5 x 5 windows with
stride 1 and one group. Everything else is computed as by ``direct``.
"""

from __future__ import annotations

import numpy as np

from ...contract import Activation
from ...geometry import Conv2dGeometry
from ..runtime.allocator import empty
from . import direct, winograd_data, winograd_weight
from .correlation import Correlation, backward_correlations, backward_strides, forward_correlation, forward_strides
from .operands import bias_and_number

__all__ = ["backward_input", "backward_weight", "cycles", "forward", "workspace"]


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry, activation: Activation
) -> np.ndarray:
    if not _applies(g, "forward"):
        return direct.forward(x, weight, bias, g, activation)
    bias, number = bias_and_number(bias, activation, x.dtype)
    y = empty((g.n, g.oh, g.ow, g.k), x.dtype)
    winograd_data.correlate(forward_correlation(g), x, weight, forward_strides(g), bias, y, number)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    if not _applies(g, "backward_input"):
        return direct.backward_input(dy, weight, g)
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    winograd_data.correlate(backward_correlations(g)[0], dy, weight, backward_strides(g), np.empty(0, dy.dtype), dx)
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry) -> None:
    (winograd_weight.correlate if _applies(g, "backward_weight") else direct.backward_weight)(dy, x, dweight, g)


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if not _applies(g, pass_):
        return direct.workspace(g, pass_, itemsize)
    if pass_ == "backward_weight":
        return winograd_weight.workspace(g, itemsize)
    return winograd_data.workspace(*_size(g, pass_), itemsize)


def cycles(g: Conv2dGeometry, pass_: str, itemsize: int) -> float:
    """About how many the pass takes, of all threads together; infinity where it does not apply."""
    if not _applies(g, pass_):
        return float("inf")
    if pass_ == "backward_weight":
        return winograd_weight.cycles(g, itemsize)
    return winograd_data.cycles(*_size(g, pass_), itemsize)


def _applies(g: Conv2dGeometry, pass_: str) -> bool:
    if not g.n:
        return False
    correlations = backward_correlations(g) if pass_ == "backward_input" else (forward_correlation(g),)
    return len(correlations) == 1 and winograd_data.applies(correlations[0], g.groups)


def _size(g: Conv2dGeometry, pass_: str) -> tuple[Correlation, int, int, int]:
    if pass_ == "forward":
        return forward_correlation(g), g.n, g.c, g.k
    return backward_correlations(g)[0], g.n, g.k, g.c
