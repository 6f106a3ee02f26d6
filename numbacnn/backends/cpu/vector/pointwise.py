"""Functions of one element, of shared/pointwise.py: a kernel for each, and one for each gradient.

roofline: memory, one read per argument and one write. With a polynomial of vector/transcendental.py there are 20 to 40
operations an element, in float64 twice as many, which a core that has the memory for itself feels: the memory brings
what comes later meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ...shared.pointwise import formulas
from ..runtime.kernel import Kernel, inlined, kernel
from .blocks import AHEAD, PART, block, part, parts
from .simd import prefetch_run
from .transcendental import STRICT, erf, exp, expm1, log1p, strict

__all__ = ["GRADIENTS", "VALUES", "number", "where"]


COMPUTED = frozenset(("celu", "elu", "exp", "gelu", "gelu_tanh", "log", "mish", "power", "selu", "silu", "softplus"))
"""Those with a polynomial, or a call of the C library."""


def number(x, value):
    """``value`` in the dtype of x."""
    return x.dtype.type(value)


@overload(number, jit_options=STRICT)
def _number_overload(x, value):
    dtype = x
    return lambda x, value: dtype(value)


@inlined
def where(condition, a, b):
    """``a`` where the condition holds, else ``b``; both are known by then, so that it is no branch."""
    return a if condition else b


@inlined
def root_of(x):
    """In the dtype of x, as below."""
    return np.sqrt(x)


@inlined
def power_of(x, exponent):
    """By the C library, one number at a time."""
    return x**exponent


@inlined
def log_of(x):
    """As a power."""
    return np.log(x)


FORMULAS = formulas(strict, number, where, exp, expm1, log_of, log1p, erf, root_of, power_of)


def value_of(kind, x, a, b):
    """y of the function ``kind``."""
    return FORMULAS[kind].value(x, a, b)


def gradient_of(kind, dy, x, a, b):
    """dx of the function ``kind``."""
    return FORMULAS[kind].gradient(dy, x, a, b)


@overload(value_of, jit_options=STRICT, prefer_literal=True)
def _value_overload(kind, x, a, b):
    if isinstance(kind, types.StringLiteral):
        formula = FORMULAS[kind.literal_value].value
        return lambda kind, x, a, b: formula(x, a, b)
    return None


@overload(gradient_of, jit_options=STRICT, prefer_literal=True)
def _gradient_overload(kind, dy, x, a, b):
    if isinstance(kind, types.StringLiteral):
        formula = FORMULAS[kind.literal_value].gradient
        return lambda kind, dy, x, a, b: formula(dy, x, a, b)
    return None


def _value_kernel(kind: str) -> Kernel:
    def values(chunk, x, y, a, b):
        for i in block(chunk, x.size):
            y[i] = value_of(kind, x[i], a, b)

    def computed_values(chunk, x, y, a, b):
        for first in parts(chunk, x.size):
            prefetch_run(x, first + AHEAD, PART)
            prefetch_run(y, first + AHEAD, PART)
            for i in part(first, x.size):
                y[i] = value_of(kind, x[i], a, b)

    values = computed_values if kind in COMPUTED else values
    return _named(values, f"values_of_{kind}")


def _gradient_kernel(kind: str) -> Kernel:
    def gradients(chunk, dy, x, dx, a, b):
        for i in block(chunk, x.size):
            dx[i] = gradient_of(kind, dy[i], x[i], a, b)

    def computed_gradients(chunk, dy, x, dx, a, b):
        for first in parts(chunk, x.size):
            prefetch_run(x, first + AHEAD, PART)
            prefetch_run(dy, first + AHEAD, PART)
            for i in part(first, x.size):
                dx[i] = gradient_of(kind, dy[i], x[i], a, b)

    gradients = computed_gradients if kind in COMPUTED else gradients
    return _named(gradients, f"gradients_of_{kind}")


def _named(definition: Any, name: str) -> Kernel:
    """A kernel of this module, where processes that help to compile look for it by its name."""
    definition.__name__ = name
    globals()[name] = made = kernel(definition)
    return made


VALUES = {kind: _value_kernel(kind) for kind in FORMULAS}
GRADIENTS = {kind: _gradient_kernel(kind) for kind in FORMULAS}
