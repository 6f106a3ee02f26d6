"""Layers for what ONNX does with axes and `nn` has no layer for, made of what backends can do already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import ops
from ..backends import Array
from ..nn.layer import check_dy_shape
from ..nn.receptive import WHOLE_IMAGE, Window
from ..nn.state import Constant, Shape, as_floating, as_input
from ..nn.view_layer import ViewLayer
from .columns import OnnxLayer, rearranged

__all__ = ["Along", "PadAxis", "Rearrange", "ReshapeTo", "Take", "reshaped"]


class Rearrange(OnnxLayer):
    """Axes split into parts, and axes made of these parts in another order; dx is dy put back.

    ``split`` has for each axis the sizes of its parts, of which one may be -1, and ``joined`` for each axis of y the
    numbers of its parts, counted through.

    >>> Rearrange.transpose((0, 2, 1)).output_shape((2, 3, 4))
    (2, 4, 3)
    """

    def __init__(self, split: Sequence[Sequence[int]], joined: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.split = tuple(map(tuple, split))
        self.joined = tuple(map(tuple, joined))

    @classmethod
    def transpose(cls, permutation: Sequence[int]) -> Rearrange:
        """Axis i of y is axis ``permutation[i]`` of x."""
        return cls([(-1,)] * len(permutation), [(axis,) for axis in permutation])

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        split = self._sizes(tuple(x.shape))
        self.saved = split
        return rearranged(self.backend, x, split, self.joined)

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        split = self.saved
        check_dy_shape(dy, self._joined_shape(split))
        if not input_gradient:
            return None
        sizes = [size for axis in split for size in axis]
        order = [part for axis in self.joined for part in axis]
        places = iter([order.index(part) for part in range(len(sizes))])
        back = [[next(places) for _ in axis] for axis in split]
        parts = [[sizes[part] for part in axis] for axis in self.joined]
        return rearranged(self.backend, as_floating(dy, self.backend, name="dy"), parts, back)

    def output_shape(self, shape: Shape) -> Shape:
        return self._joined_shape(self._sizes(tuple(shape)))

    def _joined_shape(self, split: tuple[tuple[int, ...], ...]) -> Shape:
        sizes = [size for axis in split for size in axis]
        return tuple(math.prod(sizes[part] for part in axis) for axis in self.joined)

    def _sizes(self, shape: Shape) -> tuple[tuple[int, ...], ...]:
        if len(shape) != len(self.split):
            raise ValueError(f"the input of {self!r} has shape {shape}, must have {len(self.split)} axes")
        found = []
        for size, axis in zip(shape, self.split, strict=True):
            known = math.prod(part for part in axis if part != -1)
            if size % known or (-1 not in axis and size != known):
                raise ValueError(f"the input of {self!r} has shape {shape}, which does not split so")
            found.append(tuple(size // known if part == -1 else part for part in axis))
        return tuple(found)

    def window(self) -> Window | None:
        return None if self.split == ((-1,),) * 4 and self.joined[2:] == ((2,), (3,)) else WHOLE_IMAGE

    def extra_repr(self) -> str:
        return f"{self.split}, {self.joined}"


class Take(OnnxLayer):
    """y = the elements ``indices`` of x along ``axis``, from 0, any of them several times; dx is dy added up there.

    >>> Take(1, [2, 0]).output_shape((5, 3, 8))
    (5, 2, 8)
    """

    def __init__(self, axis: int, indices: Sequence[int]) -> None:
        super().__init__()
        self.axis = axis
        # A range stays one: files of a few bytes have axes of any length.
        self.indices: Sequence[int] = indices if isinstance(indices, range) else tuple(int(i) for i in indices)

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        shape, y_shape = tuple(x.shape), self.output_shape(tuple(x.shape))
        self.saved = shape
        rows, y = self._rows(x, shape), self.backend.empty(self._rows_shape(y_shape), x.dtype)
        for target, first, count in self._runs():
            self.backend.put_channels(y, self.backend.take_channels(rows, first, count), target)
        return self.backend.reshape(y, y_shape)

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        shape = self.saved
        y_shape = self.output_shape(shape)
        check_dy_shape(dy, y_shape)
        if not input_gradient:
            return None
        dy = as_floating(dy, self.backend, name="dy")
        rows, dx = self._rows(dy, y_shape), self.backend.zeros(self._rows_shape(shape), dy.dtype)
        for target, first, count in self._runs():
            part = self.backend.take_channels(dx, first, count)
            self.backend.accumulate(part, self.backend.take_channels(rows, target, count))
            self.backend.put_channels(dx, part, first)
        return self.backend.reshape(dx, shape)

    def _runs(self) -> list[tuple[int, int, int]]:
        """Where in y, where in x, how many: of neighbours in both."""
        if isinstance(self.indices, range) and self.indices.step == 1:
            return [(0, self.indices.start, len(self.indices))]
        runs: list[tuple[int, int, int]] = []
        for i, index in enumerate(self.indices):
            if runs and index == sum(runs[-1][1:]):
                target, first, count = runs.pop()
                runs.append((target, first, count + 1))
            else:
                runs.append((i, index, 1))
        return runs

    def _rows(self, x: Array, shape: Shape) -> Array:
        return self.backend.reshape(x, self._rows_shape(shape))

    def _rows_shape(self, shape: Shape) -> Shape:
        """With the axis as channels; images keep theirs."""
        if self.axis == 1:
            return shape
        return (math.prod(shape[: self.axis]), shape[self.axis], math.prod(shape[self.axis + 1 :]))

    def output_shape(self, shape: Shape) -> Shape:
        ends = (self.indices[0], self.indices[-1]) if isinstance(self.indices, range) else self.indices
        if len(shape) <= self.axis or max(ends) >= shape[self.axis]:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, in which these are not")
        return (*shape[: self.axis], len(self.indices), *shape[self.axis + 1 :])

    def extra_repr(self) -> str:
        runs = ", ".join(f"{first}:{first + count}" for _, first, count in self._runs())
        return f"axis={self.axis}, [{runs}]"


class PadAxis(OnnxLayer):
    """One axis of x with something before and after it, or cut off where these are negative; see `ops.pad2d`."""

    def __init__(self, axis: int, before: int, after: int, mode: str = "constant", value: float = 0.0) -> None:
        super().__init__()
        self.axis = axis
        self.sides = (0, 0, before, after)
        self.mode = mode
        self.value = value

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        shape = tuple(x.shape)
        self.saved = shape
        image = self.backend.reshape(x, self._image(shape))
        y = ops.pad2d(image, self.sides, self.mode, self.value, backend=self.backend)
        return self.backend.reshape(y, self.output_shape(shape))

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        shape = self.saved
        y_shape = self.output_shape(shape)
        check_dy_shape(dy, y_shape)
        if not input_gradient:
            return None
        dy = self.backend.reshape(as_floating(dy, self.backend, name="dy"), self._image(y_shape))
        dx = ops.pad2d_backward(dy, self._image(shape), self.sides, self.mode, backend=self.backend)
        return self.backend.reshape(dx, shape)

    def _image(self, shape: Shape) -> Shape:
        return (1, math.prod(shape[: self.axis]), shape[self.axis], math.prod(shape[self.axis + 1 :]))

    def output_shape(self, shape: Shape) -> Shape:
        size = shape[self.axis] + sum(self.sides) if self.axis < len(shape) else 0
        if size < 1:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, of which nothing would be left")
        return (*shape[: self.axis], size, *shape[self.axis + 1 :])

    def extra_repr(self) -> str:
        return f"axis={self.axis}, {self.sides[2:]}, mode={self.mode!r}, value={self.value}"


class ReshapeTo(ViewLayer):
    """y = x in another shape: of ``shape``, 0 stands for the size that this axis of x has, -1 for what is left.

    >>> ReshapeTo((-1, 2, 0)).output_shape((3, 4, 5))
    (6, 2, 5)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def output_shape(self, shape: Shape) -> Shape:
        return reshaped(tuple(shape), self.shape)

    def window(self) -> Window | None:
        return WHOLE_IMAGE

    def extra_repr(self) -> str:
        return str(self.shape)


