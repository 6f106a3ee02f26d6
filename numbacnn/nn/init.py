"""Initial weights, drawn from one process-wide generator, or a block's own, in float64: every backend gets the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..ops.arguments import finite, integer, number, one_of
from .layer import Layer
from .state import Parameter

__all__ = [
    "calculate_gain",
    "draw_seed",
    "fan_in_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "manual_seed",
    "orthogonal",
    "seeded",
    "trunc_normal",
    "xavier_normal",
    "xavier_uniform",
]

_process_wide = np.random.default_rng()
_of_block: ContextVar[np.random.Generator | None] = ContextVar("generator", default=None)


def manual_seed(seed: int) -> None:
    """Restart the generator: the layers made next have the same weights (and dropout masks) after every call.

    ``seed`` is an integer, 0 or more. In a block of :func:`seeded` the block's generator is restarted.
    """
    global _process_wide
    restarted = np.random.default_rng(integer("seed", seed))
    if _of_block.get() is None:
        _process_wide = restarted
    else:
        _of_block.set(restarted)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside of ``with seeded(seed):`` layers are made as after ``manual_seed(seed)``; the generator stays as it was.

    The block has a generator of its own, which other threads do not see.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"), seeded(0):
    ...     first = nn.Linear(2, 1)
    >>> with use_backend("reference"), seeded(0):
    ...     again = nn.Linear(2, 1)
    >>> bool((first.weight.value == again.weight.value).all())
    True
    """
    token = _of_block.set(np.random.default_rng(integer("seed", seed)))
    try:
        yield
    finally:
        _of_block.reset(token)


def _generator() -> np.random.Generator:
    return _of_block.get() or _process_wide


def draw_seed() -> int:
    """A seed, 0 to 2**63 - 1, for a layer that draws random numbers of its own."""
    return int(_generator().integers(2**63))


def fan_in_uniform(shape: tuple[int, ...], fan_in: int, dtype: Any) -> np.ndarray[Any, Any]:
    """U(-b, b) with b = 1 / sqrt(fan_in): what PyTorch's convolution and linear layers start from, weight and bias.

    It is He et al. 2015 ("Delving deep into rectifiers") for a leaky ReLU of slope sqrt(5).
    """
    return _uniform(shape, 1 / math.sqrt(fan_in), dtype)


