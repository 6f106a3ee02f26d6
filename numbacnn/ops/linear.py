"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any

from .. import backends
from ..backends import Array, Backend
from .arguments import activation_name, check_shape, convert, flag, output_array, parameter_dtype, real_array
from .call_cache import cached_call

__all__ = ["linear", "linear_backward"]


@cached_call
def linear(
    x: Any, weight: Any, bias: Any = None, *, activation: str | None = None, backend: str | Backend | None = None
) -> Array:
    """``y = x weight^T + bias``: x (..., in_features), weight (out_features, in_features), y (..., out_features).

    ``bias`` is (out_features,) or None. With ``activation``, ``"relu"``, ``"sigmoid"`` or ``"tanh"``, y is that
    function of it, the same bits as a separate call. The computation is done in the weight's dtype, float32 or float64.
    ValueError for shapes that do not go together and unknown names, TypeError for arrays that are not real.

    >>> linear([[1, 2, 3]], [[1, 1, 1], [0, 0, 2]], [0, 10], backend="reference")
    array([[ 6., 16.]], dtype=float32)
    """
    backend = backends.get(backend)
    x, weight = real_array("x", x, backend), real_array("weight", weight, backend)
    out_features, in_features = _features(x, weight)
    if bias is not None:
        bias = real_array("bias", bias, backend)
        check_shape("bias", bias, (out_features,), f"for `weight` {tuple(weight.shape)}")
    function = activation_name(activation)
    leading, dtype = tuple(x.shape[:-1]), parameter_dtype(weight)
    x, weight = convert(backend, dtype, x, weight)
    if bias is not None:
        bias = backend.asarray(bias, dtype)
    rows = backend.reshape(x, (math.prod(leading), in_features))
    return backend.reshape(backend.linear(rows, weight, bias, function), (*leading, out_features))


def linear_backward(
    dy: Any,
    x: Any,
    weight: Any,
    *,
    input_gradient: bool = True,
    weight_gradient: bool = True,
    dweight_out: Array | None = None,
    backend: str | Backend | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of :func:`linear` for a cotangent ``dy`` (..., out_features) of its result.

    Returns ``dx = dy weight`` (None with ``input_gradient=False``), ``dweight = dy^T x`` and ``dbias``, the sum of dy
    (both None with ``weight_gradient=False``). ValueError for shapes that do not go together.

    With ``dweight_out``, an array of the backend with the shape and dtype of ``dweight``, that is written there and is
    what is returned.
    """
    backend = backends.get(backend)
    dy, x, weight = real_array("dy", dy, backend), real_array("x", x, backend), real_array("weight", weight, backend)
    out_features, in_features = _features(x, weight)
    shape = tuple(x.shape)
    check_shape("dy", dy, (*shape[:-1], out_features), f"of the result for `x` {shape}")
    input_gradient = flag("input_gradient", input_gradient)
    weight_gradient = flag("weight_gradient", weight_gradient)
    dtype = parameter_dtype(weight)
    out = output_array("dweight_out", dweight_out, weight.shape, dtype, backend)
    dy, x, weight = convert(backend, dtype, dy, x, weight)
    rows = math.prod(shape[:-1])
    dy, x = backend.reshape(dy, (rows, out_features)), backend.reshape(x, (rows, in_features))
    dx = backend.reshape(backend.linear_backward_input(dy, weight), shape) if input_gradient else None
    if not weight_gradient:
        return dx, None, None
    return dx, backend.linear_backward_weight(dy, x, out), backend.linear_backward_bias(dy)


def _features(x: Array, weight: Array) -> tuple[int, int]:
    shape = tuple(x.shape)
    if len(weight.shape) != 2:
        raise ValueError(f"`weight` {tuple(weight.shape)} must have 2 axes (out_features, in_features)")
    out_features, in_features = weight.shape
    if not shape or shape[-1] != in_features:
        hint = "; flatten the images first" if len(shape) > 2 and math.prod(shape[1:]) == in_features else ""
        raise ValueError(
            f"`x` {shape} must have {in_features} features in its last axis for `weight` {tuple(weight.shape)}{hint}"
        )
    return out_features, in_features
