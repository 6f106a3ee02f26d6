"""Pooling: windows slide over each channel on its own, padded as in convolution, or share an image out."""

from __future__ import annotations

from typing import Any

from .. import backends
from ..backends import Array, Backend
from ..backends.contract import AnyPool2dGeometry
from ..backends.geometry import AdaptivePool2dGeometry, Pool2dGeometry
from .arguments import (
    LARGEST_SIZE,
    check_shape,
    common_dtype,
    convert,
    flag,
    integer,
    memoized,
    number,
    output_sizes,
    pair,
    plane_indices,
    real_array,
    shape_of,
)
from .call_cache import cached_call
from .padding import normalize_padding

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_pool2d_geometry",
    "avg_pool2d",
    "avg_pool2d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
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


def max_pool2d_backward_of_own(dy: Any, indices: Array, geometry: AnyPool2dGeometry, backend: Backend) -> Array:
    """The gradient of max pooling for the very ``indices`` that the forward pass gave there: all are in range."""
    return backend.max_pool2d_backward(_cotangent(dy, geometry, backend), indices, geometry)


@cached_call
def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """The mean of every window, the padding counting as zeros.

    With ``count_include_pad`` the sum is divided by the number of the window's elements inside the padded image: what
    hangs over it in ``ceil_mode`` does not count. Without it, only elements of the image itself count. Both as in
    PyTorch. ``divisor_override``, an int of at least 1, is divided by instead: 1 gives sums. The other arguments, the
    result's shape (n, c, oh, ow) and the errors are those of :func:`max_pool2d`.

    >>> avg_pool2d([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]], 2, stride=1, backend="reference")[0, 0]
    array([[2., 3.],
           [5., 6.]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    geometry = pool2d_geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    count_include_pad, divisor = flag("count_include_pad", count_include_pad), divisor_of(divisor_override)
    return backend.avg_pool2d(backend.asarray(x, common_dtype(x)), geometry, count_include_pad, divisor)


def avg_pool2d_backward(
    dy: Any,
    x_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx`` (n, c, h, w): each element of ``dy`` (n, c, oh, ow), divided as its window was, goes to all of the window.

    The other arguments are those of the :func:`avg_pool2d` call; ValueError for a ``dy`` of another shape.
    """
    backend = backends.get(backend)
    geometry = pool2d_geometry(x_shape, kernel_size, stride, padding, 1, ceil_mode)
    count_include_pad, divisor = flag("count_include_pad", count_include_pad), divisor_of(divisor_override)
    return backend.avg_pool2d_backward(_cotangent(dy, geometry, backend), geometry, count_include_pad, divisor)


def divisor_of(divisor_override: Any) -> int | None:
    """The argument ``divisor_override``."""
    return None if divisor_override is None else integer("divisor_override", divisor_override, 1, LARGEST_SIZE)


def global_avg_pool2d(x: Any, *, backend: str | Backend | None = None) -> Array:
    """The mean of every feature map: average pooling of x (n, c, h, w) with the whole map as window, (n, c, 1, 1)."""
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    return avg_pool2d(x, tuple(x.shape[2:]) if 0 not in x.shape[2:] else 1, backend=backend)


def global_avg_pool2d_backward(dy: Any, x_shape: Any, *, backend: str | Backend | None = None) -> Array:
    """``dx`` (n, c, h, w): ``dy`` (n, c, 1, 1) over h * w, everywhere in its feature map."""
    _, _, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    return avg_pool2d_backward(dy, x_shape, (h or 1, w or 1), backend=backend)


