"""Any inputs with any targets, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ops.arguments import integer
from ...ops.parts import as_tuple, each_of
from ..readers.image_files import ImageFiles
from .columns import Column

__all__ = ["PairDataset"]

_DTYPES = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32),
    *(np.float32, np.float64),
)


class PairDataset:
    """Inputs and targets of any shapes, each an array or a tuple of several, all of one length.

    For targets that are no labels, such as numbers, images and masks, and for models of several inputs or outputs; for
    labelled images there is `ArrayDataset`. Arrays are kept without a copy.

    In batches, inputs (n, c, h, w) of dtype uint8 are pixel values, which the loader scales from 0..255 to 0..1 and
    makes float32 of. Everything else is taken as it is: float32 and float64 in their dtype, integers and bool as int64;
    uint8 is that as well in inputs of other shapes and in targets. Python's numbers become float32.

    Args:
        inputs: (n, ...), or a tuple of such arrays; batches have a tuple where this is one. `ImageFiles` are read when
            a batch needs them.
        targets: (n, ...), or a tuple of such arrays, likewise.
        name: what the data set is called where it is printed.
        classes: what the columns of targets (n, classes) are called, if they have names.

    Raises:
        TypeError: another dtype, such as float16; one string for ``classes``.
        ValueError: arrays of different lengths or without axes, an empty tuple, names for another number of columns.

    Example:
        >>> photos, sizes = np.zeros((6, 3, 8, 8), np.uint8), np.ones((6, 2), np.float32)
        >>> masks = np.zeros((6, 8, 8), np.uint8)
        >>> dataset = PairDataset((photos, sizes), masks, "cells")
        >>> dataset
        PairDataset('cells', 6 x ((3, 8, 8) uint8, (2,) float32) -> (8, 8) uint8)
        >>> from numbacnn.data import DataLoader
        >>> (photo, size), mask = next(iter(DataLoader(dataset, batch_size=4)))
        >>> photo.dtype, size.shape, mask.shape, mask.dtype
        (dtype('float32'), (4, 2), (4, 8, 8), dtype('int64'))
    """

    def __init__(self, inputs: Any, targets: Any, name: str = "", classes: Sequence[str] = ()) -> None:
        self.inputs = _checked("inputs", inputs)
        self.targets = _checked("targets", targets)
        self.name = name
        lengths = [len(array) for array in (*as_tuple(self.inputs), *as_tuple(self.targets))]
        if len(set(lengths)) > 1:
            raise ValueError(f"`inputs` and `targets` must have one length, but their arrays have {lengths}")
        if isinstance(classes, str):
            raise TypeError(f"`classes` {classes!r} must be a sequence of names, not one string")
        self.classes = tuple(map(str, classes))
        columns = None if isinstance(self.targets, tuple) else self.targets.shape[1:]
        if self.classes and columns != (len(self.classes),):
            raise ValueError(f"`classes` {self.classes} must be a name for each column of `targets` (n, classes)")

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of every input, where the inputs are one array (n, c, h, w); otherwise None."""
        if isinstance(self.inputs, tuple) or self.inputs.ndim != 4:
            return None
        _, c, h, w = self.inputs.shape
        return c, h, w

    def columns(self) -> tuple[Any, Any]:
        """What the loader makes batches of: of inputs and targets a column, or a tuple of several."""
        pixels = each_of(self.inputs, lambda array: Column(array, array.dtype == np.uint8 and array.ndim == 4))
        return pixels, each_of(self.targets, lambda array: Column(array, False))

    def subset(self, limit: int) -> PairDataset:
        """The first ``limit`` samples, at least 1, or all where there are fewer."""
        limit = integer("limit", limit, 1)
        inputs, targets = (each_of(part, lambda array: array[:limit]) for part in self._parts())
        return PairDataset(inputs, targets, self.name, self.classes)

    def __len__(self) -> int:
        return len(as_tuple(self.inputs)[0])

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Copies of one input and its target, in their dtypes; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` {index} must be in {-len(self)}..{len(self) - 1}")
        x, y = (each_of(part, lambda array: np.array(array[index])) for part in self._parts())
        return x, y

    def __repr__(self) -> str:
        inputs, targets = (_described(part) for part in self._parts())
        return f"PairDataset({self.name!r}, {len(self)} x {inputs} -> {targets})"

    def _parts(self) -> tuple[Any, Any]:
        return self.inputs, self.targets


def _checked(name: str, part: Any) -> Any:
    """NumPy's arrays of an argument."""
    if isinstance(part, tuple):
        if not part:
            raise ValueError(f"`{name}` must be an array or a tuple of arrays, not an empty tuple")
        return tuple(_checked(f"{name}[{i}]", one) for i, one in enumerate(part))
    if isinstance(part, ImageFiles):
        return part
    array = np.asarray(part)
    if not hasattr(part, "dtype") and array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype not in _DTYPES:
        raise TypeError(f"`{name}` of dtype {array.dtype} must be bool, int8..int64, uint8..uint32, float32 or float64")
    if not array.ndim:
        raise ValueError(f"`{name}` of shape () must have an axis for the samples first")
    return array


def _described(part: Any) -> str:
    shapes = [f"{array.shape[1:]} {array.dtype}" for array in as_tuple(part)]
    return f"({', '.join(shapes)})" if isinstance(part, tuple) else shapes[0]
