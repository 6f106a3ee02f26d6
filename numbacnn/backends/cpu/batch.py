"""Batches out of a data set that lives in memory: a chunk is one image.

roofline: memory, one read of each image in its dtype and one write in float32.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel
from .memory import empty

__all__ = ["gather_images", "gather_labels"]


@kernel
def _gather_pixels(chunk, images, index, y):
    image = images[index[chunk]]
    for i in range(y.shape[1]):
        y[chunk, i] = np.float32(image[i]) / np.float32(255)


@kernel
def _gather_floats(chunk, images, index, y):
    image = images[index[chunk]]
    for i in range(y.shape[1]):
        y[chunk, i] = image[i]


def gather_images(images: np.ndarray, index: np.ndarray) -> np.ndarray:
    y = empty((index.size, *images.shape[1:]), np.float32)
    size = int(np.prod(images.shape[1:], dtype=np.int64))
    gather = _gather_pixels if images.dtype == np.uint8 else _gather_floats
    gather(index.size, images.reshape(images.shape[0], size), index, y.reshape(index.size, size))
    return y


def gather_labels(labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    return labels[index]
