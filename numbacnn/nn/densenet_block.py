"""The layers of a dense block, run in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import ops
from ..backends import Array
from ..ops.arguments import check_shape
from .state import Parameter, Shape, as_floating, as_input

if TYPE_CHECKING:
    from .activation import Identity
    from .containers import Concat, Sequential
    from .normalization import BatchNorm2d

__all__ = ["DenseBlock", "DenseLayer"]


class DenseLayer(NamedTuple):
    """``Concat(Identity(), Sequential(BatchNorm2d(c), ...))``, which appends channels to the ``c`` that it gets."""

    concat: Concat
    shortcut: Identity
    body: Sequential
    norm: BatchNorm2d


class DenseBlock:
    """Layers of a `Sequential`, one after the other, that each append channels to what they get.

    Each for itself would copy all channels before its own, and their gradients, so that copies grow with the square of
    the number of layers. Instead, one array has room for all channels, each norm reads the first of them, and each
    body's output is put behind these; backwards, one array holds all gradients, and each body adds its own to the
    first of them. Channels that a norm has read do not change any more, so what layers save is as if each had a copy.
    """

    def __init__(self, layers: Sequence[DenseLayer]) -> None:
        self._layers = layers
        self._backend = layers[0].concat.backend
        self._dtype = layers[0].norm.weight.dtype

    def parameters(self) -> list[Parameter]:
        return [parameter for layer in self._layers for parameter in layer.concat.parameters()]

    def forward(self, x: Any) -> Array:
        x = as_input(x, self._backend)
        channels = [layer.norm.num_features for layer in self._layers]
        if len(x.shape) != 4 or x.shape[1] != channels[0] or x.dtype != self._dtype:
            return self._one_by_one(0, x)
        n, _, h, w = x.shape
        try:
            channels.append(self._layers[-1].concat.output_shape((n, channels[-1], h, w))[1])
        except (NotImplementedError, ValueError):
            return self._one_by_one(0, x)
        whole = self._backend.empty((n, channels[-1], h, w), self._dtype)
        self._backend.put_channels(whole, x, 0)
        for i, layer in enumerate(self._layers):
            y = layer.concat.forward_body(whole)
            if tuple(y.shape) != (n, channels[i + 1] - channels[i], h, w) or y.dtype != self._dtype:
                x = self._backend.take_channels(whole, 0, channels[i])
                return self._one_by_one(i + 1, ops.concat([x, y], backend=self._backend))
            self._backend.put_channels(whole, y, channels[i])
        return whole

    def _one_by_one(self, first: int, x: Array) -> Array:
        """What is not as the norms expect it: copying computes it, or says what is wrong."""
        for layer in self._layers[first:]:
            x = layer.concat.forward(x)
        return x

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        dy = as_floating(dy, self._backend, name="dy")
        if dy.dtype != self._dtype or not self._fit(tuple(dy.shape)):
            for layer in reversed(self._layers[1:]):
                dy = layer.concat.backward(dy)
            return self._layers[0].concat.backward(dy, input_gradient)
        whole = self._backend.copy(dy)
        for i, layer in reversed(list(enumerate(self._layers))):
            channels, appended = layer.concat.saved
            dy = self._backend.take_channels(whole, channels, appended)
            dx = layer.body.backward(dy, input_gradient or i > 0)
            if dx is not None:
                check_shape("dx", dx, layer.shortcut.saved[0], "of the input")
                self._backend.add_channels(whole, dx)
            layer.concat.answered()
            layer.shortcut.answered()
        return self._backend.take_channels(whole, 0, self._layers[0].norm.num_features) if input_gradient else None

    def drop_saved(self) -> None:
        for layer in self._layers:
            layer.concat.drop_saved()

    def _fit(self, shape: Shape) -> bool:
        """Whether what the layers saved is of one forward pass, to an output of ``shape``."""
        for layer in reversed(self._layers):
            sizes, (before, _) = layer.concat.saved, layer.shortcut.saved
            if sizes[0] != before[1] or shape != (before[0], sum(sizes), *before[2:]):
                return False
            shape = before
        return True
