"""Pooling layers: windows slide over each channel on its own."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backends import Array
from ..ops.arguments import flag, normalize_padding, pair
from ..ops.pooling import max_pool2d_backward_of_own
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import WHOLE_IMAGE, Window
from .settings import setting
from .state import Shape, as_input

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]


def _as_given(name: str, value: Any) -> Any:
    pair(name, value)
    return value


class _Pool2d(Layer):
    def _check_together(self) -> None:
        # An image as large as the window always fits, so this checks the settings alone.
        (kh, kw), (dh, dw) = pair("kernel_size", self.kernel_size), pair("dilation", self.dilation)
        self.output_shape((1, 1, dh * (kh - 1) + 1, dw * (kw - 1) + 1))

    kernel_size: Any = setting(_as_given, _check_together)
    stride: Any = setting(_as_given, _check_together)
    padding: Any = setting(lambda _, padding: padding, _check_together)
    dilation: Any = setting(_as_given, _check_together)
    ceil_mode: bool = setting(flag)

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self._check_together()

    def output_shape(self, shape: Shape) -> Shape:
        geometry = ops.pool2d_geometry(
            shape, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )
        return geometry.y_shape

    def window(self) -> Window | None:
        kernel, stride = pair("kernel_size", self.kernel_size), pair("stride", self.stride)
        dilation = pair("dilation", self.dilation)
        return Window(kernel, stride, dilation, normalize_padding(self.padding, kernel, stride, dilation))


class MaxPool2d(_Pool2d):
    """x (n, c, h, w) -> y (n, c, oh, ow): the largest element of every window; dx gives each dy to that element.

    ``kernel_size``, ``stride`` (the window's size if None) and ``dilation`` are an int or a pair (vertical,
    horizontal). ``padding``, in the forms of `Conv2d`, is with minus infinity and at most half the window. With
    ``ceil_mode`` a last window that hangs over the end counts. Of equal elements the first, in row-major order, is the
    maximum.

    >>> MaxPool2d(2)
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        if not self.saves:
            self.saved = None
            return ops.max_pool2d(x, *self._arguments(), backend=self.backend)
        y, indices = ops.max_pool2d(x, *self._arguments(), return_indices=True, backend=self.backend)
        self.saved = (indices, tuple(x.shape))
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        indices, x_shape = self.saved
        if not input_gradient:
            return None
        return max_pool2d_backward_of_own(dy, indices, ops.pool2d_geometry(x_shape, *self._arguments()), self.backend)

    def _arguments(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(_Pool2d):
    """x (n, c, h, w) -> y (n, c, oh, ow): the mean of every window; dx shares each dy out to its window evenly.

    The arguments are those of `MaxPool2d`; padding is with zeros, which count as elements of the window unless
    ``count_include_pad`` is False.

    >>> AvgPool2d(kernel_size=2, stride=2)
    AvgPool2d(kernel_size=2, stride=2, padding=0)
    """

    dilation: Any = setting(_as_given, fixed="for average pooling has none")
    count_include_pad: bool = setting(flag)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = count_include_pad

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = ops.avg_pool2d(x, *self._arguments(), backend=self.backend)
        self.saved = tuple(x.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape = self.saved
        if not input_gradient:
            return None
        return ops.avg_pool2d_backward(dy, x_shape, *self._arguments(), backend=self.backend)

    def _arguments(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad

    def extra_repr(self) -> str:
        parts = [f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}"]
        parts += ["ceil_mode=True"] * self.ceil_mode
        parts += ["count_include_pad=False"] * (not self.count_include_pad)
        return ", ".join(parts)


class GlobalAvgPool2d(Layer):
    """x (n, c, h, w) -> y (n, c, 1, 1): the mean of every feature map; dx = dy / (h w) everywhere in it."""

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = ops.global_avg_pool2d(x, backend=self.backend)
        self.saved = tuple(x.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape = self.saved
        return ops.global_avg_pool2d_backward(dy, x_shape, backend=self.backend) if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 4:
            raise ValueError(f"the input of GlobalAvgPool2d has shape {tuple(shape)}, must have (n, c, h, w)")
        return (shape[0], shape[1], 1, 1)

    def window(self) -> Window | None:
        return WHOLE_IMAGE
