"""Bands: the padded rows of images, or whole padded images, that one core works on while they lie in its cache."""

from __future__ import annotations

import numpy as np

from .jit import function
from .simd import copy_run

__all__ = ["lay_band", "lay_positions", "round_up"]


@function
def lay_band(x, image, images, first_channel, channels, top, rows, left, width, band):
    """band[image, c, row, column] = x[.., top + row, left + column], zero outside of the image."""
    h, w = x.shape[2], x.shape[3]
    begin = min(max(0, -left), width)
    end = max(begin, min(width, w - left))
    zero = x.dtype.type(0)
    at, pending = 0, 0
    for n in range(image, image + images):
        for c in range(first_channel, first_channel + channels):
            plane = x[n, c].reshape(-1)
            for row in range(top, top + rows):
                # Zeros wait until the next copy, so that those on both sides of a row's end are one run.
                if row < 0 or row >= h or end == begin:
                    pending += width
                else:
                    pending += begin
                    for i in range(at, at + pending):
                        band[np.uintp(i)] = zero
                    at += pending
                    copy_run(band, at, plane, row * w + left + begin, end - begin)
                    at += end - begin
                    pending = width - end
    for i in range(at, at + pending):
        band[np.uintp(i)] = zero


@function
def lay_positions(places, images, rows, columns, image_step, row_step, column_step, padded):
    """places[(image, row, column)] = where that output's window begins; the last one again up to ``padded``."""
    at = 0
    for image in range(images):
        for row in range(rows):
            for column in range(columns):
                places[at] = image * image_step + row * row_step + column * column_step
                at += 1
    for i in range(at, padded):
        places[i] = places[at - 1]


def round_up(count: int, multiple: int) -> int:
    """The least multiple that is not below ``count``."""
    return -(-count // multiple) * multiple
