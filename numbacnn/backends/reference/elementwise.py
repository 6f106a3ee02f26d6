"""ReLU, sigmoid, tanh, dropout, and what the combinators do with whole arrays.

``np.asarray`` around a formula is for shape (), where NumPy's arithmetic gives a scalar, before NumPy 2 of another
dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Activation, Array
from ..shared.philox import drop_threshold, dropout_words

__all__ = [
    "accumulate",
    "add",
    "add_channels",
    "dropout",
    "expand",
    "fill_zero",
    "increment",
    "multiply",
    "put_channels",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "sum_of_products",
    "take_channels",
    "tanh",
    "tanh_backward",
]


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays."""
    return np.asarray(np.maximum(x, 0, dtype=x.dtype))


def relu_backward(dy: Array, y: Array) -> Array:
    """dy where y is above 0, else 0; NaN in y lets dy through."""
    return np.where(y <= 0, dy.dtype.type(0), dy)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    # exp(-|x|) is at most 1; for negative x the fraction is expanded by exp(x).
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, x.dtype.type(1)) / (1 + e), x.dtype)


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dy y (1 - y)."""
    return np.asarray(dy * y * (1 - y), dy.dtype)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return np.asarray(np.tanh(x))


def tanh_backward(dy: Array, y: Array) -> Array:
    """dy (1 - y^2)."""
    return np.asarray(dy * (1 - y * y), dy.dtype)


def dropout(x: Array, p: float, seed: int, offset: Array) -> Array:
    """x / (1 - p) where the mask of (seed, offset) keeps, else 0: shared/philox.py. Its own backward pass."""
    dropped = (dropout_words(x.size, seed, int(offset)) < drop_threshold(p)).reshape(x.shape)
    kept = np.where(dropped, x.dtype.type(0), x)
    return np.asarray(kept / (1 - p), x.dtype) if p < 1 else kept


def expand(x: Array, shape: Sequence[int]) -> Array:
    """``x`` repeated as NumPy broadcasts it to ``shape``."""
    return np.array(np.broadcast_to(x, tuple(shape)), order="C")


def add(arrays: Sequence[Array]) -> Array:
    """The sum of one or more arrays of one shape, added left to right."""
    total = np.array(arrays[0])
    for array in arrays[1:]:
        total += array
    return total


def multiply(x: Array, y: Array) -> Array:
    """x times y: of the same shape or, where x is (n, c, h, w), a number for each channel, (n, c, 1, 1)."""
    return np.asarray(x * y)


def sum_of_products(a: Array, b: Array) -> Array:
    """(n, c, 1, 1): the sums over positions of a times b, both (n, c, h, w)."""
    return np.multiply(a, b, dtype=np.float64).sum(axis=(2, 3), keepdims=True).astype(a.dtype)


def take_channels(x: Array, first: int, count: int) -> Array:
    """``count`` channels of x (n, c, ...), from ``first`` on."""
    return np.array(x[:, first : first + count], order="C")


def put_channels(target: Array, value: Array, first: int) -> None:
    """In place: the channels of target (n, c, ...) from ``first`` on become those of value (n, count, ...)."""
    target[:, first : first + value.shape[1]] = value


def add_channels(target: Array, value: Array) -> None:
    """In place: the first channels of target (n, c, ...) ``+=`` those of value (n, count, ...)."""
    target[:, : value.shape[1]] += value


def accumulate(target: Array, value: Array, scale: float = 1.0) -> None:
    """In place: ``target += scale * value``; of floating or int64 arrays, the latter with scale 1."""
    target += value if scale == 1 else scale * value


def fill_zero(target: Array) -> None:
    """In place: ``target = 0``."""
    target[...] = 0


def increment(counter: Array) -> None:
    """In place: ``counter += 1``, int64 of shape ()."""
    counter += 1


def activate(y: Array, activation: Activation) -> Array:
    """``y`` after the function of that name, itself for None."""
    return y if activation is None else _ACTIVATIONS[activation](y)


def written(value: Array, out: Array | None) -> Array:
    """``value``, in ``out`` where there is one."""
    if out is None:
        return value
    out[...] = value
    return out


_ACTIVATIONS = {"relu": relu, "sigmoid": sigmoid, "tanh": tanh}
