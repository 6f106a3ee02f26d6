"""Layers for the arithmetic of ONNX: two operands of any shapes, and what is reduced over any axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backends import Array
from ..nn.layer import check_dy_shape
from ..nn.receptive import Window
from ..nn.state import Constant, Parameter, Shape, as_floating, as_input
from ..ops.arguments import common_dtype, convert
from ..ops.pooling import max_pool2d_backward_of_own
from .columns import OnnxLayer, as_columns, column_sums, expanded, kept_first, rearranged, summed

__all__ = ["Combine", "Function", "Reduce"]


class Combine(OnnxLayer):
    """y = a + b, a - b, a b, a / b, the larger or the smaller of the two, element by element.

    ``operation`` is "add", "subtract", "multiply", "divide", "maximum" or "minimum". Both are inputs, or one is
    ``constant``, the second unless ``constant_first``; it is a parameter with ``trainable``. They are broadcast as
    NumPy does. Of equal numbers the first is the larger one and the smaller one, for the gradient.

    >>> Combine("multiply", 0.5)
    Combine('multiply', constant=())
    """

    def __init__(
        self, operation: str, constant: Any = None, constant_first: bool = False, trainable: bool = False
    ) -> None:
        super().__init__()
        self.operation = operation
        self.constant_first = constant_first
        self.takes_several = constant is None
        self.value: Parameter | Constant | None = None
        if constant is not None:
            self.value = (Parameter if trainable else Constant)(constant, self.backend)

    def forward(self, *inputs: Any) -> Array:
        a, b = self._operands([as_input(x, self.backend) for x in inputs])
        a, b = convert(self.backend, common_dtype(a, b), a, b)
        self.saved = (a, b)
        shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
        return self._combined(expanded(a, shape, self.backend), expanded(b, shape, self.backend))

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        a, b = self.saved
        shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
        check_dy_shape(dy, shape)
        dy = as_floating(dy, self.backend, a.dtype, "dy")
        gradients = self._gradients(dy, expanded(a, shape, self.backend), expanded(b, shape, self.backend))
        found = [summed(g, tuple(x.shape), self.backend) for g, x in zip(gradients, (a, b), strict=True)]
        if self.value is None:
            return tuple(found) if input_gradient else None
        of_constant, of_input = found if self.constant_first else found[::-1]
        if isinstance(self.value, Parameter):
            self.value.accumulate(of_constant)
        return of_input if input_gradient else None

    def _operands(self, inputs: list[Array]) -> list[Array]:
        if self.value is not None:
            value = self.backend.asarray(self.value.value, inputs[0].dtype)
            inputs.insert(0 if self.constant_first else 1, value)
        return inputs

    def _combined(self, a: Array, b: Array) -> Array:
        backend = self.backend
        if self.operation == "add":
            return backend.add([a, b])
        if self.operation == "subtract":
            y = backend.copy(a)
            backend.accumulate(y, b, -1.0)
            return y
        if self.operation == "multiply":
            return backend.multiply(a, b)
        if self.operation == "divide":
            return _quotient(a, b, backend)
        sign = 1.0 if self.operation == "maximum" else -1.0
        y = ops.max_pool2d(self._stacked(a, b, sign), (2, 1), backend=backend)
        return _scaled(backend.reshape(y, a.shape), sign, backend)

    def _gradients(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        backend = self.backend
        if self.operation == "add":
            return backend.copy(dy), backend.copy(dy)
        if self.operation == "subtract":
            return backend.copy(dy), _scaled(dy, -1.0, backend)
        if self.operation == "multiply":
            return backend.multiply(dy, b), backend.multiply(dy, a)
        if self.operation == "divide":
            of_a = _quotient(dy, b, backend)
            return of_a, _scaled(backend.multiply(of_a, _quotient(a, b, backend)), -1.0, backend)
        stacked = self._stacked(a, b, 1.0 if self.operation == "maximum" else -1.0)
        _, indices = ops.max_pool2d(stacked, (2, 1), return_indices=True, backend=backend)
        shape = tuple(dy.shape)
        geometry = ops.pool2d_geometry(tuple(stacked.shape), (2, 1))
        parts = max_pool2d_backward_of_own(backend.reshape(dy, (1, 1, 1, dy.size)), indices, geometry, backend)
        parts = backend.reshape(parts, (1, 2, dy.size))
        of_a, of_b = (backend.reshape(backend.take_channels(parts, i, 1), shape) for i in range(2))
        return of_a, of_b

    def _stacked(self, a: Array, b: Array, sign: float) -> Array:
        """Both in the two rows of an image, times ``sign``."""
        rows = self.backend.empty((1, 2, a.size), a.dtype)
        for i, x in enumerate((a, b)):
            self.backend.put_channels(rows, self.backend.reshape(_scaled(x, sign, self.backend), (1, 1, a.size)), i)
        return self.backend.reshape(rows, (1, 1, 2, a.size))

    def output_shape(self, *shapes: Shape) -> Shape:
        all_shapes = [tuple(shape) for shape in shapes] + ([] if self.value is None else [self.value.shape])
        try:
            return tuple(np.broadcast_shapes(*all_shapes))
        except ValueError:
            raise ValueError(f"the shapes {all_shapes} cannot be broadcast: {self!r}") from None

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        parts = [repr(self.operation)] + ([] if self.value is None else [f"constant={self.value.shape}"])
        return ", ".join(parts + ["constant_first=True"] * (self.value is not None and self.constant_first))


class Function(OnnxLayer):
    """y = exp(x), log(x), the square root of x, or x to the power of ``exponent``, element by element.

    ``operation`` is "exp", "log", "sqrt" or "power". dx is dy times the slope; where x is 0 that of a root and of a
    power by less than 1, which is infinite, counts as 0.

    >>> Function("power", 0.75)
    Function('power', exponent=0.75)
    """

    def __init__(self, operation: str, exponent: float | None = None) -> None:
        super().__init__()
        self.operation = operation
        self.exponent = exponent

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        self.saved = x
        return self.backend.pointwise(x, *self._kind())

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x = self.saved
        check_dy_shape(dy, tuple(x.shape))
        if not input_gradient:
            return None
        return self.backend.pointwise_backward(as_floating(dy, self.backend, x.dtype, "dy"), x, *self._kind())

    def _kind(self) -> tuple[str, tuple[float, ...]]:
        """What backends call it, and its parameters."""
        if self.exponent is not None:
            return "power", (self.exponent, 1.0)
        return ("root", (1.0,)) if self.operation == "sqrt" else (self.operation, ())

    def output_shape(self, shape: Shape) -> Shape:
        return tuple(shape)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        return repr(self.operation) + ("" if self.exponent is None else f", exponent={self.exponent}")


class Reduce(OnnxLayer):
    """The mean, the sum or the largest element over some axes, which stay with one element each.

    >>> Reduce("mean", (2, 3)).output_shape((5, 3, 8, 8))
    (5, 3, 1, 1)
    """

    def __init__(self, operation: str, axes: Sequence[int]) -> None:
        super().__init__()
        self.operation = operation
        self.axes = tuple(axes)

    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend)
        shape = tuple(x.shape)
        self.output_shape(shape)
        columns = as_columns(x, self.axes, self.backend)
        indices = None
        if self.operation == "mean":
            y = ops.global_avg_pool2d(columns, backend=self.backend)
        elif self.operation == "sum":
            y = column_sums(columns, self.backend)
        else:
            y, indices = ops.max_pool2d(columns, (columns.shape[2], 1), return_indices=True, backend=self.backend)
        self.saved = (shape, tuple(columns.shape), indices)
        return self.backend.reshape(y, self.output_shape(shape))

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        shape, columns, indices = self.saved
        check_dy_shape(dy, self.output_shape(shape))
        if not input_gradient:
            return None
        dy = self.backend.reshape(as_floating(dy, self.backend, name="dy"), (*columns[:2], 1, 1))
        if self.operation == "mean":
            dx = ops.global_avg_pool2d_backward(dy, columns, backend=self.backend)
        elif self.operation == "sum":
            dx = self.backend.expand(dy, columns)
        else:
            geometry = ops.pool2d_geometry(columns, (columns[2], 1))
            dx = max_pool2d_backward_of_own(dy, indices, geometry, self.backend)
        order = kept_first(self.axes, len(shape))
        dx = self.backend.reshape(dx, tuple(shape[axis] for axis in order))
        back = [(order.index(axis),) for axis in range(len(shape))]
        return rearranged(self.backend, dx, [(size,) for size in dx.shape], back)

    def output_shape(self, shape: Shape) -> Shape:
        if self.axes and max(self.axes) >= len(shape):
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must have the axes {self.axes}")
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))

    def extra_repr(self) -> str:
        return f"{self.operation!r}, axes={self.axes}"


def _scaled(x: Array, factor: float, backend: Any) -> Array:
    if factor == 1:
        return x
    y = backend.zeros(tuple(x.shape), x.dtype)
    backend.accumulate(y, x, factor)
    return y


def _quotient(a: Array, b: Array, backend: Any) -> Array:
    """a / b: the channels of an image of one pixel, each over its own number."""
    count = a.size
    zeros = backend.zeros((count,), a.dtype)
    y = backend.normalize_images(backend.reshape(a, (1, count, 1, 1)), zeros, backend.reshape(b, (count,)))
    return backend.reshape(y, tuple(a.shape))
