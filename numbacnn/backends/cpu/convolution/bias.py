"""A bias, and an activation after it, for results whose kernels know of neither.

roofline: memory, one read and one write of y; the activation is computed in L1.
"""

from __future__ import annotations

import math

import numpy as np

from ...contract import Activation
from ...shared.activations import ACTIVATIONS
from ..runtime.kernel import Scratch, kernel
from ..vector.activations import activate, activation_of
from ..vector.layout import flat

__all__ = ["add_bias"]

# Elements of a wide row, of what is activated in L1, and of a chunk.
WIDE, ACTIVATED, CHUNK = 64, 1 << 11, 1 << 13


@kernel
def _add_to_columns(chunk, y, bias, wide, part, activating, activation):
    """A chunk is ``part`` wide rows of several pixels, so that few channels fill vectors as well."""
    for t in range(0, wide.size, bias.size):
        for c in range(bias.size):
            wide[t + c] = bias[c]
    first, end = chunk * part * wide.size, min((chunk + 1) * part * wide.size, y.size)
    some = max(1, ACTIVATED // wide.size) * wide.size
    for start in range(first, end, some):
        stop = min(start + some, end)
        for at in range(start, stop, wide.size):
            row = np.uintp(at)
            for j in range(np.uintp(min(wide.size, stop - at))):
                y[row + j] += wide[j]
        if activation > 0:
            activate(activating, y, start, stop - start, activation)


@kernel
def _add_to_planes(chunk, y, bias, size, activating, activation):
    """A chunk is a plane of ``size`` elements."""
    value = bias[chunk % bias.size]
    for start in range(chunk * size, (chunk + 1) * size, ACTIVATED):
        stop = min(start + ACTIVATED, (chunk + 1) * size)
        for i in range(np.uintp(start), np.uintp(stop)):
            y[i] += value
        if activation > 0:
            activate(activating, y, start, stop - start, activation)


def add_bias(target: np.ndarray, bias: np.ndarray, activation: Activation = None) -> None:
    n, k, h, w = target.shape
    if not target.size:
        return
    code = ACTIVATIONS[activation]
    if target.transpose(0, 2, 3, 1).flags.c_contiguous:
        wide = k * max(1, WIDE // k)
        part = max(1, CHUNK // wide)
        chunks = math.ceil(target.size / (part * wide))
        _add_to_columns(
            chunks, flat(target), bias, Scratch(wide, target.dtype), part, activation_of(code), code
        )  # fmt: skip
    else:
        _add_to_planes(n * k, flat(target), bias, h * w, activation_of(code), code)
