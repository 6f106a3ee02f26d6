"""Layers that give images another size: padding, resampling, pixels made of channels."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

from .. import ops
from ..backends import Array
from ..backends.geometry import Resampling
from ..ops.arguments import integer, one_of, pair, real_number
from ..ops.padding import padded_shape, sides
from ..ops.spatial import (
    INTERPOLATIONS,
    channel_padded_shape,
    channel_shuffled_shape,
    channel_sides,
    check_interpolation,
    pixel_shuffled_shape,
    pixel_unshuffled_shape,
    pixels_seen,
    resamplings,
    scale_pair,
)
from .forward_cache import cached_forward
from .layer import Layer, check_dy_shape
from .receptive import ReceptiveField, Window, sliding
from .settings import setting
from .state import Shape, as_input

__all__ = [
    "ChannelShuffle",
    "CircularPad2d",
    "ConstantPad2d",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Upsample",
    "ZeroPad2d",
    "ZeroPadChannels",
]


class _Pad2d(Layer):
    mode: ClassVar[str]
    padding: tuple[int, int, int, int] = setting(sides)
    value: float = 0.0

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = padding

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = ops.pad2d(x, self.padding, self.mode, self.value, backend=self.backend)
        self.saved = tuple(x.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape = self.saved
        return (
            ops.pad2d_backward(dy, x_shape, self.padding, self.mode, backend=self.backend) if input_gradient else None
        )

    def output_shape(self, shape: Shape) -> Shape:
        return padded_shape(shape, self.padding, self.mode)

    def window(self) -> Window | None:
        left, right, top, bottom = self.padding
        return Window((1, 1), padding=((top, bottom), (left, right)))

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad2d(_Pad2d):
    """x (n, c, h, w) -> y (n, c, h + top + bottom, w + left + right): zeros around the image; dx is dy without them.

    ``padding`` is an int for all sides, or, in PyTorch's order, (left, right, top, bottom); a negative one cuts rows or
    columns off, of which one has to remain.

    >>> ZeroPad2d((1, 2, 0, 3)).output_shape((1, 1, 4, 4))
    (1, 1, 7, 7)
    """

    mode = "constant"


class ConstantPad2d(_Pad2d):
    """As `ZeroPad2d`, with ``value``, any number, in place of zeros.

    >>> ConstantPad2d(1, -2.5)
    ConstantPad2d(padding=(1, 1, 1, 1), value=-2.5)
    """

    mode = "constant"
    value: float = setting(real_number)

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ReflectionPad2d(_Pad2d):
    """As `ZeroPad2d`, with the image in a mirror at the outer pixels' centres around it: c b | a b c | b a.

    Padding is less than there are rows or columns. dx is the sum of the dy that are copies of a pixel.
    """

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """As `ZeroPad2d`, with the nearest pixel in place of zeros: a a | a b c | c c.

    dx is the sum of the dy that are copies of a pixel.
    """

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """As `ZeroPad2d`, with the image again around it: b c | a b c | a b.

    Padding is at most as much as there are rows or columns, after any are cut off. dx is the sum of the dy that are
    copies of a pixel.
    """

    mode = "circular"


def _size(name: str, value: Any) -> Any:
    if value is None:
        return None
    sizes = pair(name, value)
    return sizes if isinstance(value, (tuple, list)) else sizes[0]


def _scale(name: str, value: Any) -> Any:
    if value is None:
        return None
    scales = scale_pair(name, value)
    return scales if isinstance(value, (tuple, list)) else scales[0]


def _step(axis: Resampling) -> Fraction:
    """From a point to the next, in pixels."""
    if axis.align_corners:
        return Fraction(axis.size - 1, max(axis.outputs - 1, 1))
    if axis.scale:
        return Fraction(1 / axis.scale).limit_denominator(10**6)  # 10 / 23 rather than what the float 2.3 is
    return Fraction(axis.size, axis.outputs)


class Upsample(Layer):
    """x (n, c, h, w) -> y (n, c, oh, ow): images of another size, larger or smaller, by PyTorch's rules.

    dx is the sum of the dy that were made of a pixel, each by the pixel's weight in it.

    Args:
        size: (oh, ow), at least 1; an int for both.
        scale_factor: In place of ``size``: how many pixels a pixel becomes, above 0, a number or a pair (vertical,
            horizontal). ``oh = floor(h * scale_factor)``, and points are exactly so far apart.
        mode: ``"nearest"``: output i is pixel ``floor(i / scale)``. ``"bilinear"``: output i is at pixel
            ``(i + 1/2) / scale - 1/2``, between the four pixels around it, the border repeated.
        align_corners: For ``"bilinear"``: whether the corners of the result are the corner pixels of x; None for not.

    Example:
        >>> Upsample(scale_factor=2, mode="bilinear")
        Upsample(scale_factor=2.0, mode='bilinear')
        >>> Upsample(scale_factor=(2, 1.5)).output_shape((1, 3, 5, 5))
        (1, 3, 10, 7)
    """

    def _check_together(self) -> None:
        check_interpolation(self.size, self.scale_factor, self.mode, self.align_corners)

    size: Any = setting(_size, _check_together)
    scale_factor: Any = setting(_scale, _check_together)
    mode: str = setting(partial(one_of, names=tuple(INTERPOLATIONS)), _check_together)
    align_corners: bool | None = setting(lambda _, value: value, _check_together)

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self._check_together()

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = ops.interpolate2d(x, *self._arguments(), backend=self.backend)
        self.saved = tuple(x.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape = self.saved
        if not input_gradient:
            return None
        return ops.interpolate2d_backward(dy, x_shape, *self._arguments(), backend=self.backend)

    def _arguments(self) -> tuple[Any, ...]:
        return self.size, self.scale_factor, self.mode, self.align_corners

    def output_shape(self, shape: Shape) -> Shape:
        rows, columns = resamplings(shape, *self._arguments())
        return (*shape[:2], rows.outputs, columns.outputs)

    def window(self) -> Window | None:
        raise NotImplementedError(f"the window depends on the size of the image, as does `output_shape`: {self!r}")

    def receptive_field(self, field: ReceptiveField, shape: Shape, image: tuple[int, int]) -> ReceptiveField:
        rows, columns = resamplings(shape, *self._arguments())
        window = sliding((pixels_seen(rows), pixels_seen(columns)), (_step(rows), _step(columns)))
        return field.through(window, image)

    def extra_repr(self) -> str:
        parts = [f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"]
        parts += [f"mode={self.mode!r}"]
        parts += [f"align_corners={self.align_corners}"] * (self.align_corners is not None)
        return ", ".join(parts)


class PixelShuffle(Layer):
    """x (n, c r^2, h, w) -> y (n, c, h r, w r): pixels made of channels; dx is dy with channels made of pixels again.

    ``y[n, c, h r + i, w r + j] = x[n, c r^2 + i r + j, h, w]``, r the ``upscale_factor``, whose square divides the
    channels. Shi et al. 2016 ("Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network").

    >>> PixelShuffle(2).output_shape((1, 12, 4, 5))
    (1, 3, 8, 10)
    """

    upscale_factor: int = setting(partial(integer, minimum=1))

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.pixel_shuffle(as_input(x, self.backend), self.upscale_factor, backend=self.backend)
        self.saved = tuple(y.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        check_dy_shape(dy, self.saved)
        return ops.pixel_unshuffle(dy, self.upscale_factor, backend=self.backend) if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        return pixel_shuffled_shape(shape, self.upscale_factor)

    def window(self) -> Window | None:
        step = Fraction(1, self.upscale_factor)
        size, before = 2 - step, 1 - step
        return Window((size, size), (step, step), padding=((before, before), (before, before)))

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Layer):
    """x (n, c, h r, w r) -> y (n, c r^2, h, w): channels made of pixels; dx is dy with pixels made of channels again.

    The inverse of `PixelShuffle`, r the ``downscale_factor``, which divides height and width.

    >>> PixelUnshuffle(2).output_shape((1, 3, 8, 10))
    (1, 12, 4, 5)
    """

    downscale_factor: int = setting(partial(integer, minimum=1))

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.pixel_unshuffle(as_input(x, self.backend), self.downscale_factor, backend=self.backend)
        self.saved = tuple(y.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        check_dy_shape(dy, self.saved)
        return ops.pixel_shuffle(dy, self.downscale_factor, backend=self.backend) if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        return pixel_unshuffled_shape(shape, self.downscale_factor)

    def window(self) -> Window | None:
        """Of one pixel of y all channels together: each of them is one pixel of x."""
        r = self.downscale_factor
        return Window((r, r), (r, r))

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Layer):
    """x (n, c, ...) -> y of the same shape: one channel of each of ``groups`` groups, then the next of each.

    Channel ``i groups + g`` of y is channel ``g c / groups + i`` of x; dx is dy in the former order. The groups divide
    the channels. Zhang et al. 2018 ("ShuffleNet").
    """

    groups: int = setting(partial(integer, minimum=1))

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.channel_shuffle(as_input(x, self.backend), self.groups, backend=self.backend)
        self.saved = tuple(y.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        shape = self.saved
        check_dy_shape(dy, shape)
        groups = max(shape[1] // self.groups, 1)
        return ops.channel_shuffle(dy, groups, backend=self.backend) if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        return channel_shuffled_shape(shape, self.groups)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class ZeroPadChannels(Layer):
    """x (n, c, ...) -> y (n, before + c + after, ...): channels of zeros around those of x; dx is dy without them.

    ``padding`` is an int for both ends, or (before, after); a negative one cuts channels off, of which one has to
    remain, and dx is zero there. It makes the shortcuts without weights of He et al. 2016 ("Deep residual learning",
    option A), and takes a part of the channels, as ShuffleNet V2 does. PyTorch has no such layer for batches of images.

    >>> ZeroPadChannels((8, 8)).output_shape((1, 16, 4, 5)), ZeroPadChannels((-4, 0)).output_shape((2, 16, 9))
    ((1, 32, 4, 5), (2, 12, 9))
    """

    padding: tuple[int, int] = setting(channel_sides)

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = padding

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.pad_channels(as_input(x, self.backend), self.padding, backend=self.backend)
        self.saved = tuple(y.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        check_dy_shape(dy, self.saved)
        before, after = self.padding
        return ops.pad_channels(dy, (-before, -after), backend=self.backend) if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        return channel_padded_shape(shape, self.padding)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        return str(self.padding)
