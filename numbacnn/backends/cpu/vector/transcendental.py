"""exp and tanh that LLVM can put into vectors: in float32 polynomials, in float64 the C library's.

The float32 versions are Cephes' (Moshier, "Methods and Programs for Mathematical Functions", 1989), with a relative
error of about 2 units in the last place. They are compiled without reassociation, which would merge the two halves of
log 2 that make the reduced argument exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

__all__ = ["exp", "tanh"]

_STRICT = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "forceinline": True}

_LOG2_E = np.float32(1.44269504)
_LOG_2_HIGH = np.float32(0.693359375)
_LOG_2_LOW = np.float32(-2.12194440e-4)
_LARGEST = np.float32(88.72283)
_SMALLEST = np.float32(-87.33654)
_ONE, _TWO = np.float32(1), np.float32(2)
# A number to whose neighbours the distance is 1: what is added to it is rounded, and lies in its lowest bits.
_ROUNDING = np.float32(1.5 * 2**23)


def exp_float32(x):
    """exp of a float32; below the smallest normal number the result is 0."""
    inside = min(max(x, _SMALLEST), _LARGEST)
    rounded = inside * _LOG2_E + _ROUNDING
    exponent = rounded - _ROUNDING
    r = (inside - exponent * _LOG_2_HIGH) - exponent * _LOG_2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + _ONE
    # Times 2**exponent, which stays a normal number: at both ends r has the sign that brings it back.
    power = np.int32(np.float32(rounded).view(np.int32) << np.int32(23))
    result = np.int32(np.float32(p).view(np.int32) + power).view(np.float32)
    result = np.float32(np.inf) if x > _LARGEST else result
    result = np.float32(0) if x < _SMALLEST else result
    return result if x == x else x


def tanh_float32(x):
    """tanh of a float32: a polynomial near 0, where 1 - 2/(exp(2x) + 1) would cancel."""
    size = abs(x)
    z = x * x
    p = np.float32(-5.70498872745e-3)
    p = p * z + np.float32(2.06390887954e-2)
    p = p * z + np.float32(-5.37397155531e-2)
    p = p * z + np.float32(1.33314422036e-1)
    p = p * z + np.float32(-3.33332819422e-1)
    near = x + x * z * p
    far = _ONE - _TWO / (exp_float32_compiled(size + size) + _ONE)
    far = -far if x < 0 else far
    return near if size < np.float32(0.625) else far


def exp(x):
    """exp(x) in the dtype of ``x``."""
    return np.exp(x)


def tanh(x):
    """tanh(x) in the dtype of ``x``."""
    return np.tanh(x)


def exp_float32_compiled(x):
    """What :func:`tanh_float32` calls: compiled in kernels, plain outside."""
    return exp_float32(x)


@overload(exp_float32_compiled, jit_options=_STRICT)
def _exp_float32_overload(x):
    return exp_float32


@overload(exp, jit_options=_STRICT)
def _exp_overload(x):
    return exp_float32 if x == types.float32 else lambda x: math.exp(x)


@overload(tanh, jit_options=_STRICT)
def _tanh_overload(x):
    return tanh_float32 if x == types.float32 else lambda x: math.tanh(x)
