"""Receptive fields: how much of the image one element of a feature map sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..ops.arguments import shape_of

if TYPE_CHECKING:
    from .layer import Layer
    from .state import Shape

__all__ = ["WHOLE_IMAGE", "ReceptiveField", "Window", "receptive_field"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The sliding window of a layer: pairs (vertical, horizontal), ``padding`` ((top, bottom), (left, right))."""

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))


WHOLE_IMAGE = Window((0, 0), (0, 0))
"""The window of a layer whose every output sees all positions: linear layers, flattening, global pooling."""


class ReceptiveField(NamedTuple):
    """``size`` (h, w) of what one element sees, in pixels of the image; ``jump`` (h, w) to that of its neighbour.

    ``start`` (row, column) is where the field of the first element begins, negative in the padding. The size counts
    padding: near the border a part of the field lies outside of the image, and it may be larger than the image. Where
    there is one position only, the jump is 0. Araujo et al. 2019 ("Computing receptive fields of convolutional neural
    networks").

    >>> ReceptiveField(size=(7, 7), jump=(2, 2), start=(-3, -3)).pixels((0, 10))
    ((-3, 3), (17, 23))
    """

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    start: Pair = (0, 0)

    def pixels(self, unit: Pair) -> tuple[Pair, Pair]:
        """First and last row, first and last column, of what the element at ``unit`` (row, column) sees."""
        (rh, rw), (jh, jw), (top, left) = self
        row, column = unit
        top, left = top + row * jh, left + column * jw
        return (top, top + rh - 1), (left, left + rw - 1)

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
            (rh + dh * (kh - 1) * jh, rw + dw * (kw - 1) * jw),
            (jh * sh, jw * sw),
            (top - above * jh, left - before * jw),
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Of an element that is made of both: what contains both fields, and the larger jump."""
        (jh, jw), (ih, iw) = self.jump, other.jump
        fields = [field.pixels((0, 0)) for field in (self, other)]
        (top, bottom), (left, right) = (
            (min(first for first, _ in axis), max(last for _, last in axis)) for axis in zip(*fields, strict=True)
        )
        return ReceptiveField((bottom - top + 1, right - left + 1), (max(jh, ih), max(jw, iw)), (top, left))


def receptive_field(model: Layer, input_shape: Shape) -> ReceptiveField:
    """The receptive field of one output element of ``model`` for images of ``input_shape`` (n, c, h, w).

    NotImplementedError names a layer of one's own in it that does not define ``window``.

    Two 2x2 convolutions see 9 inputs:

    >>> from numbacnn import nn
    >>> nn.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 2)), (1, 1, 8, 8))
    ReceptiveField(size=(3, 3), jump=(1, 1), start=(0, 0))
    """
    shape = shape_of("input_shape", input_shape, "n, c, h, w")
    return model.receptive_field(ReceptiveField(), shape, (shape[2], shape[3]))
