"""Transposed convolution layers, of images and of lines."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..backends.geometry import Conv2dGeometry
from ..ops.arguments import pair, single
from ..ops.conv import TRANSPOSED, ConvTranspose2dGeometry, output_padding_of
from ..ops.padding import line_padding_form, padding_form, transposed_padding
from .conv import Convolution, OfLines, check_together
from .receptive import Window
from .settings import OF_THE_WEIGHT, setting
from .state import Shape

__all__ = ["ConvTranspose1d", "ConvTranspose2d"]


class _Transposed(Convolution):
    """The arguments of a transposed convolution, in their order, and what is otherwise."""

    passes = TRANSPOSED
    _convolve = ops.conv_transpose2d
    _convolve_backward = ops.conv_transpose2d_backward

    output_padding: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        algorithm: str = "auto",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(
            in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride,
            dilation=dilation, groups=groups, padding=padding, output_padding=output_padding, algorithm=algorithm,
            bias=bias, dtype=dtype,
        )  # fmt: skip

    def _check_sides(self) -> None:
        transposed_padding("padding", self.padding)
        stride, dilation = self._pair(self.stride, 1), self._pair(self.dilation, 1)
        output_padding_of("output_padding", self._pair(self.output_padding, 0), stride, dilation)

    def _weight_shape(self) -> Shape:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "output_padding": self._pair(self.output_padding, 0)}

    def _sizes(self, shape: Shape) -> ConvTranspose2dGeometry:
        return ops.conv_transpose2d_geometry(
            self._image_shape("x", shape), self._image_shape("weight", self.weight.shape),
            self._pair(self.stride, 1), self._padding(), self._pair(self.output_padding, 0), self.groups,
            self._pair(self.dilation, 1),
        )  # fmt: skip

    def geometry(self, shape: Shape) -> Conv2dGeometry:
        return self._sizes(shape).convolution

    def output_shape(self, shape: Shape) -> Shape:
        return self._restored_shape(self._sizes(shape).y_shape)

    def window(self) -> Window | None:
        """What contains the fields of all elements, of which neighbours are a stride closer than those of the input."""
        size, padding = [], []
        for kernel, stride, dilation, (before, after) in zip(
            *(self._pair(each, 1) for each in (self.kernel_size, self.stride, self.dilation)),
            self._sides(),
            strict=True,
        ):
            reach = dilation * (kernel - 1)
            size.append(Fraction(reach, stride) + 1)
            padding.append((Fraction(reach - before, stride), Fraction(reach - after, stride)))
        rows, columns = self._pair(self.stride, 1)
        return Window((size[0], size[1]), (Fraction(1, rows), Fraction(1, columns)), padding=(padding[0], padding[1]))

    def _more_parts(self) -> list[str]:
        return [f"output_padding={self.output_padding}"] * (self.output_padding != (0,) * self._axes)


class ConvTranspose2d(_Transposed):
    """x (n, in_channels, h, w) -> y (n, out_channels, oh, ow): each pixel spread out by learned kernels, plus a bias.

    It is the transpose of the `Conv2d` from y to x: that one's gradient of the input is this one's forward pass, and
    here dx is the convolution of dy. With ``extent = dilation * (kh - 1) + 1`` the height of y is
    ``(h - 1) * stride + extent - top - bottom + output_padding``, and its width likewise.

    Args:
        in_channels, out_channels: At least 1.
        kernel_size, stride, dilation: An int or a pair (vertical, horizontal), at least 1.
        padding: What is taken away around y, as the convolution back to x would pad: an int, (h, w) or
            ((top, bottom), (left, right)).
        output_padding: An int or a pair, smaller than the stride or the dilation: rows added below and columns to the
            right of y, because a convolution with a stride makes images of one size of several.
        groups: Into how many separate groups the channels fall; divides ``in_channels`` and ``out_channels``.
        bias: Whether there is one. Without it, the attribute ``bias`` is None.
        algorithm: ``"auto"`` or a name out of the backend's ``conv2d_algorithms()``.
        dtype: Of weight and bias, float32 or float64; inputs are converted to it.

    Attributes:
        weight, bias: Parameters (in_channels, out_channels / groups, kh, kw) and (out_channels,). They start from
            U(-b, b), b = 1 / sqrt(out_channels / groups * kh * kw), as in PyTorch.

    Twice the size:

    >>> ConvTranspose2d(8, 4, kernel_size=3, stride=2, padding=1, output_padding=1).output_shape((1, 8, 7, 7))
    (1, 4, 14, 14)
    """

    kernel_size: tuple[int, int] = setting(pair, fixed=OF_THE_WEIGHT)
    stride: tuple[int, int] = setting(pair, check_together)
    dilation: tuple[int, int] = setting(pair, check_together)
    padding: Any = setting(padding_form, check_together)
    output_padding: tuple[int, int] = setting(partial(pair, minimum=0), check_together)


class ConvTranspose1d(OfLines, _Transposed):
    """x (n, in_channels, l) -> y (n, out_channels, ol): `ConvTranspose2d` of lines, kernels (in, out / groups, k).

    ``kernel_size``, ``stride``, ``dilation`` and ``output_padding`` are an int, also alone in a tuple; ``padding`` is
    an int or ((before, after),). The other arguments and the errors are those of `ConvTranspose2d`.

    >>> ConvTranspose1d(8, 4, kernel_size=4, stride=2, padding=1).output_shape((1, 8, 50))
    (1, 4, 100)
    """

    kernel_size: tuple[int] = setting(single, fixed=OF_THE_WEIGHT)
    stride: tuple[int] = setting(single, check_together)
    dilation: tuple[int] = setting(single, check_together)
    padding: Any = setting(line_padding_form, check_together)
    output_padding: tuple[int] = setting(partial(single, minimum=0), check_together)
