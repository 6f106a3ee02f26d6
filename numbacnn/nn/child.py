"""How a container runs a layer: with the activation after it, without copies, and what it saved let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

from ..backends import Array
from .activation import Identity, ReLU, Sigmoid, Tanh
from .conv import Conv1d, Conv2d
from .conv_transpose import ConvTranspose1d, ConvTranspose2d
from .grad_mode import frees_after_backward, keeping, needs_no_input_gradient
from .layer import Layer, check_result, is_stock
from .linear import Linear
from .normalization import BatchNorm2d
from .reshape import Flatten, Reshape, Unflatten
from .state import Parameter
from .sync_batch_norm import SyncBatchNorm

__all__ = [
    "answered",
    "backward_through",
    "first_that_trains",
    "keeping_for",
    "passes_on",
    "plans_gradients",
    "taken_over",
    "trains",
]

_F = TypeVar("_F", bound=Callable[..., Any])

# Layers that compute an activation along with their own result, and those that are computed so.
_FUSING = (Conv2d, Linear, BatchNorm2d, SyncBatchNorm, Conv1d, ConvTranspose2d, ConvTranspose1d)
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


def trains(layer: Layer) -> bool:
    """Whether it has a parameter that is not frozen."""
    return any(isinstance(state, Parameter) and state.requires_grad for _, state in layer._named_states())


def first_that_trains(layers: Sequence[Layer]) -> int:
    """The position of the first layer that trains; their number where none does."""
    return next((i for i, layer in enumerate(layers) if trains(layer)), len(layers))


def plans_gradients(passes: _F) -> _F:
    """Decorator of ``forward`` and ``backward`` that ask of their layers what `needs_no_input_gradient` leaves."""
    passes.plans_gradients = True  # type: ignore[attr-defined]
    return passes


def keeping_for(layer: Layer, input_gradient: bool) -> AbstractContextManager[None]:
    """A layer of a container, run in the block, keeps what its backward pass takes, if there is one.

    ``input_gradient`` says whether the layer is asked for it by the container, which nobody may have asked for its own.
    Only a container that plans for it, neither a subclass with passes of its own nor one that is watched, is told
    that nobody needs the gradient of its input: any other layer may hand that on as if it were needed.
    """
    if not needs_no_input_gradient():
        return nullcontext()
    if input_gradient:
        return keeping("all")
    if not trains(layer):
        return keeping("nothing")
    passes = (type(layer).forward, type(layer).backward)
    is_planned = all(getattr(each, "plans_gradients", False) for each in passes)
    is_own = not vars(layer).keys().isdisjoint(("forward", "backward"))
    return keeping("own" if is_planned and not is_own else "all")


def answered(layer: Layer) -> None:
    """The forward pass of a layer that does not train has its backward pass, although nobody asks it."""
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
