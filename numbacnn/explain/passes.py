"""One forward pass, with what every layer got and gave."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..backends import Array
from ..nn import Layer
from ..nn.layer import as_inputs
from ..nn.state import scaled_pixels
from ..nn.watching import Forward, watched

__all__ = ["Pass", "one_sample", "passes_of"]


class Pass(NamedTuple):
    """A layer ran once."""

    layer: Layer
    inputs: tuple[Any, ...]
    output: Any


def one_sample(model: Layer, x: Any) -> list[Array]:
    """The inputs of ``model``; ValueError unless they are one sample."""
    inputs = as_inputs(model, x)
    if inputs[0].shape[0] != 1:
        raise ValueError(f"`x` {tuple(inputs[0].shape)} must be one sample, of the shape (1, ...)")
    return [scaled_pixels(part, model.backend) for part in inputs]


def passes_of(model: Layer, inputs: list[Array]) -> list[Pass]:
    """Of every layer that ran, in the order in which they were done: ``model`` comes last.

    What one layer gave and another got is one object.
    """
    passes: list[Pass] = []

    def recording(name: str, layer: Layer, forward: Forward) -> Forward:
        def record(*inputs: Any) -> Any:
            output = forward(*inputs)
            passes.append(Pass(layer, inputs, output))
            return output

        return record

    with watched(model, recording):
        model.forward(*inputs)
    return passes
