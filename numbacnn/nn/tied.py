"""Weights that are in two places."""

from __future__ import annotations

import copy
from typing import TypeVar

from .init import draw_seed
from .layer import Layer
from .state import State

__all__ = ["tied_copy"]

_L = TypeVar("_L", bound=Layer)


def tied_copy(layer: _L) -> _L:
    """A copy of ``layer`` with the very same parameters and buffers, for another place in a model.

    Both places train the same weights, whose gradients add up; each remembers its own forward pass, as a layer in two
    places could not, and draws its own dropout masks. An optimizer gets each parameter once, a state dict has it under
    the names of both places.

    >>> from numbacnn import nn
    >>> hidden = nn.Linear(8, 8)
    >>> model = nn.Sequential(nn.Linear(4, 8), hidden, nn.ReLU(), tied_copy(hidden), nn.ReLU())
    >>> [name for name, _ in model.named_parameters()]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"`layer` {layer!r} must be a Layer")
    shared: dict[int, State] = {id(state): state for _, state in layer._named_states()}
    twin = copy.deepcopy(layer, dict(shared))
    for inner in twin.layers():
        if inner.seed is not None:
            inner.seed = draw_seed()
    return twin
