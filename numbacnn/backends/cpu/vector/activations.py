"""Activations that kernels apply to what they have stored, in place.

Each is a microkernel and compiled once; inlined, it would be a part of every kernel that may activate.
"""

from __future__ import annotations

import numpy as np

from ..runtime.kernel import compiled_microkernel, inlined
from ..runtime.microkernel import ELEMENTS, INTEGER, Microkernel, calling
from .transcendental import exp
from .transcendental import tanh as hyperbolic_tangent

__all__ = ["activate", "activation_of"]


@compiled_microkernel(ELEMENTS, INTEGER)
def relu_of(x, start, count):
    """In place, the same bits as the kernel; the other microkernels likewise."""
    zero = x.dtype.type(0)
    for i in range(start, start + count):
        x[np.uintp(i)] = zero if x[np.uintp(i)] <= zero else x[np.uintp(i)]


@compiled_microkernel(ELEMENTS, INTEGER)
def sigmoid_of(x, start, count):
    one = x.dtype.type(1)
    for i in range(start, start + count):
        x[np.uintp(i)] = one / (one + exp(-x[np.uintp(i)]))


@compiled_microkernel(ELEMENTS, INTEGER)
def tanh_of(x, start, count):
    for i in range(start, start + count):
        x[np.uintp(i)] = hyperbolic_tangent(x[np.uintp(i)])


def activation_of(code: int) -> Microkernel | int:
    """What a kernel that activates what it stores is given for a code of ACTIVATIONS; 0 for none."""
    return (0, relu_of, sigmoid_of, tanh_of)[code]


_activate = calling(relu_of.kinds)


@inlined
def activate(microkernel, x, start, count, code):
    """x[start : start + count] in place, by the microkernel of that code."""
    if code > 0:
        _activate(microkernel, x, start, count)
