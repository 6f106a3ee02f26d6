"""Winograd's convolution (``winograd.py``) where it applies: output and gradient of the input of 3 x 3 and 5 x 5
windows with stride 1 and one group. Everything else is computed as by ``direct``.
"""

from __future__ import annotations

import numpy as np

from ..geometry import Conv2dGeometry
from . import conv_direct, winograd
from .correlations import Correlation, backward_correlations, backward_weights, forward_correlation, forward_weights
from .memory import empty

__all__ = ["backward_input", "backward_weight", "cycles", "forward", "workspace"]

backward_weight = conv_direct.backward_weight


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    if not _applies(g, "forward"):
        return conv_direct.forward(x, weight, bias, g, activation)
    y = empty(g.y_shape, x.dtype)
    winograd.correlate(forward_correlation(g), x, weight, forward_weights(g), bias, y, activation)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    if not _applies(g, "backward_input"):
        return conv_direct.backward_input(dy, weight, g)
    dx = empty(g.x_shape, dy.dtype)
    winograd.correlate(backward_correlations(g)[0], dy, weight, backward_weights(g), np.empty(0, dy.dtype), dx)
    return dx


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if not _applies(g, pass_):
        return conv_direct.workspace(g, pass_, itemsize)
    return winograd.workspace(*_size(g, pass_), itemsize)


def cycles(g: Conv2dGeometry, pass_: str, itemsize: int) -> float:
    """About how many the pass takes, of all threads together; infinity where it does not apply."""
    return winograd.cycles(*_size(g, pass_), itemsize) if _applies(g, pass_) else float("inf")


def _applies(g: Conv2dGeometry, pass_: str) -> bool:
    if pass_ == "backward_weight" or not g.n:
        return False
    correlations = (forward_correlation(g),) if pass_ == "forward" else backward_correlations(g)
    return len(correlations) == 1 and winograd.applies(correlations[0], g.groups)


def _size(g: Conv2dGeometry, pass_: str) -> tuple[Correlation, int, int, int]:
    if pass_ == "forward":
        return forward_correlation(g), g.n, g.c, g.k
    return backward_correlations(g)[0], g.n, g.k, g.c
