"""Convolution layers, of images and of lines, and what their transposes have of them.

Lines (n, c, l) are images (n, c, 1, l) to the operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..backends import Array, Backend
from ..backends.geometry import Conv2dGeometry
from ..ops.arguments import (
    flag,
    integer,
    one_of,
    pair,
    single,
)
from ..ops.conv import TRANSPOSED
from ..ops.padding import line_padding_form, normalize_padding, padded_shape, padding_form
from .forward_cache import cached_forward
from .init import fan_in_uniform
from .layer import Layer
from .lines import as_image_padding, as_image_shape, as_images, as_line_shape, as_lines
from .receptive import Window
from .settings import OF_THE_WEIGHT, setting
from .state import Parameter, Shape, any_trains, as_input, floating_dtype

__all__ = ["Conv1d", "Conv2d"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

_at_least_1 = partial(integer, minimum=1)


def check_together(layer: Convolution) -> None:
    """For settings that the classes have, what `Convolution` checks."""
    layer._check_together()


class Convolution(Layer):
    """What the layers have in common: weight and bias, and passes by two operations that take the same options.

    The settings are ints, one for each axis of the image or line.
    """

    passes: ClassVar[dict[Any, Any]] = {name: name for name in TRANSPOSED}
    """Which pass of the convolution of ``geometry`` each pass of the layer is."""
    _convolve: ClassVar[Callable[..., Any]] = ops.conv2d
    _convolve_backward: ClassVar[Callable[..., Any]] = ops.conv2d_backward
    _axes: ClassVar[int] = 2

    in_channels: int = setting(_at_least_1, fixed=OF_THE_WEIGHT)
    out_channels: int = setting(_at_least_1, fixed=OF_THE_WEIGHT)
    groups: int = setting(_at_least_1, fixed=OF_THE_WEIGHT)
    algorithm: str = setting(lambda _, name: name, check_together)
    kernel_size: Any
    stride: Any
    dilation: Any
    padding: Any
    padding_mode: str = "zeros"

    def __init__(self, *, bias: bool, dtype: Any, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        self._check_together()
        shape = self._weight_shape()
        fan_in = math.prod(shape[1:])
        dtype = floating_dtype(dtype)
        self.weight = Parameter(fan_in_uniform(shape, fan_in, dtype), self.backend)
        self.bias: Parameter | None = None
        if flag("bias", bias):
            self.bias = Parameter(fan_in_uniform((self.out_channels,), fan_in, dtype), self.backend)

    def _check_together(self) -> None:
        one_of("algorithm", self.algorithm, ("auto", *self.backend.conv2d_algorithms()))
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"`groups` {self.groups} must divide `{name}` {channels}")
        self._check_sides()

    def _check_sides(self) -> None:
        self._sides()

    def _weight_shape(self) -> Shape:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def forward(self, x: Any) -> Array:
        return self.forward_with(x, None)

    @cached_forward
    def forward_with(self, x: Any, activation: str | None) -> Array:
        """The activation of the output, in one go; ``backward`` takes the gradient of the output before it."""
        x = self._images("x", as_input(x, self.backend, self.weight.dtype))
        weight = self._images("weight", self.weight.value)
        bias = None if self.bias is None else self.bias.value
        pads = self._pads_before()
        if pads is not None:
            self._check_image_shape(tuple(x.shape))
            x = ops.pad2d(x, pads, self.padding_mode, backend=self.backend)
        y = type(self)._convolve(x, weight, bias, **self._options(), activation=activation)
        self.saved = x
        return self._restored(y)

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x = self.saved
        out = self.weight.destination()
        dx, dweight, dbias = type(self)._convolve_backward(
            self._images("dy", dy), x, self._images("weight", self.weight.value), **self._options(),
            input_gradient=input_gradient, weight_gradient=any_trains(self.weight, self.bias),
            dweight_out=None if out is None else self._images("weight", out),
        )  # fmt: skip
        if dweight is not None:
            self.weight.accumulate(self._restored(dweight) if out is None else out)
        if self.bias is not None:
            self.bias.accumulate(dbias)
        pads = self._pads_before()
        if dx is not None and pads is not None:
            left, right, top, bottom = pads
            n, c, h, w = dx.shape
            shape = (n, c, h - top - bottom, w - left - right)
            dx = ops.pad2d_backward(dx, shape, pads, self.padding_mode, backend=self.backend)
        return None if dx is None else self._restored(dx)

    def _images(self, name: str, x: Any) -> Any:
        """What the operations take in place of ``x``, which the layer is given."""
        return x

    def _restored(self, y: Array) -> Array:
        return y

    def _pair(self, setting: Any, none: int) -> tuple[int, int]:
        """A setting as the operations take it; ``none`` is of an axis that a line does not have."""
        return setting

    def _padding(self) -> Any:
        return self.padding

    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        kernel, stride, dilation = (self._pair(each, 1) for each in (self.kernel_size, self.stride, self.dilation))
        return normalize_padding(self._padding(), kernel, stride, dilation)

    def _pads_before(self) -> tuple[int, int, int, int] | None:
        """What an image is padded by before the convolution, (left, right, top, bottom); None where it is not."""
        if self.padding_mode == "zeros":
            return None
        (top, bottom), (left, right) = self._sides()
        return (left, right, top, bottom) if (top, bottom, left, right) != (0, 0, 0, 0) else None

    def _check_image_shape(self, shape: Shape) -> Conv2dGeometry:
        """The sizes for images of ``shape``, padded by the convolution itself, with its errors."""
        return ops.conv2d_geometry(
            shape, self._image_shape("weight", self.weight.shape),
            self._pair(self.stride, 1), self._padding(), self._pair(self.dilation, 1), self.groups,
        )  # fmt: skip

    def _options(self) -> dict[str, Any]:
        return {
            "stride": self._pair(self.stride, 1),
            "padding": self._padding() if self.padding_mode == "zeros" else 0,
            "dilation": self._pair(self.dilation, 1),
            "groups": self.groups,
            "algorithm": self.algorithm,
            "backend": self.backend,
        }

    def _check_backend(self, backend: Backend) -> None:
        if self.algorithm not in ("auto", *backend.conv2d_algorithms()):
            raise ValueError(f"`algorithm` {self.algorithm!r} is none of the backend {backend.name!r}: {self!r}")

    def geometry(self, shape: Shape) -> Conv2dGeometry:
        """The sizes for an input of ``shape``, of the convolution whose ``passes`` are the layer's.

        Where the padding is not zeros, it is the padded image's.
        """
        images = self._image_shape("x", shape)
        geometry, pads = self._check_image_shape(images), self._pads_before()
        if pads is None:
            return geometry
        return ops.conv2d_geometry(
            padded_shape(images, pads, self.padding_mode), geometry.weight_shape, self._pair(self.stride, 1), 0,
            self._pair(self.dilation, 1), self.groups,
        )  # fmt: skip

    def _image_shape(self, name: str, shape: Shape) -> Shape:
        return shape

    def _restored_shape(self, shape: Shape) -> Shape:
        return shape

    def output_shape(self, shape: Shape) -> Shape:
        return self._restored_shape(self.geometry(shape).y_shape)

    def flops(self, shape: Shape) -> int:
        return 2 * self.geometry(shape).macs

    def window(self) -> Window | None:
        return Window(
            self._pair(self.kernel_size, 1), self._pair(self.stride, 1), self._pair(self.dilation, 1), self._sides()
        )

    def algorithms(self, shape: Shape) -> dict[str, str]:
        choice = ops.conv2d_choice(self.geometry(shape), self.algorithm, backend=self.backend)
        return {name: choice[pass_] for name, pass_ in self.passes.items()}

    def extra_repr(self) -> str:
        ones = (1,) * self._axes
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding!r}"] * (self.padding != (0,) * self._axes)
        parts += self._more_parts()
        parts += [f"dilation={self.dilation}"] * (self.dilation != ones)
        parts += [f"groups={self.groups}"] * (self.groups != 1)
        parts += ["bias=False"] * (self.bias is None)
        parts += [f"padding_mode={self.padding_mode!r}"] * (self.padding_mode != "zeros")
        parts += [f"algorithm={self.algorithm!r}"] * (self.algorithm != "auto")
        parts += [f"dtype={self.weight.dtype}"] * (self.weight.dtype != np.float32)
        return ", ".join(parts)

    def _more_parts(self) -> list[str]:
        return []


class OfLines(Convolution):
    """Lines for images."""

    _axes = 1

    def _images(self, name: str, x: Any) -> Array:
        return as_images(name, x, self.backend)

    def _restored(self, y: Array) -> Array:
        return as_lines(y, self.backend)

    def _pair(self, setting: Any, none: int) -> tuple[int, int]:
        return (none, *setting)

    def _padding(self) -> Any:
        return as_image_padding(self.padding)

    def _image_shape(self, name: str, shape: Shape) -> Shape:
        return as_image_shape(name, shape)

    def _restored_shape(self, shape: Shape) -> Shape:
        return as_line_shape(shape)


class _Plain(Convolution):
    """The arguments of a convolution, in their order."""

    padding_mode: str = setting(partial(one_of, names=PADDING_MODES))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        algorithm: str = "auto",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(
            in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride,
            dilation=dilation, groups=groups, padding=padding, padding_mode=padding_mode, algorithm=algorithm,
            bias=bias, dtype=dtype,
        )  # fmt: skip


class Conv2d(_Plain):
    """x (n, in_channels, h, w) -> y (n, out_channels, oh, ow): cross-correlation with learned kernels, plus a bias.

    y[n, k] = bias[k] + sum over c of weight[k, c] * x[n, c]; backwards, dx is dy spread out by the kernels, dweight
    the cross-correlation of x with dy, and dbias the sum of dy over batch and image.

    Args:
        in_channels, out_channels: At least 1.
        kernel_size, stride, dilation: An int or a pair (vertical, horizontal), at least 1.
        padding: Around the image: an int, (h, w), ((top, bottom), (left, right)), ``"valid"`` (none), or, with
            stride 1, ``"same"`` (an odd row goes after the image) and ``"same_lower"`` (before it).
        groups: Into how many separate groups the channels fall; divides ``in_channels`` and ``out_channels``.
        bias: Whether there is one. Without it, the attribute ``bias`` is None.
        padding_mode: What the padding is: ``"zeros"``, or, by `ops.pad2d` before the convolution, ``"reflect"``,
            ``"replicate"`` or ``"circular"``, as of `ReflectionPad2d`, `ReplicationPad2d` and `CircularPad2d`.
        algorithm: ``"auto"`` or a name out of the backend's ``conv2d_algorithms()``.
        dtype: Of weight and bias, float32 or float64; inputs are converted to it.

    Attributes:
        weight, bias: Parameters (out_channels, in_channels / groups, kh, kw) and (out_channels,). They start from
            U(-b, b), b = 1 / sqrt(in_channels / groups * kh * kw), as in PyTorch.

    Example:
        >>> Conv2d(1, 6, kernel_size=5, padding=2)
        Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))
        >>> Conv2d(1, 6, kernel_size=5, padding=2).output_shape((1, 1, 28, 28))
        (1, 6, 28, 28)
    """

    kernel_size: tuple[int, int] = setting(pair, fixed=OF_THE_WEIGHT)
    stride: tuple[int, int] = setting(pair, check_together)
    dilation: tuple[int, int] = setting(pair, check_together)
    padding: Any = setting(padding_form, check_together)


class Conv1d(OfLines, _Plain):
    """x (n, in_channels, l) -> y (n, out_channels, ol): `Conv2d` of lines, with kernels (out, in / groups, k).

    ``ol = floor((l + before + after - dilation * (k - 1) - 1) / stride) + 1``. ``kernel_size``, ``stride`` and
    ``dilation`` are an int, also alone in a tuple; ``padding`` is an int, ((before, after),), or a word of `Conv2d`.
    The other arguments and the errors are those of `Conv2d`.

    >>> Conv1d(1, 6, kernel_size=5, padding=2)
    Conv1d(1, 6, kernel_size=(5,), stride=(1,), padding=(2,))
    >>> Conv1d(1, 6, kernel_size=5, padding="same").output_shape((2, 1, 100))
    (2, 6, 100)
    """

    kernel_size: tuple[int] = setting(single, fixed=OF_THE_WEIGHT)
    stride: tuple[int] = setting(single, check_together)
    dilation: tuple[int] = setting(single, check_together)
    padding: Any = setting(line_padding_form, check_together)
