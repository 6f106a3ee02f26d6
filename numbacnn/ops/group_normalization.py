"""Group normalisation (Wu and He 2018, https://arxiv.org/abs/1803.08494), and what is made of it: instance and layer
normalisation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backends
from ..backends import Array, Backend
from .arguments import (
    axis_sizes,
    check_shape,
    common_dtype,
    convert,
    flag,
    integer,
    number,
    parameter_dtype,
    real_array,
)
from .call_cache import cached_call
from .normalization import updatable

__all__ = [
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
]


@cached_call
def group_norm(
    x: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array, Array]:
    """``y = weight * (x - mean) / sqrt(variance + eps) + bias``, statistics of each group of channels of a sample.

    Args:
        x: (n, c) or (n, c, ...).
        num_groups: How many groups of neighbouring channels there are; it divides c.
        weight, bias: Gamma and beta, (c,), or None for none. The computation is done in the weight's dtype, without a
            weight in that of x.
        eps: Added to the variance, which is the biased one, at least 0.
        return_statistics: Whether to return ``mean`` and ``inverse_std``, which :func:`group_norm_backward` needs.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: The shape of x.
        mean, inverse_std: (n, num_groups): the mean and ``1 / sqrt(variance + eps)``.

    Raises:
        ValueError: For shapes that do not go together, and for groups that do not divide the channels.

    Example:
        >>> group_norm([[1, 3, 5, 5]], 2, eps=0.1, backend="reference").round(2)
        array([[-0.95,  0.95,  0.  ,  0.  ]], dtype=float32)
    """
    backend = backends.get(backend)
    return_statistics, eps = flag("return_statistics", return_statistics), number("eps", eps, 0)
    x = _with_channels(x, backend)
    groups = _groups(num_groups, x.shape)
    dtype, weight, bias = _parameters(x, weight, bias, (x.shape[1],), backend)
    y, mean, _, inverse_std = backend.group_norm(backend.asarray(x, dtype), weight, bias, groups, eps)
    return (y, mean, inverse_std) if return_statistics else y


def group_norm_backward(
    dy: Any,
    x: Any,
    num_groups: int,
    weight: Any,
    mean: Any,
    inverse_std: Any,
    *,
    backend: str | Backend | None = None,
) -> tuple[Array, Array | None, Array | None]:
    """The gradients of :func:`group_norm` for a cotangent ``dy`` of its result: dx, dweight (c,), dbias (c,).

    ``mean`` and ``inverse_std`` are the forward call's. Without a weight, None, there is but dx. ValueError for shapes
    that do not go together.
    """
    backend = backends.get(backend)
    x = _with_channels(x, backend)
    groups = _groups(num_groups, x.shape)
    dtype, weight, _ = _parameters(x, weight, None, (x.shape[1],), backend)
    dy, mean, inverse_std = _of_the_pass(dy, mean, inverse_std, x, (x.shape[0], groups), backend)
    dy, x, mean, inverse_std = convert(backend, dtype, dy, x, mean, inverse_std)
    return backend.group_norm_backward(dy, x, weight, mean, inverse_std, groups)


@cached_call
def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array, Array]:
    """``y = weight * (x - mean) / sqrt(variance + eps) + bias``, mean and variance of each channel of a sample.

    Args:
        x: (n, c, ...), of more than one value per channel and sample where its own statistics are used.
        running_mean, running_var: (c,), or None for none. With ``use_input_stats`` they are updated in place by the
            samples' means and unbiased variances, averaged over the batch, and are then contiguous, writable arrays of
            the backend, of the dtype of the computation; else they stand for the statistics of each sample.
        weight, bias: As of :func:`group_norm`, here both or none.
        use_input_stats: Whether to normalise each sample by itself.
        momentum: The weight of the new batch in the running statistics, 0..1.
        eps, return_statistics, backend: As of :func:`group_norm`.

    Returns:
        y: The shape of x.
        mean, inverse_std: What was used, (n, c), or (c,) without ``use_input_stats``.

    Example:
        >>> instance_norm([[[1, 3], [2, 2]]], eps=0.1, backend="reference").round(2)
        array([[[-0.95,  0.95],
                [ 0.  ,  0.  ]]], dtype=float32)
    """
    backend = backends.get(backend)
    use_input_stats, momentum = flag("use_input_stats", use_input_stats), number("momentum", momentum, 0, 1)
    return_statistics, eps = flag("return_statistics", return_statistics), number("eps", eps, 0)
    x = _with_channels(x, backend, 3)
    n, c, *positions = x.shape
    count = math.prod(positions)
    if (running_mean is None) != (running_var is None):
        raise ValueError("`running_mean` and `running_var` must both be given, or both be None")
    if (weight is None) != (bias is None):
        raise ValueError("`weight` and `bias` must both be given, or both be None")
    if use_input_stats and count == 1:
        raise ValueError(f"`x` {tuple(x.shape)} must hold more than one value per channel and sample")
    of_dtype = x if running_mean is None else real_array("running_mean", running_mean, backend)
    dtype, weight, bias = _parameters(of_dtype, weight, bias, (c,), backend)
    x = backend.asarray(x, dtype)
    running = {"running_mean": running_mean, "running_var": running_var}
    if running_mean is not None:
        for name, array in running.items():
            check_shape(name, real_array(name, array, backend), (c,), f"for `x` {tuple(x.shape)}")
    if not use_input_stats:
        if running_mean is None:
            raise ValueError("`running_mean` and `running_var` must be given without `use_input_stats`")
        average, variance = convert(backend, dtype, running_mean, running_var)
        if weight is None:
            weight, bias = (backend.asarray(np.full(c, value, dtype)) for value in (1, 0))
        y, inverse_std = backend.batch_norm_eval(x, weight, bias, average, variance, eps)
        return (y, backend.copy(average), inverse_std) if return_statistics else y
    if running_mean is not None:
        running = {name: updatable(name, array, dtype, backend) for name, array in running.items()}
    y, mean, variance, inverse_std = backend.group_norm(x, weight, bias, max(c, 1), eps)
    if running_mean is not None and n * count:
        for name, values, correction in (("running_mean", mean, 1), ("running_var", variance, count / (count - 1))):
            # The gradient of a bias is the sum over the batch.
            total = backend.linear_backward_bias(values)
            backend.update_running_average(running[name], total, momentum, correction / n)
    return (y, mean, inverse_std) if return_statistics else y


def instance_norm_backward(
    dy: Any,
    x: Any,
    weight: Any,
    mean: Any,
    inverse_std: Any,
    use_input_stats: bool = True,
    *,
    backend: str | Backend | None = None,
) -> tuple[Array, Array | None, Array | None]:
    """The gradients of :func:`instance_norm` for a cotangent ``dy`` of its result: dx, dweight (c,), dbias (c,).

    ``mean`` and ``inverse_std`` are the forward call's; without ``use_input_stats`` they are constants, and there must
    be a weight. Without a weight, None, there is but dx. ValueError for shapes that do not go together.
    """
    backend = backends.get(backend)
    if flag("use_input_stats", use_input_stats):
        x = _with_channels(x, backend, 3)
        return group_norm_backward(dy, x, max(x.shape[1], 1), weight, mean, inverse_std, backend=backend)
    x = _with_channels(x, backend, 3)
    weight = real_array("weight", weight, backend)
    check_shape("weight", weight, (x.shape[1],), f"for `x` {tuple(x.shape)}")
    dy, mean, inverse_std = _of_the_pass(dy, mean, inverse_std, x, (x.shape[1],), backend)
    dtype = parameter_dtype(weight)
    return backend.batch_norm_eval_backward(*convert(backend, dtype, dy, x, weight, mean, inverse_std))


def layer_norm(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array, Array]:
    """``y = weight * (x - mean) / sqrt(variance + eps) + bias``, mean and variance over the last axes of x.

    Ba, Kiros and Hinton 2016 (https://arxiv.org/abs/1607.06450).

    Args:
        x: ``(..., *normalized_shape)``.
        normalized_shape: The sizes of the axes that are normalised together, an int for the last one alone.
        weight, bias: Gamma and beta, of ``normalized_shape``, or None for none. The computation is done in the weight's
            dtype, without a weight in that of x.
        eps: Added to the variance, which is the biased one, at least 0.
        return_statistics: Whether to return ``mean`` and ``inverse_std``, which :func:`layer_norm_backward` needs.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: The shape of x.
        mean, inverse_std: (r, 1), a row for each of the r parts of x that are normalised.

    Example:
        >>> layer_norm([[1, 3], [5, 5]], 2, eps=0.1, backend="reference").round(2)
        array([[-0.95,  0.95],
               [ 0.  ,  0.  ]], dtype=float32)
    """
    backend = backends.get(backend)
    return_statistics, eps = flag("return_statistics", return_statistics), number("eps", eps, 0)
    x = real_array("x", x, backend)
    shape = _normalized_shape(normalized_shape, x.shape)
    dtype, weight, bias = _parameters(x, weight, bias, shape, backend)
    x = backend.asarray(x, dtype)
    weight, bias = (None if array is None else backend.reshape(array, (array.size,)) for array in (weight, bias))
    as_rows = x if _is_whole(x.shape, shape, weight, bias) else backend.reshape(x, _rows(x.shape, shape))
    y, mean, _, inverse_std = backend.group_norm(as_rows, weight, bias, 1, eps)
    y = backend.reshape(y, x.shape)
    return (y, mean, inverse_std) if return_statistics else y


def layer_norm_backward(
    dy: Any,
    x: Any,
    normalized_shape: Any,
    weight: Any,
    mean: Any,
    inverse_std: Any,
    *,
    backend: str | Backend | None = None,
) -> tuple[Array, Array | None, Array | None]:
    """The gradients of :func:`layer_norm` for a cotangent ``dy`` of its result: dx, and dweight and dbias of its shape.

    ``mean`` and ``inverse_std`` are the forward call's. Without a weight, None, there is but dx. ValueError for shapes
    that do not go together.
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend)
    shape = _normalized_shape(normalized_shape, x.shape)
    dtype, weight, _ = _parameters(x, weight, None, shape, backend)
    rows = _rows(x.shape, shape)
    dy, mean, inverse_std = _of_the_pass(dy, mean, inverse_std, x, (rows[0], 1), backend)
    dy, x, mean, inverse_std = convert(backend, dtype, dy, x, mean, inverse_std)
    if _is_whole(x.shape, shape, weight, None):
        return backend.group_norm_backward(dy, x, None, mean, inverse_std, 1)
    dy, of_rows = backend.reshape(dy, rows), backend.reshape(x, rows)
    weight = None if weight is None else backend.reshape(weight, (weight.size,))
    dx, dweight, dbias = backend.group_norm_backward(dy, of_rows, weight, mean, inverse_std, 1)
    dx = backend.reshape(dx, x.shape)
    return dx, *(None if array is None else backend.reshape(array, shape) for array in (dweight, dbias))


