"""Parameter updates, in place, the gradient being only read; and the length of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Array

__all__ = ["adam_step", "clip_scale", "global_norm", "sgd_step"]


def global_norm(arrays: Sequence[Array]) -> Array:
    """The root of the sum of all squares in one or more floating arrays (shape (), float64)."""
    return np.array(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in arrays)))


def clip_scale(target: Array, norm: Array, max_norm: float) -> None:
    """In place: ``target *= min(1, max_norm / (norm + 1e-6))``, norm float64 of shape (); NaN if norm is."""
    target *= float(np.minimum(1, max_norm / (norm + 1e-6)))


def sgd_step(parameter: Array, gradient: Array, velocity: Array | None, settings: Array, nesterov: bool) -> None:
    """SGD with a velocity, or none: Sutskever et al., ICML 2013, in PyTorch's form.

    ``settings`` are lr, momentum and weight_decay, float64.
    g = gradient + weight_decay * parameter; velocity = momentum * velocity + g;
    parameter -= lr * (g without a velocity, g + momentum * velocity if nesterov, else velocity).
    """
    lr, momentum, weight_decay = settings.tolist()
    g = gradient + weight_decay * parameter
    if velocity is not None:
        velocity[...] = momentum * velocity + g
        g = g + momentum * velocity if nesterov else velocity
    parameter -= lr * g


def adam_step(
    parameter: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    step: Array,
    settings: Array,
    decoupled: bool,
) -> None:
    """Adam of step 1, 2, ... (Kingma and Ba, ICLR 2015); ``decoupled`` is AdamW (Loshchilov and Hutter, ICLR 2019).

    ``step`` is int64 of shape (); ``settings`` are lr, beta1, beta2, eps and weight_decay, float64.
    """
    lr, beta1, beta2, eps, weight_decay = settings.tolist()
    g = gradient
    if decoupled:
        parameter *= 1 - lr * weight_decay
    else:
        g = gradient + weight_decay * parameter
    first_moment[...] = beta1 * first_moment + (1 - beta1) * g
    second_moment[...] = beta2 * second_moment + (1 - beta2) * g * g
    count = int(step)
    mean = first_moment / (1 - beta1**count)
    root_mean_square = np.sqrt(second_moment / (1 - beta2**count))
    parameter -= lr * mean / (root_mean_square + eps)
