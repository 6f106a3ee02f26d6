"""Passes that are looked at from inside, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .layer import Layer

__all__ = ["Forward", "passes_as_before", "watched"]

Forward = Callable[..., Any]
"""A layer's ``forward``, or another of its methods."""


@contextmanager
def watched(model: Layer, wrap: Callable[[str, Layer, Forward], Forward], method: str = "forward") -> Iterator[None]:
    """Each layer's ``method`` is ``wrap(name, layer, method)`` meanwhile, and none computes another's activation."""
    layers = model.named_layers()
    former = [vars(layer).get(method) for _, layer in layers]
    for name, layer in layers:
        # An attribute of the layer, which also keeps containers from fusing it.
        vars(layer)[method] = wrap(name, layer, getattr(layer, method))
    try:
        yield
    finally:
        for (_, layer), own in zip(layers, former, strict=True):
            del vars(layer)[method]
            if own is not None:
                vars(layer)[method] = own


@contextmanager
def passes_as_before(model: Layer) -> Iterator[None]:
    """What the layers saved for ``backward``, and which pass that is for, is afterwards what it was."""
    names = ("_saved", "_unanswered", "_ambiguous")
    former = [(layer, {name: vars(layer)[name] for name in names if name in vars(layer)}) for layer in model.layers()]
    try:
        yield
    finally:
        for layer, values in former:
            for name in names:
                vars(layer).pop(name, None)
            vars(layer).update(values)
