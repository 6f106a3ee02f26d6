"""What is kept for backward, and for how long: in evaluation mode nothing, for no backward pass comes.

A training step wants no gradient of the input, so below the first layer that trains nothing need be kept either. The
caller of a layer says what is needed of it by `keeping`; containers pass that on to their layers.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

if TYPE_CHECKING:
    from .layer import Layer
    from .state import Parameter

__all__ = [
    "enable_grad",
    "enables_grad_within",
    "evaluating",
    "free_after_backward",
    "frees_after_backward",
    "is_grad_enabled",
    "keeping",
    "may_save",
    "needs_no_input_gradient",
    "tell_accumulated",
    "telling_accumulated",
]

_F = TypeVar("_F", bound=Callable[..., Any])


_Kept = Literal["all", "own", "nothing"]
"""What every gradient takes; what those of a container's parameters take, without its input's; nothing."""


class _Scope(threading.local):
    grad = False
    freeing = False
    kept: _Kept = "all"
    told: Callable[[Parameter], None] | None = None


_scope = _Scope()


def is_grad_enabled() -> bool:
    """Whether layers in evaluation mode save for backward now, in this thread."""
    return _scope.grad


@contextmanager
def enable_grad(on: bool = True) -> Iterator[None]:
    """``with nn.enable_grad():`` layers in evaluation mode save for backward too, as far as this thread runs them.

    For gradients in evaluation mode, in which batch normalisation uses its running averages and dropout does nothing.
    Containers in training mode do this for what is in them, so that layers set to evaluation there, frozen, train on.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"):
    ...     model = nn.Sequential(nn.ReLU(), nn.Dropout()).eval()
    >>> with nn.enable_grad():
    ...     y = model([[-1, 2]])
    >>> model.backward([[3, 4]])
    array([[0., 4.]], dtype=float32)
    """
    former, _scope.grad = _scope.grad, on
    try:
        yield
    finally:
        _scope.grad = former


def enables_grad_within(forward: _F) -> _F:
    """Of a layer made of layers: in training mode it asks those in evaluation mode to save, to get their gradients."""

    @functools.wraps(forward)
    def run(self: Layer, *inputs: Any) -> Any:
        if not self.training:
            return forward(self, *inputs)
        with enable_grad():
            return forward(self, *inputs)

    return cast(_F, run)


@contextmanager
def keeping(kept: _Kept) -> Iterator[None]:
    """The layer that is run in the block, and what is in it, keeps this much."""
    former, _scope.kept = _scope.kept, kept
    try:
        yield
    finally:
        _scope.kept = former


def needs_no_input_gradient() -> bool:
    """Whether a container that is asked in its forward pass may leave out what only the gradient of its input takes."""
    return _scope.kept == "own"


def may_save(training: bool) -> bool:
    """Whether a layer in this mode keeps what it assigns to ``saved``."""
    return (training or _scope.grad) and _scope.kept != "nothing"


def frees_after_backward() -> bool:
    """Whether what a layer saved is dropped as soon as its backward pass is done, in this thread."""
    return _scope.freeing


@contextmanager
def free_after_backward() -> Iterator[None]:
    """The one backward pass that follows a forward pass: memory of a layer is free for those before it."""
    former, _scope.freeing = _scope.freeing, True
    try:
        yield
    finally:
        _scope.freeing = former


@contextmanager
def telling_accumulated(tell: Callable[[Parameter], None]) -> Iterator[None]:
    """Each parameter that something is added to the gradient of in the block is told of, after each time."""
    former, _scope.told = _scope.told, tell
    try:
        yield
    finally:
        _scope.told = former


def tell_accumulated(parameter: Parameter) -> None:
    """Something was added to its gradient."""
    if _scope.told is not None:
        _scope.told(parameter)


@contextmanager
def evaluating(model: Layer) -> Iterator[None]:
    """The whole of ``model`` in evaluation mode, saving nothing; afterwards every layer is in the mode it was in."""
    modes = [(layer, layer._training) for layer in model.layers()]
    model.eval()
    try:
        with enable_grad(False):
            yield
    finally:
        for layer, training in modes:
            layer.training = training
