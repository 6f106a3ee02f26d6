"""Where the elements of the tile products' matrices lie: by strides, by tables, or in an image.

- A[i, p] is ``a[i * row + p * column]`` or ``a[i * row + table[p]]``;
- B[p, j] is ``b[p * row + j * column]``, ``b[p * row + table[j]]``, or the element of an image that position
  ``fixed[j]`` sees through tap ``moving[p]`` (or the other way round), see :func:`pack`;
- C[i, j] is ``c[i * row + j * column]`` or ``c[i * row + table[j]]``.

So the geometry of a convolution is in its tables, and no kernel has a division in its loop. For B a kernel asks three
things: where the matrix of a batch begins, once; the step to p, once for each p; and then for each element whether it
is inside, and where.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.target import device_function, within, word

__all__ = ["OF_A", "OF_B", "OF_C", "PACK_LIMIT", "Image", "PlacesOfB", "Strides", "pack"]

PACK_LIMIT = 1 << 16


class Strides(NamedTuple):
    """Elements from one row, column and matrix of the batch to the next; a table takes a stride's place."""

    row: int
    column: int = 0
    batch: int = 0


class Image(NamedTuple):
    """The image that B is read from, and how many rows and columns of zeros positions count before it."""

    h: int
    w: int
    top: int
    left: int


def pack(offset: Any, row: Any, column: Any) -> np.ndarray:
    """Positions and taps as int64: offset in memory, row, column, so that one addition moves all three.

    Position plus tap is what the tap sees from there. Offsets are below 2**31, sums of rows and of columns below 2**16.
    """
    return (np.asarray(offset, np.int64) << 32) | (np.asarray(row, np.int64) << 16) | np.asarray(column, np.int64)


@device_function
def _by_table(table, stride, index):
    return table[index]


@device_function
def _by_stride(table, stride, index):
    return index * stride


@device_function
def _matrix_start(base, at, image):
    return base + at


@device_function
def _matrix_step(moving, p, last):
    return p if p < last else last - 1


@device_function
def _matrix_place(start, at, step, row_stride, image):
    return True, word(start + step * row_stride)


@device_function
def _image_start(base, at, image):
    return base + (at >> 32) - (image[2] * image[1] + image[3])


@device_function
def _image_step(moving, p, last):
    # Tables go on for as long as a tile, so that a step may look beyond the last one.
    return moving[p]


@device_function
def _image_place(start, at, step, row_stride, image):
    # One subtraction for row and column, which is the same for all steps. A column left of the image borrows from the
    # row, and is itself more than any width.
    h, w, top, left = image
    seen = at - (top * 65536 + left) + step
    inside = within((seen >> 16) & 0xFFFF, h) & within(seen & 0xFFFF, w)
    return inside, word(word(start) + word(step >> 32))


class PlacesOfB(NamedTuple):
    """What a kernel asks of B: ``offset(table, stride, j)``, and with ``at``, its result, the three of the module."""

    offset: Any
    start: Any
    step: Any
    place: Any


OF_A = OF_C = {True: _by_table, False: _by_stride}
"""``offset(table, stride, index)``, by whether there is a table."""
OF_B = {
    "stride": PlacesOfB(_by_stride, _matrix_start, _matrix_step, _matrix_place),
    "table": PlacesOfB(_by_table, _matrix_start, _matrix_step, _matrix_place),
    "image": PlacesOfB(_by_table, _image_start, _image_step, _image_place),
}
