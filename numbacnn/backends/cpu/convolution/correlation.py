"""Convolution's passes that yield images, as correlations: sums over channels and taps at the points of a grid."""

from __future__ import annotations

import functools
from typing import NamedTuple

from ...geometry import Conv2dGeometry

__all__ = [
    "ENOUGH_IMAGES",
    "Correlation",
    "Grid",
    "Span",
    "WeightStrides",
    "backward_correlations",
    "backward_strides",
    "forward_correlation",
    "forward_strides",
    "spans",
]


ENOUGH_IMAGES = 8
"""A batch of so many or more computes each of its images as any other does, to the same bits: how sums are formed is
chosen as for this many. So a part of a batch, computed on its own, is the same part of the whole.
"""


class Grid(NamedTuple):
    """A correlation's grid, as kernels see it.

    Output (r, c) begins at row r sh + top, column c sw + left of x, and is stored at row at_row + r row_step, column
    at_column + c column_step of y.
    """

    rows: int
    columns: int
    top: int
    left: int
    sh: int
    sw: int
    at_row: int
    at_column: int
    row_step: int
    column_step: int


class Correlation(NamedTuple):
    """A grid of outputs, and what each sums up."""

    rows: int
    columns: int
    row_taps: tuple[tuple[int, int], ...]
    """Pairs of a row of the kernel and the row of x that it meets for output row 0, ascending in the latter."""
    column_taps: tuple[tuple[int, int], ...]
    """The same of columns."""
    step: tuple[int, int]
    """Rows and columns of x from one output to the next."""
    first: tuple[int, int]
    """Row and column at which output (0, 0) is stored."""
    output_step: tuple[int, int]
    """Rows and columns from one output to the next where they are stored."""
    image: tuple[int, int]
    """Rows and columns of x."""

    @property
    def grid(self) -> Grid:
        return Grid(
            self.rows, self.columns, self.row_taps[0][1], self.column_taps[0][1], *self.step, *self.first,
            *self.output_step,
        )  # fmt: skip

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns of x under the window of one output."""
        rows, columns = self.row_taps, self.column_taps
        return rows[-1][1] - rows[0][1] + 1, columns[-1][1] - columns[0][1] + 1

    @property
    def is_pointwise(self) -> bool:
        """Whether each output sees its own place in x alone."""
        alone = self.row_taps == self.column_taps == ((0, 0),)
        return alone and self.step == self.output_step == (1, 1) and self.image == (self.rows, self.columns)


class WeightStrides(NamedTuple):
    """How the weights lie: the distances of groups, of output channels, of input channels and of rows of taps."""

    group: int
    output: int
    channel: int
    row: int


def forward_strides(g: Conv2dGeometry) -> WeightStrides:
    """How the weights lie to the correlation that is the output, and likewise for that of the gradient of the input."""
    return WeightStrides(g.k // g.groups * g.taps, g.taps, g.kh * g.kw, g.kw)


def backward_strides(g: Conv2dGeometry) -> WeightStrides:
    return WeightStrides(g.k // g.groups * g.taps, g.kh * g.kw, g.taps, g.kw)


@functools.lru_cache(maxsize=1024)
def forward_correlation(g: Conv2dGeometry) -> Correlation:
    """The output, of x."""
    rows = tuple((i, i * g.dh - g.pt) for i in range(g.kh))
    columns = tuple((j, j * g.dw - g.pl) for j in range(g.kw))
    return Correlation(g.oh, g.ow, rows, columns, (g.sh, g.sw), (0, 0), (1, 1), (g.h, g.w))


@functools.lru_cache(maxsize=1024)
def backward_correlations(g: Conv2dGeometry) -> tuple[Correlation, ...]:
    """The gradient of the input, of that of the output: one for each phase of the stride that any tap reaches."""
    found = []
    for row in range(min(g.sh, g.h)):
        rows = _phase(row + g.pt, g.kh, g.dh, g.sh)
        for column in range(min(g.sw, g.w)):
            columns = _phase(column + g.pl, g.kw, g.dw, g.sw)
            size = (-(-(g.h - row) // g.sh), -(-(g.w - column) // g.sw))
            if rows and columns:
                found.append(Correlation(*size, rows, columns, (1, 1), (row, column), (g.sh, g.sw), (g.oh, g.ow)))
    return tuple(found)


def _phase(start: int, kernel: int, dilation: int, stride: int) -> tuple[tuple[int, int], ...]:
    """(tap, where it is read for the first output), in ascending order of the latter."""
    taps = [(i, (start - i * dilation) // stride) for i in range(kernel) if (start - i * dilation) % stride == 0]
    return tuple(sorted(taps, key=lambda tap: tap[1]))


class Span(NamedTuple):
    """Neighbouring outputs of one axis whose windows have the same taps within the image."""

    first: int
    outputs: int
    first_tap: int
    taps: int


def spans(taps: tuple[tuple[int, int], ...], count: int, step: int, size: int) -> list[Span]:
    """All ``count`` outputs of an axis of ``size``; ``taps`` and ``step`` are those of a :class:`Correlation`."""
    found: list[Span] = []
    for output in range(count):
        inside = [i for i, (_, at) in enumerate(taps) if 0 <= at + output * step < size]
        first = inside[0] if inside else 0
        if found and found[-1][2:] == (first, len(inside)):
            found[-1] = found[-1]._replace(outputs=found[-1].outputs + 1)
        else:
            found.append(Span(output, 1, first, len(inside)))
    return found
