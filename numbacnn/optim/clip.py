"""Gradients of bounded length."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..backends import Array
from ..nn.state import Parameter
from .optimizer import Optimizer, not_negative

__all__ = ["clip_grad_norm"]


def clip_grad_norm(gradients_of: Optimizer | Iterable[Parameter], max_norm: float) -> Array:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), in place; ``norm`` is that of all of them together.

    Between the backward pass and ``optimizer.step()``. It waits for nothing and may be captured: the length stays on
    the backend. A gradient that is infinite or NaN leaves NaN. What is frozen does not count. Pascanu et al. 2013, in
    PyTorch's form.

    Args:
        gradients_of: an optimizer, whose gradients lie side by side and take one call, or parameters; all on one
            backend.
        max_norm: 0 or more.

    Returns:
        The Euclidean norm before, float64 of shape (), on the backend.

    Raises:
        ValueError: no parameters, parameters on several backends, ``max_norm`` out of range.

    Example:
        >>> import numbacnn as nc
        >>> from numbacnn import nn, optim
        >>> with nc.use_backend("reference"):
        ...     parameter = nn.Parameter([1.0, 1.0])
        >>> parameter.accumulate([3.0, 4.0])
        >>> float(optim.clip_grad_norm([parameter], 1)), parameter.grad.round(3)
        (5.0, array([0.6, 0.8], dtype=float32))
    """
    max_norm = not_negative("max_norm", max_norm)
    parameters = gradients_of.parameters if isinstance(gradients_of, Optimizer) else _parameters(gradients_of)
    names = sorted({parameter.backend.name for parameter in parameters})
    if len(names) != 1:
        raise ValueError(f"`gradients_of` must have gradients on one backend, not on {', '.join(names) or 'none'}")
    backend = parameters[0].backend
    if isinstance(gradients_of, Optimizer):
        gradients = [gradient for _, gradient in gradients_of.flat_gradients()]
    else:
        gradients = [parameter.grad for parameter in parameters if parameter.requires_grad]
    if not gradients:
        return backend.zeros((), np.float64)
    norm = backend.global_norm(gradients)
    for gradient in gradients:
        backend.clip_scale(gradient, norm, max_norm)
    return norm


def _parameters(parameters: Iterable[Parameter]) -> list[Parameter]:
    if isinstance(parameters, Parameter):
        raise TypeError("`gradients_of` is a single Parameter, must be a list")
    result = list(parameters)
    for i, parameter in enumerate(result):
        if not isinstance(parameter, Parameter):
            raise TypeError(f"`gradients_of`[{i}] of type {type(parameter).__name__} must be a Parameter")
    return result
