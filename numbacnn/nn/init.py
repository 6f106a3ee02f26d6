"""Initial weights, all drawn from one process-wide generator, in float64, so that every backend gets the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ops.arguments import integer
from .layer import Layer
from .state import Parameter

__all__ = ["draw_seed", "fan_in_uniform", "manual_seed", "xavier_uniform"]

_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Restart the generator: the layers made next have the same weights (and dropout masks) after every call.

    ``seed`` is an integer, 0 or more.
    """
    global _generator
    _generator = np.random.default_rng(integer("seed", seed))


def draw_seed() -> int:
    """A seed, 0 to 2**63 - 1, for a layer that draws random numbers of its own."""
    return int(_generator.integers(2**63))


def fan_in_uniform(shape: tuple[int, ...], fan_in: int, dtype: Any) -> np.ndarray[Any, Any]:
    """U(-b, b) with b = 1 / sqrt(fan_in): what PyTorch's convolution and linear layers start from, weight and bias.

    It is He et al. 2015 ("Delving deep into rectifiers") for a leaky ReLU of slope sqrt(5).
    """
    return _uniform(shape, 1 / math.sqrt(fan_in), dtype)


def xavier_uniform(target: Layer | Parameter) -> None:
    """Draw weights anew from U(-b, b), b = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16).

    Of a model, the ``weight`` of every convolution and linear layer in it; biases stay as they are. ``fan_in`` and
    ``fan_out`` are the weight's second and first size, times the size of the kernel.
    """
    if isinstance(target, Layer):
        for layer in target.layers():
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Parameter) and len(weight.shape) >= 2:
                xavier_uniform(weight)
        return
    if not isinstance(target, Parameter):
        raise TypeError(f"`target` of type {type(target).__name__} must be a Layer or a Parameter")
    if len(target.shape) < 2:
        raise ValueError(f"`target` of shape {target.shape} must have at least 2 axes to have a fan-in and a fan-out")
    fan_out, fan_in, *kernel = target.shape
    bound = math.sqrt(6 / ((fan_in + fan_out) * math.prod(kernel)))
    target.value = _uniform(target.shape, bound, target.dtype)


def _uniform(shape: tuple[int, ...], bound: float, dtype: Any) -> np.ndarray[Any, Any]:
    return _generator.uniform(-bound, bound, shape).astype(dtype)