@cached_call
def adaptive_avg_pool2d(x: Any, output_size: Any, *, backend: str | Backend | None = None) -> Array:
    """The means of windows that share the image out among oh x ow outputs.

    Window i has the rows ``floor(i h / oh)`` to ``ceil((i + 1) h / oh)``, not included, and columns likewise, as in
    PyTorch: all are of one size where oh divides h, and else neighbours overlap.

    Args:
        x: Images (n, c, h, w); n may be 0. float64 stays, everything else becomes float32.
        output_size: An int for both axes or a pair (oh, ow), at least 1; None stands for the size that x has.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: (n, c, oh, ow).

    Raises:
        ValueError: For the wrong number of axes, an empty image, and sizes below 1.
        TypeError: For an array that is not real, and for bools and floats in place of ints.

    >>> adaptive_avg_pool2d([[[[0, 1, 2, 3, 4]]]], (1, 2), backend="reference")
    array([[[[1., 3.]]]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    return backend.avg_pool2d(
        backend.asarray(x, common_dtype(x)), adaptive_pool2d_geometry(x.shape, output_size), True, None
    )


def adaptive_avg_pool2d_backward(
    dy: Any, x_shape: Any, output_size: Any, *, backend: str | Backend | None = None
) -> Array:
    """``dx`` (n, c, h, w): each element of ``dy`` (n, c, oh, ow), over its window's size, goes to all of the window.

    ``output_size`` is that of the :func:`adaptive_avg_pool2d` call; ValueError for a ``dy`` of another shape.
    """
    backend = backends.get(backend)
    geometry = adaptive_pool2d_geometry(x_shape, output_size)
    return backend.avg_pool2d_backward(_cotangent(dy, geometry, backend), geometry, True, None)


@cached_call
def adaptive_max_pool2d(
    x: Any, output_size: Any, *, return_indices: bool = False, backend: str | Backend | None = None
) -> Array | tuple[Array, Array]:
    """The largest elements of the windows of :func:`adaptive_avg_pool2d`, whose arguments and errors these are.

    With ``return_indices`` also where they are, as in :func:`max_pool2d`.

    >>> adaptive_max_pool2d([[[[0, 1, 2, 3, 4]]]], (None, 2), backend="reference")
    array([[[[2., 4.]]]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    geometry = adaptive_pool2d_geometry(x.shape, output_size)
    return_indices = flag("return_indices", return_indices)
    x = backend.asarray(x, common_dtype(x))
    return backend.max_pool2d_with_indices(x, geometry) if return_indices else backend.max_pool2d(x, geometry)


def adaptive_max_pool2d_backward(
    dy: Any, indices: Any, x_shape: Any, output_size: Any, *, backend: str | Backend | None = None
) -> Array:
    """``dx`` (n, c, h, w): every element of ``dy`` is added to the element of x that was the maximum of its window.

    ``indices`` are those of :func:`adaptive_max_pool2d`. ValueError for a ``dy`` or ``indices`` of another shape than
    the result's, or indices outside the image.
    """
    backend = backends.get(backend)
    geometry = adaptive_pool2d_geometry(x_shape, output_size)
    indices = plane_indices(indices, geometry.y_shape, geometry.h * geometry.w, backend)
    return max_pool2d_backward_of_own(dy, indices, geometry, backend)


@memoized
def adaptive_pool2d_geometry(x_shape: Any, output_size: Any) -> AnyPool2dGeometry:
    """The sizes of an adaptive pooling, those of plain windows side by side where all windows are of one size.

    >>> adaptive_pool2d_geometry((1, 6, 28, 28), (14, None)).y_shape
    (1, 6, 14, 28)
    """
    n, c, h, w = _image_shape(x_shape)
    rows, columns = output_sizes("output_size", output_size)
    oh, ow = h if rows is None else rows, w if columns is None else columns
    if h % oh == 0 and w % ow == 0:
        kh, kw = h // oh, w // ow
        return Pool2dGeometry(n, c, h, w, kh, kw, kh, kw)
    if (oh + 1) * (h + 1) >= MAX_PLACES or (ow + 1) * (w + 1) >= MAX_PLACES:
        raise ValueError(
            f"`output_size` {output_size!r} is too large for `x` {tuple(x_shape)}: the product of both must stay below "
            f"{MAX_PLACES} in each axis"
        )
    return AdaptivePool2dGeometry(n, c, h, w, oh, ow)


def lp_pool2d(
    x: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    return_means: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Array]:
    """The root of the sum of powers of every window: ``y = (sum of x ** norm_type) ** (1 / norm_type)``.

    As in PyTorch: the powers are those of x, not of its size, so that a sum that is negative, or the power of a
    negative number by a fraction, gives NaN; and the sum is the mean times the window's full size, also where the
    window hangs over the end in ``ceil_mode``.

    ``norm_type`` is above 0: 1 gives sums, 2 lengths. With ``return_means`` also the means of the powers, which the
    backward pass takes. The other arguments, the result's shape (n, c, oh, ow) and the errors are those of
    :func:`max_pool2d`, but there is no padding.

    >>> lp_pool2d([[[[3, 4]]]], 2, (1, 2), backend="reference")
    array([[[[5.]]]], dtype=float32)
    """
    backend = backends.get(backend)
    x = real_array("x", x, backend, "n, c, h, w")
    geometry = pool2d_geometry(x.shape, kernel_size, stride, 0, 1, ceil_mode)
    norm, return_means = norm_of("norm_type", norm_type), flag("return_means", return_means)
    power, root = _power_and_root(norm, geometry)
    powers = backend.pointwise(backend.asarray(x, common_dtype(x)), *power)
    means = backend.avg_pool2d(powers, geometry, True, None)
    y = backend.pointwise(means, *root)
    return (y, means) if return_means else y


def lp_pool2d_backward(
    dy: Any,
    x: Any,
    means: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    backend: str | Backend | None = None,
) -> Array:
    """``dx`` (n, c, h, w): ``dy y ** (1 - norm_type) x ** (norm_type - 1)``, summed over an element's windows.

    Where y has no derivative, as the length has none at 0, it counts as 0. ``means`` are those of :func:`lp_pool2d`;
    the other arguments are those of its call. ValueError for a ``dy`` or ``means`` of another shape than the result's.
    """
    backend = backends.get(backend)
    x, means = real_array("x", x, backend, "n, c, h, w"), real_array("means", means, backend)
    geometry = pool2d_geometry(x.shape, kernel_size, stride, 0, 1, ceil_mode)
    check_shape("means", means, geometry.y_shape, f"of the result for x {geometry.x_shape}")
    norm, dtype = norm_of("norm_type", norm_type), common_dtype(x)
    dy, x, means = convert(backend, dtype, _cotangent(dy, geometry, backend), x, means)
    power, root = _power_and_root(norm, geometry)
    of_powers = backend.avg_pool2d_backward(backend.pointwise_backward(dy, means, *root), geometry, True, None)
    return backend.pointwise_backward(of_powers, x, *power)


def _power_and_root(norm: float, g: Pool2dGeometry) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """What is done to x, and to the means: functions of one number, and their parameters."""
    size = float(g.kh * g.kw)
    return (("square", ()), ("root", (size,))) if norm == 2 else (("power", (norm, 1.0)), ("power", (1 / norm, size)))


def norm_of(name: str, value: Any) -> float:
    """The exponent of a norm, above 0."""
    norm = number(name, value, 0)
    if norm == 0:
        raise ValueError(f"`{name}` {value!r} must be above 0")
    return norm


@memoized
def pool2d_geometry(
    x_shape: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Pool2dGeometry:
    """All sizes of a pooling from the shape of ``x``; arguments and errors of :func:`max_pool2d`.

    >>> pool2d_geometry((1, 6, 28, 28), 2).y_shape
    (1, 6, 14, 14)
    """
    n, c, h, w = _image_shape(x_shape)
    kh, kw = pair("kernel_size", kernel_size)
    sh, sw = (kh, kw) if stride is None else pair("stride", stride)
    dh, dw = pair("dilation", dilation)
    ceil_mode = flag("ceil_mode", ceil_mode)
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


def _image_shape(x_shape: Any) -> tuple[int, ...]:
    n, c, h, w = shape_of("x_shape", x_shape, "n, c, h, w")
    if 0 in (c, h, w):
        raise ValueError(f"`x` {tuple(x_shape)} must not be empty: only the batch, its first axis, may hold nothing")
    if h * w >= MAX_PLACES:
        raise ValueError(
            f"`x` {tuple(x_shape)} must have images of fewer than {MAX_PLACES} pixels: places of maxima are int32"
        )
    return n, c, h, w


def _cotangent(dy: Any, geometry: AnyPool2dGeometry, backend: Backend) -> Array:
    dy = real_array("dy", dy, backend)
    check_shape("dy", dy, geometry.y_shape, f"of the result for x {geometry.x_shape}")
    return backend.asarray(dy, common_dtype(dy))