def _with_channels(x: Any, backend: Backend, least: int = 2) -> Array:
    x = real_array("x", x, backend)
    if len(x.shape) < least:
        raise ValueError(f"`x` {tuple(x.shape)} must have at least {least} axes (n, c, ...)")
    return x


def _groups(num_groups: Any, shape: Any) -> int:
    groups = integer("num_groups", num_groups, 1)
    if shape[1] % groups:
        raise ValueError(f"`num_groups` {groups} must divide the {shape[1]} channels of `x` {tuple(shape)}")
    return groups


def _parameters(
    x: Array, weight: Any, bias: Any, shape: tuple[int, ...], backend: Backend
) -> tuple[np.dtype[Any], Array | None, Array | None]:
    """The dtype of the computation, and what there is of weight and bias in it."""
    given = [
        (name, real_array(name, array, backend))
        for name, array in (("weight", weight), ("bias", bias))
        if array is not None
    ]
    for name, array in given:
        check_shape(name, array, shape)
    found = dict(given)
    dtype = parameter_dtype(found["weight"]) if "weight" in found else common_dtype(x)
    weight, bias = (backend.asarray(found[name], dtype) if name in found else None for name in ("weight", "bias"))
    return dtype, weight, bias


def _of_the_pass(
    dy: Any, mean: Any, inverse_std: Any, x: Array, shape: tuple[int, ...], backend: Backend
) -> tuple[Array, Array, Array]:
    """What a backward pass is given beside x, of the right shapes."""
    dy, mean = real_array("dy", dy, backend), real_array("mean", mean, backend)
    inverse_std = real_array("inverse_std", inverse_std, backend)
    check_shape("dy", dy, x.shape, "of `x`")
    for name, array in (("mean", mean), ("inverse_std", inverse_std)):
        check_shape(name, array, shape, f"for `x` {tuple(x.shape)}")
    return dy, mean, inverse_std


def _normalized_shape(normalized_shape: Any, x_shape: Any) -> tuple[int, ...]:
    shape = axis_sizes("normalized_shape", normalized_shape)
    if tuple(x_shape[-len(shape) :]) != shape:
        raise ValueError(f"`x` {tuple(x_shape)} must end in the axes {shape} of `normalized_shape`")
    return shape


def _rows(x_shape: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(x_shape[: len(x_shape) - len(shape)]), math.prod(shape)


def _is_whole(x_shape: Any, shape: tuple[int, ...], weight: Any, bias: Any) -> bool:
    """Whether x are samples that are normalised as wholes, which is done however they lie."""
    return weight is None and bias is None and len(x_shape) == len(shape) + 1 and len(shape) > 1
