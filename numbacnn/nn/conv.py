"""The convolution layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..backends import Array, Backend
from ..backends.geometry import Conv2dGeometry
from ..ops.arguments import flag, integer, normalize_padding, one_of, padding_form, pair
from .forward_cache import cached_forward
from .init import fan_in_uniform
from .layer import Layer
from .receptive import Window
from .settings import OF_THE_WEIGHT, setting
from .state import Parameter, Shape, as_input, floating_dtype

__all__ = ["Conv2d"]


class Conv2d(Layer):
    """x (n, in_channels, h, w) -> y (n, out_channels, oh, ow): cross-correlation with learned kernels, plus a bias.

    y[n, k] = bias[k] + sum over c of weight[k, c] * x[n, c]; backwards, dx is dy spread out by the kernels, dweight
    the cross-correlation of x with dy, and dbias the sum of dy over batch and image.

    Args:
        in_channels, out_channels: At least 1.
        kernel_size, stride, dilation: An int or a pair (vertical, horizontal), at least 1.
        padding: Zeros around the image: an int, (h, w), ((top, bottom), (left, right)), ``"valid"`` (none), or, with
            stride 1, ``"same"`` (an odd row goes after the image) and ``"same_lower"`` (before it).
        groups: Into how many separate groups the channels fall; divides ``in_channels`` and ``out_channels``.
        bias: Whether there is one. Without it, the attribute ``bias`` is None.
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

    def _check_together(self) -> None:
        one_of("algorithm", self.algorithm, ("auto", *self.backend.conv2d_algorithms()))
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"`groups` {self.groups} must divide `{name}` {channels}")
        self._sides()

    in_channels: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    out_channels: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    kernel_size: tuple[int, int] = setting(pair, fixed=OF_THE_WEIGHT)
    groups: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    stride: tuple[int, int] = setting(pair, _check_together)
    dilation: tuple[int, int] = setting(pair, _check_together)
    padding: Any = setting(padding_form, _check_together)
    algorithm: str = setting(lambda _, name: name, _check_together)

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
        algorithm: str = "auto",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.groups = groups
        self.padding = padding
        self.algorithm = algorithm
        self._check_together()
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        fan_in = shape[1] * shape[2] * shape[3]
        dtype = floating_dtype(dtype)
        self.weight = Parameter(fan_in_uniform(shape, fan_in, dtype), self.backend)
        self.bias: Parameter | None = None
        if flag("bias", bias):
            self.bias = Parameter(fan_in_uniform(shape[:1], fan_in, dtype), self.backend)

    def forward(self, x: Any) -> Array:
        return self.forward_with(x, None)

    @cached_forward
    def forward_with(self, x: Any, activation: str | None) -> Array:
        """The activation of the output, in one go; ``backward`` takes the gradient of the output before it."""
        x = as_input(x, self.backend, self.weight.dtype)
        bias = None if self.bias is None else self.bias.value
        y = ops.conv2d(x, self.weight.value, bias, **self._options(), activation=activation)
        self.saved = x
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x = self.saved
        dx, dweight, dbias = ops.conv2d_backward(
            dy, x, self.weight.value, **self._options(), input_gradient=input_gradient,
            dweight_out=self.weight.destination(),
        )  # fmt: skip
        self.weight.accumulate(dweight)
        if self.bias is not None:
            self.bias.accumulate(dbias)
        return dx

    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return normalize_padding(self.padding, self.kernel_size, self.stride, self.dilation)

    def _options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "algorithm": self.algorithm,
            "backend": self.backend,
        }

    def _check_backend(self, backend: Backend) -> None:
        if self.algorithm not in ("auto", *backend.conv2d_algorithms()):
            raise ValueError(f"`algorithm` {self.algorithm!r} is none of the backend {backend.name!r}: {self!r}")

    def geometry(self, shape: Shape) -> Conv2dGeometry:
        """The sizes for an input of ``shape`` (n, c, h, w)."""
        return ops.conv2d_geometry(shape, self.weight.shape, self.stride, self.padding, self.dilation, self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        return self.geometry(shape).y_shape

    def flops(self, shape: Shape) -> int:
        return 2 * self.geometry(shape).macs

    def window(self) -> Window | None:
        return Window(self.kernel_size, self.stride, self.dilation, self._sides())

    def algorithms(self, shape: Shape) -> dict[str, str]:
        return ops.conv2d_choice(self.geometry(shape), self.algorithm, backend=self.backend)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding!r}"] * (self.padding != (0, 0))
        parts += [f"dilation={self.dilation}"] * (self.dilation != (1, 1))
        parts += [f"groups={self.groups}"] * (self.groups != 1)
        parts += ["bias=False"] * (self.bias is None)
        parts += [f"algorithm={self.algorithm!r}"] * (self.algorithm != "auto")
        parts += [f"dtype={self.weight.dtype}"] * (self.weight.dtype != np.float32)
        return ", ".join(parts)
