"""Changes of shape."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..backends import Array
from .layer import Layer, check_dy_shape
from .receptive import WHOLE_IMAGE, Window
from .state import Shape, as_input

__all__ = ["Flatten"]


class Flatten(Layer):
    """x (n, c, h, w) -> y (n, c h w): all axes but the batch in one, as a copy; backward gives dy its shape back."""

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = ops.flatten(x, backend=self.backend)
        self.saved = (tuple(x.shape), tuple(y.shape))
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x_shape, y_shape = self.saved
        check_dy_shape(dy, y_shape)
        return ops.copy(dy, backend=self.backend).reshape(x_shape) if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError(f"the input of Flatten has shape {tuple(shape)}, must have at least 2 axes")
        return (shape[0], math.prod(shape[1:]))

    def window(self) -> Window | None:
        return WHOLE_IMAGE
