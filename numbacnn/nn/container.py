"""What the layers made of layers have in common: children by position and name, and errors that name them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from .layer import Layer
from .state import Shape

__all__ = ["Container", "naming"]

_C = TypeVar("_C", bound="Container")


class Container(Layer):
    """Layers by position, named "0", "1", ..., or one mapping of names to layers; "" is left out of dotted names.

    A child is read, replaced and deleted by name or position, ``model["head"] = layer``, ``model[-1]``, or as an
    attribute, ``model.head``; the others keep their names. A layer under a new name comes last. What was saved for
    backward is dropped then.
    """

    _no_members = (*Layer._no_members, "_layers")

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named: dict[str, Any] = dict(layers[0])
        else:
            named = {str(i): layer for i, layer in enumerate(layers)}
        self._check_children(named)
        self._layers: dict[str, Layer] = named

    def _check_children(self, named: dict[str, Any]) -> None:
        kind = type(self).__name__
        seen: dict[int, str] = {}
        for name, layer in named.items():
            if not isinstance(name, str) or "." in name:
                raise ValueError(f"the layer name {name!r} must be a string without dots")
            if not isinstance(layer, Layer):
                hint = f"an instance, {layer.__name__}(...)" if isinstance(layer, type) else "a Layer"
                raise TypeError(f"layer {name!r} of {kind} is {layer!r}, must be {hint}")
            for inner in layer.layers():
                # A layer remembers one forward pass: in two places, it would get the gradient of one of them wrong.
                if seen.setdefault(id(inner), name) != name:
                    raise ValueError(
                        f"the same {type(inner).__name__} object is in layers {seen[id(inner)]!r} and {name!r} of "
                        f"{kind}: each place needs a layer of its own, with the same weights by `nn.tied_copy(layer)`"
                    )
        taken = set(named)
        for name in _names_within(named.get("")):
            if name in taken:
                raise ValueError(f"the layer name {name!r} is taken twice in {kind}, once inside of ''")
            taken.add(name)

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        yield from self._layers.items()
        yield from super().named_children()

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers.values())

    @overload
    def __getitem__(self: _C, index: slice) -> _C: ...

    @overload
    def __getitem__(self, index: int | str) -> Layer: ...

    def __getitem__(self: _C, index: int | str | slice) -> Layer | _C:
        """The layer at a position or of a name; for a slice, a container of the same layers under their names."""
        if not isinstance(index, slice):
            return self._layers[self._name(index)]
        part = copy.copy(self)
        part._layers = dict(list(self._layers.items())[index])
        return part

    def __setitem__(self, index: int | str, layer: Layer) -> None:
        self._change({**self._layers, index if isinstance(index, str) else self._name(index): layer})

    def __delitem__(self, index: int | str) -> None:
        gone = self._name(index)
        self._change({name: layer for name, layer in self._layers.items() if name != gone})

    def __getattr__(self, name: str) -> Any:
        layers = vars(self).get("_layers", {})
        return layers[name] if name in layers else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        layers = vars(self).get("_layers")
        if layers is not None and (isinstance(value, Layer) or name in layers):
            if hasattr(Layer, name) or name in vars(self):
                raise TypeError(f"`{name}` is an attribute of {type(self).__name__}: `model[{name!r}]` is the layer")
            self[name] = value
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in vars(self).get("_layers", {}) and name not in vars(self):
            del self[name]
        else:
            super().__delattr__(name)

    def _name(self, index: int | str) -> str:
        if not isinstance(index, str):
            return list(self._layers)[index]
        if index not in self._layers:
            raise KeyError(f"{type(self).__name__} has no layer {index!r}, but {', '.join(map(repr, self._layers))}")
        return index

    def _change(self, named: dict[str, Any]) -> None:
        self._check_children(named)
        self.drop_saved()
        self._layers = named

    def _shape_after(self, name: str, shape: Shape) -> Shape:
        """The shape that the child ``name`` makes of ``shape``."""
        layer = self._layers[name]
        with naming(name, layer):
            return tuple(layer.output_shape(shape))


@contextmanager
def naming(name: str, layer: Layer) -> Iterator[None]:
    """Errors of a child of this name tell which one it is: ``layer 'features.3', Linear(...): ...``."""
    try:
        yield
    except (TypeError, ValueError, NotImplementedError) as error:
        if type(error) in (TypeError, ValueError, NotImplementedError) and len(error.args) == 1:
            path, what, text = getattr(error, "place", ((), _in_short(layer), error.args[0]))
            path = (name, *path) if name else path
            error.place = path, what, text  # type: ignore[union-attr]
            error.args = (f"layer {'.'.join(path)!r}, {what}: {text}" if path else text,)
        raise


def _in_short(layer: Layer) -> str:
    return f"{type(layer).__name__}({layer.extra_repr()})"


def _names_within(layer: Layer | None) -> list[str]:
    """The names that the children of a layer named "" have where that layer is."""
    children = [] if layer is None else list(layer.named_children())
    return [own for name, child in children for own in ([name] if name else _names_within(child))]
