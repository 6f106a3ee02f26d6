"""Activations, dropout and joining: operations on arrays of any shape.

Without parameters, float64 stays float64 and everything else is computed in float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backends
from ..backends import Array, Backend
from .arguments import array_list, check_shape, common_dtype, convert, integer, number, real_array

__all__ = [
    "add",
    "concat",
    "concat_backward",
    "copy",
    "dropout",
    "dropout2d",
    "flatten",
    "multiply",
    "multiply_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "tanh",
    "tanh_backward",
]

LAST_SEED = 2**64 - 1
LAST_OFFSET = 2**63 - 1


def relu(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    >>> relu([-1, 0, 2], backend="reference")
    array([0., 0., 2.], dtype=float32)
    """
    backend = backends.get(backend)
    return backend.relu(_one("x", x, backend))


def relu_backward(dy: Any, y: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx`` is ``dy`` where ``y = relu(x)`` is above 0 (or NaN), else 0. ValueError unless the shapes are equal."""
    backend = backends.get(backend)
    return backend.relu_backward(*_cotangent_and_result(dy, y, backend))


def sigmoid(x: Any, *, backend: str | Backend | None = None) -> Array:
    """``1 / (1 + exp(-x))``, which does not overflow.

    >>> sigmoid([-1000, 0, 1000], backend="reference")
    array([0. , 0.5, 1. ], dtype=float32)
    """
    backend = backends.get(backend)
    return backend.sigmoid(_one("x", x, backend))


def sigmoid_backward(dy: Any, y: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy y (1 - y)`` with ``y = sigmoid(x)``. ValueError unless the shapes are equal."""
    backend = backends.get(backend)
    return backend.sigmoid_backward(*_cotangent_and_result(dy, y, backend))


def tanh(x: Any, *, backend: str | Backend | None = None) -> Array:
    """The hyperbolic tangent."""
    backend = backends.get(backend)
    return backend.tanh(_one("x", x, backend))


def tanh_backward(dy: Any, y: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx = dy (1 - y^2)`` with ``y = tanh(x)``. ValueError unless the shapes are equal."""
    backend = backends.get(backend)
    return backend.tanh_backward(*_cotangent_and_result(dy, y, backend))


def dropout(x: Any, p: float, seed: int, offset: Any, *, backend: str | Backend | None = None) -> Array:
    """``x / (1 - p)`` with each element set to 0 with probability ``p`` (Srivastava et al. 2014).

    Which ones depends on ``seed`` (0..2**64-1), ``offset`` (0..2**63-1) and an element's position alone, the same on
    every backend: equal arguments give equal masks. So the backward pass is this function again, on dy with the seed
    and offset of the forward pass. ``offset`` may be an array of the backend, int64 of shape (), which is not read
    before the backend needs it. ValueError for a ``p`` outside 0..1.
    """
    backend = backends.get(backend)
    return backend.dropout(_one("x", x, backend), *_mask(p, seed, offset, backend))


def dropout2d(x: Any, p: float, seed: int, offset: Any, *, backend: str | Backend | None = None) -> Array:
    """``x / (1 - p)`` with each channel of each image, x being (n, c, h, w), times 0 with probability ``p``.

    Neighbouring pixels tell much the same, so that alone they would not be missed (Tompson et al. 2015). Channels are
    dropped that :func:`dropout` drops of an array (n, c); the backward pass and the other arguments are as there.
    """
    backend = backends.get(backend)
    mask = _mask(p, seed, offset, backend)
    x = real_array("x", x, backend, "n, c, h, w")
    x = backend.asarray(x, common_dtype(x))
    # Ones that nothing brings from the host: what a step captures comes from no array of NumPy.
    ones = backend.pointwise(backend.zeros((*x.shape[:2], 1, 1), x.dtype), "hardtanh", (1.0, 1.0))
    return backend.multiply(x, backend.dropout(ones, *mask))


def add(arrays: Sequence[Any], *, backend: str | Backend | None = None) -> Array:
    """The sum of one or more arrays of one shape (nothing is broadcast), added left to right.

    >>> add([[1, 2], [3, 4], [5, 6]], backend="reference")
    array([ 9., 12.], dtype=float32)
    """
    backend = backends.get(backend)
    arrays = array_list("arrays", arrays, backend)
    for i, x in enumerate(arrays):
        check_shape(f"arrays[{i}]", x, arrays[0].shape, "of `arrays[0]`")
    return backend.add(convert(backend, common_dtype(*arrays), *arrays))


def multiply(x: Any, y: Any, *, backend: str | Backend | None = None) -> Array:
    """``x`` times ``y``, element by element, or each channel of images x (n, c, h, w) times a number, y (n, c, 1, 1).

    Nothing else is broadcast: ValueError for other shapes.

    >>> multiply([[[[1, 2]], [[3, 4]]]], [[[[10]], [[0]]]], backend="reference").tolist()
    [[[[10.0, 20.0]], [[0.0, 0.0]]]]
    """
    backend = backends.get(backend)
    return backend.multiply(*_factors(x, y, backend))


def multiply_backward(dy: Any, x: Any, y: Any, *, backend: str | Backend | None = None) -> tuple[Array, Array]:
    """The gradients of x, ``dy y``, and of y, ``dy x``, summed over positions where y has a number for each channel.

    ``dy`` is the cotangent of :func:`multiply`, which has the same arguments and errors; it has the shape of x.
    """
    backend = backends.get(backend)
    dy = real_array("dy", dy, backend)
    x, y = _factors(x, y, backend, dy)
    check_shape("dy", dy, x.shape, "of `x`")
    dy = backend.asarray(dy, x.dtype)
    of_y = backend.multiply if tuple(x.shape) == tuple(y.shape) else backend.sum_of_products
    return backend.multiply(dy, y), of_y(dy, x)


def concat(arrays: Sequence[Any], *, backend: str | Backend | None = None) -> Array:
    """One or more arrays (n, c_i, ...), equal in all axes but the channels, joined along the channels, axis 1.

    >>> concat([[[1, 2]], [[3]]], backend="reference")
    array([[1., 2., 3.]], dtype=float32)
    """
    backend = backends.get(backend)
    arrays = array_list("arrays", arrays, backend)
    first = tuple(arrays[0].shape)
    for i, x in enumerate(arrays):
        if len(x.shape) < 2:
            raise ValueError(f"`arrays[{i}]` {tuple(x.shape)} must have 2 or more axes (n, c, ...)")
        if (x.shape[0], *x.shape[2:]) != (first[0], *first[2:]):
            raise ValueError(
                f"`arrays[{i}]` {tuple(x.shape)} must equal `arrays[0]` {first} in all axes but channels (axis 1)"
            )
    dtype, channels = common_dtype(*arrays), [x.shape[1] for x in arrays]
    y = backend.empty((first[0], sum(channels), *first[2:]), dtype)
    for x, start in zip(convert(backend, dtype, *arrays), _starts(channels), strict=True):
        backend.put_channels(y, x, start)
    return y


def concat_backward(dy: Any, sizes: Sequence[int], *, backend: str | Backend | None = None) -> list[Array]:
    """``dy`` (n, c, ...) cut along axis 1 into new arrays of ``sizes`` channels each, the inverse of :func:`concat`.

    ValueError unless the sizes add up to the channels of ``dy``.

    >>> concat_backward([[1, 2, 3]], [2, 1], backend="reference")
    [array([[1., 2.]], dtype=float32), array([[3.]], dtype=float32)]
    """
    backend = backends.get(backend)
    dy = real_array("dy", dy, backend)
    shape = tuple(dy.shape)
    if len(shape) < 2:
        raise ValueError(f"`dy` {shape} must have 2 or more axes (n, c, ...)")
    if not isinstance(sizes, Sequence) or not sizes:
        raise ValueError(f"`sizes` {sizes!r} must be a sequence of one or more ints")
    channels = [integer("sizes", size) for size in sizes]
    if sum(channels) != shape[1]:
        raise ValueError(f"`sizes` {tuple(sizes)} must add up to the {shape[1]} channels of `dy` {shape}")
    dy = backend.asarray(dy, common_dtype(dy))
    return [backend.take_channels(dy, start, size) for start, size in zip(_starts(channels), channels, strict=True)]


def flatten(x: Any, start_dim: int = 1, *, backend: str | Backend | None = None) -> Array:
    """A copy of x with its axes from ``start_dim`` on joined into one: (n, c, h, w) becomes (n, c * h * w).

    ``start_dim`` is 0..ndim; with ndim itself, an axis of size 1 is added.
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend)
    shape = tuple(x.shape)
    start = integer("start_dim", start_dim, 0, len(shape))
    shape = (*shape[:start], math.prod(shape[start:]))
    return backend.copy(backend.reshape(backend.asarray(x, common_dtype(x)), shape))


def copy(x: Any, *, backend: str | Backend | None = None) -> Array:
    """A new array with the values of x: what the identity returns, since a result is never an argument."""
    backend = backends.get(backend)
    return backend.copy(_one("x", x, backend))


def _mask(p: Any, seed: Any, offset: Any, backend: Backend) -> tuple[float, int, Array]:
    """The arguments of dropout, the offset as an array of the backend."""
    p, seed = number("p", p, 0, 1), integer("seed", seed, 0, LAST_SEED)
    if not backend.is_array(offset):
        offset = backend.asarray(np.array(integer("offset", offset, 0, LAST_OFFSET), np.int64))
    elif np.dtype(offset.dtype) != np.int64 or tuple(offset.shape):
        raise TypeError(f"`offset` {tuple(offset.shape)} of dtype {offset.dtype} must be an int, or int64 of shape ()")
    return p, seed, offset


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each part begins, of parts of ``sizes`` one after the other."""
    return [0, *itertools.accumulate(sizes)][:-1]


def _one(name: str, x: Any, backend: Backend) -> Array:
    x = real_array(name, x, backend)
    return backend.asarray(x, common_dtype(x))


def _factors(x: Any, y: Any, backend: Backend, *others: Array) -> tuple[Array, ...]:
    """``x`` and ``y`` of the dtype that they and ``others`` have in common."""
    x, y = real_array("x", x, backend), real_array("y", y, backend)
    of_x, of_y = tuple(x.shape), tuple(y.shape)
    if of_y != of_x and (len(of_x) != 4 or of_y != (*of_x[:2], 1, 1)):
        rule = f" or {(*of_x[:2], 1, 1)}" if len(of_x) == 4 else ""
        raise ValueError(f"`y` {of_y} must have the shape {of_x}{rule} for `x` {of_x}")
    return convert(backend, common_dtype(x, y, *others), x, y)


def _cotangent_and_result(dy: Any, y: Any, backend: Backend) -> tuple[Array, ...]:
    dy, y = real_array("dy", dy, backend), real_array("y", y, backend)
    check_shape("dy", dy, y.shape, "of `y`")
    return convert(backend, common_dtype(dy, y), dy, y)
