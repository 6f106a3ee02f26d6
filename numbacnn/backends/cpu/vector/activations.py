"""What kernels apply to results before they store them: an activation, in place, as a routine of its own.

A routine each, which kernels call by its address, is compiled once; inlined, it would be a part of every kernel that
may activate.
"""

from __future__ import annotations

import numpy as np

from ..runtime.kernel import function, routine
from ..runtime.native import ELEMENTS, INTEGER, Routine, calling
from .transcendental import exp
from .transcendental import tanh as hyperbolic_tangent

__all__ = ["activate", "activation_of"]


@routine(ELEMENTS, INTEGER)
def relu_of(x, start, count):
    """In place, the same bits as the kernel; the other routines likewise."""
    zero = x.dtype.type(0)
    for i in range(start, start + count):
        x[np.uintp(i)] = zero if x[np.uintp(i)] <= zero else x[np.uintp(i)]


@routine(ELEMENTS, INTEGER)
def sigmoid_of(x, start, count):
    one = x.dtype.type(1)
    for i in range(start, start + count):
        x[np.uintp(i)] = one / (one + exp(-x[np.uintp(i)]))


@routine(ELEMENTS, INTEGER)
def tanh_of(x, start, count):
    for i in range(start, start + count):
        x[np.uintp(i)] = hyperbolic_tangent(x[np.uintp(i)])


def activation_of(code: int) -> Routine | int:
    """What a kernel that activates what it stores is given for a code of ACTIVATIONS; 0 for none."""
    return (0, relu_of, sigmoid_of, tanh_of)[code]


_activate = calling(relu_of.kinds)


@function
def activate(routine, x, start, count, code):
    """x[start : start + count] in place, by the routine of that code."""
    if code > 0:
        _activate(routine, x, start, count)
