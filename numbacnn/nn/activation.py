"""Activations, element by element."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import ops
from ..backends import Array
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import Window
from .state import Shape, as_input
from .view_layer import ViewLayer

__all__ = ["Identity", "ReLU", "Sigmoid", "Tanh"]


class _Elementwise(Layer):
    activation: ClassVar[str | None] = None
    """What `Conv2d`, `BatchNorm2d` and `Linear` call this function, where they can apply it to their own result."""

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)

    def window(self) -> Window | None:
        return None


class ReLU(_Elementwise):
    """y = max(x, 0); dx = dy where y > 0, else 0."""

    activation = "relu"

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.relu(as_input(x, self.backend), backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        return ops.relu_backward(dy, y, backend=self.backend) if input_gradient else None


class Sigmoid(_Elementwise):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    activation = "sigmoid"

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.sigmoid(as_input(x, self.backend), backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        return ops.sigmoid_backward(dy, y, backend=self.backend) if input_gradient else None


class Tanh(_Elementwise):
    """y = tanh(x); dx = dy (1 - y^2)."""

    activation = "tanh"

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = ops.tanh(as_input(x, self.backend), backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        return ops.tanh_backward(dy, y, backend=self.backend) if input_gradient else None


class Identity(ViewLayer):
    """y = x, a copy; dx = dy. In `Add` it is the shortcut of a residual block."""

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)

    def window(self) -> Window | None:
        return None
