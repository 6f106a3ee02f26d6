"""Dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import ops
from ..backends import Array
from ..ops.arguments import integer, number
from ..ops.elementwise import LAST_OFFSET, LAST_SEED
from .init import draw_seed
from .layer import Layer, check_dy_shape
from .receptive import Window
from .settings import setting
from .state import Shape, StepCounter, as_input

__all__ = ["Dropout"]


class Dropout(Layer):
    """In training each element is 0 with probability ``p``, else x / (1 - p); in evaluation y = x, a copy.

    Backward drops the same elements of dy: the mask is not stored but drawn again, from ``seed`` (drawn at
    construction) and the number of training passes before this one, ``calls``; it is the same on every backend.
    Srivastava et al. 2014. ``p`` outside of 0..1 is a ValueError.
    """

    p: float = setting(partial(number, low=0, high=1))
    seed: int = setting(partial(integer, maximum=LAST_SEED))

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p
        self.seed = draw_seed()
        self._pass = StepCounter(-1)  # the number of the last training pass, from 0

    @property
    def calls(self) -> int:
        """How many training passes there were."""
        return self._pass.value + 1

    @calls.setter
    def calls(self, number: int) -> None:
        self._pass.value = integer("calls", number, maximum=LAST_OFFSET) - 1

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        if not self.training:
            y = ops.copy(x, backend=self.backend)
            self.saved = (tuple(y.shape), None)
            return y
        offset = self._pass.array(self.backend)
        self._pass.increment()
        y = ops.dropout(x, self.p, self.seed, offset, backend=self.backend)
        self.saved = (tuple(y.shape), (self.seed, self._pass.value))
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        shape, mask = self.saved
        check_dy_shape(dy, shape)
        if not input_gradient:
            return None
        if mask is None:
            return ops.copy(dy, backend=self.backend)
        seed, number = mask
        # The array is what a captured step counts on; it has moved on where `calls` was set since the forward pass.
        offset = self._pass.array(self.backend) if self._pass.value == number else number
        return ops.dropout(dy, self.p, seed, offset, backend=self.backend)

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        return f"p={self.p}"
