"""Dropout."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from .. import ops
from ..backends import Array
from ..ops.arguments import integer, number
from ..ops.elementwise import LAST_OFFSET, LAST_SEED
from .init import draw_seed
from .layer import Layer, check_dy_shape
from .receptive import Window
from .settings import setting
from .state import Shape, StepCounter, as_input

__all__ = ["Dropout", "Dropout2d"]


class _Dropout(Layer):
    operation: ClassVar[str]
    """Of ``ops``; it is its own backward pass."""
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
        y = self._dropped(x, self.seed, offset)
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
        return self._dropped(dy, seed, offset)

    def _dropped(self, x: Any, seed: int, offset: Any) -> Array:
        dropped: Array = getattr(ops, self.operation)(x, self.p, seed, offset, backend=self.backend)
        return dropped

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropout):
    """In training each element is 0 with probability ``p``, else x / (1 - p); in evaluation and frozen y = x, a copy.

    Backward drops the same elements of dy: the mask is not stored but drawn again, from ``seed`` (drawn at
    construction) and the number of training passes before this one, ``calls``; it is the same on every backend.
    Srivastava et al. 2014. ``p`` outside of 0..1 is a ValueError.
    """

    operation = "dropout"


class Dropout2d(_Dropout):
    """In training each channel of x (n, c, h, w) is times 0 with probability ``p``, else over 1 - p; see `Dropout`.

    Neighbouring pixels tell much the same, so that alone they would not be missed. In evaluation y = x, a copy.
    Tompson et al. 2015. An input that is not of images is a ValueError.
    """

    operation = "dropout2d"

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        self.output_shape(x.shape)
        return super().forward(x)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 4:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must have 4 axes (n, c, h, w)")
        return tuple(shape)
