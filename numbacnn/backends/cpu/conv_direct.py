"""Direct convolution in registers: no column is ever laid out.

The output and the gradient of the input are correlations (``correlate.py``), the latter one for each phase of the
stride, so that no product is with a zero that a stride put there. The gradient of the weights is in
``correlate_weights.py``.

"""

from __future__ import annotations

import functools

import numpy as np

from ..geometry import Conv2dGeometry
from . import correlate_weights
from .correlate import Correlation, Weights, correlate
from .correlate import workspace as correlation_workspace
from .memory import empty

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, g: Conv2dGeometry, activation: int) -> np.ndarray:
    y = empty(g.y_shape, x.dtype)
    correlate(_forward_correlation(g), x, weight, _forward_weights(g), bias, y, g.groups, activation)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    correlations = _backward_correlations(g)
    covered = sum(c.rows * c.columns for c in correlations)
    dx = empty(g.x_shape, dy.dtype)
    if covered < g.h * g.w:
        dx[...] = 0
    for c in correlations:
        correlate(c, dy, weight, _backward_weights(g), np.empty(0, dy.dtype), dx, g.groups)
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    return correlate_weights.correlate_weights(dy, x, g)


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if pass_ == "backward_weight":
        return correlate_weights.workspace(g, itemsize)
    channels, outputs = g.c // g.groups, g.k // g.groups
    if pass_ == "forward":
        return correlation_workspace(
            _forward_correlation(g), _forward_weights(g), g.n, channels, outputs, g.groups, itemsize
        )
    return max(
        (
            correlation_workspace(c, _backward_weights(g), g.n, outputs, channels, g.groups, itemsize)
            for c in _backward_correlations(g)
        ),
        default=0,
    )


def _forward_weights(g: Conv2dGeometry) -> Weights:
    return Weights(g.k // g.groups * g.taps, g.taps, g.kh * g.kw, g.kw)


def _backward_weights(g: Conv2dGeometry) -> Weights:
    return Weights(g.k // g.groups * g.taps, g.kh * g.kw, g.taps, g.kw)


@functools.lru_cache(maxsize=1024)
def _forward_correlation(g: Conv2dGeometry) -> Correlation:
    rows = tuple((i, i * g.dh - g.pt) for i in range(g.kh))
    columns = tuple((j, j * g.dw - g.pl) for j in range(g.kw))
    return Correlation(g.oh, g.ow, rows, columns, (g.sh, g.sw), (0, 0), (1, 1))


@functools.lru_cache(maxsize=1024)
def _backward_correlations(g: Conv2dGeometry) -> tuple[Correlation, ...]:
    """One for each phase of the stride that any tap reaches."""
    found = []
    for row in range(min(g.sh, g.h)):
        rows = _phase(row + g.pt, g.kh, g.dh, g.sh)
        for column in range(min(g.sw, g.w)):
            columns = _phase(column + g.pl, g.kw, g.dw, g.sw)
            size = (-(-(g.h - row) // g.sh), -(-(g.w - column) // g.sw))
            if rows and columns:
                found.append(Correlation(*size, rows, columns, (1, 1), (row, column), (g.sh, g.sw)))
    return tuple(found)


def _phase(start: int, kernel: int, dilation: int, stride: int) -> tuple[tuple[int, int], ...]:
    """(tap, where it is read for the first output), in ascending order of the latter."""
    taps = [(i, (start - i * dilation) // stride) for i in range(kernel) if (start - i * dilation) % stride == 0]
    return tuple(sorted(taps, key=lambda tap: tap[1]))
