"""Where the elements of a convolution lie: tables of positions, taps and results, for the tile product.

A table is made once for a geometry and stays on the device. All offsets are in elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...geometry import Conv2dGeometry
from ..block.gemm import table
from ..block.places import PACK_LIMIT, Image, pack
from ..runtime.device_array import DeviceArray

__all__ = ["Phase", "fits", "image_of", "output_offsets", "phases", "positions", "taps", "weight_offsets"]


def fits(g: Conv2dGeometry) -> bool:
    """Whether rows and columns of the padded image can be packed."""
    return max(g.h + g.pt + g.pb, g.w + g.pl + g.pr) < PACK_LIMIT


def image_of(g: Conv2dGeometry) -> Image:
    """x as positions and taps see it."""
    return Image(g.h, g.w, g.pt, g.pl)


def positions(g: Conv2dGeometry) -> DeviceArray:
    """Packed, for each output pixel (n, oh, ow): where its window begins in x."""
    return _grid(g.n, g.oh, g.ow, g.sh, g.sw, g.c * g.h * g.w, g.w)


def taps(g: Conv2dGeometry) -> DeviceArray:
    """Packed, for each weight (c, i, j) of a group: what to add to a position."""
    rows, columns = tuple(i * g.dh for i in range(g.kh)), tuple(j * g.dw for j in range(g.kw))
    return _window(g.c // g.groups, rows, columns, g.h * g.w, g.w)


def output_offsets(g: Conv2dGeometry) -> DeviceArray:
    """For each output pixel (n, oh, ow): where it lies in the first channel of y."""
    return _places(g.n, (0, 1, g.oh), (0, 1, g.ow), g.k * g.oh * g.ow, g.ow)


class Phase(NamedTuple):
    """One of the stride's sh * sw ways in which pixels of x meet the kernel.

    Those whose padded row is ``row_phase`` modulo sh meet only every sh-th row of weights; among themselves they are a
    convolution of dy with stride 1. ``rows`` and ``columns`` are (first, step, count) of the pixels, ``kernel_rows``
    and ``kernel_columns`` the weights they meet, ``shifts`` where in dy each of these is met, from the pixel's number.
    """

    rows: tuple[int, int, int]
    columns: tuple[int, int, int]
    kernel_rows: tuple[int, ...]
    kernel_columns: tuple[int, ...]
    row_shifts: tuple[int, ...]
    column_shifts: tuple[int, ...]

    @property
    def taps_per_channel(self) -> int:
        return len(self.kernel_rows) * len(self.kernel_columns)

    def pixels(self, g: Conv2dGeometry) -> DeviceArray:
        """For each pixel (n, row, column) of the phase: where it lies in the first channel of x."""
        return _places(g.n, self.rows, self.columns, g.c * g.h * g.w, g.w)

    def positions(self, g: Conv2dGeometry) -> DeviceArray:
        """Packed, for each pixel of the phase: its number in dy."""
        return _grid(g.n, self.rows[2], self.columns[2], 1, 1, g.k * g.oh * g.ow, g.ow)

    def taps(self, g: Conv2dGeometry) -> DeviceArray:
        """Packed, for each weight (k, i, j) of a group that the phase meets: what to add to a position."""
        top, left = self._origin()
        rows, columns = tuple(d + top for d in self.row_shifts), tuple(d + left for d in self.column_shifts)
        return _window(g.k // g.groups, rows, columns, g.oh * g.ow, g.ow)

    def image(self, g: Conv2dGeometry) -> Image:
        """dy as these positions and taps see it."""
        return Image(g.oh, g.ow, *self._origin())

    def weights(self, g: Conv2dGeometry) -> DeviceArray:
        """For each of those taps: where its weight lies, from that of the first output channel at (0, 0)."""
        return weight_offsets(g.k // g.groups, g.taps, g.kw, self.kernel_rows, self.kernel_columns)

    def _origin(self) -> tuple[int, int]:
        return -min(self.row_shifts, default=0), -min(self.column_shifts, default=0)


def phases(g: Conv2dGeometry) -> list[Phase]:
    """All phases that have a pixel."""
    rows = [_axis_phase(phase, g.h, g.kh, g.sh, g.pt, g.dh) for phase in range(g.sh)]
    columns = [_axis_phase(phase, g.w, g.kw, g.sw, g.pl, g.dw) for phase in range(g.sw)]
    return [
        Phase(row[0], column[0], row[1], column[1], row[2], column[2])
        for row in rows
        for column in columns
        if row[0][2] and column[0][2]
    ]


def _axis_phase(
    phase: int, size: int, kernel: int, stride: int, before: int, dilation: int
) -> tuple[tuple[int, int, int], tuple[int, ...], tuple[int, ...]]:
    first = (phase - before) % stride
    met = tuple(i for i in range(kernel) if (first + before - i * dilation) % stride == 0)
    shifts = tuple((first + before - i * dilation) // stride for i in met)
    return (first, stride, len(range(first, size, stride))), met, shifts


@table
def _grid(n: int, rows: int, columns: int, row_step: int, column_step: int, sample: int, w: int) -> np.ndarray:
    image = np.arange(n)[:, None, None] * sample
    row, column = np.arange(rows)[:, None] * row_step, np.arange(columns) * column_step
    return pack(image + row * w + column, row, column)


@table
def _window(channels: int, rows: tuple[int, ...], columns: tuple[int, ...], plane: int, w: int) -> np.ndarray:
    channel = np.arange(channels)[:, None, None] * plane
    row, column = np.array(rows, np.int64)[:, None], np.array(columns, np.int64)
    return pack(channel + row * w + column, row, column)


@table
def _places(n: int, rows: tuple[int, int, int], columns: tuple[int, int, int], sample: int, w: int) -> np.ndarray:
    (top, row_step, row_count), (left, column_step, column_count) = rows, columns
    image = np.arange(n)[:, None, None] * sample
    row, column = top + row_step * np.arange(row_count)[:, None], left + column_step * np.arange(column_count)
    return image + row * w + column


@table
def weight_offsets(channels: int, taps: int, kw: int, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    """For (channel, row, column): ``channel * taps + row * kw + column``."""
    channel = np.arange(channels)[:, None, None] * taps
    return channel + np.array(rows, np.int64)[:, None] * kw + np.array(columns, np.int64)
