"""Activations, element by element."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..backends import Array
from ..ops.activation import APPROXIMATIONS, interval
from ..ops.arguments import finite, integer, one_of
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import Window
from .settings import OF_THE_WEIGHT, setting
from .state import Parameter, Shape, as_input, floating_dtype
from .view_layer import ViewLayer

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
]


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


class _Pointwise(_Elementwise):
    """Any function of one element whose gradient needs x: an ``operation`` of ``ops``."""

    operation: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    """The attributes that are its arguments."""

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        y = getattr(ops, self.operation)(x, *self._arguments(), backend=self.backend)
        self.saved = x
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x = self.saved
        if not input_gradient:
            return None
        return getattr(ops, f"{self.operation}_backward")(dy, x, *self._arguments(), backend=self.backend)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)

    def _arguments(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.settings])


class LeakyReLU(_Pointwise):
    """y = x where x > 0, else ``negative_slope`` x; dx = dy there, else ``negative_slope`` dy. Maas et al. 2013.

    >>> LeakyReLU()
    LeakyReLU(negative_slope=0.01)
    """

    operation = "leaky_relu"
    settings = ("negative_slope",)
    negative_slope: float = setting(finite)

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope


class ELU(_Pointwise):
    """y = x where x > 0, else ``alpha`` (exp(x) - 1); dx = dy there, else dy ``alpha`` exp(x). Clevert et al. 2015."""

    operation = "elu"
    settings = ("alpha",)
    alpha: float = setting(finite)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha


class SELU(_Pointwise):
    """y = s x where x > 0, else s a (exp(x) - 1), with s = 1.0507 and a = 1.6733; dx = s dy there, else s a dy exp(x).

    With weights of the variance 1 / inputs, features keep their mean of 0 and variance of 1. Klambauer et al. 2017.
    """

    operation = "selu"


class CELU(_Pointwise):
    """y = x where x > 0, else ``alpha`` (exp(x / ``alpha``) - 1); dx = dy there, else dy exp(x / ``alpha``).

    ELU, so that its slope has no jump at 0. Barron 2017. An ``alpha`` of 0 is a ValueError.
    """

    operation = "celu"
    settings = ("alpha",)
    alpha: float = setting(partial(finite, zero=False))

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha


class GELU(_Pointwise):
    """y = x P(x), P the distribution of normal numbers; dx = dy (P(x) + x p(x)), p being their density.

    P(x) = (1 + erf(x / sqrt(2))) / 2 or, with ``approximate="tanh"``, (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    Hendrycks and Gimpel 2016. ``approximate`` other than ``"none"`` and ``"tanh"`` is a ValueError.

    >>> GELU("tanh")
    GELU(approximate='tanh')
    """

    operation = "gelu"
    settings = ("approximate",)
    approximate: str = setting(partial(one_of, names=tuple(APPROXIMATIONS)))

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate


class SiLU(_Pointwise):
    """y = x s(x), s being the sigmoid, also known as swish; dx = dy s (1 + x (1 - s))."""

    operation = "silu"


class Mish(_Pointwise):
    """y = x t, t = tanh(log(1 + exp(x))); dx = dy (t + x (1 - t^2) s(x)), s being the sigmoid. Misra 2019."""

    operation = "mish"


class Softplus(_Pointwise):
    """y = log(1 + exp(``beta`` x)) / ``beta``; dx = dy s(``beta`` x), s being the sigmoid.

    Where ``beta`` x is above ``threshold``, y = x and dx = dy. A ``beta`` of 0 is a ValueError.
    """

    operation = "softplus"
    settings = ("beta", "threshold")
    beta: float = setting(partial(finite, zero=False))
    threshold: float = setting(finite)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold


class Softsign(_Pointwise):
    """``y = x / (1 + |x|)``; ``dx = dy / (1 + |x|)^2``."""

    operation = "softsign"


class Hardsigmoid(_Pointwise):
    """y = (x + 3) / 6 within 0..1; dx = dy / 6 where -3 < x < 3, else 0."""

    operation = "hardsigmoid"


class Hardswish(_Pointwise):
    """y = x h(x), h being `Hardsigmoid`; dx = dy (x / 3 + 1 / 2) where -3 < x < 3, below it 0, above dy.

    Howard et al. 2019.
    """

    operation = "hardswish"


class Hardtanh(_Pointwise):
    """y = x within ``min_val..max_val``; dx = dy where ``min_val`` < x < ``max_val``, else 0.

    ValueError unless ``min_val`` is below ``max_val``.
    """

    operation = "hardtanh"
    settings = ("min_val", "max_val")
    min_val: float = setting(finite, lambda self: self._check())
    max_val: float = setting(finite, lambda self: self._check())

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        self.min_val = min_val
        self.max_val = max_val
        self._check()

    def _check(self) -> None:
        interval(self.min_val, self.max_val)


class ReLU6(_Pointwise):
    """y = x within 0..6; dx = dy where 0 < x < 6, else 0."""

    operation = "relu6"


class PReLU(_Elementwise):
    """y = x where x > 0, else w x, w being ``weight``: one number, or one for each channel of x (n, c, ...).

    dx = dy where x > 0, else w dy; dw is the sum of dy x where x is not above 0. ``weight`` (num_parameters,) starts
    from ``init``; inputs are converted to its ``dtype``, float32 or float64. He et al. 2015. Where ``num_parameters``
    is not 1, another number of channels is a ValueError.

    >>> PReLU(64)
    PReLU(num_parameters=64)
    """

    num_parameters: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    init: float = setting(finite, fixed="for the weight started from it")

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = np.float32) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        slopes = np.full(self.num_parameters, self.init, floating_dtype(dtype))
        self.weight = Parameter(slopes, self.backend)

    @cached_forward
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend, self.weight.dtype)
        y = ops.prelu(x, self.weight.value, backend=self.backend)
        self.saved = x
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x = self.saved
        dx, dweight = ops.prelu_backward(dy, x, self.weight.value, backend=self.backend)
        self.weight.accumulate(dweight)
        return dx if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        if self.num_parameters != 1 and tuple(shape[1:2]) != (self.num_parameters,):
            raise ValueError(
                f"the input of {self!r} has shape {tuple(shape)}, must have (n, c, ...) with c = {self.num_parameters}"
            )
        return tuple(shape)

    def extra_repr(self) -> str:
        parts = [f"num_parameters={self.num_parameters}"]
        parts += [f"dtype={self.weight.dtype}"] * (self.weight.dtype != np.float32)
        return ", ".join(parts)


class Identity(ViewLayer):
    """y = x, a copy; dx = dy. In `Add` it is the shortcut of a residual block."""

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)

    def window(self) -> Window | None:
        return None
