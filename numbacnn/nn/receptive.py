"""Receptive fields: how much of the image one element of a feature map sees."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Union

from ..ops.arguments import shape_of

if TYPE_CHECKING:
    from fractions import Fraction

    from .layer import Layer
    from .state import Shape

__all__ = ["WHOLE_IMAGE", "ReceptiveField", "Window", "receptive_field"]

Pair = tuple[int, int]
Length = Union[int, "Fraction"]
Lengths = tuple[Length, Length]


@dataclass(frozen=True)
class Window:
    """The sliding window of a layer: pairs (vertical, horizontal), ``padding`` ((top, bottom), (left, right)).

    Where a layer enlarges images they are fractions: output i sees no pixel before ``i stride - padding``, and none
    after that plus ``dilation (kernel - 1)``.
    """

    kernel: Lengths
    stride: Lengths = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[Lengths, Lengths] = ((0, 0), (0, 0))


WHOLE_IMAGE = Window((0, 0), (0, 0))
"""The window of a layer whose every output sees all positions: linear layers, flattening, global pooling."""


def sliding(seen: Sequence[Collection[Pair]], stride: tuple[Fraction, Fraction]) -> Window:
    """The smallest window that slides by ``stride`` and holds what is ``seen``.

    That is, of the rows and of the columns, the first and the last pixel of each output.

    >>> from fractions import Fraction
    >>> sliding([[(0, 0), (0, 0), (1, 1)], [(0, 0)]], (Fraction(1, 2), Fraction(1))).kernel
    (Fraction(3, 2), Fraction(1, 1))
    """
    kernel, padding = [], []
    for pixels, step in zip(seen, stride, strict=True):
        before = max(i * step - first for i, (first, _) in enumerate(pixels))
        after = max(last - i * step for i, (_, last) in enumerate(pixels))
        kernel.append(before + after + 1)
        padding.append((before, after + 1 - step))
    return Window((kernel[0], kernel[1]), stride, padding=(padding[0], padding[1]))


class ReceptiveField(NamedTuple):
    """``size`` (h, w) of what one element sees, in pixels of the image; ``jump`` (h, w) to that of its neighbour.

    ``start`` (row, column) is where the field of the first element begins, negative in the padding. The size counts
    padding: near the border a part of the field lies outside of the image, and it may be larger than the image. Where
    there is one position only, the jump is 0. Araujo et al. 2019 ("Computing receptive fields of convolutional neural
    networks").

    Behind layers that enlarge images neighbours are a fraction of a pixel apart, and some see more pixels than others.
    Then these are `fractions.Fraction`, and hold for all elements: element i sees no row before ``start + i jump`` and
    none after ``start + i jump + size - 1``, which makes ``floor(size)`` rows at most.

    >>> ReceptiveField(size=(7, 7), jump=(2, 2), start=(-3, -3)).pixels((0, 10))
    ((-3, 3), (17, 23))
    """

    size: Lengths = (1, 1)
    jump: Lengths = (1, 1)
    start: Lengths = (0, 0)

    def pixels(self, unit: Pair) -> tuple[Pair, Pair]:
        """First and last row, first and last column, of what the element at ``unit`` (row, column) sees.

        Where there is none, as between the pixels that a transposed convolution spreads far out, the last is the one
        before the first.
        """
        (rh, rw), (jh, jw), (top, left) = self
        row, column = unit
        top, left = top + row * jh, left + column * jw
        return (math.ceil(top), math.floor(top + rh - 1)), (math.ceil(left), math.floor(left + rw - 1))

    def through(self, window: Window | None, image: Pair) -> ReceptiveField:
        """After a layer with ``window``: size + dilation (kernel - 1) jump, jump stride, start - padding jump."""
        if window is None:
            return self
        if window is WHOLE_IMAGE:
            return ReceptiveField(image, (0, 0), (0, 0))
        (rh, rw), (jh, jw), (top, left) = self
        (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
        (above, _), (before, _) = window.padding
        return ReceptiveField(
            _whole(rh + dh * (kh - 1) * jh, rw + dw * (kw - 1) * jw),
            _whole(jh * sh, jw * sw),
            _whole(top - above * jh, left - before * jw),
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Of an element that is made of both: what contains both fields, and the larger jump."""
        (jh, jw), (ih, iw) = self.jump, other.jump
        (rh, rw), _, (top, left) = self
        (qh, qw), _, (above, before) = other
        first_row, first_column = min(top, above), min(left, before)
        size = max(top + rh, above + qh) - first_row, max(left + rw, before + qw) - first_column
        return ReceptiveField(_whole(*size), (max(jh, ih), max(jw, iw)), (first_row, first_column))


def _whole(rows: Length, columns: Length) -> Lengths:
    """With ints for whole numbers."""
    return (
        rows.numerator if rows.denominator == 1 else rows,
        columns.numerator if columns.denominator == 1 else columns,
    )


def receptive_field(model: Layer, input_shape: Shape) -> ReceptiveField:
    """The receptive field of one output element of ``model`` for images of ``input_shape`` (n, c, h, w).

    NotImplementedError names a layer of one's own in it that does not define ``window``.

    Two 2x2 convolutions see 9 inputs:

    >>> from numbacnn import nn
    >>> nn.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 2)), (1, 1, 8, 8))
    ReceptiveField(size=(3, 3), jump=(1, 1), start=(0, 0))

    Behind the second of these, four neighbours see the same pixel:

    >>> nn.receptive_field(nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=8)), (1, 1, 8, 8)).jump
    (Fraction(1, 4), Fraction(1, 4))
    """
    shape = shape_of("input_shape", input_shape, "n, c, h, w")
    return model.receptive_field(ReceptiveField(), shape, (shape[2], shape[3]))
