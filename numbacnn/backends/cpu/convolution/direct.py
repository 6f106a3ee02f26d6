"""Direct convolution in registers: no column is ever laid out.

The output and the gradient of the input are correlations (``direct_data.py``), the latter one for each phase of the
stride, so that no product is with a zero that a stride put there. The gradient of the weights is in
``direct_weight.py``.
"""

from __future__ import annotations

import numpy as np

from ...contract import Activation
from ...geometry import Conv2dGeometry
from ..runtime.allocator import empty
from ..vector.blocks import fill_zero
from . import depthwise, direct_data, direct_weight
from .correlation import backward_correlations, backward_strides, forward_correlation, forward_strides
from .operands import bias_and_number

__all__ = ["backward_input", "backward_weight", "cycles", "forward", "workspace"]


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: Conv2dGeometry, activation: Activation
) -> np.ndarray:
    bias, number = bias_and_number(bias, activation, x.dtype)
    if depthwise.applies(g):
        return depthwise.forward(x, weight, bias, g, number)
    y = empty((g.n, g.oh, g.ow, g.k), x.dtype)
    direct_data.correlate(forward_correlation(g), x, weight, forward_strides(g), bias, y, g.groups, number)
    return y


def backward_input(dy: np.ndarray, weight: np.ndarray, g: Conv2dGeometry) -> np.ndarray:
    if depthwise.applies(g):
        return depthwise.backward_input(dy, weight, g)
    correlations = backward_correlations(g)
    covered = sum(c.rows * c.columns for c in correlations)
    dx = empty((g.n, g.h, g.w, g.c), dy.dtype)
    if covered < g.h * g.w:
        fill_zero(dx)
    for c in correlations:
        direct_data.correlate(c, dy, weight, backward_strides(g), np.empty(0, dy.dtype), dx, g.groups)
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, g: Conv2dGeometry) -> None:
    (depthwise.backward_weight if depthwise.applies(g) else direct_weight.correlate_weights)(dy, x, dweight, g)


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    if depthwise.applies(g):
        return depthwise.workspace(g, pass_, itemsize)
    if pass_ == "backward_weight":
        return direct_weight.workspace(g, itemsize)
    return max((direct_data.workspace(*each) for each in _correlations(g, pass_, itemsize)), default=0)


def cycles(g: Conv2dGeometry, pass_: str, itemsize: int) -> float:
    """About how many the pass takes, of all threads together, unless channels are groups of their own."""
    if pass_ == "backward_weight":
        return direct_weight.cycles(g, itemsize)
    return sum(direct_data.cycles(*each) for each in _correlations(g, pass_, itemsize))


def _correlations(g: Conv2dGeometry, pass_: str, itemsize: int) -> list[tuple]:
    channels, outputs = g.c // g.groups, g.k // g.groups
    if pass_ == "forward":
        return [(forward_correlation(g), forward_strides(g), g.n, channels, outputs, g.groups, itemsize)]
    return [(c, backward_strides(g), g.n, outputs, channels, g.groups, itemsize) for c in backward_correlations(g)]
