"""Max and average pooling: windows slide over each channel on its own, padded as in convolution."""

from __future__ import annotations

from typing import Any

from .. import backends
from ..backends import Array, Backend
from ..backends.geometry import Pool2dGeometry
from .arguments import (
    check_shape,
    common_dtype,
    flag,
    memoized,
    normalize_padding,
    pair,
    plane_indices,
    real_array,
    shape_of,
)
from .call_cache import cached_call

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "pool2d_geometry",
]

MAX_PLACES = 1 << 31


@cached_call
def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    return_indices: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array]:
    """The largest element of every window, the padding counting as minus infinity; a NaN in the window wins.

    Args:
        x: Images (n, c, h, w); n may be 0. float64 stays, everything else becomes float32.
        kernel_size, stride, dilation: An int or a pair (vertical, horizontal), at least 1; the stride is the window's
            size if None.
        padding: As in :func:`conv2d`, and on no side more than half the window, so that every window sees the image.
        ceil_mode: Whether a last window that hangs over the end counts, even as the only one; one that starts in the
            padding after the image never does.
        return_indices: Whether to return ``indices`` as well.
        backend: A backend or its name; the default backend if None.

    Returns:
        ``y`` (n, c, oh, ow) and, if asked for, ``indices``, int32 of the same shape: the position ``row * w + column``
        of each maximum in its image, the first in row-major order among equals; -1 where a dilated window meets
        nothing but padding.

    Raises:
        ValueError: For a window larger than the padded image, too much padding, the wrong number of axes, images of
            2**31 pixels or more.
        TypeError: For an array that is not real, and for bools and floats in place of ints.

    Example:
        >>> import numpy as np
        >>> x = np.arange(16.0, dtype=np.float32).reshape(1, 1, 4, 4)
        >>> max_pool2d(x, 3, padding=1, stride=2, backend="reference")[0, 0]
        array([[ 5.,  7.],
               [13., 15.]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    geometry = pool2d_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return_indices = flag("return_indices", return_indices)
    x = backend.asarray(x, common_dtype(x))
    return backend.max_pool2d_with_indices(x, geometry) if return_indices else backend.max_pool2d(x, geometry)


def max_pool2d_backward(
    dy: Any,
    indices: Any,
    x_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx`` (n, c, h, w): every element of ``dy`` is added to the element of x that was the maximum of its window.

    ``indices`` are those of :func:`max_pool2d`; the other arguments are those of its call. ValueError for a ``dy`` or
    ``indices`` of another shape than the result's, or indices outside the image.
    """
    backend = backends.get(backend)
    geometry = pool2d_geometry(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    indices = plane_indices(indices, geometry.y_shape, geometry.h * geometry.w, backend)
    return max_pool2d_backward_of_own(dy, indices, geometry, backend)


def max_pool2d_backward_of_own(dy: Any, indices: Array, geometry: Pool2dGeometry, backend: Backend) -> Array:
    """:func:`max_pool2d_backward` for the very ``indices`` that :func:`max_pool2d` gave there: all are in range."""
    return backend.max_pool2d_backward(_cotangent(dy, geometry, backend), indices, geometry)


@cached_call
def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """The mean of every window, the padding counting as zeros.

    With ``count_include_pad`` the sum is divided by the number of the window's elements inside the padded image: what
    hangs over it in ``ceil_mode`` does not count. Without it, only elements of the image itself count. Both as in
    PyTorch. The other arguments, the result's shape (n, c, oh, ow) and the errors are those of :func:`max_pool2d`.

    >>> avg_pool2d([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]], 2, stride=1, backend="reference")[0, 0]
    array([[2., 3.],
           [5., 6.]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    geometry = pool2d_geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    count_include_pad = flag("count_include_pad", count_include_pad)
    return backend.avg_pool2d(backend.asarray(x, common_dtype(x)), geometry, count_include_pad)


def avg_pool2d_backward(
    dy: Any,
    x_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx`` (n, c, h, w): each element of ``dy`` (n, c, oh, ow), divided as its window was, goes to all of the window.

    The other arguments are those of the :func:`avg_pool2d` call; ValueError for a ``dy`` of another shape.
    """
    backend = backends.get(backend)
    geometry = pool2d_geometry(x_shape, kernel_size, stride, padding, 1, ceil_mode)
    count_include_pad = flag("count_include_pad", count_include_pad)
    return backend.avg_pool2d_backward(_cotangent(dy, geometry, backend), geometry, count_include_pad)


def global_avg_pool2d(x: Any, *, backend: str | Backend | None = None) -> Array:
    """The mean of every feature map: average pooling of x (n, c, h, w) with the whole map as window, (n, c, 1, 1)."""
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    return avg_pool2d(x, tuple(x.shape[2:]) if 0 not in x.shape[2:] else 1, backend=backend)


def global_avg_pool2d_backward(dy: Any, x_shape: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx`` (n, c, h, w): ``dy`` (n, c, 1, 1) over h * w, everywhere in its feature map."""
    _, _, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    return avg_pool2d_backward(dy, x_shape, (h or 1, w or 1), backend=backend)


@memoized
def pool2d_geometry(
    x_shape: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Pool2dGeometry:
    """All sizes of a pooling from the shape of ``x``; arguments and errors of :func:`max_pool2d`.

    >>> pool2d_geometry((1, 6, 28, 28), 2).y_shape
    (1, 6, 14, 14)
    """
    n, c, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    kh, kw = pair("kernel_size", kernel_size)
    sh, sw = (kh, kw) if stride is None else pair("stride", stride)
    dh, dw = pair("dilation", dilation)
    ceil_mode = flag("ceil_mode", ceil_mode)
    if 0 in (c, h, w):
        raise ValueError(f"`x` {tuple(x_shape)} must not be empty: only the batch, its first axis, may hold nothing")
    if h * w >= MAX_PLACES:
        raise ValueError(
            f"`x` {tuple(x_shape)} must have images of fewer than {MAX_PLACES} pixels: places of maxima are int32"
        )
    (pt, pb), (pl, pr) = normalize_padding(padding, (kh, kw), (sh, sw), (dh, dw))
    extent_h, extent_w = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    spread = f" with `dilation` {(dh, dw)}" if (dh, dw) != (1, 1) else ""
    if max(pt, pb) > extent_h // 2 or max(pl, pr) > extent_w // 2:
        shown = (pt, pl) if (pt, pl) == (pb, pr) else ((pt, pb), (pl, pr))
        raise ValueError(f"`padding` {shown} must be at most half of `kernel_size` {(kh, kw)}{spread}")
    geometry = Pool2dGeometry(n, c, h, w, kh, kw, sh, sw, pt, pb, pl, pr, dh, dw, ceil_mode)
    if geometry.oh < 1 or geometry.ow < 1:
        raise ValueError(
            f"output would be {max(geometry.oh, 0)}x{max(geometry.ow, 0)}: `kernel_size` {(kh, kw)}{spread} "
            f"does not fit the padded input {h + pt + pb}x{w + pl + pr}"
        )
    return geometry


def _cotangent(dy: Any, geometry: Pool2dGeometry, backend: Backend) -> Array:
    dy = real_array("dy", dy, backend)
    check_shape("dy", dy, geometry.y_shape, f"of the result for x {geometry.x_shape}")
    return backend.asarray(dy, common_dtype(dy))
