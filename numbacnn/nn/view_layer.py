"""Layers that compute nothing: alone they copy, between other layers what they get goes on as it is."""

from __future__ import annotations

from typing import Any

from ..backends import Array
from .layer import Layer, check_dy_shape
from .state import as_floating, as_input

__all__ = ["ViewLayer"]


class ViewLayer(Layer):
    """y = x in the shape that ``output_shape`` says; dx = dy in the shape of x."""

    def forward(self, x: Any) -> Array:
        return self.backend.copy(self.forward_view(x))

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        dx = self.backward_view(dy)
        return self.backend.copy(dx) if input_gradient else None

    def forward_view(self, x: Any) -> Array:
        """``forward`` without the copy, for a caller who computes a new array of the result."""
        x = as_input(x, self.backend)
        shapes = tuple(x.shape), self.output_shape(x.shape)
        self.saved = shapes
        return self.backend.reshape(x, shapes[1])

    def backward_view(self, dy: Any) -> Array:
        """``backward`` without the copy, for a caller who computes a new array of the result."""
        x_shape, y_shape = self.saved
        check_dy_shape(dy, y_shape)
        self.answered()
        return self.backend.reshape(as_floating(dy, self.backend, name="dy"), x_shape)
