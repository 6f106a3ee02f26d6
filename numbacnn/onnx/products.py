"""The product of two matrices that are both computed: attention in convolutional networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..backends import Array
from ..nn.layer import check_dy_shape
from ..nn.state import Shape, as_floating, as_input
from ..ops.arguments import common_dtype, convert
from .columns import OnnxLayer, expanded, summed

__all__ = ["MatrixProduct"]


class MatrixProduct(OnnxLayer):
    """y = a b, for a (..., m, k) and b (..., k, n); the axes before are broadcast as NumPy does.

    da is dy b^T, db is a^T dy. To backends it is a convolution with a group for each pair of matrices, whose channels
    are the rows of b, whose pixels its columns, and whose weights are a.

    >>> MatrixProduct().output_shape((8, 5, 3), (8, 3, 7))
    (8, 5, 7)
    """

    takes_several = True

    def forward(self, *inputs: Any) -> Array:
        a, b = (as_input(x, self.backend) for x in inputs)
        a, b = convert(self.backend, common_dtype(a, b), a, b)
        self.saved = (a, b)
        shape = self.output_shape(tuple(a.shape), tuple(b.shape))
        if not math.prod(shape) or not a.shape[-1]:
            return self.backend.zeros(shape, a.dtype)
        weight, x = self._as_convolution(a, b, shape[:-2])
        y = ops.conv2d(x, weight, groups=math.prod(shape[:-2]), backend=self.backend)
        return self.backend.reshape(y, shape)

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        a, b = self.saved
        shape = self.output_shape(tuple(a.shape), tuple(b.shape))
        check_dy_shape(dy, shape)
        if not input_gradient:
            return None
        if not math.prod(shape) or not a.shape[-1]:
            return tuple(self.backend.zeros(tuple(x.shape), x.dtype) for x in (a, b))
        before, count = shape[:-2], math.prod(shape[:-2])
        weight, x = self._as_convolution(a, b, before)
        dy = as_floating(dy, self.backend, a.dtype, "dy")
        dy = self.backend.reshape(dy, (1, count * shape[-2], shape[-1], 1))
        db, da, _ = ops.conv2d_backward(dy, x, weight, groups=count, backend=self.backend)
        return tuple(
            summed(self.backend.reshape(gradient, (*before, *of.shape[-2:])), tuple(of.shape), self.backend)
            for gradient, of in ((da, a), (db, b))
        )

    def _as_convolution(self, a: Array, b: Array, before: Shape) -> tuple[Array, Array]:
        """The weights (pairs m, k, 1, 1) and the image (1, pairs k, n, 1)."""
        count, (m, k), n = math.prod(before), a.shape[-2:], b.shape[-1]
        a, b = (expanded(x, (*before, *x.shape[-2:]), self.backend) for x in (a, b))
        return self.backend.reshape(a, (count * m, k, 1, 1)), self.backend.reshape(b, (1, count * k, n, 1))

    def output_shape(self, *shapes: Shape) -> Shape:
        try:
            a, b = shapes
            if min(len(a), len(b)) < 2 or a[-1] != b[-2]:
                raise ValueError
            return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
        except ValueError:
            raise ValueError(f"{self!r} cannot multiply matrices of the shapes {shapes}") from None

    def flops(self, *shapes: Shape) -> int:
        return 2 * math.prod(self.output_shape(*shapes)) * shapes[0][-1]
