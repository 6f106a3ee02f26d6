"""What is done to one element at a time, by kernels of their own and within others."""

from __future__ import annotations

from ...contract import Array
from ...shared.pointwise import formulas
from ..runtime.kernel import mapping
from ..runtime.target import device_function, erf, exp, expm1, log, log1p, power_of, scalar, sqrt
from ..runtime.target import tanh as hyperbolic_tangent

__all__ = ["FORMULAS", "accumulate", "activate", "sum_of"]


@device_function
def _where(condition, a, b):
    return a if condition else b


FORMULAS = formulas(device_function, scalar, _where, exp, expm1, log, log1p, erf, sqrt, power_of)


@device_function
def activate(code, value, x):
    """``value``, of the dtype of the elements of ``x``, through the activation of ``code``, one of ACTIVATIONS."""
    if code == 1:
        return scalar(x, 0) if value <= scalar(x, 0) else value
    if code == 2:
        return scalar(x, 1) / (scalar(x, 1) + exp(-value))
    if code == 3:
        return hyperbolic_tangent(value)
    return value


@mapping
def sum_of(i, a, b):
    return a[i] + b[i]


@mapping
def _scaled_sum(i, a, b, scale):
    return a[i] + scale * b[i]


def accumulate(target: Array, value: Array, scale: float = 1.0) -> None:
    if scale == 1:
        sum_of(target.size, target, target, value)
    else:
        _scaled_sum(target.size, target, target, value, float(scale))
