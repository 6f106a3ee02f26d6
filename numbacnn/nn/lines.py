"""Lines (n, c, l) as images of one row (n, c, 1, l), which is what the operations on windows take, and back."""

from __future__ import annotations

from typing import Any

from ..backends import Array, Backend
from ..ops.arguments import real_array, shape_of
from .state import Shape, as_floating

__all__ = ["as_image_padding", "as_image_shape", "as_images", "as_line_shape", "as_lines"]

AXES = {"weight": "out_channels, in_channels / groups, k"}


def as_image_padding(padding: Any) -> Any:
    """What `line_padding_form` gives, in a form for images: a word, ``(0, p)`` or ``((0, 0), (before, after))``."""
    if isinstance(padding, str):
        return padding
    return (0, padding[0]) if isinstance(padding[0], int) else ((0, 0), padding[0])


def as_image_shape(name: str, shape: Shape) -> Shape:
    """ValueError unless ``shape`` has three axes."""
    n, c, length = shape_of(name, shape, AXES.get(name, "n, c, l"))
    return n, c, 1, length


def as_images(name: str, x: Any, backend: Backend) -> Array:
    """``x`` on the backend, of a floating dtype, in the same memory if it is there already."""
    x = real_array(name, x, backend)
    shape = as_image_shape(name, x.shape)
    return backend.reshape(as_floating(x, backend, name=name), shape)


def as_line_shape(shape: Shape) -> Shape:
    """The inverse of :func:`as_image_shape`."""
    n, c, _, length = shape
    return n, c, length


def as_lines(y: Array, backend: Backend) -> Array:
    """The inverse of :func:`as_images`."""
    return backend.reshape(y, as_line_shape(y.shape))
