"""Functions of one number and their gradients, each written once.

A backend gives what they are made of: :func:`formulas` is called with NumPy's functions for arrays in float64, and with
what a compiler makes of them for kernels. Nothing branches: ``where`` evaluates both sides, so that compiled loops are
of vectors, and what would be 0 times infinity is asked of a number that is clamped to where the result is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Formula", "formulas", "two_of"]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
# Of the approximation of the normal distribution by tanh.
GELU_SLOPE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


class Formula(NamedTuple):
    """A function and its gradient."""

    value: Callable[[Any, Any, Any], Any]
    """y of (x, a, b), a and b being the parameters, whose meaning is the function's."""
    gradient: Callable[[Any, Any, Any, Any], Any]
    """dx of (dy, x, a, b)."""


def two_of(parameters: tuple[float, ...]) -> tuple[float, float]:
    """The parameters as formulas take them: two, of which those that a function has not are 0."""
    a, b = (*map(float, parameters), 0.0, 0.0)[:2]
    return a, b


def formulas(
    compiled: Callable[[Callable[..., Any]], Any],
    number: Callable[[Any, float], Any],
    where: Callable[[Any, Any, Any], Any],
    exp: Callable[[Any], Any],
    expm1: Callable[[Any], Any],
    log: Callable[[Any], Any],
    log1p: Callable[[Any], Any],
    erf: Callable[[Any], Any],
    sqrt: Callable[[Any], Any],
    power_of: Callable[[Any, Any], Any],
) -> dict[str, Formula]:
    """Every function by its name.

    Args:
        compiled: a decorator of what formulas call, and of formulas.
        number: ``number(x, value)`` is the value in the dtype of x.
        where: ``where(condition, a, b)``, a where the condition holds, else b.
        exp: and the others, in the dtype of their argument.
        power_of: ``power_of(x, exponent)``.
    """

    @compiled
    def clamped(x, low, high):
        return where(x < low, low, where(x > high, high, x))

    @compiled
    def logistic(x):
        return number(x, 1) / (number(x, 1) + exp(-x))

    @compiled
    def leaky_relu(x, slope, _):
        return where(x > number(x, 0), x, slope * x)

    @compiled
    def leaky_relu_gradient(dy, x, slope, _):
        return where(x > number(x, 0), dy, slope * dy)

    @compiled
    def elu(x, alpha, _):
        return where(x > number(x, 0), x, alpha * expm1(x))

    @compiled
    def elu_gradient(dy, x, alpha, _):
        return where(x > number(x, 0), dy, dy * alpha * exp(x))

    @compiled
    def selu(x, _, __):
        return number(x, SELU_SCALE) * where(x > number(x, 0), x, number(x, SELU_ALPHA) * expm1(x))

    @compiled
    def selu_gradient(dy, x, _, __):
        return number(x, SELU_SCALE) * where(x > number(x, 0), dy, dy * number(x, SELU_ALPHA) * exp(x))

    @compiled
    def celu(x, alpha, _):
        return where(x > number(x, 0), x, alpha * expm1(x / alpha))

    @compiled
    def celu_gradient(dy, x, alpha, _):
        return where(x > number(x, 0), dy, dy * exp(x / alpha))

    @compiled
    def normal_distribution(x):
        return number(x, 0.5) * (number(x, 1) + erf(x * number(x, math.sqrt(0.5))))

    @compiled
    def gelu(x, _, __):
        return where(x < number(x, -40), number(x, 0), x * normal_distribution(x))

    @compiled
    def gelu_gradient(dy, x, _, __):
        c = clamped(x, number(x, -40), number(x, 40))
        density = number(x, 1 / math.sqrt(2 * math.pi)) * exp(number(x, -0.5) * c * c)
        return dy * (normal_distribution(c) + c * density)

    @compiled
    def twice_bent(x):
        """2 u, of which (1 + tanh(u)) / 2 is the logistic function."""
        return number(x, 2 * GELU_SLOPE) * (x + number(x, GELU_CUBE) * x * x * x)

    @compiled
    def gelu_tanh(x, _, __):
        c = clamped(x, number(x, -40), number(x, 40))
        return where(x < number(x, -40), number(x, 0), x * logistic(twice_bent(c)))

    @compiled
    def gelu_tanh_gradient(dy, x, _, __):
        c = clamped(x, number(x, -40), number(x, 40))
        share = logistic(twice_bent(c))
        slope = number(x, 2 * GELU_SLOPE) * (number(x, 1) + number(x, 3 * GELU_CUBE) * c * c)
        return dy * (share + c * share * (number(x, 1) - share) * slope)

    @compiled
    def silu(x, _, __):
        return where(x < number(x, -1000), number(x, 0), x * logistic(x))

    @compiled
    def silu_gradient(dy, x, _, __):
        c = clamped(x, number(x, -1000), number(x, 1000))
        share = logistic(c)
        return dy * (share + c * share * (number(x, 1) - share))

    # With e = exp(x) and n = e (e + 2), tanh(log(1 + e)) is n / (n + 2), and 1 from x = 20 on.
    @compiled
    def mish(x, _, __):
        e = exp(where(x > number(x, 20), number(x, 20), x))
        n = e * (e + number(x, 2))
        return where(x < number(x, -1000), number(x, 0), x * (n / (n + number(x, 2))))

    @compiled
    def mish_gradient(dy, x, _, __):
        c = clamped(x, number(x, -1000), number(x, 20))
        e = exp(c)
        n = e * (e + number(x, 2))
        slope = number(x, 4) * (e / (n + number(x, 2))) * ((number(x, 1) + e) / (n + number(x, 2)))
        return dy * (n / (n + number(x, 2)) + c * slope)

    @compiled
    def softplus(x, beta, threshold):
        z = beta * x
        above = where(z > number(x, 0), z, number(x, 0))
        # log(1 + exp(z)) without overflow.
        return where(z > threshold, x, (above + log1p(exp(-abs(z)))) / beta)

    @compiled
    def softplus_gradient(dy, x, beta, threshold):
        return where(beta * x > threshold, dy, dy * logistic(beta * x))

    @compiled
    def softsign(x, _, __):
        c = clamped(x, number(x, -1e30), number(x, 1e30))
        return c / (number(x, 1) + abs(c))

    @compiled
    def softsign_gradient(dy, x, _, __):
        root = number(x, 1) / (number(x, 1) + abs(x))
        return dy * root * root

    @compiled
    def hardsigmoid(x, _, __):
        return clamped(x + number(x, 3), number(x, 0), number(x, 6)) / number(x, 6)

    @compiled
    def hardsigmoid_gradient(dy, x, _, __):
        return where(abs(x) >= number(x, 3), number(x, 0), dy / number(x, 6))

    @compiled
    def hardswish(x, _, __):
        c = clamped(x, number(x, -3), number(x, 3))
        return where(x > number(x, 3), x, c * ((c + number(x, 3)) / number(x, 6)))

    @compiled
    def hardswish_gradient(dy, x, _, __):
        inside = dy * (x / number(x, 3) + number(x, 0.5))
        return where(x >= number(x, 3), dy, where(x <= number(x, -3), number(x, 0), inside))

    @compiled
    def hardtanh_gradient(dy, x, low, high):
        return where(x <= low, number(x, 0), where(x >= high, number(x, 0), dy))

    @compiled
    def exponential(x, _, __):
        return exp(x)

    @compiled
    def exponential_gradient(dy, x, _, __):
        return dy * exp(x)

    @compiled
    def logarithm(x, _, __):
        return log(x)

    @compiled
    def logarithm_gradient(dy, x, _, __):
        return dy / x

    @compiled
    def square(x, _, __):
        return x * x

    @compiled
    def square_gradient(dy, x, _, __):
        return dy * (number(x, 2) * x)

    # The root's slope is infinite at 0, and counts as 0 there; likewise that of a power by less than 1.
    @compiled
    def root(x, scale, _):
        return sqrt(scale * x)

    @compiled
    def root_gradient(dy, x, scale, _):
        slope = number(x, 0.5) * scale / sqrt(scale * x)
        return where(x == number(x, 0), number(x, 0), dy * slope)

    @compiled
    def power(x, exponent, scale):
        return power_of(scale * x, exponent)

    @compiled
    def power_gradient(dy, x, exponent, scale):
        gradient = dy * (exponent * scale * power_of(scale * x, exponent - number(x, 1)))
        at_zero = where(exponent < number(x, 1), number(x, 0), gradient)
        return where(x == number(x, 0), at_zero, gradient)

    return {
        "celu": Formula(celu, celu_gradient),
        "elu": Formula(elu, elu_gradient),
        "exp": Formula(exponential, exponential_gradient),
        "gelu": Formula(gelu, gelu_gradient),
        "gelu_tanh": Formula(gelu_tanh, gelu_tanh_gradient),
        "hardsigmoid": Formula(hardsigmoid, hardsigmoid_gradient),
        "hardswish": Formula(hardswish, hardswish_gradient),
        "hardtanh": Formula(clamped, hardtanh_gradient),
        "leaky_relu": Formula(leaky_relu, leaky_relu_gradient),
        "log": Formula(logarithm, logarithm_gradient),
        "mish": Formula(mish, mish_gradient),
        "power": Formula(power, power_gradient),
        "root": Formula(root, root_gradient),
        "selu": Formula(selu, selu_gradient),
        "silu": Formula(silu, silu_gradient),
        "softplus": Formula(softplus, softplus_gradient),
        "softsign": Formula(softsign, softsign_gradient),
        "square": Formula(square, square_gradient),
    }
