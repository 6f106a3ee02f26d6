"""Changes of shape."""

from __future__ import annotations

import math

from .receptive import WHOLE_IMAGE, Window
from .state import Shape
from .view_layer import ViewLayer

__all__ = ["Flatten"]


class Flatten(ViewLayer):
    """x (n, c, h, w) -> y (n, c h w): all axes but the batch in one, as a copy; backward gives dy its shape back."""

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError(f"the input of Flatten has shape {tuple(shape)}, must have at least 2 axes")
        return (shape[0], math.prod(shape[1:]))

    def window(self) -> Window | None:
        return WHOLE_IMAGE
