"""Local response normalisation: a thread for each element, which reads its window.

roofline: memory, for the caches have the neighbours; powers that are no products of fourth roots are float64 and may
take longer.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array
from ..shared.response import quarters, reach
from .runtime import device_array
from .runtime.kernel import kernel, mapping
from .runtime.target import device_function, exp, log, quotient, scalar, sqrt

__all__ = ["local_response_norm", "local_response_norm_backward"]


@device_function
def _power(scale, beta, of_quarters, x):
    """``scale`` to the power ``beta``, in the dtype of the elements of ``x``."""
    result = scalar(x, 1)
    if of_quarters < 0:
        # In float32 the product would lose what the exponential makes large.
        result = scalar(x, exp(np.float64(beta) * log(np.float64(scale))))
    else:
        for _ in range(of_quarters >> 2):
            result *= scale
        root = sqrt(scale)
        if of_quarters & 2:
            result *= root
        if of_quarters & 1:
            result *= sqrt(root)
    return result


@kernel
def _normalized(i, y, scale, x, factor, beta, k, g):
    c, inner, before, after, of_quarters = g
    plane = quotient(i, inner)
    channel = plane - quotient(plane, c) * c
    total = scalar(x, 0)
    for shift in range(max(-before, -channel), min(after, c - 1 - channel) + 1):
        value = x[i + shift * inner]
        total += value * value
    total = k + factor * total
    scale[i] = total
    y[i] = x[i] / _power(total, beta, of_quarters, x)


@mapping
def _share(i, dy, x, scale, beta, of_quarters):
    """What an element adds to the gradients of what is in its window."""
    return dy[i] / _power(scale[i], beta, of_quarters, dy) * x[i] / scale[i]


@mapping
def _gradient(i, dy, x, scale, shares, factor, beta, g):
    c, inner, before, after, of_quarters = g
    plane = quotient(i, inner)
    channel = plane - quotient(plane, c) * c
    total = scalar(dy, 0)
    for shift in range(max(-before, -channel), min(after, c - 1 - channel) + 1):
        total += shares[i + shift * inner]
    return dy[i] / _power(scale[i], beta, of_quarters, dy) - factor * x[i] * total


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
    y, scale = device_array.new(x.shape, x.dtype), device_array.new(x.shape, x.dtype)
    _normalized(y.size, y, scale, x, alpha / size, float(beta), float(k), _sizes(x, beta, *reach(size)))
    return y, scale


def local_response_norm_backward(dy: Array, x: Array, scale: Array, size: int, alpha: float, beta: float) -> Array:
    shares, dx = device_array.new(x.shape, x.dtype), device_array.new(x.shape, x.dtype)
    before, after = reach(size)
    _share(x.size, shares, dy, x, scale, float(beta), quarters(beta))
    factor = 2 * alpha * beta / size
    _gradient(x.size, dx, dy, x, scale, shares, factor, float(beta), _sizes(x, beta, after, before))
    return dx


def _sizes(x: Array, beta: float, before: int, after: int) -> tuple[int, ...]:
    return x.shape[1], math.prod(x.shape[2:]), min(before, x.shape[1]), min(after, x.shape[1]), quarters(beta)
