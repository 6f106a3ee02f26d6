"""The innermost loops of convolution and pooling: a row, and every ``step``-th element of another.

All arrays are flat. Indices are unsigned: Numba lets a signed index count from the end when it is negative, and the
test for that keeps LLVM from using vectors. Step 1, where neighbours are loaded as one vector, is a loop of its own.
"""

from __future__ import annotations

import numpy as np

from .jit import function

__all__ = ["add_products_strided", "add_strided", "add_to_strided", "copy_strided"]


@function
def copy_strided(target, at, source, start, step, count):
    """target[at + i] = source[start + i * step]"""
    if step == 1:
        for i in range(count):
            target[np.uintp(at + i)] = source[np.uintp(start + i)]
    else:
        for i in range(count):
            target[np.uintp(at + i)] = source[np.uintp(start + i * step)]


@function
def add_strided(target, at, factor, source, start, step, count):
    """target[at + i] += factor * source[start + i * step]"""
    if step == 1:
        for i in range(count):
            target[np.uintp(at + i)] += factor * source[np.uintp(start + i)]
    else:
        for i in range(count):
            target[np.uintp(at + i)] += factor * source[np.uintp(start + i * step)]


@function
def add_to_strided(target, start, step, factor, source, at, count):
    """target[start + i * step] += factor * source[at + i]"""
    if step == 1:
        for i in range(count):
            target[np.uintp(start + i)] += factor * source[np.uintp(at + i)]
    else:
        for i in range(count):
            target[np.uintp(start + i * step)] += factor * source[np.uintp(at + i)]


@function
def add_products_strided(target, at, a, a_at, b, start, step, count):
    """target[at + i] += a[a_at + i] * b[start + i * step]"""
    if step == 1:
        for i in range(count):
            target[np.uintp(at + i)] += a[np.uintp(a_at + i)] * b[np.uintp(start + i)]
    else:
        for i in range(count):
            target[np.uintp(at + i)] += a[np.uintp(a_at + i)] * b[np.uintp(start + i * step)]
