"""Batch normalisation (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backends
from ..backends import Array, Backend
from .arguments import activation_name, check_shape, convert, flag, integer, number, parameter_dtype, real_array
from .call_cache import cached_call

__all__ = ["batch_norm", "batch_norm_backward"]


@cached_call
def batch_norm(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    channels: int | None = None,
    activation: str | None = None,
    return_statistics: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array, Array]:
    """``y = weight * (x - mean) / sqrt(variance + eps) + bias`` for each channel.

    In training, mean and biased variance are those of the batch (per channel over batch, height and width), and the
    running statistics are updated in place, ``running = (1 - momentum) * running + momentum * batch``, with the
    unbiased variance as in PyTorch. In prediction they are the running statistics, so that the output for one sample
    does not depend on its batch.

    Args:
        x: (n, c), (n, c, l) or (n, c, h, w). The batch may be empty: then nothing is updated.
        weight, bias: Gamma and beta, (c,). The computation is done in the weight's dtype, float32 or float64.
        running_mean, running_var: (c,). In training contiguous, writable arrays of the backend, of the dtype of the
            computation; or both None, for no running statistics, which takes ``training``.
        training: Whether to normalise by the batch.
        momentum: The weight of the new batch in the running statistics, 0..1.
        eps: Added to the variance, at least 0.
        channels: How many channels of x count, the first ones, as if the others were not there, and without a copy;
            all if None.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"`` of the result, the same bits as a separate call; None for
            none.
        return_statistics: Whether to return ``mean`` and ``inverse_std``, which :func:`batch_norm_backward` needs.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: The shape of x, with ``channels`` channels.
        mean, inverse_std: (c,): the mean that was used and ``1 / sqrt(variance + eps)``.

    Raises:
        ValueError: For shapes that do not go together, an unknown activation, and for training on a single value per
            channel, which has no variance.
        TypeError: For arrays that are not real, or that training could not update.

    Example:
        >>> import numpy as np
        >>> one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        >>> batch_norm([[1.0], [3.0]], one, zero, zero.copy(), one.copy(), training=True, eps=0, backend="reference")
        array([[-1.],
               [ 1.]], dtype=float32)
    """
    backend = backends.get(backend)
    training, return_statistics = flag("training", training), flag("return_statistics", return_statistics)
    momentum, eps = number("momentum", momentum, 0, 1), number("eps", eps, 0)
    function = activation_name(activation)
    x, weight, bias = (
        real_array("x", x, backend),
        real_array("weight", weight, backend),
        real_array("bias", bias, backend),
    )
    updates = running_mean is not None or running_var is not None
    if not (updates or training):
        raise ValueError("`running_mean` and `running_var` must be given where `training` is False")
    running = {"running_mean": running_mean, "running_var": running_var} if updates else {}
    running = {name: real_array(name, array, backend) for name, array in running.items()}
    count = _values_of_a_channel(x.shape)
    c = _counted(channels, x.shape)
    for name, array in (("weight", weight), ("bias", bias), *running.items()):
        if array.shape != (c,):
            check_shape(name, array, (c,), f"for `x` {tuple(x.shape)}")
    if training and count == 1:
        raise ValueError(f"`x` {tuple(x.shape)} must hold more than one value per channel in training")
    dtype = parameter_dtype(weight)
    x, weight, bias = convert(backend, dtype, x, weight, bias)
    if training:
        if updates:
            average = updatable("running_mean", running_mean, dtype, backend)
            average_variance = updatable("running_var", running_var, dtype, backend)
        y, batch_mean, batch_variance, inverse_std = backend.batch_norm_train(x, weight, bias, eps, function)
        if updates and count:
            backend.update_running_average(average, batch_mean, momentum, 1.0)
            backend.update_running_average(average_variance, batch_variance, momentum, count / (count - 1))
        mean = batch_mean
    else:
        mean, variance = convert(backend, dtype, *running.values())
        y, inverse_std = backend.batch_norm_eval(x, weight, bias, mean, variance, eps, function)
    if not return_statistics:
        return y
    return y, mean if training else backend.copy(mean), inverse_std


def batch_norm_backward(
    dy: Any,
    x: Any,
    weight: Any,
    mean: Any,
    inverse_std: Any,
    training: bool = True,
    *,
    channels: int | None = None,
    backend: str | Backend | None = None,
) -> tuple[Array, Array, Array]:
    """The gradients of :func:`batch_norm` for a cotangent ``dy`` of its result: dx, dweight (c,), dbias (c,).

    ``mean`` and ``inverse_std`` are the forward call's; in ``training`` the gradient goes through the batch statistics
    as well, else they are constants. ``channels`` is the forward call's too; dy and dx have so many. ValueError for
    shapes that do not go together.
    """
    backend = backends.get(backend)
    training = flag("training", training)
    dy, x, weight = real_array("dy", dy, backend), real_array("x", x, backend), real_array("weight", weight, backend)
    mean, inverse_std = real_array("mean", mean, backend), real_array("inverse_std", inverse_std, backend)
    _values_of_a_channel(x.shape)
    c = _counted(channels, x.shape)
    check_shape("dy", dy, (x.shape[0], c, *x.shape[2:]), "of `x`")
    for name, array in (("weight", weight), ("mean", mean), ("inverse_std", inverse_std)):
        check_shape(name, array, (c,), f"for `x` {tuple(x.shape)}")
    dy, x, weight, mean, inverse_std = convert(backend, parameter_dtype(weight), dy, x, weight, mean, inverse_std)
    backward = backend.batch_norm_train_backward if training else backend.batch_norm_eval_backward
    return backward(dy, x, weight, mean, inverse_std)


def _values_of_a_channel(shape: Any) -> int:
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"`x` {tuple(shape)} must have 2 axes (n, c), 3 axes (n, c, l) or 4 axes (n, c, h, w)")
    return shape[0] * math.prod(shape[2:])


def _counted(channels: int | None, shape: Any) -> int:
    return shape[1] if channels is None else integer("channels", channels, 0, shape[1])


def updatable(name: str, x: Any, dtype: np.dtype[Any], backend: Backend) -> Array:
    """``x`` itself, if an update of it in place would reach the caller."""
    read_only = isinstance(x, np.ndarray) and not x.flags.writeable
    if read_only or not backend.is_array(x) or backend.asarray(x, dtype) is not x:
        raise TypeError(
            f"`{name}` must be a contiguous, writable {dtype} array of the backend {backend.name!r}: "
            "training updates it in place"
        )
    return x
