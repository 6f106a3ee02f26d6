"""Local response normalisation (Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional
neural networks").
"""

from __future__ import annotations

from typing import Any

from .. import backends
from ..backends import Array, Backend
from .arguments import check_shape, common_dtype, convert, flag, integer, number, real_array
from .call_cache import cached_call

__all__ = ["local_response_norm", "local_response_norm_backward"]


@cached_call
def local_response_norm(
    x: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    return_scale: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array]:
    """``y = x / scale^beta`` with ``scale = k + alpha * (the mean of x^2 over neighbouring channels)``.

    Args:
        x: (n, c, ...), of at least 3 axes.
        size: Channels of a window: ``size // 2`` before the element's own and ``(size - 1) // 2`` after it. Those that
            there are not count as zeros.
        alpha, beta, k: At least 0.
        return_scale: Whether to return ``scale``, which :func:`local_response_norm_backward` needs.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: The shape of x.
        scale: The shape of x.

    Example:
        >>> local_response_norm([[[1], [2], [0]]], size=2, alpha=2, beta=1, backend="reference")[0, :, 0]
        array([0.5       , 0.33333334, 0.        ], dtype=float32)
    """
    backend = backends.get(backend)
    size, return_scale = integer("size", size, 1), flag("return_scale", return_scale)
    alpha, beta, k = number("alpha", alpha, 0), number("beta", beta, 0), number("k", k, 0)
    x = _with_positions(x, backend)
    y, scale = backend.local_response_norm(backend.asarray(x, common_dtype(x)), size, alpha, beta, k)
    return (y, scale) if return_scale else y


def local_response_norm_backward(
    dy: Any,
    x: Any,
    scale: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx`` for a cotangent ``dy`` of ``y``; :func:`local_response_norm` gave ``scale`` for ``x``.

    ValueError for a ``dy`` or ``scale`` of another shape than that of ``x``.
    """
    backend = backends.get(backend)
    size, alpha, beta = integer("size", size, 1), number("alpha", alpha, 0), number("beta", beta, 0)
    x, dy, scale = _with_positions(x, backend), real_array("dy", dy, backend), real_array("scale", scale, backend)
    check_shape("dy", dy, x.shape, "of `x`")
    check_shape("scale", scale, x.shape, "of `x`")
    dy, x, scale = convert(backend, common_dtype(x), dy, x, scale)
    return backend.local_response_norm_backward(dy, x, scale, size, alpha, beta)


def _with_positions(x: Any, backend: Backend) -> Array:
    x = real_array("x", x, backend)
    if len(x.shape) < 3:
        raise ValueError(f"`x` {tuple(x.shape)} must have at least 3 axes (n, c, ...)")
    return x
