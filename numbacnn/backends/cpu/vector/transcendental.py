"""exp, expm1, log1p, tanh and erf that LLVM can put into vectors: polynomials, with no branch between them.

Relative errors are a few units in the last place. In float32 exp is Cephes' (Moshier, "Methods and Programs for
Mathematical Functions", 1989), and the coefficients of tanh, erf and log1p, which takes numbers of 0 to 1 alone, are
the best in relative error by Lawson's weights; in float64 exp and expm1 are Taylor's, and erf is interpolated at
Chebyshev's points: below 1 it is x + x P(x^2), above 1 - exp(-x^2) Q((x - 3) / (x + 3)). log1p reduces its argument as
fdlibm does. They are compiled without reassociation, which would merge the two halves of log 2 that make the reduced
argument exact.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

__all__ = [
    "BITS_OF_ROOTS",
    "BITS_OF_ROOTS_64",
    "STRICT",
    "erf",
    "exp",
    "expm1",
    "inverse_fourth_root",
    "log1p",
    "strict",
    "tanh",
]

# Of Numba, for what must be computed in the order that it is written in.
STRICT = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "forceinline": True}
strict = functools.partial(njit, no_cpython_wrapper=True, no_cfunc_wrapper=True, **STRICT)
"""Decorator as :func:`runtime.kernel.inlined`, of what is computed so."""

_LOG2_E = np.float32(1.44269504)
_LOG_2_HIGH = np.float32(0.693359375)
_LOG_2_LOW = np.float32(-2.12194440e-4)
_LARGEST = np.float32(88.72283)
_SMALLEST = np.float32(-87.33654)
_ONE, _TWO = np.float32(1), np.float32(2)
# A number to whose neighbours the distance is 1: what is added to it is rounded, and lies in its lowest bits.
_ROUNDING = np.float32(1.5 * 2**23)
_ROUNDING_64 = 1.5 * 2.0**52
_LOG_2_HIGH_64, _LOG_2_LOW_64 = 6.93145751953125e-1, 1.42860682030941723212e-6
_LARGEST_64, _SMALLEST_64 = 709.782712893384, -708.3964185322641
# The bits of the root of 1/2.
_BITS_OF_ROOT, _BITS_OF_ROOT_64 = np.int32(0x3F3504F3), np.int64(0x3FE6A09E667F3BCD)


# What the bits of x ** -0.25 and a quarter of those of x nearly add up to.
BITS_OF_ROOTS, BITS_OF_ROOTS_64 = np.int32(0x4F582000), np.int64(0x4FEB040000000000)


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
    """tanh of a float32: x P(x^2) / Q(x^2), up to where it rounds to 1."""
    inside = min(max(x, np.float32(-9.1)), np.float32(9.1))
    z = inside * inside
    p = np.float32(-1.20336513e-11)
    p = p * z + np.float32(3.0355574e-08)
    p = p * z + np.float32(2.79119653e-05)
    p = p * z + np.float32(3.86359468e-03)
    p = p * z + np.float32(0.136761382)
    p = p * z + _ONE
    q = np.float32(1.28069641e-06)
    q = q * z + np.float32(3.93028608e-04)
    q = q * z + np.float32(2.72285175e-02)
    q = q * z + np.float32(0.470094701)
    q = q * z + _ONE
    result = min(max(inside * p / q, -_ONE), _ONE)
    return result if x == x else x


def exp_float64(x):
    """exp of a float64; below the smallest normal number the result is 0."""
    inside = min(max(x, _SMALLEST_64), _LARGEST_64)
    rounded = inside * 1.4426950408889634 + _ROUNDING_64
    exponent = rounded - _ROUNDING_64
    r = (inside - exponent * _LOG_2_HIGH_64) - exponent * _LOG_2_LOW_64
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    p = p * r * r + r + 1.0
    power = np.int64(np.float64(rounded).view(np.int64) << np.int64(52))
    result = np.int64(np.float64(p).view(np.int64) + power).view(np.float64)
    result = np.inf if x > _LARGEST_64 else result
    result = 0.0 if x < _SMALLEST_64 else result
    return result if x == x else x


def expm1_float32(x):
    """exp(x) - 1 of a float32: a polynomial near 0, where the difference would cancel."""
    near = min(max(x, np.float32(-0.5)), np.float32(0.5))
    p = np.float32(1 / 362880)
    p = p * near + np.float32(1 / 40320)
    p = p * near + np.float32(1 / 5040)
    p = p * near + np.float32(1 / 720)
    p = p * near + np.float32(1 / 120)
    p = p * near + np.float32(1 / 24)
    p = p * near + np.float32(1 / 6)
    p = p * near + np.float32(0.5)
    p = p * near * near + near
    far = exp_compiled(x) - _ONE
    return p if abs(x) < np.float32(0.5) else far


def expm1_float64(x):
    """exp(x) - 1 of a float64, as in float32."""
    near = min(max(x, -0.5), 0.5)
    p = 1 / 1307674368000
    p = p * near + 1 / 87178291200
    p = p * near + 1 / 6227020800
    p = p * near + 1 / 479001600
    p = p * near + 1 / 39916800
    p = p * near + 1 / 3628800
    p = p * near + 1 / 362880
    p = p * near + 1 / 40320
    p = p * near + 1 / 5040
    p = p * near + 1 / 720
    p = p * near + 1 / 120
    p = p * near + 1 / 24
    p = p * near + 1 / 6
    p = p * near + 0.5
    p = p * near * near + near
    far = exp_compiled(x) - 1.0
    return p if abs(x) < 0.5 else far


def log1p_float32(x):
    """log(1 + x) of a float32, 0 to 1: x P(x)."""
    p = np.float32(5.23269142e-03)
    p = p * x + np.float32(-2.95052274e-02)
    p = p * x + np.float32(7.82259333e-02)
    p = p * x + np.float32(-0.136632442)
    p = p * x + np.float32(0.19106006)
    p = p * x + np.float32(-0.24842982)
    p = p * x + np.float32(0.333190968)
    p = p * x + np.float32(-0.499994931)
    # The first coefficient is 1 but for what float32 cannot say.
    return p * x * x + x


def log1p_float64(x):
    """log(1 + x) of a float64, 0 to 1: u = 1 + x is 2^k (1 + f); what rounding took from u comes back at the end."""
    u = 1.0 + x
    lost = (x - (u - 1.0)) / u
    bits = np.float64(u).view(np.int64)
    k = np.int64(np.int64(bits - _BITS_OF_ROOT_64) >> np.int64(52))
    f = np.int64(bits - np.int64(k << np.int64(52))).view(np.float64) - 1.0
    k = np.float64(k)
    s = f / (2.0 + f)
    z = s * s
    p = 1.479819860511658591e-01
    p = p * z + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    return k * _LOG_2_HIGH_64 - ((half - (s * (half + z * p) + (k * _LOG_2_LOW_64 + lost))) - f)


def tanh_float64(x):
    """tanh of a float64 as (exp(2x) - 1) / (exp(2x) + 1); from 20 on it is 1."""
    size = min(abs(x), 20.0)
    e = expm1_compiled(size + size)
    y = e / (e + 2.0)
    y = -y if x < 0 else y
    return y if abs(x) > 0.0 else x


def erf_float32(x):
    """erf of a float32, as tanh."""
    inside = min(max(x, np.float32(-4)), np.float32(4))
    z = inside * inside
    p = np.float32(1.98676487e-06)
    p = p * z + np.float32(2.84564615e-04)
    p = p * z + np.float32(3.88334539e-03)
    p = p * z + np.float32(5.31017501e-02)
    p = p * z + np.float32(0.193545298)
    p = p * z + np.float32(1.12837914)
    q = np.float32(3.74199225e-05)
    q = q * z + np.float32(1.1855689e-03)
    q = q * z + np.float32(1.52072565e-02)
    q = q * z + np.float32(0.115350073)
    q = q * z + np.float32(0.50485761)
    q = q * z + _ONE
    result = min(max(inside * p / q, -_ONE), _ONE)
    return result if x == x else x


def erf_float64(x):
    """erf of a float64."""
    size, z = abs(x), min(x * x, 1.0)
    near = -7.795898827002142e-10
    near = near * z + 1.3720064546777686e-08
    near = near * z + -1.6208483801871705e-07
    near = near * z + 1.6447424703317362e-06
    near = near * z + -1.492473690741966e-05
    near = near * z + 0.00012055294904839707
    near = near * z + -0.0008548325975389692
    near = near * z + 0.0052239776071164225
    near = near * z + -0.02686617064323777
    near = near * z + 0.11283791670945006
    near = near * z + -0.37612638903183543
    near = near * z + 0.12837916709551256
    near = near * x + x
    t = min(size, 6.0)  # from where on it is 1
    u = (t - 3.0) / (t + 3.0)
    q = 1.2801900862962662e-06
    q = q * u + 2.023603179641757e-06
    q = q * u + -8.008021319412685e-06
    q = q * u + -1.284889451252353e-05
    q = q * u + 6.406182073530546e-05
    q = q * u + 4.525472635483354e-05
    q = q * u + -0.0005970623517093284
    q = q * u + 0.0007077464443901538
    q = q * u + 0.004269136347508256
    q = q * u + -0.024392499318273194
    q = q * u + 0.07166583719774874
    q = q * u + -0.15011593650078744
    q = q * u + 0.24560380171233195
    q = q * u + -0.32623356004303716
    q = q * u + 0.17900115118138996
    far = 1.0 - q * exp_compiled(-t * t)
    far = -far if x < 0 else far
    far = near if size <= 1.0 else far
    return far if x == x else x


def inverse_fourth_root_float32(x):
    """x ** -0.25 of a normal number above 0: a guess by its bits, and what (1 - h) ** -0.25 is a series of, twice."""
    bits = np.int32(np.float32(x).view(np.int32) >> np.int32(2))
    r = np.int32(BITS_OF_ROOTS - bits).view(np.float32)
    h = _ONE - x * (r * r) * (r * r)
    r = r + r * (h * (np.float32(1 / 4) + h * (np.float32(5 / 32) + h * np.float32(15 / 128))))
    h = _ONE - x * (r * r) * (r * r)
    return r + r * (h * np.float32(1 / 4))


def inverse_fourth_root_float64(x):
    """As in float32."""
    bits = np.int64(np.float64(x).view(np.int64) >> np.int64(2))
    r = np.int64(BITS_OF_ROOTS_64 - bits).view(np.float64)
    h = 1.0 - x * (r * r) * (r * r)
    r = r + r * (h * (1 / 4 + h * (5 / 32 + h * (15 / 128))))
    h = 1.0 - x * (r * r) * (r * r)
    return r + r * (h * (1 / 4 + h * (5 / 32 + h * (15 / 128))))


def exp(x):
    """exp(x) in the dtype of ``x``."""
    return np.exp(x)


def tanh(x):
    """tanh(x) in the dtype of ``x``."""
    return np.tanh(x)


def expm1(x):
    """exp(x) - 1 in the dtype of ``x``."""
    return np.expm1(x)


def log1p(x):
    """log(1 + x) in the dtype of ``x``, which is 0 to 1: what a softplus or a loss adds to the larger of two."""
    return np.log1p(x)


def erf(x):
    """The error function in the dtype of ``x``."""
    return np.asarray(x).dtype.type(math.erf(x))


def inverse_fourth_root(x):
    """x ** -0.25 in the dtype of ``x``, a normal number above 0: some multiplications, where roots and a quotient take
    a core longer than the memory does.
    """
    return np.asarray(x).dtype.type(1) / np.sqrt(np.sqrt(x))


def exp_compiled(x):
    """What the other definitions call: compiled in kernels, plain outside."""
    return exp_float32(x) if type(x) is np.float32 else exp_float64(x)


def expm1_compiled(x):
    """As :func:`exp_compiled`."""
    return expm1_float32(x) if type(x) is np.float32 else expm1_float64(x)


def _overloaded(function: Any, of_float32: Any, of_float64: Any) -> None:
    """In kernels ``function`` is the definition for its argument's dtype."""
    overload(function, jit_options=STRICT)(lambda x: of_float32 if x == types.float32 else of_float64)


_overloaded(exp, exp_float32, exp_float64)
_overloaded(exp_compiled, exp_float32, exp_float64)
_overloaded(expm1, expm1_float32, expm1_float64)
_overloaded(expm1_compiled, expm1_float32, expm1_float64)
_overloaded(log1p, log1p_float32, log1p_float64)
_overloaded(tanh, tanh_float32, tanh_float64)
_overloaded(erf, erf_float32, erf_float64)
_overloaded(inverse_fourth_root, inverse_fourth_root_float32, inverse_fourth_root_float64)
