"""How images lie in memory: the channels of a pixel are neighbours.

An array of images has the shape (n, c, h, w) however it lies; its strides tell. What this backend makes lies channels
last, as in PyTorch's ``channels_last``, so that plain loops over neighbours are loops over channels, whatever the size
of the images. Images that come from outside may lie plane by plane. Kernels take the view (n, h, w, c).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..runtime import allocator
from ..runtime.kernel import kernel
from .simd import flattened
from .tiles import TRANSPOSITION, transpose

__all__ = [
    "channels_last",
    "contiguous",
    "empty",
    "flat",
    "images",
    "is_laid_out",
    "like",
    "neighbours",
    "of_neighbours",
    "of_pixels",
    "pixels",
    "transpose_matrices",
]

# Positions of a chunk of an image that is transposed.
TRANSPOSED = 256


@kernel
def _transpose_columns(chunk, source, target, transposition, parts, part):
    """A chunk is ``part`` columns of a matrix of ``source`` (n, rows, columns), which ``target`` (n, columns, rows) has
    as rows.
    """
    n, first = chunk // parts, chunk % parts * part
    rows, columns = source.shape[1], source.shape[2]
    at = n * rows * columns
    here = min(part, columns - first)
    transpose(
        transposition, flattened(source), at + first, columns, rows, here, flattened(target), at + first * rows, rows
    )  # fmt: skip


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """A new uninitialised array; one of four axes is of images."""
    return allocator.empty_images(shape, dtype) if len(shape) == 4 else allocator.empty(shape, dtype)


def is_laid_out(x: np.ndarray) -> bool:
    """Whether ``x`` lies in one of the two ways that this backend knows."""
    is_of_images = x.ndim == 4 and x.itemsize in (4, 8)
    return x.flags.c_contiguous or (is_of_images and x.transpose(0, 2, 3, 1).flags.c_contiguous)


def channels_last(x: np.ndarray) -> np.ndarray:
    """``x`` as (n, h, w, c), C-contiguous: a view, or a copy where x lies plane by plane."""
    view = x.transpose(0, 2, 3, 1)
    if view.flags.c_contiguous:
        return view
    n, c, h, w = x.shape
    y = allocator.empty((n, h, w, c), x.dtype)
    transpose_matrices(x.reshape(n, c, h * w), y.reshape(n, h * w, c))
    return y


def images(x: np.ndarray) -> np.ndarray:
    """(n, h, w, c) as (n, c, h, w), the reverse of :func:`channels_last`."""
    return x.transpose(0, 3, 1, 2)


def pixels(x: np.ndarray) -> np.ndarray:
    """``x`` (n, c, ...) as a matrix of a row for each pixel, its channels."""
    if x.ndim == 2:
        return x
    of_images = x if x.ndim == 4 else x.reshape(*x.shape[:2], math.prod(x.shape[2:]), 1)
    return channels_last(of_images).reshape(math.prod((x.shape[0], *x.shape[2:])), x.shape[1])


def of_pixels(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The reverse of :func:`pixels`: y, a row for each pixel, in the shape that ``x`` has but for its channels."""
    if x.ndim == 2:
        return y
    shape = (x.shape[0], y.shape[1], *x.shape[2:])
    if x.ndim == 4:
        return images(y.reshape(shape[0], *shape[2:], shape[1]))
    return contiguous(images(y.reshape(shape[0], math.prod(shape[2:]), 1, shape[1]))).reshape(shape)


def neighbours(x: np.ndarray) -> tuple[np.ndarray, int]:
    """``x`` (n, c, h, w) as it lies, (images, h, w, size), and how many of these images make one of ``x``.

    ``size`` numbers are neighbours, the channels of a pixel, or one, where images lie plane by plane.
    """
    n, c, h, w = x.shape
    view = x.transpose(0, 2, 3, 1)
    if c > 1 and view.flags.c_contiguous:
        return view, 1
    return x.reshape(n * c, h, w, 1), c


def of_neighbours(y: np.ndarray, of: int) -> np.ndarray:
    """The reverse of :func:`neighbours`."""
    planes, h, w, _ = y.shape
    return images(y) if of == 1 else y.reshape(planes // max(of, 1), of, h, w)


def contiguous(x: np.ndarray) -> np.ndarray:
    """``x`` itself if it is C-contiguous, else a copy that is."""
    if x.flags.c_contiguous:
        return x
    n, c, h, w = x.shape
    y = allocator.empty(x.shape, x.dtype)
    transpose_matrices(x.transpose(0, 2, 3, 1).reshape(n, h * w, c), y.reshape(n, c, h * w))
    return y


def flat(x: np.ndarray) -> np.ndarray:
    """The numbers of ``x`` in the order of memory, a view."""
    return (x if x.flags.c_contiguous else x.transpose(0, 2, 3, 1)).reshape(x.size)


def like(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``x`` if it lies as ``other`` does, whose shape it has, else a copy that does."""
    if other.flags.c_contiguous:
        return contiguous(x)
    return channels_last(x).transpose(0, 3, 1, 2)


def transpose_matrices(source: np.ndarray, target: np.ndarray) -> None:
    """target[i, k, j] = source[i, j, k], both C-contiguous."""
    # The microkernel moves what it takes for floating numbers, bit by bit.
    source, target = (x.view(f"f{x.itemsize}") for x in (source, target))
    n, _, columns = source.shape
    parts = -(-columns // TRANSPOSED)
    _transpose_columns(n * parts, source, target, TRANSPOSITION, parts, TRANSPOSED)
