"""Exponentials that add up to 1 along an axis, and their logarithms."""

from __future__ import annotations

from typing import Any

from .. import backends
from ..backends import Array, Backend
from .arguments import check_shape, common_dtype, convert, integer, real_array

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]

MOST_AXES = 64
"""Of an array of NumPy."""


def softmax(x: Any, dim: int = -1, *, backend: str | Backend | None = None) -> Array:
    """``exp(x) / sum(exp(x))`` along the axis ``dim``, which does not overflow.

    >>> softmax([[0, 0], [0, 1000]], backend="reference")
    array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    return _value(x, dim, False, backend)


def softmax_backward(dy: Any, y: Any, dim: int = -1, *, backend: str | Backend | None = None) -> Array:
    """``dx = y (dy - s)``, s being the sum of ``dy y`` along ``dim``, with ``y = softmax(x, dim)``.

    ValueError unless the shapes are equal.
    """
    return _gradient(dy, y, dim, False, backend)


def log_softmax(x: Any, dim: int = -1, *, backend: str | Backend | None = None) -> Array:
    """``x - log(sum(exp(x)))`` along the axis ``dim``, without overflow, and exact where the softmax is near 0.

    >>> log_softmax([[0, 1000]], backend="reference")
    array([[-1000.,     0.]], dtype=float32)
    """
    return _value(x, dim, True, backend)


def log_softmax_backward(dy: Any, y: Any, dim: int = -1, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy - exp(y) s``, s being the sum of dy along ``dim``, with ``y = log_softmax(x, dim)``.

    ValueError unless the shapes are equal.
    """
    return _gradient(dy, y, dim, True, backend)


def axis_of(name: str, x: Array, dim: Any) -> int:
    """``dim``, an axis of x, the argument ``name``, counted from 0; ValueError where x has none or not that one."""
    axes = len(x.shape)
    if not axes:
        raise ValueError(f"`{name}` () must have one axis at least")
    return integer("dim", dim, -axes, axes - 1) % axes


def _value(x: Any, dim: int, logarithm: bool, backend: str | Backend | None) -> Array:
    backend = backends.get(backend)
    x = real_array("x", x, backend)
    return backend.softmax(backend.asarray(x, common_dtype(x)), axis_of("x", x, dim), logarithm)


def _gradient(dy: Any, y: Any, dim: int, logarithm: bool, backend: str | Backend | None) -> Array:
    backend = backends.get(backend)
    dy, y = real_array("dy", dy, backend), real_array("y", y, backend)
    check_shape("dy", dy, y.shape, "of `y`")
    axis = axis_of("y", y, dim)
    dy, y = convert(backend, common_dtype(dy, y), dy, y)
    return backend.softmax_backward(dy, y, axis, logarithm)
