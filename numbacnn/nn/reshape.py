"""Changes of shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..ops.arguments import axis_number, part_sizes
from .receptive import WHOLE_IMAGE, Window
from .settings import setting
from .state import Shape
from .view_layer import ViewLayer

__all__ = ["Flatten", "Reshape", "Unflatten"]


class Flatten(ViewLayer):
    """x (n, c, h, w) -> y (n, c h w): all axes but the batch in one, as a copy; backward gives dy its shape back."""

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError(f"the input of Flatten has shape {tuple(shape)}, must have at least 2 axes")
        return (shape[0], math.prod(shape[1:]))

    def window(self) -> Window | None:
        return WHOLE_IMAGE


class Unflatten(ViewLayer):
    """One axis of x, ``dim``, cut into axes of the sizes ``unflattened_size``; backward gives dy its shape back.

    One of the sizes may be -1, which stands for what the others leave. ``dim`` may count from the end, -1 for the last
    axis; the batch, axis 0, stays as it is.

    >>> Unflatten(1, (3, 4, -1)).output_shape((2, 60))
    (2, 3, 4, 5)
    """

    dim: int = setting(axis_number)
    unflattened_size: tuple[int, ...] = setting(part_sizes)

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.unflattened_size = unflattened_size  # type: ignore[assignment]

    def output_shape(self, shape: Shape) -> Shape:
        dim = self.dim + (len(shape) if self.dim < 0 else 0)
        if not 1 <= dim < len(shape):
            raise ValueError(f"`dim` {self.dim} must be an axis after the batch, of the input {tuple(shape)}: {self!r}")
        sizes = _filled("unflattened_size", self.unflattened_size, shape[dim], f"axis {dim} of {tuple(shape)}")
        return (*shape[:dim], *sizes, *shape[dim + 1 :])

    def window(self) -> Window | None:
        return None if self.dim == 1 else WHOLE_IMAGE

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Reshape(ViewLayer):
    """x (n, ...) -> y ``(n, *shape)``: the same numbers, the last axis first; backward gives dy its shape back.

    ``shape``, one or more ints or a tuple of them, is that of each sample: the batch is not in it and stays as it is.
    One of the sizes may be -1, which stands for what the others leave. PyTorch has no such layer.

    >>> Reshape(3, -1).output_shape((2, 3, 4, 5)), Reshape((4, 15)).output_shape((2, 3, 4, 5))
    ((2, 3, 20), (2, 4, 15))
    """

    shape: tuple[int, ...] = setting(part_sizes)

    def __init__(self, *shape: Any) -> None:
        super().__init__()
        self.shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape

    def output_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise ValueError("the input of Reshape has shape (), must have a first axis, the batch")
        return (shape[0], *_filled("shape", self.shape, math.prod(shape[1:]), f"a sample of {tuple(shape)}"))

    def window(self) -> Window | None:
        return WHOLE_IMAGE

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


def _filled(name: str, sizes: tuple[int, ...], whole: int, owner: str) -> tuple[int, ...]:
    """``sizes`` with a number for -1; ValueError unless they make ``whole``, the numbers of ``owner``."""
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and known and whole % known == 0:
        return tuple(whole // known if size == -1 else size for size in sizes)
    if -1 in sizes or known != whole:
        raise ValueError(f"`{name}` {sizes} must hold the {whole} numbers of {owner}")
    return sizes
