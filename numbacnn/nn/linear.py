"""The fully connected layer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..backends import Array
from ..ops.arguments import flag, integer
from .forward_cache import cached_forward
from .init import fan_in_uniform
from .layer import Layer
from .receptive import WHOLE_IMAGE, Window
from .settings import OF_THE_WEIGHT, setting
from .state import Parameter, Shape, any_trains, as_input, floating_dtype

__all__ = ["Linear"]


class Linear(Layer):
    """x (..., in_features) -> y (..., out_features): y = x weight^T + bias.

    Backwards, dx = dy weight, dweight = dy^T x, and dbias is the sum of dy over the batch. ``weight``
    (out_features, in_features) and ``bias`` (out_features,), None with ``bias=False``, start from
    U(-b, b), b = 1 / sqrt(in_features), as in PyTorch; inputs are converted to their ``dtype``, float32 or float64.

    >>> Linear(400, 120)
    Linear(in_features=400, out_features=120, bias=True)
    """

    in_features: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    out_features: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        dtype = floating_dtype(dtype)
        shape = (self.out_features, self.in_features)
        self.weight = Parameter(fan_in_uniform(shape, self.in_features, dtype), self.backend)
        self.bias: Parameter | None = None
        if flag("bias", bias):
            self.bias = Parameter(fan_in_uniform(shape[:1], self.in_features, dtype), self.backend)

    def forward(self, x: Any) -> Array:
        return self.forward_with(x, None)

    @cached_forward
    def forward_with(self, x: Any, activation: str | None) -> Array:
        """The activation of the output, in one go; ``backward`` takes the gradient of the output before it."""
        x = as_input(x, self.backend, self.weight.dtype)
        bias = None if self.bias is None else self.bias.value
        y = ops.linear(x, self.weight.value, bias, activation=activation, backend=self.backend)
        self.saved = x
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x = self.saved
        dx, dweight, dbias = ops.linear_backward(
            dy, x, self.weight.value, input_gradient=input_gradient,
            weight_gradient=any_trains(self.weight, self.bias), dweight_out=self.weight.destination(),
            backend=self.backend,
        )  # fmt: skip
        self.weight.accumulate(dweight)
        if self.bias is not None:
            self.bias.accumulate(dbias)
        return dx

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 1 or shape[-1] != self.in_features:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must end in {self.in_features} features")
        return (*shape[:-1], self.out_features)

    def flops(self, shape: Shape) -> int:
        return 2 * math.prod(self.output_shape(shape)) * self.in_features

    def window(self) -> Window | None:
        return WHOLE_IMAGE

    def extra_repr(self) -> str:
        parts = [f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"]
        parts += [f"dtype={self.weight.dtype}"] * (self.weight.dtype != np.float32)
        return ", ".join(parts)
