"""What the algorithms do alike to what they are given: weights are packed, biases begin sums, pixels are activated."""

from __future__ import annotations

import functools

import numpy as np

from ...contract import Activation
from ...shared.activations import ACTIVATIONS
from ..runtime.allocator import empty
from ..runtime.kernel import inlined, kernel
from ..vector.activations import activate
from ..vector.simd import clear
from ..vector.tiles import TRANSPOSITION, transpose
from .correlation import Correlation, WeightStrides

__all__ = ["activate_pixels", "bias_and_number", "bias_or_zeros", "pack_weights", "taps_of"]


@inlined
def activate_pixels(activating, y, at, targets, count, channels, activation):
    """The ``channels`` numbers that begin at each target: together, where they are neighbours."""
    if targets[count - 1] - targets[0] == (count - 1) * channels:
        activate(activating, y, at + targets[0], count * channels, activation)
    else:
        for i in range(count):
            activate(activating, y, at + targets[i], channels, activation)


@kernel
def _pack_weights(chunk, weight, taps, packed, transposition, width, panels, channels, group, output, channel, outputs):
    """A chunk is one panel of output channels: packed[(channel, tap), output] = weight[output, channel, taps[tap]].

    ``group``, ``output`` and ``channel`` are the distances of neighbours in ``weight``.
    """
    here = min(width, outputs - chunk % panels * width)
    start = chunk // panels * group + chunk % panels * width * output
    at = chunk * channels * taps.size * width
    if here < width:
        clear(packed, at, at + channels * taps.size * width)
    whole = channel == taps.size
    for t in range(taps.size):
        whole = whole and taps[t] == t
    if whole:
        transpose(transposition, weight, start, output, here, channels * channel, packed, at, width)
    else:
        for c in range(channels):
            for t in range(taps.size):
                source = start + c * channel + taps[t]
                for j in range(here):
                    packed[np.uintp(at + j)] = weight[np.uintp(source + j * output)]
                at += width


def pack_weights(
    c: Correlation, weight: np.ndarray, w: WeightStrides, width: int, channels: int, outputs: int, groups: int
) -> np.ndarray:
    """The weights as vectors of ``width`` output channels: (group, panel, channel, tap, output), flat."""
    taps = taps_of(c, w)
    panels = -(-outputs // width)
    packed = empty((groups * panels * channels * taps.size * width,), weight.dtype)
    _pack_weights(
        groups * panels, weight.reshape(-1), taps, packed, TRANSPOSITION, width, panels, channels, w.group, w.output,
        w.channel, outputs,
    )  # fmt: skip
    return packed


def bias_and_number(bias: np.ndarray | None, activation: Activation, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """As kernels take them: an empty array for no bias, and the activation's number."""
    return np.empty(0, dtype) if bias is None else bias, ACTIVATIONS[activation]


def bias_or_zeros(bias: np.ndarray, outputs: int) -> np.ndarray:
    """What the sums of ``outputs`` channels begin with: the bias or, where it is empty, zeros."""
    return bias if bias.size else _zeros(outputs, bias.dtype)


@functools.lru_cache(maxsize=64)
def _zeros(count: int, dtype: np.dtype) -> np.ndarray:
    return np.zeros(count, dtype)


@functools.lru_cache(maxsize=1024)
def taps_of(c: Correlation, w: WeightStrides) -> np.ndarray:
    """Offset of a tap in the weights."""
    return np.array([i * w.row + j for i, _ in c.row_taps for j, _ in c.column_taps])
