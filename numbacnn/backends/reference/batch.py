"""Batches out of a data set that lives on the backend."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..shared.batches import check_index

__all__ = ["gather_images", "gather_samples"]


def gather_images(images: Array, index: Array) -> Array:
    """float32 (n, ...): the images of ``index``, uint8 divided by 255."""
    chosen = _chosen(images, index)
    if chosen.dtype == np.uint8:
        return np.divide(chosen, np.float32(255), dtype=np.float32, order="C")
    return chosen.astype(np.float32, order="C")


def gather_samples(samples: Array, index: Array) -> Array:
    """(n, ...): the samples of ``index``, float32 and float64 in their dtype, integers and bool as int64."""
    return np.array(_chosen(samples, index), samples.dtype if samples.dtype.kind == "f" else np.int64, order="C")


def _chosen(samples: Array, index: Array | slice) -> Array:
    """``index`` may be a slice, too."""
    if not isinstance(index, slice):
        check_index(index, len(samples))
    return samples[index]
