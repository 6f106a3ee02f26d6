"""Layers of several inputs, as nodes of a `Graph`: what branches give, made one."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backends import Array
from .any_inputs import AnyInputs
from .layer import check_dy_shape
from .receptive import Window
from .state import Shape, as_floating, as_input

__all__ = ["Concatenate", "Product", "Sum"]


class _Merge(AnyInputs):
    takes_several = True

    def _inputs(self, inputs: tuple[Any, ...]) -> list[Array]:
        if not inputs:
            raise TypeError(f"{type(self).__name__} takes one input or more, got none")
        return [as_input(x, self.backend) for x in inputs]

    def window(self) -> Window | None:
        return None


class Sum(_Merge):
    """y = the sum of the inputs, one or more of one shape; the gradient of each is dy. In a `Graph` a skip connection.

    `Add` is the same of branches that begin at one input.

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     Sum()([1, 2], [10, 20])
    array([11., 22.], dtype=float32)
    """

    def forward(self, *inputs: Any) -> Array:
        arrays = self._inputs(inputs)
        y = ops.add(arrays, backend=self.backend)
        self.saved = (len(arrays), tuple(y.shape))
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        shared = self.backward_shared(dy)
        return tuple(self.backend.copy(dx) for dx in shared) if input_gradient else None

    def backward_shared(self, dy: Any) -> tuple[Array, ...]:
        """``backward`` without copies, for a caller who only reads the gradients."""
        count, shape = self.saved
        check_dy_shape(dy, shape)
        self.answered()
        return (as_floating(dy, self.backend, name="dy"),) * count

    def output_shape(self, *shapes: Shape) -> Shape:
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"the inputs of Sum have the shapes {list(shapes)}, which must all be the same")
        return tuple(shapes[0])


class Product(_Merge):
    """y = the product of the inputs, one or more; the gradient of each is dy times the others.

    All have the shape of the first, or each channel of its images (n, c, h, w) is multiplied by a number, (n, c, 1, 1),
    as in a squeeze-and-excitation block (Hu et al. 2018).

    >>> from numbacnn import use_backend
    >>> with use_backend("reference"):
    ...     Product()([1, 2], [10, 20])
    array([10., 40.], dtype=float32)
    """

    def forward(self, *inputs: Any) -> Array:
        first, *factors = self._inputs(inputs)
        product = self.backend.copy(first)
        products = []
        for factor in factors:
            products.append(product)
            product = ops.multiply(product, factor, backend=self.backend)
        self.saved = (products, factors, tuple(product.shape))
        return product

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        products, factors, shape = self.saved
        check_dy_shape(dy, shape)
        if not input_gradient:
            return None
        gradient = self.backend.copy(as_floating(dy, self.backend, name="dy"))
        gradients: list[Array] = []
        for product, factor in zip(reversed(products), reversed(factors), strict=True):
            gradient, of_factor = ops.multiply_backward(gradient, product, factor, backend=self.backend)
            gradients.insert(0, of_factor)
        return (gradient, *gradients)

    def output_shape(self, *shapes: Shape) -> Shape:
        first = tuple(shapes[0])
        of_channels = (*first[:2], 1, 1) if len(first) == 4 else first
        if any(tuple(shape) not in (first, of_channels) for shape in shapes):
            raise ValueError(
                f"the inputs of Product have the shapes {list(shapes)}, must have {first} or {of_channels}"
            )
        return first


class Concatenate(_Merge):
    """y = the inputs joined along axis 1, the channels; the gradient of each is its part of dy.

    The inputs must agree in everything but axis 1. `Concat` is the same of branches that begin at one input.
    """

    def forward(self, *inputs: Any) -> Array:
        arrays = self._inputs(inputs)
        self.saved = [array.shape[1] for array in arrays]
        return ops.concat(arrays, backend=self.backend)

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        dxs = ops.concat_backward(dy, self.saved, backend=self.backend)
        return tuple(dxs) if input_gradient else None

    def output_shape(self, *shapes: Shape) -> Shape:
        n, _, *rest = shapes[0]
        if any(len(other) < 2 or (other[0], *other[2:]) != (n, *rest) for other in shapes):
            raise ValueError(f"the inputs of Concatenate have the shapes {list(shapes)}, must agree in all but axis 1")
        return (n, sum(other[1] for other in shapes), *rest)
