"""Layers made of layers: one after the other, or side by side."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from .. import ops
from ..backends import Array
from .child import (
    answered,
    backward_through,
    first_that_trains,
    keeping_for,
    passes_on,
    plans_gradients,
    taken_over,
    trains,
)
from .container import Container, naming
from .conv import Conv2d
from .grad_mode import enables_grad_within, keeping, needs_no_input_gradient
from .layer import Layer, check_dy_shape, check_result
from .linear import Linear
from .normalization import BatchNorm2d
from .receptive import ReceptiveField
from .state import Shape, Shapes
from .view_layer import ViewLayer

__all__ = ["Add", "Concat", "Sequential"]


class Sequential(Container):
    """Layers one after the other: y = f_k(... f_2(f_1(x))); backward runs them in reverse. Empty, it is the identity.

    Takes layers, named "0", "1", ..., or one mapping of names to layers; has a length, is indexed and iterated over.
    ``model["head"] = layer``, ``model[-1] = layer`` and ``model.head = layer`` replace a layer, ``del`` takes it out.
    The name "" is left out of state-dict keys: what is in that layer is named as if it were in its place, as the
    convolutions of a residual block are, "conv1" and not "body.conv1". Names must stay distinct all the same.
    A convolution, BatchNorm2d or Linear layer computes the ReLU, Sigmoid or Tanh that comes right after it, to the same
    bits.
    """

    @plans_gradients
    @enables_grad_within
    def forward(self, x: Any) -> Array:
        if not self._layers:
            return ops.copy(x, backend=self.backend)
        return self._forward_as_needed(list(self._layers.values()), x)

    @enables_grad_within
    def forward_first(self, x: Array) -> Array:
        """``forward`` of the first channels, as many as the first layer, a norm, takes: for a `DenseBlock`."""
        norm, *others = self._layers.values()
        activation = taken_over(norm, others[0]) if others else None
        is_first = needs_no_input_gradient() and not trains(norm)
        with keeping_for(norm, False):
            y = cast(BatchNorm2d, norm).forward_first(x, activation)
            if activation is not None:
                others.pop(0).saved = y
        with nullcontext() if is_first else keeping_for(self, True):
            return self._forward_as_needed(others, y)

    def _forward_as_needed(self, layers: list[Layer], x: Any) -> Array:
        """Layers before the first that trains keep nothing where nobody needs the gradient of the input."""
        if not needs_no_input_gradient():
            return self._forward(layers, x)
        first = first_that_trains(layers)
        with keeping("nothing"):
            x = self._forward(layers[:first], x, is_end=first == len(layers))
        if first < len(layers) and isinstance(layers[first], Container):
            with keeping_for(layers[first], False):
                x = self._forward(layers[first : first + 1], x)
            first += 1
        with keeping("all"):
            return self._forward(layers[first:], x)

    def _forward(self, layers: list[Layer], x: Any, is_end: bool = True) -> Array:
        """Of some of the layers; ``is_end`` if what they give is returned."""
        steps = iter(layers)
        step = next(steps, None)
        try:
            while step is not None:
                following = next(steps, None)
                activation = taken_over(step, following)
                if (following is not None or not is_end) and passes_on(step):
                    x = cast(ViewLayer, step).forward_view(x)
                elif activation is None:
                    x = check_result(step, step.forward(x))
                else:
                    x = cast("Conv2d | Linear | BatchNorm2d", step).forward_with(x, activation)
                    cast(Layer, following).saved = x
                    following = next(steps, None)
                step = following
        except Exception:
            with self._naming(step):
                raise
        return x

    @plans_gradients
    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        """The gradient of the input; layers are only asked for those that the caller or earlier parameters need."""
        layers = list(self._layers.values())
        if not layers:
            return ops.copy(dy, backend=self.backend) if input_gradient else None
        last_needed = 0 if input_gradient else min(first_that_trains(layers), len(layers) - 1)
        layer = layers[-1]
        try:
            for layer in reversed(layers[last_needed + 1 :]):
                dy = cast(ViewLayer, layer).backward_view(dy) if passes_on(layer) else backward_through(layer, dy, True)
            layer = layers[last_needed]
            dx = backward_through(layer, dy, input_gradient)
        except Exception:
            with self._naming(layer):
                raise
        for skipped in layers[:last_needed]:
            answered(skipped)
        return dx

    def _naming(self, step: Layer | None) -> AbstractContextManager[None]:
        """`naming` for a child."""
        name = next(name for name, layer in self._layers.items() if layer is step)
        return naming(name, self._layers[name])

    def output_shape(self, shape: Shape) -> Shape:
        for name in self._layers:
            shape = self._shape_after(name, shape)
        return tuple(shape)

    def child_inputs(self, shape: Shape) -> list[tuple[str, Layer, Shape]]:
        inputs = []
        for name, layer in self._layers.items():
            inputs.append((name, layer, tuple(shape)))
            shape = self._shape_after(name, shape)
        return inputs

    def child_fields(self, field: ReceptiveField, shape: Shapes, image: tuple[int, int]) -> list[ReceptiveField]:
        fields = []
        for name, layer, layer_shape in self.child_inputs(cast(Shape, shape)):
            fields.append(field)
            with naming(name, layer):
                field = layer.receptive_field(field, layer_shape, image)
        return fields

    def receptive_field(self, field: ReceptiveField, shape: Shape, image: tuple[int, int]) -> ReceptiveField:
        for name, layer, layer_shape in self.child_inputs(shape):
            with naming(name, layer):
                field = layer.receptive_field(field, layer_shape, image)
        return field


class _Branches(Container):
    """Layers side by side that all get the same input; its gradient is the sum of theirs."""

    def _check_children(self, named: dict[str, Any]) -> None:
        super()._check_children(named)
        if not named:
            raise ValueError(f"{type(self).__name__} needs at least one branch")

    def _forward_branches(self, x: Any) -> list[Array]:
        """The outputs, not to be changed nor returned, for that of an `Identity` is ``x``."""
        outputs = []
        for name, branch in self._layers.items():
            with naming(name, branch), keeping_for(branch, False):
                passed = passes_on(branch)
                outputs.append(cast(ViewLayer, branch).forward_view(x) if passed else branch.forward(x))
                check_result(branch, outputs[-1])
        return outputs

    def _backward_branches(self, dys: list[Array], input_gradient: bool) -> Array | None:
        dxs = []
        for (name, branch), dy in zip(self._layers.items(), dys, strict=True):
            if not (input_gradient or trains(branch)):
                answered(branch)
                continue
            with naming(name, branch):
                passed = passes_on(branch)
                dxs.append(
                    cast(ViewLayer, branch).backward_view(dy)
                    if passed
                    else backward_through(branch, dy, input_gradient)
                )
        return ops.add(dxs, backend=self.backend) if input_gradient else None

    def child_inputs(self, shape: Shape) -> list[tuple[str, Layer, Shape]]:
        return [(name, branch, tuple(shape)) for name, branch in self._layers.items()]

    def receptive_field(self, field: ReceptiveField, shape: Shape, image: tuple[int, int]) -> ReceptiveField:
        fields = []
        for name, branch in self._layers.items():
            with naming(name, branch):
                fields.append(branch.receptive_field(field, shape, image))
        return functools.reduce(ReceptiveField.joined, fields)

    def _output_shapes(self, shape: Shape) -> list[Shape]:
        return [self._shape_after(name, shape) for name in self._layers]


class Concat(_Branches):
    """y = the branches' outputs joined along axis 1, the channels; dx = the sum of the gradients through each branch.

    The outputs must agree in everything but axis 1. No branch at all is a ValueError.
    """

    @plans_gradients
    @enables_grad_within
    def forward(self, x: Any) -> Array:
        outputs = self._forward_branches(x)
        self.saved = [output.shape[1] for output in outputs]
        return ops.concat(outputs, backend=self.backend)

    @plans_gradients
    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        return self._backward_branches(ops.concat_backward(dy, self.saved, backend=self.backend), input_gradient)

    def output_shape(self, shape: Shape) -> Shape:
        shapes = self._output_shapes(shape)
        n, _, *rest = shapes[0]
        if any(len(other) < 2 or (other[0], *other[2:]) != (n, *rest) for other in shapes):
            raise ValueError(f"the branches of Concat give the shapes {shapes}, which must agree in all but axis 1")
        return (n, sum(other[1] for other in shapes), *rest)


class Add(_Branches):
    """y = the sum of the branches' outputs, all of one shape; dx = the sum of the gradients through each branch.

    He et al. 2016 ("Deep residual learning"): with `Identity` as a branch it is a residual connection. No branch at
    all is a ValueError.
    """

    @plans_gradients
    @enables_grad_within
    def forward(self, x: Any) -> Array:
        y = ops.add(self._forward_branches(x), backend=self.backend)
        self.saved = tuple(y.shape)
        return y

    @plans_gradients
    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        check_dy_shape(dy, self.saved)
        return self._backward_branches([dy] * len(self), input_gradient)

    def output_shape(self, shape: Shape) -> Shape:
        shapes = self._output_shapes(shape)
        if any(other != shapes[0] for other in shapes):
            raise ValueError(f"the branches of Add give the shapes {shapes}, which must all be the same")
        return shapes[0]
