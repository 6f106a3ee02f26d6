"""Batches out of a data set that lives on the device: a thread per number of the batch.

An index outside of the data set reads nothing: its numbers are NaN, its integers -1.

roofline: memory, one read of each sample in its dtype and one write in that of the batch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..contract import Array
from .memory import bytes_for_bools
from .runtime import device_array
from .runtime.kernel import Kernel, loading_kernel, mapping
from .runtime.target import device_function, quotient

__all__ = ["gather_images", "gather_samples"]


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
def _gather_doubles(i, samples, index, g):
    source = _source(i, index, g)
    return samples[source] if source >= 0 else math.nan


@mapping
def _gather_integers(i, samples, index, g):
    source = _source(i, index, g)
    return np.int64(samples[source]) if source >= 0 else np.int64(-1)


def gather_images(images: Array, index: Array) -> Array:
    return _gathered(_gather_pixels if images.dtype == np.uint8 else _gather_floats, images, index, np.float32)


def gather_samples(samples: Array, index: Array) -> Array:
    if samples.dtype.kind == "f":
        gather = _gather_doubles if samples.dtype == np.float64 else _gather_floats
        return _gathered(gather, samples, index, samples.dtype)
    return _gathered(_gather_integers, bytes_for_bools(samples), index, np.int64)


def _gathered(gather: Kernel, samples: Array, index: Array, dtype: Any) -> Array:
    y = device_array.new((index.size, *samples.shape[1:]), dtype)
    gather(y.size, y, samples, index, (samples.shape[0], math.prod(samples.shape[1:])))
    return y
