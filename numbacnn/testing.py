"""Checks for layers of one's own."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .nn.grad_mode import enable_grad
from .nn.layer import Layer
from .ops.arguments import integer, number

__all__ = ["check_gradients"]

DIRECTIONS = 2


def check_gradients(
    layer: Layer, *inputs: Any, seed: int = 0, step: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7
) -> None:
    """AssertionError unless ``backward`` of ``layer`` is the derivative of its ``forward``, of float64 numbers.

    The slope of ``<dy, layer(*inputs)>`` for a drawn dy is compared with central differences along drawn directions: of
    each floating input, and of each parameter. The parameters' gradients must also add up when ``backward`` is called
    twice, and be the same with ``input_gradient=False``. The layer is checked in the mode that it is in, with the same
    random numbers each time; afterwards its parameters, gradients, buffers and random state are what they were.

    Args:
        layer: with parameters of float64, which a layer's own ``dtype`` or ``Parameter(np.float64(...))`` makes.
        inputs: what ``forward`` takes. Where a derivative jumps, as that of ReLU at 0, an input should not be within
            ``step`` of there.
        seed: of dy and of the directions.
        step: how far elements are moved, at most.
        rtol, atol: how far a slope may be from the difference, relative to the latter and absolutely.

    Raises:
        AssertionError: naming the input or parameter, the slope that ``backward`` gives and the one that there is.
        TypeError: for parameters that are not float64, in which differences are too rough.

    Example:
        >>> import numpy as np
        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     check_gradients(nn.Linear(3, 2, dtype=np.float64), np.ones((4, 3)))
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"`layer` {layer!r} must be a Layer")
    step, rtol, atol = (number(name, value, 0) for name, value in (("step", step), ("rtol", rtol), ("atol", atol)))
    for name, parameter in layer.named_parameters():
        if parameter.dtype != np.float64:
            raise TypeError(
                f"parameter {name!r} is {parameter.dtype}, must be float64: make the layer with dtype float64"
            )
    states = {name: state.backend.to_numpy(state.value).copy() for name, state in layer._named_states()}
    gradients = [np.array(p.backend.to_numpy(p.grad)) for p in layer.parameters()]
    try:
        _Check(layer, inputs, integer("seed", seed, 0), step, rtol, atol).run(states)
    finally:
        layer.load_state_dict(states)
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            parameter.grad = gradient
        layer.drop_saved()


class _Check:
    def __init__(self, layer: Layer, inputs: Any, seed: int, step: float, rtol: float, atol: float) -> None:
        self._layer, self._step, self._rtol, self._atol = layer, step, rtol, atol
        self._inputs = [np.array(x) for x in inputs]
        self._inputs = [x if x.dtype.kind in "iub" else x.astype(np.float64) for x in self._inputs]
        self._rng, self._random_state = np.random.default_rng(seed), layer.random_state()

    def run(self, states: dict[str, np.ndarray[Any, Any]]) -> None:
        layer = self._layer
        ys = self._forward(self._inputs)
        dys = [self._rng.standard_normal(y.shape) for y in ys]
        layer.zero_grad()
        dxs = self._backward(dys)
        if len(dxs) != len(self._inputs):
            raise AssertionError(f"`backward` returned {len(dxs)} gradients for {len(self._inputs)} inputs: {layer!r}")
        for i, (x, dx) in enumerate(zip(self._inputs, dxs, strict=True)):
            if x.dtype.kind == "f":
                self._compare(f"input {i}" if len(dxs) > 1 else "the input", x, dx, dys, partial(self._with_input, i))
        once = {name: self._host(p.grad) for name, p in layer.named_parameters()}
        for name, parameter in layer.named_parameters():
            moved = partial(self._with_parameter, parameter)
            self._compare(f"parameter {name!r}", states[name], once[name], dys, moved)
            parameter.value = states[name]
        self._forward(self._inputs)
        nothing = layer.backward(self._as_given(dys), input_gradient=False) if once else None
        if nothing is not None and not (isinstance(nothing, tuple) and all(dx is None for dx in nothing)):
            raise AssertionError(f"`backward` with `input_gradient=False` must return None: {layer!r}")
        for name, parameter in layer.named_parameters():
            if not np.allclose(self._host(parameter.grad), 2 * once[name], rtol=1e-9, atol=1e-9):
                raise AssertionError(
                    f"the gradient of parameter {name!r} after a second `backward`, with `input_gradient=False`, is "
                    f"not twice that of the first: gradients add up, whatever the input gets: {layer!r}"
                )

    def _compare(self, name: str, at: Any, gradient: Any, dys: Any, function: Any) -> None:
        if tuple(gradient.shape) != at.shape:
            raise AssertionError(f"the gradient of {name} has shape {tuple(gradient.shape)}, must have {at.shape}")
        for _ in range(DIRECTIONS):
            direction = self._rng.uniform(-1, 1, at.shape)
            above, below = function(at + self._step * direction), function(at - self._step * direction)
            expected = sum(float(((a - b) * dy).sum()) for a, b, dy in zip(above, below, dys, strict=True))
            expected /= 2 * self._step
            slope = float((gradient * direction).sum())
            if not abs(slope - expected) <= self._atol + self._rtol * abs(expected) + self._noise(dys, above):
                raise AssertionError(
                    f"the gradient of {name} along a direction is {slope:.9g}, and {expected:.9g} by differences: "
                    f"{self._layer!r}"
                )

    def _noise(self, dys: Any, ys: Any) -> float:
        """What rounding of the outputs makes of a difference, at most."""
        terms = sum(float(np.abs(dy * y).sum()) for dy, y in zip(dys, ys, strict=True))
        return 4 * np.finfo(np.float64).eps * terms / self._step

    def _with_input(self, i: int, x: Any) -> list[Any]:
        return self._forward([*self._inputs[:i], x, *self._inputs[i + 1 :]])

    def _with_parameter(self, parameter: Any, value: Any) -> list[Any]:
        parameter.value = value
        return self._forward(self._inputs)

    def _forward(self, inputs: Any) -> list[Any]:
        self._layer.load_random_state(self._random_state)
        with enable_grad():
            ys = self._layer.forward(*[self._layer.backend.asarray(x) for x in inputs])
        self._returns_several = isinstance(ys, tuple)
        return [self._host(y) for y in (ys if self._returns_several else (ys,))]

    def _backward(self, dys: Any) -> list[Any]:
        dxs = self._layer.backward(self._as_given(dys))
        return [self._host(dx) for dx in (dxs if isinstance(dxs, tuple) else (dxs,))]

    def _as_given(self, dys: Any) -> Any:
        arrays = tuple(self._layer.backend.asarray(dy) for dy in dys)
        return arrays if self._returns_several else arrays[0]

    def _host(self, x: Any) -> Any:
        return np.array(self._layer.backend.to_numpy(self._layer.backend.asarray(x)))
