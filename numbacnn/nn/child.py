"""How a container runs a layer: with the activation after it, without copies, and what it saved let go."""

from __future__ import annotations

from typing import Any, cast

from ..backends import Array
from .activation import Identity, ReLU, Sigmoid, Tanh
from .conv import Conv1d, Conv2d
from .conv_transpose import ConvTranspose1d, ConvTranspose2d
from .grad_mode import frees_after_backward
from .layer import Layer, check_result, is_stock
from .linear import Linear
from .normalization import BatchNorm2d
from .reshape import Flatten, Reshape, Unflatten

__all__ = ["answered", "backward_through", "passes_on", "taken_over"]

# Layers that compute an activation along with their own result, and those that are computed so.
_FUSING = (Conv2d, Linear, BatchNorm2d, Conv1d, ConvTranspose2d, ConvTranspose1d)
_FUSED = (ReLU, Sigmoid, Tanh)


def backward_through(layer: Layer, dy: Any, input_gradient: bool) -> Array | None:
    """The gradient of the layer's input, what it saved being free then where nobody needs it any more."""
    # The argument is left out where it says nothing, so that a layer without parameters may define backward(dy).
    dx = layer.backward(dy) if input_gradient else layer.backward(dy, input_gradient=False)
    if input_gradient:
        check_result(layer, dx, "backward")
    if frees_after_backward():
        layer.drop_saved()
    return dx


def answered(layer: Layer) -> None:
    """The forward pass of a layer without parameters has its backward pass, although nobody asks it."""
    for inner in layer.layers():
        inner.answered()


def taken_over(step: Layer, following: Layer | None) -> str | None:
    """The name of the activation that ``following`` is, where ``step`` computes it."""
    if following is None or not (is_stock(step, *_FUSING) and is_stock(following, *_FUSED)):
        return None
    return cast(ReLU, following).activation if step.backend is following.backend else None


def passes_on(layer: Layer) -> bool:
    """Whether its result may be what it gets, where that is not what the caller gets in turn."""
    return is_stock(layer, Identity, Flatten, Reshape, Unflatten, passes=("forward", "backward"))
