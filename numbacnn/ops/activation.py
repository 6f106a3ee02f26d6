"""Activations that have parameters, or whose gradients need x: functions of one element, in arrays of any shape.

Those without a weight are the formulas of ``backends/shared/pointwise.py``; relu, sigmoid and tanh are in
``elementwise.py``. What ends in ``_backward`` takes a ``dy`` of the shape of x, anything else being a ValueError.
"""

from __future__ import annotations

from typing import Any

from .. import backends
from ..backends import Array, Backend
from .arguments import check_shape, common_dtype, convert, finite, one_of, parameter_dtype, real_array

__all__ = [
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "relu6",
    "relu6_backward",
    "selu",
    "selu_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
]

APPROXIMATIONS = {"none": "gelu", "tanh": "gelu_tanh"}


def celu(x: Any, alpha: float = 1.0, *, backend: str | Backend | None = None) -> Array:
    """x where it is above 0, else ``alpha (exp(x / alpha) - 1)`` (Barron 2017). ValueError for an ``alpha`` of 0."""
    return _value("celu", x, (finite("alpha", alpha, zero=False),), backend)


def celu_backward(dy: Any, x: Any, alpha: float = 1.0, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy`` where x is above 0, else ``dy exp(x / alpha)``."""
    return _gradient("celu", dy, x, (finite("alpha", alpha, zero=False),), backend)


def elu(x: Any, alpha: float = 1.0, *, backend: str | Backend | None = None) -> Array:
    """x where it is above 0, else ``alpha (exp(x) - 1)`` (Clevert et al. 2015)."""
    return _value("elu", x, (finite("alpha", alpha),), backend)


def elu_backward(dy: Any, x: Any, alpha: float = 1.0, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy`` where x is above 0, else ``dy alpha exp(x)``."""
    return _gradient("elu", dy, x, (finite("alpha", alpha),), backend)


def gelu(x: Any, approximate: str = "none", *, backend: str | Backend | None = None) -> Array:
    """``x P(X < x)``, X being normal: ``x (1 + erf(x / sqrt(2))) / 2`` (Hendrycks and Gimpel 2016).

    With ``approximate`` ``"tanh"`` it is ``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``. ValueError for another
    name than that and ``"none"``.
    """
    return _value(_gelu(approximate), x, (), backend)


def gelu_backward(dy: Any, x: Any, approximate: str = "none", *, backend: str | Backend | None = None) -> Array:
    """``dx`` is ``dy (P(X < x) + x p(x))``, p being the density, or that of the approximation."""
    return _gradient(_gelu(approximate), dy, x, (), backend)


def hardsigmoid(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``(x + 3) / 6`` within 0..1."""
    return _value("hardsigmoid", x, (), backend)


def hardsigmoid_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy / 6`` where x is between -3 and 3, else 0."""
    return _gradient("hardsigmoid", dy, x, (), backend)


def hardswish(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``x hardsigmoid(x)`` (Howard et al. 2019)."""
    return _value("hardswish", x, (), backend)


def hardswish_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy (x / 3 + 1 / 2)`` where x is between -3 and 3; below it is 0, above dy."""
    return _gradient("hardswish", dy, x, (), backend)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, *, backend: str | Backend | None = None) -> Array:
    """x within ``min_val..max_val``. ValueError unless ``min_val`` is below ``max_val``."""
    return _value("hardtanh", x, interval(min_val, max_val), backend)


def hardtanh_backward(
    dy: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0, *, backend: str | Backend | None = None
) -> Array:
    """``dx = dy`` where x is between ``min_val`` and ``max_val``, else 0."""
    return _gradient("hardtanh", dy, x, interval(min_val, max_val), backend)


def leaky_relu(x: Any, negative_slope: float = 0.01, *, backend: str | Backend | None = None) -> Array:
    """x where it is above 0, else ``negative_slope x`` (Maas et al. 2013).

    >>> leaky_relu([-1, 0, 2], 0.5, backend="reference")
    array([-0.5,  0. ,  2. ], dtype=float32)
    """
    return _value("leaky_relu", x, (finite("negative_slope", negative_slope),), backend)


def leaky_relu_backward(
    dy: Any, x: Any, negative_slope: float = 0.01, *, backend: str | Backend | None = None
) -> Array:
    """``dx = dy`` where x is above 0, else ``negative_slope dy``."""
    return _gradient("leaky_relu", dy, x, (finite("negative_slope", negative_slope),), backend)


def mish(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``x tanh(log(1 + exp(x)))`` (Misra 2019)."""
    return _value("mish", x, (), backend)


def mish_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy (t + x (1 - t^2) / (1 + exp(-x)))`` with ``t = tanh(log(1 + exp(x)))``."""
    return _gradient("mish", dy, x, (), backend)


def relu6(x: Any, *, backend: str | Backend | None = None) -> Array:
    """x within 0..6."""
    return _value("hardtanh", x, (0.0, 6.0), backend)


def relu6_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy`` where x is between 0 and 6, else 0."""
    return _gradient("hardtanh", dy, x, (0.0, 6.0), backend)


def selu(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``s x`` where x is above 0, else ``s a (exp(x) - 1)``, with s = 1.0507 and a = 1.6733 (Klambauer et al. 2017)."""
    return _value("selu", x, (), backend)


def selu_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = s dy`` where x is above 0, else ``s a dy exp(x)``."""
    return _gradient("selu", dy, x, (), backend)


def silu(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``x / (1 + exp(-x))``, also known as swish."""
    return _value("silu", x, (), backend)


def silu_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy s (1 + x (1 - s))`` with ``s = 1 / (1 + exp(-x))``."""
    return _gradient("silu", dy, x, (), backend)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0, *, backend: str | Backend | None = None) -> Array:
    """``log(1 + exp(beta x)) / beta``, and x where ``beta x`` is above ``threshold``; ``beta`` is not 0."""
    return _value("softplus", x, (finite("beta", beta, zero=False), finite("threshold", threshold)), backend)


def softplus_backward(
    dy: Any, x: Any, beta: float = 1.0, threshold: float = 20.0, *, backend: str | Backend | None = None
) -> Array:
    """``dx = dy / (1 + exp(-beta x))``, and dy where ``beta x`` is above ``threshold``."""
    return _gradient("softplus", dy, x, (finite("beta", beta, zero=False), finite("threshold", threshold)), backend)


def softsign(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``x / (1 + abs(x))``."""
    return _value("softsign", x, (), backend)


def softsign_backward(dy: Any, x: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy / (1 + abs(x))^2``."""
    return _gradient("softsign", dy, x, (), backend)


def prelu(x: Any, weight: Any, *, backend: str | Backend | None = None) -> Array:
    """x where it is above 0, else ``weight x``: a slope for each channel of x (n, c, ...), or one, (1,), for any x.

    It is computed in the dtype of the weight. He et al. 2015. ValueError for a weight of another shape.

    >>> prelu([[-1, -1, 2]], [0.5, 0.25, 0], backend="reference")
    array([[-0.5 , -0.25,  2.  ]])
    """
    backend = backends.get(backend)
    x, weight = real_array("x", x, backend), real_array("weight", weight, backend, "c")
    _check_slopes(x, weight)
    return backend.prelu(*convert(backend, parameter_dtype(weight), x, weight))


def prelu_backward(dy: Any, x: Any, weight: Any, *, backend: str | Backend | None = None) -> tuple[Array, Array]:
    """dx, ``dy`` where x is above 0, else ``weight dy``, and dweight, the sums of ``dy x`` where x is not above 0.

    ValueError unless dy has the shape of x, and for a weight of another shape than :func:`prelu` takes.
    """
    backend = backends.get(backend)
    dy, x, weight = (
        real_array("dy", dy, backend),
        real_array("x", x, backend),
        real_array("weight", weight, backend, "c"),
    )
    check_shape("dy", dy, x.shape, "of `x`")
    _check_slopes(x, weight)
    return backend.prelu_backward(*convert(backend, parameter_dtype(weight), dy, x, weight))


def _check_slopes(x: Array, weight: Array) -> None:
    if tuple(weight.shape) != (1,) and tuple(x.shape[1:2]) != tuple(weight.shape):
        of_channels = f" or {tuple(x.shape[1:2])}" if len(x.shape) > 1 else ""
        raise ValueError(
            f"`weight` {tuple(weight.shape)} must have the shape (1,){of_channels} for `x` {tuple(x.shape)}"
        )


def _gelu(approximate: str) -> str:
    """Which formula it is."""
    return APPROXIMATIONS[one_of("approximate", approximate, tuple(APPROXIMATIONS))]


def interval(min_val: Any, max_val: Any) -> tuple[float, float]:
    """The two as floats. ValueError unless the first is below the second."""
    low, high = finite("min_val", min_val), finite("max_val", max_val)
    if low >= high:
        raise ValueError(f"`min_val` {min_val!r} must be below `max_val` {max_val!r}")
    return low, high


def _value(kind: str, x: Any, parameters: tuple[float, ...], backend: str | Backend | None) -> Array:
    backend = backends.get(backend)
    x = real_array("x", x, backend)
    return backend.pointwise(backend.asarray(x, common_dtype(x)), kind, parameters)


def _gradient(kind: str, dy: Any, x: Any, parameters: tuple[float, ...], backend: str | Backend | None) -> Array:
    backend = backends.get(backend)
    dy, x = real_array("dy", dy, backend), real_array("x", x, backend)
    check_shape("dy", dy, x.shape, "of `x`")
    dy, x = convert(backend, common_dtype(dy, x), dy, x)
    return backend.pointwise_backward(dy, x, kind, parameters)