class Along(OnnxLayer):
    """y = a fixed ``matrix`` (outputs, size) times x along ``axis``; dx is dy times its transpose."""

    def __init__(self, axis: int, matrix: Any) -> None:
        super().__init__()
        self.axis = axis
        self.matrix = Constant(matrix, self.backend)

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        self.saved = self.output_shape(tuple(x.shape))
        return self._times(x, lambda rows, matrix: self.backend.linear(rows, matrix, None))

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        check_dy_shape(dy, self.saved)
        dy = as_floating(dy, self.backend, name="dy")
        return self._times(dy, self.backend.linear_backward_input) if input_gradient else None

    def _times(self, x: Array, multiply: Any) -> Array:
        """With the axis as the last one of rows."""
        shape = tuple(x.shape)
        last = [(axis,) for axis in range(len(shape)) if axis != self.axis] + [(self.axis,)]
        rows = rearranged(self.backend, x, [(size,) for size in shape], last)
        matrix = self.backend.asarray(self.matrix.value, x.dtype)
        rows = multiply(self.backend.reshape(rows, (-1, shape[self.axis])), matrix)
        sizes = [shape[axis] for (axis,) in last[:-1]] + [rows.shape[1]]
        back = [(last.index((axis,)),) for axis in range(len(shape))]
        return rearranged(self.backend, self.backend.reshape(rows, tuple(sizes)), [(size,) for size in sizes], back)

    def output_shape(self, shape: Shape) -> Shape:
        outputs, size = self.matrix.shape
        if len(shape) <= self.axis or shape[self.axis] != size:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must have {size} along this axis")
        return (*shape[: self.axis], outputs, *shape[self.axis + 1 :])

    def extra_repr(self) -> str:
        return f"axis={self.axis}, matrix={self.matrix.shape}"


def reshaped(shape: Shape, target: Sequence[int]) -> Shape:
    """The shape that ``target``, in which 0 copies a size and -1 is what is left, makes of ``shape``; ValueError."""
    if any(size == 0 and axis >= len(shape) for axis, size in enumerate(target)):
        raise ValueError(f"{tuple(target)} copies an axis that {shape} does not have")
    sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    whole, known = math.prod(shape), math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known and whole % known == 0:
        sizes[sizes.index(-1)] = whole // known
    elif -1 in sizes or known != whole:
        raise ValueError(f"{shape} cannot become {tuple(target)}")
    return tuple(sizes)
