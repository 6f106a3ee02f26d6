"""How layers show themselves: as text, and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .state import Shapes

if TYPE_CHECKING:
    from .layer import Layer

__all__ = ["Printed", "known_shape", "remember_shapes"]


class Printed:
    """A layer as it is printed, with what it is made of."""

    _seen: Sequence[Any] = ()
    """The shapes of the inputs that it was given last, as the outermost layer; None of what was no array."""

    def __repr__(self: Any) -> str:
        named = (f"({name}): {child!r}" if name else repr(child) for name, child in self.named_children())
        inner = [text.replace("\n", "\n  ") for text in named]
        if not inner:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n  ".join([f"{type(self).__name__}({self.extra_repr()}", *inner]) + "\n)"

    def _repr_html_(self) -> str:
        # Who shows nothing in a notebook does not load what that takes, which in turn is made of layers.
        shown: str = import_module(".summary", __package__).model_html(self)
        return shown


def remember_shapes(layer: Printed, inputs: Iterable[Any]) -> None:
    """Keep the shapes of what a model is given, for `known_shape`."""
    layer.__dict__["_seen"] = [getattr(x, "shape", None) for x in inputs]


def known_shape(layer: Layer) -> Shapes | None:
    """The shape of the input that a model was given last, or a tuple of those of several; None if that is not known."""
    if not layer._seen or None in layer._seen:
        return None
    shapes = tuple(tuple(map(int, shape)) for shape in layer._seen)
    return shapes if layer.takes_several else shapes[0]
