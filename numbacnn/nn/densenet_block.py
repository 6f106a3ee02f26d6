"""Dense blocks: layers that each append channels to all that there are so far."""

from __future__ import annotations

from typing import Any, cast

from ..backends import Array
from ..ops.arguments import check_shape
from .child import answered, backward_through, first_that_trains, keeping_for, plans_gradients
from .container import Container, naming
from .containers import Sequential
from .grad_mode import enables_grad_within, needs_no_input_gradient
from .layer import Layer, check_dy_shape, check_result, is_stock
from .normalization import BatchNorm2d
from .receptive import ReceptiveField
from .state import Shape, as_floating, as_input
from .sync_batch_norm import SyncBatchNorm

__all__ = ["DenseBlock"]


class DenseBlock(Container):
    """y = x, f_1(x), f_2(x, f_1(x)), ..., joined along axis 1; dx = the sum of the gradients through each layer.

    Huang et al. 2017 ("Densely connected convolutional networks"): x is (n, c, h, w), each layer gets the input and the
    outputs of the layers before it, and gives images of the same size. Takes layers, named "0", "1", ..., or one
    mapping of names to layers, as `Sequential` does. Empty, it is the identity.

    One array has room for all channels, and another one for all gradients, so that memory grows with the number of
    layers and not with its square. A layer ``Sequential(BatchNorm2d(c), ...)`` reads the channels that are its own
    where they are, to the same bits; every other layer gets a copy of them.

    >>> from numbacnn import nn
    >>> nn.DenseBlock(nn.Conv2d(3, 2, 1), nn.Conv2d(5, 2, 3, padding=1)).output_shape((4, 3, 8, 8))
    (4, 7, 8, 8)
    """

    @plans_gradients
    @enables_grad_within
    def forward(self, x: Any) -> Array:
        x = as_input(x, self.backend, next((parameter.dtype for parameter in self.parameters()), None))
        channels = self._channels(tuple(x.shape))
        n, _, h, w = x.shape
        whole = self.backend.empty((n, channels[-1], h, w), x.dtype)
        self.backend.put_channels(whole, x, 0)
        first = first_that_trains(list(self)) if needs_no_input_gradient() else 0
        for i, (name, layer) in enumerate(self._layers.items()):
            before, after = channels[i : i + 2]
            with naming(name, layer), keeping_for(layer, i > first):
                y = as_input(self._appended(layer, whole, before), self.backend, whole.dtype)
                check_shape("y", y, (n, after - before, h, w), "that `output_shape` says")
            self.backend.put_channels(whole, y, before)
        self.saved = (n, h, w), channels
        return whole

    def _appended(self, layer: Layer, whole: Array, channels: int) -> Array:
        """What ``layer`` makes of the first channels of ``whole``."""
        if is_stock(layer, Sequential) and len(cast(Sequential, layer)):
            norm = cast(Sequential, layer)[0]
            alike = layer.backend is norm.backend is self.backend
            if alike and is_stock(norm, BatchNorm2d, SyncBatchNorm) and cast(BatchNorm2d, norm).dtype == whole.dtype:
                return cast(Sequential, layer).forward_first(whole)
        return check_result(layer, layer.forward(self.backend.take_channels(whole, 0, channels)))

    @plans_gradients
    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        (n, h, w), channels = self.saved
        check_dy_shape(dy, (n, channels[-1], h, w))
        whole = self.backend.copy(as_floating(dy, self.backend, name="dy"))
        first = -1 if input_gradient else first_that_trains(list(self))
        for i, (name, layer) in reversed(list(enumerate(self._layers.items()))):
            if i < first:
                answered(layer)
                continue
            before, after = channels[i : i + 2]
            with naming(name, layer):
                of_layer = self.backend.take_channels(whole, before, after - before)
                dx = backward_through(layer, of_layer, i > first)
                if dx is not None:
                    check_shape("dx", dx, (n, before, h, w), "of the input")
                    self.backend.add_channels(whole, as_floating(dx, self.backend, whole.dtype, "dx"))
        return self.backend.take_channels(whole, 0, channels[0]) if input_gradient else None

    def _channels(self, shape: Shape) -> list[int]:
        """Those that the first layer gets, the second, ..., and those of the output."""
        if len(shape) != 4:
            raise ValueError(f"the input of DenseBlock has shape {tuple(shape)}, must have (n, c, h, w)")
        n, c, h, w = shape
        channels = [c]
        for name in self._layers:
            y_shape = self._shape_after(name, (n, channels[-1], h, w))
            if len(y_shape) != 4 or (y_shape[0], *y_shape[2:]) != (n, h, w):
                raise ValueError(
                    f"layer {name!r} of DenseBlock gives the shape {y_shape}, must give ({n}, c, {h}, {w})"
                )
            channels.append(channels[-1] + y_shape[1])
        return channels

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], self._channels(shape)[-1], *shape[2:])

    def child_inputs(self, shape: Shape) -> list[tuple[str, Layer, Shape]]:
        n, _, h, w = shape
        counts = self._channels(shape)[:-1]
        return [(name, layer, (n, c, h, w)) for (name, layer), c in zip(self._layers.items(), counts, strict=True)]

    def receptive_field(self, field: ReceptiveField, shape: Shape, image: tuple[int, int]) -> ReceptiveField:
        for name, layer, layer_shape in self.child_inputs(shape):
            with naming(name, layer):
                field = field.joined(layer.receptive_field(field, layer_shape, image))
        return field
