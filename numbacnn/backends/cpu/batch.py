"""Batches out of a data set that lives in memory: a chunk is one image.

An index outside of the data set is found before anything is read; in what was captured, its pixels are NaN and its
label is -1.

roofline: memory, one read of each image in its dtype and one write in float32.
"""

from __future__ import annotations

import numpy as np

from ..shared.batches import check_index
from .runtime.allocator import empty
from .runtime.captured import current_recording, recorded
from .runtime.kernel import kernel
from .vector.layout import contiguous

__all__ = ["gather_images", "gather_labels"]


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
    _check(index, images.shape[0])
    images = contiguous(images) if images.ndim == 4 else images
    y = empty((index.size, *images.shape[1:]), np.float32)
    size = int(np.prod(images.shape[1:], dtype=np.int64))
    gather = _gather_pixels if images.dtype == np.uint8 else _gather_floats
    gather(index.size, images.reshape(images.shape[0], size), index, y.reshape(index.size, size))
    return y


def gather_labels(labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    _check(index, labels.size)
    y = empty(index.shape, np.int64)
    _take_labels(y, labels, index)
    return y


@recorded
def _take_labels(y: np.ndarray, labels: np.ndarray, index: np.ndarray) -> None:
    y[...] = -1
    inside = (index >= 0) & (index < labels.size)
    y[inside] = labels[index[inside]]


def _check(index: np.ndarray, samples: int) -> None:
    """What is being captured may hold other numbers when it is launched."""
    if current_recording() is None:
        check_index(index, samples)
