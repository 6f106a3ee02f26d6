"""Bands: the padded rows of images, or whole padded images, that one core works on while they lie in its cache."""

from __future__ import annotations

import numpy as np

from .jit import function
from .simd import copy_run

__all__ = ["clear", "lay_band", "lay_positions", "round_up", "unevenness"]


@function
def clear(x, start, end):
    """x[start:end] = 0"""
    zero = x.dtype.type(0)
    for i in range(np.uintp(start), np.uintp(end)):
        x[i] = zero


@function
def lay_band(x, image, images, first_channel, channels, pitch, top, rows, left, width, band):
    """band[image, row, column, c] = x[.., top + row, left + column, first_channel + c], zero outside of the image.

    x is (n, h, w, c); columns are ``pitch`` apart in the band, zeros behind their ``channels``.
    """
    h, w, distance = x.shape[1], x.shape[2], x.shape[3]
    begin = min(max(0, -left), width)
    end = max(begin, min(width, w - left))
    flat = x.reshape(-1)
    at = 0
    for n in range(image, image + images):
        for row in range(top, top + rows):
            if row < 0 or row >= h or end == begin:
                clear(band, at, at + width * pitch)
            else:
                clear(band, at, at + begin * pitch)
                source, target = ((n * h + row) * w + left + begin) * distance + first_channel, at + begin * pitch
                if channels == distance and channels == pitch:
                    copy_run(band, target, flat, source, (end - begin) * pitch)
                else:
                    for _ in range(begin, end):
                        copy_run(band, target, flat, source, channels)
                        clear(band, target + channels, target + pitch)
                        source += distance
                        target += pitch
                clear(band, at + end * pitch, at + width * pitch)
            at += width * pitch


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


# Plans are made for so many cores, whatever there are: a result is the same bits for any number of threads.
CORES = 2


def unevenness(*chunks: tuple[int, float]) -> float:
    """How much longer chunks, (number, size) of each kind, take than if all cores shared them evenly; 1 for none."""
    loads = [0.0] * CORES
    for number, size in sorted(chunks, key=lambda kind: -kind[1]):
        each, more = divmod(number, CORES)
        loads = sorted(load + each * size for load in loads)
        loads = [load + size * (core < more) for core, load in enumerate(loads)]
    return max(loads) * CORES / sum(loads) if any(loads) else 1.0


def round_up(count: int, multiple: int) -> int:
    """The least multiple that is not below ``count``."""
    return -(-count // multiple) * multiple
