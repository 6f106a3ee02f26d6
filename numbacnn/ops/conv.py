"""Two-dimensional convolution, the cross-correlation of "Dive into Deep Learning", and its transpose."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np

from .. import backends
from ..backends import Array, Backend, autotune
from ..backends.contract import ConvPass
from ..backends.geometry import Conv2dGeometry
from ..backends.precision import is_allowed
from .arguments import (
    activation_name,
    check_shape,
    convert,
    flag,
    integer,
    memoized,
    one_of,
    output_array,
    pair,
    parameter_dtype,
    real_array,
    shape_of,
)
from .call_cache import cached_call
from .padding import normalize_padding, transposed_padding

__all__ = [
    "conv2d",
    "conv2d_backward",
    "conv2d_choice",
    "conv2d_geometry",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose2d_geometry",
    "corr2d",
]

TRANSPOSED: dict[ConvPass, ConvPass] = {
    "forward": "backward_input",
    "backward_input": "forward",
    "backward_weight": "backward_weight",
}
"""Which pass of a convolution each pass of its transpose is."""


class ConvTranspose2dGeometry(NamedTuple):
    """The sizes of a transposed convolution."""

    convolution: Conv2dGeometry
    """The one that it is the transpose of: from the shape of y to that of x."""
    y_shape: tuple[int, int, int, int]
    """Larger than what the convolution sees where ``output_padding`` adds rows that nothing reaches."""


@cached_call
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
    *,
    activation: str | None = None,
    backend: str | Backend | None = None,
) -> Array:
    """Slide kernels over images: ``y[n, k, i, j] = bias[k] + sum over c, u, v of weight[k, c, u, v] * padded x``.

    Args:
        x: Images (n, in_channels, h, w); n may be 0.
        weight: Kernels (out_channels, in_channels / groups, kh, kw). The computation is done in their dtype, float32
            or float64.
        bias: (out_channels,), or None for none.
        stride, dilation: An int or a pair (vertical, horizontal), at least 1.
        padding: Zeros around the image: an int, (h, w), ((top, bottom), (left, right)), ``"valid"`` (none), or, with
            stride 1, ``"same"`` (an odd row goes after the image) and ``"same_lower"`` (before it).
        groups: Into how many separate groups the input and output channels fall; divides both.
        algorithm: ``"auto"`` or a name out of the backend's ``conv2d_algorithms()``.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"`` of the result, the same bits as a separate call; None for
            none.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: (n, out_channels, oh, ow) with ``oh = floor((h + top + bottom - dilation * (kh - 1) - 1) / stride) + 1`` and
            ow likewise.

    Raises:
        ValueError: For shapes that do not go together, a kernel larger than the padded image, an unknown algorithm or
            activation.
        TypeError: For arrays that are not real, and for bools and floats in place of ints.

    Example:
        >>> import numpy as np
        >>> image = np.ones((1, 1, 6, 8), np.float32)
        >>> image[..., 2:6] = 0
        >>> conv2d(image, np.array([[[[1, -1]]]]), backend="reference")[0, 0, 0]
        array([ 0.,  1.,  0.,  0.,  0., -1.,  0.], dtype=float32)
    """
    backend = backends.get(backend)
    x, weight = real_array("x", x, backend), real_array("weight", weight, backend)
    geometry = conv2d_geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    if bias is not None:
        bias = real_array("bias", bias, backend)
        if bias.shape != (geometry.k,):  # looked at here, for the text takes as long as a small kernel
            check_shape("bias", bias, (geometry.k,), f"for `weight` {geometry.weight_shape}")
    name, function = _algorithm(geometry, "forward", algorithm, backend), activation_name(activation)
    dtype = parameter_dtype(weight)
    x, weight = convert(backend, dtype, x, weight)
    if bias is not None:
        bias = backend.asarray(bias, dtype)
    return backend.conv2d(x, weight, bias, geometry, name, function)


def conv2d_backward(
    dy: Any,
    x: Any,
    weight: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
    *,
    input_gradient: bool = True,
    weight_gradient: bool = True,
    dweight_out: Array | None = None,
    backend: str | Backend | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of :func:`conv2d` for a cotangent ``dy`` (n, out_channels, oh, ow) of its result.

    Returns ``dx`` (None with ``input_gradient=False``), ``dweight`` and ``dbias`` (both None with
    ``weight_gradient=False``), of the shapes of ``x``, ``weight`` and (out_channels,). The other arguments are those of
    the forward call; errors are those of :func:`conv2d`, and ValueError for a ``dy`` of another shape than the
    result's.

    With ``dweight_out``, an array of the backend with the shape and dtype of ``dweight``, that is written there and is
    what is returned.
    """
    backend = backends.get(backend)
    dy, x, weight = real_array("dy", dy, backend), real_array("x", x, backend), real_array("weight", weight, backend)
    geometry = conv2d_geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    check_shape("dy", dy, geometry.y_shape, f"of the result for `x` {geometry.x_shape}")
    choice = conv2d_choice(geometry, algorithm, backend=backend)
    input_gradient = flag("input_gradient", input_gradient)
    weight_gradient = flag("weight_gradient", weight_gradient)
    dtype = parameter_dtype(weight)
    out = output_array("dweight_out", dweight_out, weight.shape, dtype, backend)
    dy, x, weight = convert(backend, dtype, dy, x, weight)
    dx = backend.conv2d_backward_input(dy, weight, geometry, choice["backward_input"]) if input_gradient else None
    if not weight_gradient:
        return dx, None, None
    dweight = backend.conv2d_backward_weight(dy, x, geometry, choice["backward_weight"], out)
    return dx, dweight, backend.conv2d_backward_bias(dy)


