"""Parameter updates, all in place; the gradient is only read."""

from __future__ import annotations

import numpy as np

from ..contract import Array

__all__ = ["adam_step", "sgd_step"]


def sgd_step(
    parameter: Array,
    gradient: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """SGD with a velocity, or none: Sutskever et al., ICML 2013, in PyTorch's form.

    g = gradient + weight_decay * parameter; velocity = momentum * velocity + g;
    parameter -= lr * (g without a velocity, g + momentum * velocity if nesterov, else velocity).
    """
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
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Adam of step 1, 2, ... (Kingma and Ba, ICLR 2015); ``decoupled`` is AdamW (Loshchilov and Hutter, ICLR 2019)."""
    g = gradient
    if decoupled:
        parameter *= 1 - lr * weight_decay
    else:
        g = gradient + weight_decay * parameter
    first_moment[...] = beta1 * first_moment + (1 - beta1) * g
    second_moment[...] = beta2 * second_moment + (1 - beta2) * g * g
    mean = first_moment / (1 - beta1**step)
    spread = np.sqrt(second_moment / (1 - beta2**step))
    parameter -= lr * mean / (spread + eps)
