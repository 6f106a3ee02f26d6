"""Local response normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import ops
from ..backends import Array
from ..ops.arguments import integer, number
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import Window
from .settings import setting
from .state import Shape, as_input

__all__ = ["LocalResponseNorm"]


class LocalResponseNorm(Layer):
    """x (n, c, ...) -> y = x / (k + alpha mean)^beta, the mean being that of x^2 over ``size`` neighbouring channels.

    These are the ``size // 2`` channels before its own, that one and the ``(size - 1) // 2`` after it; what there is
    not counts as zeros. Krizhevsky, Sutskever and Hinton 2012. x has 3 axes or more; ``size`` is at least 1, the other
    settings are not negative.

    >>> LocalResponseNorm(5, k=2)
    LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=2.0)
    """

    size: int = setting(partial(integer, minimum=1))
    alpha: float = setting(partial(number, low=0))
    beta: float = setting(partial(number, low=0))
    k: float = setting(partial(number, low=0))

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    @cached_forward
    def forward(self, x: Any) -> Array:
        x, keeps = as_input(x, self.backend), self.saves
        found = ops.local_response_norm(
            x, self.size, self.alpha, self.beta, self.k, return_scale=keeps, backend=self.backend
        )
        y, *scale = found if keeps else (found,)
        self.saved = (x, *scale)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x, scale = self.saved
        if not input_gradient:
            return None
        return ops.local_response_norm_backward(dy, x, scale, self.size, self.alpha, self.beta, backend=self.backend)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 3:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must have at least 3 axes (n, c, ...)")
        return tuple(shape)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
