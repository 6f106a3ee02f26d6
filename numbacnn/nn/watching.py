"""Forward passes that are looked at from inside, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .layer import Layer

__all__ = ["Forward", "watched"]

Forward = Callable[..., Any]
"""A layer's ``forward``."""


@contextmanager
def watched(model: Layer, wrap: Callable[[str, Layer, Forward], Forward]) -> Iterator[None]:
    """Each layer's ``forward`` is ``wrap(name, layer, forward)`` meanwhile, and none computes another's activation."""
    layers = model.named_layers()
    own = [vars(layer).get("forward") for _, layer in layers]
    for name, layer in layers:
        # An attribute of the layer, which also keeps containers from fusing it.
        vars(layer)["forward"] = wrap(name, layer, layer.forward)
    try:
        yield
    finally:
        for (_, layer), forward in zip(layers, own, strict=True):
            del vars(layer)["forward"]
            if forward is not None:
                vars(layer)["forward"] = forward
