"""Pooling layers: windows slide over each channel on its own, or share it out."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .. import ops
from ..backends import Array
from ..ops.arguments import flag, output_sizes, pair, single
from ..ops.padding import line_padding_form, normalize_padding
from ..ops.pooling import divisor_of, max_pool2d_backward_of_own, norm_of
from .forward_cache import cached_forward
from .layer import Layer
from .lines import as_image_padding, as_image_shape, as_images, as_line_shape, as_lines
from .receptive import WHOLE_IMAGE, ReceptiveField, Window, sliding
from .settings import setting
from .state import Shape, as_input

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "GlobalAvgPool2d",
    "LPPool2d",
    "MaxPool1d",
    "MaxPool2d",
]


def _checked(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """``check``, for a value that is kept as it is given."""

    def as_given(name: str, value: Any) -> Any:
        check(name, value)
        return value

    return as_given


_as_given = _checked(pair)
_of_lines_as_given = _checked(single)


def _check_together(layer: _Pool2d) -> None:
    layer._check_together()


class _Pool2d(Layer):
    """What windows that slide have in common; of lines, see `_OfLines`."""

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

    def _check_together(self) -> None:
        # An image as large as the window always fits, so this checks the settings alone.
        kernel, _, _, dilation = self._window()
        (kh, kw), (dh, dw) = pair("kernel_size", kernel), pair("dilation", dilation)
        ops.pool2d_geometry((1, 1, dh * (kh - 1) + 1, dw * (kw - 1) + 1), *self._window(), self.ceil_mode)

    def _window(self) -> tuple[Any, Any, Any, Any]:
        """The size, stride, padding and dilation of windows, as the operations take them."""
        return self.kernel_size, self.stride, self.padding, self.dilation

    def _images(self, name: str, x: Any) -> Any:
        """What the operations take in place of ``x``, which the layer is given."""
        return x

    def _restored(self, y: Array) -> Array:
        return y

    def output_shape(self, shape: Shape) -> Shape:
        return ops.pool2d_geometry(shape, *self._window(), self.ceil_mode).y_shape

    def window(self) -> Window | None:
        kernel, stride, padding, dilation = self._window()
        kernel, stride, dilation = pair("kernel_size", kernel), pair("stride", stride), pair("dilation", dilation)
        return Window(kernel, stride, dilation, normalize_padding(padding, kernel, stride, dilation))


class _OfLines(_Pool2d):
    """Lines for images."""

    kernel_size: Any = setting(_of_lines_as_given, _check_together)
    stride: Any = setting(_of_lines_as_given, _check_together)
    padding: Any = setting(_checked(line_padding_form), _check_together)
    dilation: Any = setting(_of_lines_as_given, _check_together)

    def _window(self) -> tuple[Any, Any, Any, Any]:
        return (
            (1, *single("kernel_size", self.kernel_size)), (1, *single("stride", self.stride)),
            as_image_padding(line_padding_form("padding", self.padding)), (1, *single("dilation", self.dilation)),
        )  # fmt: skip

    def _images(self, name: str, x: Any) -> Array:
        return as_images(name, x, self.backend)

    def _restored(self, y: Array) -> Array:
        return as_lines(y, self.backend)

    def output_shape(self, shape: Shape) -> Shape:
        return as_line_shape(super().output_shape(as_image_shape("x", shape)))


class _MaxPool(_Pool2d):
    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = self._images("x", as_input(x, self.backend))
        if not self.saves:
            self.saved = None
            return self._restored(ops.max_pool2d(x, *self._arguments(), backend=self.backend))
        y, indices = ops.max_pool2d(x, *self._arguments(), return_indices=True, backend=self.backend)
        self.saved = (indices, tuple(x.shape))
        return self._restored(y)

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        indices, x_shape = self.saved
        if not input_gradient:
            return None
        geometry = ops.pool2d_geometry(x_shape, *self._arguments())
        return self._restored(max_pool2d_backward_of_own(self._images("dy", dy), indices, geometry, self.backend))

    def _arguments(self) -> tuple[Any, ...]:
        return *self._window(), self.ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class _AvgPool(_Pool2d):
    count_include_pad: bool = setting(flag)
    divisor_override: int | None = None

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = self._images("x", as_input(x, self.backend))
        y = ops.avg_pool2d(x, *self._arguments(), backend=self.backend)
        self.saved = tuple(x.shape)
        return self._restored(y)

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape = self.saved
        if not input_gradient:
            return None
        dy = self._images("dy", dy)
        return self._restored(ops.avg_pool2d_backward(dy, x_shape, *self._arguments(), backend=self.backend))

    def _arguments(self) -> tuple[Any, ...]:
        kernel, stride, padding, _ = self._window()
        return kernel, stride, padding, self.ceil_mode, self.count_include_pad, self.divisor_override

    def extra_repr(self) -> str:
        parts = [f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}"]
        parts += ["ceil_mode=True"] * self.ceil_mode
        parts += ["count_include_pad=False"] * (not self.count_include_pad)
        parts += [f"divisor_override={self.divisor_override}"] * (self.divisor_override is not None)
        return ", ".join(parts)


class MaxPool2d(_MaxPool):
    """x (n, c, h, w) -> y (n, c, oh, ow): the largest element of every window; dx gives each dy to that element.

    ``kernel_size``, ``stride`` (the window's size if None) and ``dilation`` are an int or a pair (vertical,
    horizontal). ``padding``, in the forms of `Conv2d`, is with minus infinity and at most half the window. With
    ``ceil_mode`` a last window that hangs over the end counts. Of equal elements the first, in row-major order, is the
    maximum.

    >>> MaxPool2d(2)
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    """


class MaxPool1d(_OfLines, _MaxPool):
    """x (n, c, l) -> y (n, c, ol): `MaxPool2d` of lines, the arguments in the forms of `Conv1d`.

    >>> MaxPool1d(3, stride=2, padding=1).output_shape((1, 4, 100))
    (1, 4, 50)
    """


class AvgPool2d(_AvgPool):
    """x (n, c, h, w) -> y (n, c, oh, ow): the mean of every window; dx shares each dy out to its window evenly.

    The arguments are those of `MaxPool2d`; padding is with zeros, which count as elements of the window unless
    ``count_include_pad`` is False. With ``divisor_override``, an int of at least 1, sums are divided by that.

    >>> AvgPool2d(kernel_size=2, stride=2)
    AvgPool2d(kernel_size=2, stride=2, padding=0)
    """

    dilation: Any = setting(_as_given, fixed="for average pooling has none")
    divisor_override: int | None = setting(lambda _, divisor: divisor_of(divisor))

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override


class AvgPool1d(_OfLines, _AvgPool):
    """x (n, c, l) -> y (n, c, ol): `AvgPool2d` of lines, the arguments in the forms of `Conv1d`.

    >>> AvgPool1d(3, stride=2, padding=1).output_shape((1, 4, 100))
    (1, 4, 50)
    """

    dilation: Any = setting(_of_lines_as_given, fixed="for average pooling has none")

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


class LPPool2d(_Pool2d):
    """x (n, c, h, w) -> y (n, c, oh, ow): (sum of x ** norm_type) ** (1 / norm_type) of every window, not padded.

    ``norm_type`` is above 0: 1 gives sums, 2 lengths. The other arguments are those of `MaxPool2d`. As in PyTorch the
    powers are those of x and not of its size, and what is no real number is NaN. dx is
    ``dy y ** (1 - norm_type) x ** (norm_type - 1)``, summed over the windows that an element is in, 0 where y is 0 and
    has no derivative.

    >>> LPPool2d(2, kernel_size=3)
    LPPool2d(norm_type=2.0, kernel_size=3, stride=3)
    """

    norm_type: float = setting(norm_of)
    padding: Any = setting(lambda _, padding: padding, fixed="for this pooling has none")
    dilation: Any = setting(_as_given, fixed="for this pooling has none")

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(kernel_size, stride, 0, 1, ceil_mode)
        self.norm_type = norm_type

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y, means = ops.lp_pool2d(x, *self._arguments(), return_means=True, backend=self.backend)
        self.saved = (x, means)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x, means = self.saved
        if not input_gradient:
            return None
        return ops.lp_pool2d_backward(dy, x, means, *self._arguments(), backend=self.backend)

    def _arguments(self) -> tuple[Any, ...]:
        kernel, stride, _, _ = self._window()
        return self.norm_type, kernel, stride, self.ceil_mode

    def extra_repr(self) -> str:
        parts = [f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}"]
        return ", ".join(parts + ["ceil_mode=True"] * self.ceil_mode)


class _AdaptivePool2d(Layer):
    output_size: Any = setting(_checked(output_sizes))

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def output_shape(self, shape: Shape) -> Shape:
        return ops.adaptive_pool2d_geometry(shape, self.output_size).y_shape

    def window(self) -> Window | None:
        """Of one output for the whole image; else it depends on the image's size."""
        if output_sizes("output_size", self.output_size) != (1, 1):
            raise NotImplementedError(f"the window depends on the size of the image, as does `output_shape`: {self!r}")
        return WHOLE_IMAGE

    def receptive_field(self, field: ReceptiveField, shape: Shape, image: tuple[int, int]) -> ReceptiveField:
        geometry = ops.adaptive_pool2d_geometry(shape, self.output_size)
        if (geometry.oh, geometry.ow) == (1, 1):
            return field.through(WHOLE_IMAGE, image)
        steps = Fraction(geometry.h, geometry.oh), Fraction(geometry.w, geometry.ow)
        seen = [
            [(math.floor(i * step), math.ceil((i + 1) * step) - 1) for i in range(count)]
            for step, count in zip(steps, (geometry.oh, geometry.ow), strict=True)
        ]
        return field.through(sliding(seen, steps), image)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """x (n, c, h, w) -> y (n, c, oh, ow): the means of windows that share the image out; dx shares dy out likewise.

    ``output_size`` is an int for both axes or a pair (oh, ow), in which None stands for the size that x has. Window i
    has the rows ``floor(i h / oh)`` to ``ceil((i + 1) h / oh)``, not included, and columns likewise, as in PyTorch: all
    are of one size where oh divides h, and else neighbours overlap.

    >>> AdaptiveAvgPool2d((5, None)).output_shape((1, 64, 8, 9))
    (1, 64, 5, 9)
    """

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = ops.adaptive_avg_pool2d(x, self.output_size, backend=self.backend)
        self.saved = tuple(x.shape)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape = self.saved
        if not input_gradient:
            return None
        return ops.adaptive_avg_pool2d_backward(dy, x_shape, self.output_size, backend=self.backend)


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """x (n, c, h, w) -> y (n, c, oh, ow): the largest elements of the windows of `AdaptiveAvgPool2d`.

    dx gives each dy to that element, of equal ones the first in row-major order.

    >>> AdaptiveMaxPool2d(7)
    AdaptiveMaxPool2d(output_size=7)
    """

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        if not self.saves:
            self.saved = None
            return ops.adaptive_max_pool2d(x, self.output_size, backend=self.backend)
        y, indices = ops.adaptive_max_pool2d(x, self.output_size, return_indices=True, backend=self.backend)
        self.saved = (indices, tuple(x.shape))
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        indices, x_shape = self.saved
        if not input_gradient:
            return None
        geometry = ops.adaptive_pool2d_geometry(x_shape, self.output_size)
        return max_pool2d_backward_of_own(dy, indices, geometry, self.backend)


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
