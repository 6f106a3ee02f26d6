"""Exponentials that add up to 1 along an axis, and their logarithms."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from .. import ops
from ..backends import Array
from ..ops.arguments import integer
from ..ops.softmax import MOST_AXES
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import WHOLE_IMAGE, Window
from .settings import setting
from .state import Shape, as_input

__all__ = ["LogSoftmax", "Softmax"]


class _Softmax(Layer):
    operation: ClassVar[str]
    dim: int = setting(partial(integer, minimum=-MOST_AXES, maximum=MOST_AXES - 1))

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @property
    def mixes_samples(self) -> bool:
        """Of an axis that is counted from the last one it is not known which it is."""
        return self.dim == 0 or self.dim < -1

    @cached_forward
    def forward(self, x: Any) -> Array:
        y = getattr(ops, self.operation)(as_input(x, self.backend), self.dim, backend=self.backend)
        self.saved = y
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        y = self.saved
        if not input_gradient:
            return None
        return getattr(ops, f"{self.operation}_backward")(dy, y, self.dim, backend=self.backend)

    def output_shape(self, shape: Shape) -> Shape:
        if not -len(shape) <= self.dim < len(shape):
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must have the axis {self.dim}")
        return tuple(shape)

    def window(self) -> Window | None:
        return None if self.dim in (0, 1, -3, -4) else WHOLE_IMAGE

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_Softmax):
    """y = exp(x) / s, s being the sum of exp(x) along the axis ``dim``; dx = y (dy - the sum of dy y along it).

    ``dim`` may be negative, counted from the last axis; 1 are the channels of images. For a loss of logits there is
    `CrossEntropyLoss`, which takes them as they are. An input without the axis is a ValueError.

    >>> Softmax(1)
    Softmax(dim=1)
    """

    operation = "softmax"


class LogSoftmax(_Softmax):
    """y = x - log(s), s being the sum of exp(x) along the axis ``dim``; dx = dy - exp(y) times the sum of dy along it.

    ``dim`` is as in `Softmax`, whose logarithm would be infinite where this is below -100.
    """

    operation = "log_softmax"