@memoized
def conv2d_geometry(
    x_shape: Any, weight_shape: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Conv2dGeometry:
    """All sizes of a convolution from the shapes of ``x`` and ``weight``; arguments and errors of :func:`conv2d`.

    >>> conv2d_geometry((1, 1, 8, 8), (1, 1, 3, 5), stride=(3, 4), padding=(0, 1)).y_shape
    (1, 1, 2, 2)
    """
    (n, c, h, w), (k, c_per_group, kh, kw) = _shapes(x_shape, weight_shape, "out_channels, in_channels / groups")
    (sh, sw), (dh, dw), groups = pair("stride", stride), pair("dilation", dilation), integer("groups", groups, 1)
    if c % groups:
        raise ValueError(f"`groups` {groups} must divide the {c} channels of `x` {tuple(x_shape)}")
    if k % groups:
        raise ValueError(f"`groups` {groups} must divide the {k} output channels of `weight` {tuple(weight_shape)}")
    if c != c_per_group * groups:
        expected = f"{c_per_group} * groups" if groups > 1 else f"{c_per_group}"
        hint = "; channels-last images go in as `x.transpose(0, 3, 1, 2)`" if w == c_per_group * groups else ""
        raise ValueError(
            f"`x` {tuple(x_shape)} has {c} channels (axis 1), but `weight` {tuple(weight_shape)} takes {expected}{hint}"
        )
    (pt, pb), (pl, pr) = normalize_padding(padding, (kh, kw), (sh, sw), (dh, dw))
    geometry = Conv2dGeometry(n, c, h, w, k, kh, kw, sh, sw, pt, pb, pl, pr, dh, dw, groups)
    if geometry.oh < 1 or geometry.ow < 1:
        spread = f" with `dilation` {(dh, dw)}" if (dh, dw) != (1, 1) else ""
        raise ValueError(
            f"output would be {max(geometry.oh, 0)}x{max(geometry.ow, 0)}: "
            f"the kernel {(kh, kw)} of `weight` {tuple(weight_shape)}{spread} "
            f"does not fit the padded input {h + pt + pb}x{w + pl + pr}"
        )
    return geometry


def _shapes(x_shape: Any, weight_shape: Any, channels: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    x, weight = shape_of("x", x_shape, "n, c, h, w"), shape_of("weight", weight_shape, f"{channels}, kh, kw")
    if 0 in weight:
        raise ValueError(f"`weight` {weight} must not be empty")
    if 0 in x[1:]:
        raise ValueError(f"`x` {x} must not be empty: only the batch, its first axis, may hold nothing")
    return x, weight


def conv2d_choice(
    geometry: Conv2dGeometry, algorithm: str = "auto", *, backend: str | Backend | None = None
) -> dict[str, str]:
    """The name of the algorithm in each pass: ``forward``, ``backward_input``, ``backward_weight``.

    That is ``algorithm`` itself, or, for ``"auto"``, what ``numbacnn.tune`` found or else what the backend picks, as
    far as ``numbacnn.precision`` allows.
    ValueError, with the names that there are, for one that the backend does not have.

    >>> geometry = conv2d_geometry((1, 1, 8, 8), (1, 1, 3, 3))
    >>> conv2d_choice(geometry, "im2col", backend="reference")
    {'forward': 'im2col', 'backward_input': 'im2col', 'backward_weight': 'im2col'}
    """
    backend = backends.get(backend)
    return {pass_: _algorithm(geometry, pass_, algorithm, backend) for pass_ in get_args(ConvPass)}


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    algorithm: str = "auto",
    *,
    activation: str | None = None,
    backend: str | Backend | None = None,
) -> Array:
    """Spread every pixel out by the kernels, ``stride`` apart, and add up: :func:`conv2d`'s gradient of its input.

    ``y[n, k, i, j] = bias[k] + sum of weight[c, k, u, v] * x[n, c, p, q]`` over c and all p, q, u, v with
    ``p * stride + u * dilation - padding = i``, and likewise for j.

    Args:
        x: Images (n, in_channels, h, w); n may be 0.
        weight: Kernels (in_channels, out_channels / groups, kh, kw). The computation is done in their dtype, float32
            or float64.
        bias: (out_channels,), or None for none.
        stride, dilation: An int or a pair (vertical, horizontal), at least 1.
        padding: Rows and columns that are taken away around the result, in the forms of numbers of :func:`conv2d`: what
            a convolution back to x would pad.
        output_padding: An int or a pair: rows added below and columns to the right, of the several sizes that a
            convolution would make x of; smaller than the stride or the dilation.
        groups: Into how many separate groups the input and output channels fall; divides both.
        algorithm: ``"auto"`` or a name out of the backend's ``conv2d_algorithms()``, of the convolution.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"`` of the result; None for none.
        backend: A backend or its name; the default backend if None.

    Returns:
        y: (n, out_channels, oh, ow) with
            ``oh = (h - 1) * stride - top - bottom + dilation * (kh - 1) + output_padding + 1`` and ow likewise.

    Raises:
        ValueError: For shapes that do not go together, more padding than there is to take away, an ``output_padding``
            that is too large, an unknown algorithm or activation.
        TypeError: For arrays that are not real, and for bools and floats in place of ints.

    Example:
        >>> conv_transpose2d([[[[1, 2]]]], [[[[1.0, 10.0, 100.0]]]], stride=2, backend="reference")[0, 0]
        array([[  1.,  10., 102.,  20., 200.]])
    """
    backend = backends.get(backend)
    x, weight = real_array("x", x, backend), real_array("weight", weight, backend)
    g, y_shape = conv_transpose2d_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    name, function = _algorithm(g, TRANSPOSED["forward"], algorithm, backend), activation_name(activation)
    dtype = parameter_dtype(weight)
    if bias is not None:
        bias = real_array("bias", bias, backend)
        check_shape("bias", bias, (g.c,), f"for `weight` {g.weight_shape} and `groups` {g.groups}")
        bias = backend.asarray(bias, dtype)
    x, weight = convert(backend, dtype, x, weight)
    y = _of_size(backend.conv2d_backward_input(x, weight, g, name), y_shape, backend)
    if bias is not None:
        backend.add_bias(y, bias, function)
    elif function is not None:
        y = getattr(backend, function)(y)
    return y


def conv_transpose2d_backward(
    dy: Any,
    x: Any,
    weight: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    algorithm: str = "auto",
    *,
    input_gradient: bool = True,
    weight_gradient: bool = True,
    dweight_out: Array | None = None,
    backend: str | Backend | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of :func:`conv_transpose2d` for a cotangent ``dy`` (n, out_channels, oh, ow) of its result.

    ``dx`` is the convolution of dy. What is returned, and ``dweight_out``, are as in :func:`conv2d_backward`; the other
    arguments are those of the forward call.
    """
    backend = backends.get(backend)
    dy, x, weight = real_array("dy", dy, backend), real_array("x", x, backend), real_array("weight", weight, backend)
    g, y_shape = conv_transpose2d_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    check_shape("dy", dy, y_shape, f"of the result for `x` {g.y_shape}")
    choice = conv2d_choice(g, algorithm, backend=backend)
    input_gradient = flag("input_gradient", input_gradient)
    weight_gradient = flag("weight_gradient", weight_gradient)
    dtype = parameter_dtype(weight)
    out = output_array("dweight_out", dweight_out, weight.shape, dtype, backend)
    dy, x, weight = convert(backend, dtype, dy, x, weight)
    seen = _of_size(dy, g.x_shape, backend)
    dx = backend.conv2d(seen, weight, None, g, choice[TRANSPOSED["backward_input"]]) if input_gradient else None
    if not weight_gradient:
        return dx, None, None
    dweight = backend.conv2d_backward_weight(x, seen, g, choice[TRANSPOSED["backward_weight"]], out)
    return dx, dweight, backend.conv2d_backward_bias(dy)


@memoized
def conv_transpose2d_geometry(
    x_shape: Any,
    weight_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> ConvTranspose2dGeometry:
    """All sizes of a transposed convolution; arguments and errors of :func:`conv_transpose2d`.

    >>> conv_transpose2d_geometry((1, 16, 7, 7), (16, 8, 3, 3), stride=2, padding=1, output_padding=1).y_shape
    (1, 8, 14, 14)
    """
    (n, c, h, w), (of_weight, k_in_group, kh, kw) = _shapes(x_shape, weight_shape, "in_channels, out_channels / groups")
    (sh, sw), (dh, dw), groups = pair("stride", stride), pair("dilation", dilation), integer("groups", groups, 1)
    if c != of_weight:
        raise ValueError(
            f"`x` {tuple(x_shape)} has {c} channels (axis 1), but `weight` {tuple(weight_shape)} takes {of_weight}"
        )
    if c % groups:
        raise ValueError(f"`groups` {groups} must divide the {c} channels of `x` {tuple(x_shape)}")
    sides = transposed_padding("padding", padding)
    more = output_padding_of("output_padding", output_padding, (sh, sw), (dh, dw))
    rows = _TransposedAxis(h, kh, sh, dh, sides[0], more[0])
    columns = _TransposedAxis(w, kw, sw, dw, sides[1], more[1])
    if rows.outputs < 1 or columns.outputs < 1:
        raise ValueError(
            f"output would be {max(rows.outputs, 0)}x{max(columns.outputs, 0)}: `padding` {padding!r} takes away all "
            f"that the kernel {(kh, kw)} of `weight` {tuple(weight_shape)} makes of `x` {tuple(x_shape)}"
        )
    (pt, pb), (pl, pr) = rows.padding, columns.padding
    convolution = Conv2dGeometry(
        n, k_in_group * groups, rows.seen, columns.seen, c, kh, kw, sh, sw, pt, pb, pl, pr, dh, dw, groups
    )
    return ConvTranspose2dGeometry(convolution, (n, k_in_group * groups, rows.outputs, columns.outputs))


class _TransposedAxis:
    """One axis of a transposed convolution: ``outputs``, and the convolution's ``padding`` and ``seen`` of them."""

    def __init__(
        self, size: int, kernel: int, stride: int, dilation: int, sides: tuple[int, int], output_padding: int
    ) -> None:
        before, after = sides
        self.outputs = (size - 1) * stride + dilation * (kernel - 1) + 1 - before - after + output_padding
        self.padding, self.seen = sides, self.outputs
        if output_padding >= stride:  # or a convolution leaves that out by itself
            # What is added is first of all less to take away, and beyond that nothing reaches it.
            self.padding = before, max(after - output_padding, 0)
            self.seen -= max(output_padding - after, 0)


def output_padding_of(name: str, value: Any, stride: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """``value`` as a pair; ValueError where it is not smaller than the stride or the dilation, whichever is larger."""
    found = pair(name, value, 0)
    if any(more >= max(axis) for more, axis in zip(found, zip(stride, dilation, strict=True), strict=True)):
        raise ValueError(f"`{name}` {value!r} must be smaller than `stride` {stride} or `dilation` {dilation}")
    return found


def _of_size(images: Array, shape: tuple[int, int, int, int], backend: Backend) -> Array:
    """The images cut to ``shape``, or with zeros below and to the right; as they are where that is their shape."""
    if tuple(images.shape) == shape:
        return images
    origin = backend.zeros(shape[:1], np.int64)
    return backend.flip_and_crop(images, origin, origin, origin, *shape[2:])


def corr2d(X: Any, K: Any, *, backend: str | Backend | None = None) -> Array:  # noqa: N803 - the names of the source
    """The cross-correlation of an image ``X`` (h, w) with a kernel ``K`` (kh, kw): Y (h - kh + 1, w - kw + 1).

    From "Dive into Deep Learning", convolutions for images: each element of Y is the sum of the products of ``K`` with
    the part of ``X`` under it. Computed in the dtype of ``K``, as in :func:`conv2d`. ValueError where ``K`` is larger
    than ``X``.

    >>> corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]], backend="reference")
    array([[19., 25.],
           [37., 43.]], dtype=float32)
    """
    backend = backends.get(backend)
    image, kernel = real_array("X", X, backend, "h, w"), real_array("K", K, backend, "kh, kw")
    if 0 in kernel.shape or any(k > size for k, size in zip(kernel.shape, image.shape, strict=True)):
        raise ValueError(
            f"`K` {tuple(kernel.shape)} must not be empty, and nowhere larger than `X` {tuple(image.shape)}"
        )
    image, kernel = convert(backend, parameter_dtype(kernel), image, kernel)
    y = conv2d(image.reshape((1, 1, *image.shape)), kernel.reshape((1, 1, *kernel.shape)), backend=backend)
    return y.reshape(y.shape[2:])


def _algorithm(geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, backend: Backend) -> str:
    if algorithm == "auto":
        found = autotune.choice(backend, geometry, pass_)
        return found if found and is_allowed(found) else backend.choose_conv2d_algorithm(geometry, pass_)
    return one_of("algorithm", algorithm, ("auto", *backend.conv2d_algorithms()))
