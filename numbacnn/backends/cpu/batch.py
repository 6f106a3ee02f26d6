"""Batches out of a data set that lives in memory: a chunk is one image.

An index outside of the data set is found before anything is read; in what was captured, its numbers are NaN and its
integers -1.

roofline: memory, one read of each image in its dtype and one write in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shared.batches import check_index
from .runtime.allocator import empty
from .runtime.captured import current_recording, recorded
from .runtime.kernel import Kernel, kernel
from .vector.layout import contiguous

__all__ = ["gather_images", "gather_samples"]


@kernel
def _gather_pixels(chunk, images, index, y):
    sample = index[chunk]
    if sample < 0 or sample >= images.shape[0]:
        y[chunk] = np.nan
        return
    image = images[sample]
    for i in range(y.shape[1]):
        y[chunk, i] = np.float32(image[i]) / np.float32(255)


@kernel
def _gather_floats(chunk, images, index, y):
    sample = index[chunk]
    if sample < 0 or sample >= images.shape[0]:
        y[chunk] = np.nan
        return
    image = images[sample]
    for i in range(y.shape[1]):
        y[chunk, i] = image[i]


def gather_images(images: np.ndarray, index: np.ndarray) -> np.ndarray:
    return _gathered(_gather_pixels if images.dtype == np.uint8 else _gather_floats, images, index, np.float32)


def gather_samples(samples: np.ndarray, index: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return _gathered(_gather_floats, samples, index, samples.dtype)
    _check(index, samples.shape[0])
    y = empty((index.size, *samples.shape[1:]), np.int64)
    _take_integers(y, samples, index)
    return y


def _gathered(gather: Kernel, samples: np.ndarray, index: np.ndarray, dtype: Any) -> np.ndarray:
    _check(index, samples.shape[0])
    samples = contiguous(samples) if samples.ndim == 4 else samples
    y = empty((index.size, *samples.shape[1:]), dtype)
    size = int(np.prod(samples.shape[1:], dtype=np.int64))
    gather(index.size, samples.reshape(samples.shape[0], size), index, y.reshape(index.size, size))
    return y


@recorded
def _take_integers(y: np.ndarray, samples: np.ndarray, index: np.ndarray) -> None:
    y[...] = -1
    inside = (index >= 0) & (index < samples.shape[0])
    y[inside] = samples[index[inside]]


def _check(index: np.ndarray, samples: int) -> None:
    """What is being captured may hold other numbers when it is launched."""
    if current_recording() is None:
        check_index(index, samples)
