"""Parameter updates, in place, the gradient being only read; and the length of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Array

__all__ = [
    "adagrad_step",
    "adam_step",
    "clip_scale",
    "divide",
    "global_norm",
    "lion_step",
    "nadam_step",
    "rmsprop_step",
    "sgd_step",
]


def global_norm(arrays: Sequence[Array]) -> Array:
    """The root of the sum of all squares in one or more floating arrays (shape (), float64)."""
    return np.array(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in arrays)))


def clip_scale(target: Array, norm: Array, max_norm: float) -> None:
    """In place: ``target *= min(1, max_norm / (norm + 1e-6))``, norm float64 of shape (); NaN if norm is."""
    target *= float(np.minimum(1, max_norm / (norm + 1e-6)))


def divide(target: Array, divisor: Array) -> None:
    """In place: ``target /= divisor``, a float64 of shape () that is rounded to the target's dtype."""
    with np.errstate(divide="ignore", invalid="ignore"):
        target /= target.dtype.type(divisor)


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
    count, (lr, beta1, *_) = int(step), settings.tolist()
    _, root = _moments(parameter, gradient, first_moment, second_moment, count, settings, decoupled)
    parameter -= lr * (first_moment / (1 - beta1**count)) / root


def nadam_step(
    parameter: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    mu_product: Array,
    step: Array,
    settings: Array,
    decoupled: bool,
) -> None:
    """Adam with Nesterov's momentum (Dozat, ICLR workshop 2016), in PyTorch's form.

    ``settings`` are those of Adam and momentum_decay. mu of step t is beta1 (1 - 0.96^(t momentum_decay) / 2), and
    ``mu_product``, float64 of shape (), becomes the product of all until now.
    """
    count, (lr, beta1, *_, momentum_decay) = int(step), settings.tolist()
    g, root = _moments(parameter, gradient, first_moment, second_moment, count, settings[:5], decoupled)
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (count, count + 1))
    mu_product *= mu
    of_gradient, of_moment = (1 - mu) / (1 - mu_product), mu_next / (1 - mu_product * mu_next)
    parameter -= lr * (of_gradient * g + of_moment * first_moment) / root


def _moments(
    parameter: Array, gradient: Array, first: Array, second: Array, count: int, settings: Array, decoupled: bool
) -> tuple[Array, Array]:
    """The decay and the running averages of Adam; the gradient after decay, and what a step is divided by."""
    lr, beta1, beta2, eps, weight_decay = settings.tolist()
    g = gradient
    if decoupled:
        parameter *= 1 - lr * weight_decay
    else:
        g = gradient + weight_decay * parameter
    first[...] = beta1 * first + (1 - beta1) * g
    second[...] = beta2 * second + (1 - beta2) * g * g
    return g, np.sqrt(second / (1 - beta2**count)) + eps


def rmsprop_step(
    parameter: Array,
    gradient: Array,
    square_average: Array,
    gradient_average: Array | None,
    momentum_buffer: Array | None,
    settings: Array,
) -> None:
    """RMSprop (Hinton, lecture 6e, 2012; centered: Graves 2013), in PyTorch's form.

    ``settings`` are lr, alpha, eps, weight_decay and momentum, float64. A variance that is below 0 by rounding is 0.
    """
    lr, alpha, eps, weight_decay, momentum = settings.tolist()
    g = gradient + weight_decay * parameter
    square_average[...] = alpha * square_average + (1 - alpha) * g * g
    variance = square_average
    if gradient_average is not None:
        gradient_average[...] = alpha * gradient_average + (1 - alpha) * g
        variance = np.maximum(square_average - gradient_average**2, 0)
    g = g / (np.sqrt(variance) + eps)
    if momentum_buffer is not None:
        momentum_buffer[...] = momentum * momentum_buffer + g
        g = momentum_buffer
    parameter -= lr * g


def adagrad_step(parameter: Array, gradient: Array, square_sum: Array, step: Array, settings: Array) -> None:
    """Adagrad of step 1, 2, ... (Duchi et al., JMLR 2011): each element's step is divided by the root of its squares.

    ``step`` is int64 of shape (); ``settings`` are lr, lr_decay, eps and weight_decay, float64.
    """
    lr, lr_decay, eps, weight_decay = settings.tolist()
    g = gradient + weight_decay * parameter
    square_sum += g * g
    parameter -= lr / (1 + (int(step) - 1) * lr_decay) * g / (np.sqrt(square_sum) + eps)


def lion_step(parameter: Array, gradient: Array, first_moment: Array, settings: Array) -> None:
    """Lion (Chen et al., NeurIPS 2023): a step of lr along the sign of a running average, and decoupled decay.

    ``settings`` are lr, beta1, beta2 and weight_decay, float64.
    """
    lr, beta1, beta2, weight_decay = settings.tolist()
    direction = np.sign(beta1 * first_moment + (1 - beta1) * gradient)
    parameter[...] = (1 - lr * weight_decay) * parameter - lr * direction
    first_moment[...] = beta2 * first_moment + (1 - beta2) * gradient