def calculate_gain(nonlinearity: str, slope: float = 0.01) -> float:
    """By what weights are multiplied for the function after them, so that a layer's outputs vary as its inputs do.

    Args:
        nonlinearity: ``"linear"`` and ``"sigmoid"``, 1, ``"tanh"``, 5/3, ``"relu"``, sqrt(2), ``"leaky_relu"``,
            sqrt(2 / (1 + slope^2)), or ``"selu"``, 3/4.
        slope: of the leaky ReLU below zero.

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    one_of("nonlinearity", nonlinearity, ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"))
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + finite("slope", slope) ** 2))
    return {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}[nonlinearity]


def xavier_uniform(target: Layer | Parameter, gain: float = 1.0) -> None:
    """Draw weights anew from U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16).

    Of a model, the ``weight`` of every convolution and linear layer in it; biases stay as they are. ``fan_in`` and
    ``fan_out`` are the weight's second and first size, times the size of the kernel.
    """
    gain = number("gain", gain, 0)
    for weight in _weights(target):
        bound = gain * math.sqrt(6 / sum(_fans(weight)))
        weight.value = _uniform(weight.shape, bound, weight.dtype)


def xavier_normal(target: Layer | Parameter, gain: float = 1.0) -> None:
    """Draw weights anew from N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)); see `xavier_uniform`."""
    gain = number("gain", gain, 0)
    for weight in _weights(target):
        weight.value = _normal(weight, gain * math.sqrt(2 / sum(_fans(weight))))


def kaiming_uniform(
    target: Layer | Parameter, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> None:
    """Draw weights anew from U(-b, b), b = gain sqrt(3 / fan) (He et al. 2015, "Delving deep into rectifiers").

    Args:
        target: a parameter of at least two axes, or a model, of which the ``weight`` of every convolution and linear
            layer is drawn.
        a: the slope below zero of the leaky ReLU.
        mode: ``"fan_in"``, which keeps the size of outputs, or ``"fan_out"``, that of gradients.
        nonlinearity: of :func:`calculate_gain`.
    """
    for weight, scale in _kaiming(target, a, mode, nonlinearity):
        weight.value = _uniform(weight.shape, math.sqrt(3) * scale, weight.dtype)


def kaiming_normal(
    target: Layer | Parameter, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> None:
    """Draw weights anew from N(0, s^2), s = gain / sqrt(fan); the arguments are those of :func:`kaiming_uniform`."""
    for weight, scale in _kaiming(target, a, mode, nonlinearity):
        weight.value = _normal(weight, scale)


def trunc_normal(
    target: Layer | Parameter, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> None:
    """Draw weights anew from N(mean, std^2), again and again until they are in [a, b].

    Targets are those of :func:`kaiming_uniform`, and parameters of one axis. ValueError unless a is below b and at
    least one in 10,000 draws would be between them.
    """
    mean, std, a, b = finite("mean", mean), number("std", std, 0), finite("a", a), finite("b", b)
    if not a < b:
        raise ValueError(f"`a` {a} must be below `b` {b}")
    within = math.erf((b - mean) / (std * math.sqrt(2))) - math.erf((a - mean) / (std * math.sqrt(2))) if std else 0.0
    if within / 2 < 1e-4:
        raise ValueError(f"`a` {a} and `b` {b} hold less than a 10,000th of N({mean}, {std}^2)")
    for weight in _weights(target, axes=1):
        values = _generator().normal(mean, std, weight.shape)
        while (outside := (values < a) | (values > b)).any():
            values[outside] = _generator().normal(mean, std, int(outside.sum()))
        weight.value = values.astype(weight.dtype)


def orthogonal(target: Layer | Parameter, gain: float = 1.0) -> None:
    """Draw weights anew whose rows, all axes but the first in one, are orthogonal, or whose columns are (Saxe 2013).

    Targets are those of :func:`kaiming_uniform`. A square matrix is drawn evenly from all orthogonal ones.
    """
    gain = number("gain", gain, 0)
    for weight in _weights(target):
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        q, r = np.linalg.qr(_generator().standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))
        weight.value = (gain * (q if rows >= columns else q.T)).reshape(weight.shape).astype(weight.dtype)


def _kaiming(target: Layer | Parameter, a: float, mode: str, nonlinearity: str) -> list[tuple[Parameter, float]]:
    """Each weight with its standard deviation."""
    gain = calculate_gain(nonlinearity, a)
    fan = ("fan_in", "fan_out").index(one_of("mode", mode, ("fan_in", "fan_out")))
    return [(weight, gain / math.sqrt(_fans(weight)[fan])) for weight in _weights(target)]


def _weights(target: Layer | Parameter, axes: int = 2) -> list[Parameter]:
    """The parameter itself, of at least so many axes, or the weights of all convolution and linear layers."""
    if isinstance(target, Layer):
        found = [getattr(layer, "weight", None) for layer in target.layers()]
        weights = [weight for weight in found if isinstance(weight, Parameter) and len(weight.shape) >= 2]
        return list({id(weight): weight for weight in weights}.values())
    if not isinstance(target, Parameter):
        raise TypeError(f"`target` of type {type(target).__name__} must be a Layer or a Parameter")
    if len(target.shape) < axes:
        raise ValueError(
            f"`target` of shape {target.shape} must have at least {axes} axes"
            + " to have a fan-in and a fan-out" * (axes == 2)
        )
    return [target]


def _fans(weight: Parameter) -> tuple[int, int]:
    fan_out, fan_in, *kernel = weight.shape
    return fan_in * math.prod(kernel), fan_out * math.prod(kernel)


def _normal(weight: Parameter, std: float) -> np.ndarray[Any, Any]:
    return _generator().normal(0.0, std, weight.shape).astype(weight.dtype)


def _uniform(shape: tuple[int, ...], bound: float, dtype: Any) -> np.ndarray[Any, Any]:
    return _generator().uniform(-bound, bound, shape).astype(dtype)
