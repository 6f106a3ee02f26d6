"""Where the pixels of padded and resampled images come from, an axis at a time: tables that the host makes.

An axis of ``outputs`` points is made of one of ``size`` pixels. Forwards, a point reads one pixel or two; backwards, a
pixel gathers from all points that read it, so that nothing is added to one place by two threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "Readers",
    "Taps",
    "linear_sources",
    "nearest_sources",
    "padded_sources",
    "padded_taps",
    "readers",
    "resampled_taps",
]

# What NumPy calls the ways to pad.
_NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Taps(NamedTuple):
    """That ``outputs[i]`` reads ``sources[i]`` with ``weights[i]``, for each i; what weighs nothing is left out."""

    outputs: np.ndarray
    sources: np.ndarray
    weights: np.ndarray


class Readers(NamedTuple):
    """Who reads pixel i: ``outputs[starts[i] : starts[i + 1]]``, in ascending order, with those ``weights``."""

    starts: np.ndarray
    outputs: np.ndarray
    weights: np.ndarray

    @property
    def most(self) -> int:
        """Of any pixel."""
        return int(np.diff(self.starts).max(initial=0))


def padded_sources(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Which pixel each of ``size + before + after`` points is, -1 for none.

    A negative ``before`` or ``after`` cuts pixels off, in mode "circular" before the image is repeated.

    >>> for mode in ("constant", "reflect", "replicate", "circular"):
    ...     padded_sources(4, 2, 1, mode).tolist()
    [-1, -1, 0, 1, 2, 3, -1]
    [2, 1, 0, 1, 2, 3, 2]
    [0, 0, 0, 1, 2, 3, 3]
    [2, 3, 0, 1, 2, 3, 0]
    >>> padded_sources(4, -1, 2, "reflect").tolist(), padded_sources(4, -1, 2, "circular").tolist()
    ([1, 2, 3, 2, 1], [1, 2, 3, 1, 2])
    """
    index, more = np.arange(size, dtype=np.int64), (max(before, 0), max(after, 0))
    if mode == "circular":
        index = _cut(index, before, after)
    if mode == "constant":
        index = np.pad(index, more, constant_values=-1)
    elif more != (0, 0):
        index = np.pad(index, more, _NUMPY_MODES[mode])  # type: ignore[call-overload]
    return index if mode == "circular" else _cut(index, before, after)


def _cut(index: np.ndarray, before: int, after: int) -> np.ndarray:
    return index[max(-before, 0) : len(index) - max(-after, 0)]


def padded_taps(size: int, before: int, after: int, mode: str) -> list[Taps]:
    """:func:`padded_sources` as taps."""
    return [_one_each(padded_sources(size, before, after, mode))]


def nearest_sources(size: int, outputs: int, scale: float = 0.0) -> np.ndarray:
    """The pixel that each of ``outputs`` points is: ``floor(point / scale)``, scale ``outputs / size`` if 0.

    It is worked out in float32, as PyTorch does, so that where that rounds to another pixel it is the same one.

    >>> nearest_sources(3, 5).tolist(), nearest_sources(5, 3).tolist()
    ([0, 0, 1, 1, 2], [0, 1, 3])
    """
    point = np.arange(outputs, dtype=np.int64)
    if outputs == size:
        return point
    if outputs == 2 * size:
        return point // 2
    step = np.float32(1 / scale) if scale else np.float32(size) / np.float32(max(outputs, 1))
    return np.minimum(np.floor(point.astype(np.float32) * step).astype(np.int64), size - 1)


def linear_sources(
    size: int, outputs: int, align_corners: bool = False, scale: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``outputs`` points along ``size`` pixels: the pixel before, the one after and its weight.

    Pixels are as wide as they are apart, and so are points, ``scale`` to a pixel: point o is at pixel
    ``(o + 1/2) / scale - 1/2``. With ``align_corners`` the first and last points are at the first and last pixels.
    Without a ``scale``, points divide the whole width evenly, which is worked out in integers. Beyond the outer pixels'
    centres the outer pixels are repeated. As many points as pixels are the pixels. The pixels are int64 (outputs,),
    the weight is float64, from 0 to below 1; where it is 0 the pixel after is the one before.

    >>> before, after, weight = linear_sources(2, 4)
    >>> before.tolist(), after.tolist(), weight.tolist()
    ([0, 0, 0, 1], [0, 1, 1, 1], [0.0, 0.25, 0.75, 0.0])
    """
    point = np.arange(outputs, dtype=np.int64)
    if align_corners or not scale:
        # In units of 1 / whole.
        whole = max(outputs - 1, 1) if align_corners else 2 * max(outputs, 1)
        position = point * (size - 1) if align_corners else np.maximum((2 * point + 1) * size - outputs, 0)
        before, rest = np.divmod(position if outputs > 1 or not align_corners else 0 * point, whole)
        weight = rest / whole
    elif outputs == size:
        before, weight = point, np.zeros(outputs)
    else:
        at = np.maximum((point + 0.5) / scale - 0.5, 0)
        before = np.minimum(np.floor(at).astype(np.int64), size - 1)
        weight = np.clip(at - before, 0, 1)
    weight[before >= size - 1] = 0
    return before, before + (weight > 0), weight


def resampled_taps(size: int, outputs: int, mode: str, align_corners: bool, scale: float) -> list[Taps]:
    """What the points of a `Resampling` read."""
    if mode == "nearest":
        return [_one_each(nearest_sources(size, outputs, scale))]
    before, after, weight = linear_sources(size, outputs, align_corners, scale)
    second = np.flatnonzero(weight)
    return [Taps(np.arange(outputs), before, 1 - weight), Taps(second, after[second], weight[second])]


def _one_each(sources: np.ndarray) -> Taps:
    outputs = np.flatnonzero(sources >= 0)
    return Taps(outputs, sources[outputs], np.ones(len(outputs)))


def readers(size: int, taps: Sequence[Taps]) -> Readers:
    """Who reads each of ``size`` pixels.

    >>> starts, outputs, weights = readers(2, resampled_taps(2, 4, "linear", False, 0.0))
    >>> starts.tolist(), outputs.tolist(), weights.tolist()
    ([0, 3, 6], [0, 1, 2, 1, 2, 3], [1.0, 0.75, 0.25, 0.25, 0.75, 1.0])
    """
    outputs, sources, weights = (np.concatenate([each[i] for each in taps]) for i in range(3))
    order = np.lexsort((outputs, sources))
    starts = np.searchsorted(sources[order], np.arange(size + 1)).astype(np.int64)
    return Readers(starts, outputs[order].astype(np.int64), weights[order])
