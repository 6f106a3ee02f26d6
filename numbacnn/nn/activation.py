"""Activations, element by element."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import ops
from ..backends import Array
from .layer import Layer, check_dy_shape
from .state import Shape, as_input

__all__ = ["Identity", "ReLU", "Sigmoid", "Tanh"]


class _Elementwise(Layer):
    activation: ClassVar[str | None] = None
    """What `Conv2d`, `BatchNorm2d` and `Linear` call this function, where they can apply it to their own result."""

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)


class ReLU(_Elementwise):
    """y = max(x, 0); dx = dy where y > 0, else 0."""

    activation = "relu"

    def forward(self, x: Any) -> Array:
        y = ops.relu(x, backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        return ops.relu_backward(dy, y, backend=self.backend) if input_gradient else None


class Sigmoid(_Elementwise):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    activation = "sigmoid"

    def forward(self, x: Any) -> Array:
        y = ops.sigmoid(x, backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        return ops.sigmoid_backward(dy, y, backend=self.backend) if input_gradient else None


class Tanh(_Elementwise):
    """y = tanh(x); dx = dy (1 - y^2)."""

    activation = "tanh"

    def forward(self, x: Any) -> Array:
        y = ops.tanh(x, backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        return ops.tanh_backward(dy, y, backend=self.backend) if input_gradient else None


class Identity(_Elementwise):
    """y = x, a copy; dx = dy. In `Add` it is the shortcut of a residual block."""

    def forward(self, x: Any) -> Array:
        return self.backend.copy(self.pass_on(x))

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        dy = self.pass_back(dy)
        return self.backend.copy(dy) if input_gradient else None

    def pass_on(self, x: Any) -> Array:
        """``forward`` without the copy, for a caller who computes a new array of the result."""
        y = as_input(x, self.backend)
        self.saved = tuple(y.shape)
        return y

    def pass_back(self, dy: Any) -> Array:
        """``backward`` without the copy, for a caller who computes a new array of the result."""
        check_dy_shape(dy, self.saved)
        return as_input(dy, self.backend, name="dy")
