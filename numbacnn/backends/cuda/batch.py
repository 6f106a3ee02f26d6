"""Batches out of a data set that lives on the device: a thread per pixel of the batch.

An index outside of the data set reads nothing: its pixels are NaN, its label is -1.

roofline: memory, one read of each image in its dtype and one write in float32.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from .runtime import device_array
from .runtime.kernel import loading_kernel, mapping
from .runtime.target import device_function, quotient

__all__ = ["gather_images", "gather_labels"]


@device_function
def _source(i, index, g):
    """Where element ``i`` of the batch is in the data set; -1 for nowhere."""
    samples, size = g
    row = quotient(i, size)
    sample = index[row]
    return sample * size + i - row * size if sample >= 0 and sample < samples else -1


def _pixel(i, y, images, index, g):
    """An element of the batch before its division, NaN for one that is not there."""
    source = _source(i, index, g)
    return np.float32(images[source]) if source >= 0 else np.float32(math.nan)


@loading_kernel(_pixel)
def _gather_pixels(i, value, y, images, index, g):
    y[i] = value / np.float32(255)


@mapping
def _gather_floats(i, images, index, g):
    source = _source(i, index, g)
    return np.float32(images[source]) if source >= 0 else np.float32(math.nan)


@mapping
def _gather_labels(i, labels, index, g):
    source = _source(i, index, g)
    return labels[source] if source >= 0 else -1


def gather_images(images: Array, index: Array) -> Array:
    y = device_array.new((index.size, *images.shape[1:]), np.float32)
    sizes = (images.shape[0], math.prod(images.shape[1:]))
    if images.dtype == np.uint8:
        _gather_pixels(y.size, y, images, index, sizes)
    else:
        _gather_floats(y.size, y, images, index, sizes)
    return y


def gather_labels(labels: Array, index: Array) -> Array:
    y = device_array.new(index.shape, np.int64)
    _gather_labels(y.size, y, labels, index, (labels.size, 1))
    return y
