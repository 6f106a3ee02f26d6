"""What the layers for ONNX have in common: axes in another order, and what is broadcast and summed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backends import Array
from ..nn.any_inputs import AnyInputs
from ..nn.receptive import WHOLE_IMAGE, Window
from ..nn.state import Shape

__all__ = ["OnnxLayer", "as_columns", "column_sums", "expanded", "kept_first", "rearranged", "summed"]


class OnnxLayer(AnyInputs):
    """What layers of one input or several have in common."""

    def window(self) -> Window | None:
        return WHOLE_IMAGE


def rearranged(backend: Any, x: Array, split: Sequence[Sequence[int]], joined: Sequence[Sequence[int]]) -> Array:
    return backend.rearrange(x, tuple(map(tuple, split)), tuple(map(tuple, joined)))


def kept_first(axes: Sequence[int], count: int) -> list[int]:
    return [axis for axis in range(count) if axis not in axes] + list(axes)


def as_columns(x: Array, axes: Sequence[int], backend: Any) -> Array:
    """(1, kept, reduced, 1) of x, the ``axes`` being those reduced."""
    shape = tuple(x.shape)
    order = kept_first(axes, len(shape))
    if order != sorted(order):
        x = rearranged(backend, x, [(size,) for size in shape], [(axis,) for axis in order])
    reduced = math.prod(shape[axis] for axis in axes)
    kept = math.prod(size for axis, size in enumerate(shape) if axis not in axes)
    return backend.reshape(x, (1, kept, reduced, 1))


def column_sums(columns: Array, backend: Any) -> Array:
    # Ones that nothing brings from the host: what a step captures comes from no array of NumPy.
    ones = backend.pointwise(backend.zeros(tuple(columns.shape), columns.dtype), "hardtanh", (1.0, 1.0))
    return backend.sum_of_products(columns, ones)


def expanded(x: Array, shape: Shape, backend: Any) -> Array:
    """``x`` broadcast to ``shape``."""
    return x if tuple(x.shape) == shape else backend.expand(x, shape)


def summed(dy: Array, shape: Shape, backend: Any) -> Array:
    """``dy`` summed over the axes along which something of ``shape`` was repeated."""
    full = (1,) * (len(dy.shape) - len(shape)) + shape
    axes = [axis for axis, (size, own) in enumerate(zip(dy.shape, full, strict=True)) if size != own]
    if axes:
        dy = column_sums(as_columns(dy, axes, backend), backend)
    return backend.reshape(dy, shape)
