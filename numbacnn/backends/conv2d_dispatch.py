"""The calls of ``conv.py`` that an algorithm does, alike on every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .contract import Activation, Array, ConvPass
from .geometry import Conv2dGeometry

__all__ = ["Conv2dAlgorithm", "Conv2dDispatch"]


class Conv2dAlgorithm(Protocol):
    """A module of ``convolution/``: one way to compute the passes, of images and weights as the backend lays them."""

    def forward(
        self, x: Array, weight: Array, bias: Array | None, g: Conv2dGeometry, activation: Activation, /
    ) -> Array:
        """y, activated."""

    def backward_input(self, dy: Array, weight: Array, g: Conv2dGeometry, /) -> Array:
        """dx."""

    def backward_weight(self, dy: Array, x: Array, dweight: Array, g: Conv2dGeometry, /) -> None:
        """The gradient of the weights goes into ``dweight``."""

    def workspace(self, g: Conv2dGeometry, pass_: ConvPass, itemsize: int, /) -> int:
        """Bytes besides arguments and result."""


def _itself(x: Array) -> Array:
    return x


def _takes_all(geometry: Conv2dGeometry, algorithm: str) -> None:
    pass


class Conv2dDispatch:
    """Looks the algorithm up and gives it the arrays as it takes them; methods are the contract's functions.

    Args:
        algorithms: by the names that ``algorithm`` takes.
        empty: makes an array of a shape and a dtype.
        images_in: what algorithms take instead of an array of images.
        weight_in: what they take instead of the weights.
        images_out: an array of images instead of what they return.
        check: raises ValueError for a problem that an algorithm does not take.
    """

    def __init__(
        self,
        algorithms: Mapping[str, Conv2dAlgorithm],
        empty: Callable[[Sequence[int], Any], Array],
        *,
        images_in: Callable[[Array], Array] = _itself,
        weight_in: Callable[[Array], Array] = _itself,
        images_out: Callable[[Array], Array] = _itself,
        check: Callable[[Conv2dGeometry, str], None] = _takes_all,
    ) -> None:
        self._algorithms, self._empty, self._check = dict(algorithms), empty, check
        self._images_in, self._weight_in, self._images_out = images_in, weight_in, images_out

    def conv2d_algorithms(self) -> tuple[str, ...]:
        return tuple(self._algorithms)

    def conv2d_workspace(self, geometry: Conv2dGeometry, pass_: ConvPass, algorithm: str, itemsize: int) -> int:
        return int(self._algorithms[algorithm].workspace(geometry, pass_, itemsize))

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Conv2dGeometry,
        algorithm: str,
        activation: Activation = None,
    ) -> Array:
        forward = self._find(geometry, algorithm).forward
        return self._images_out(forward(self._images_in(x), self._weight_in(weight), bias, geometry, activation))

    def conv2d_backward_input(self, dy: Array, weight: Array, geometry: Conv2dGeometry, algorithm: str) -> Array:
        backward = self._find(geometry, algorithm).backward_input
        return self._images_out(backward(self._images_in(dy), self._weight_in(weight), geometry))

    def conv2d_backward_weight(
        self, dy: Array, x: Array, geometry: Conv2dGeometry, algorithm: str, out: Array | None = None
    ) -> Array:
        dweight = self._empty(geometry.weight_shape, x.dtype) if out is None else out
        self._find(geometry, algorithm).backward_weight(self._images_in(dy), self._images_in(x), dweight, geometry)
        return dweight

    def _find(self, geometry: Conv2dGeometry, algorithm: str) -> Conv2dAlgorithm:
        self._check(geometry, algorithm)
        return self._algorithms[algorithm]
