"""A node of an ONNX graph while it is being translated: its inputs, its attributes, and the layers it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..nn.state import Shape, State
from .layers import Rearrange, ReshapeTo
from .messages import Node

__all__ = [
    "Call",
    "Const",
    "Output",
    "Tensor",
    "UnsupportedError",
    "Value",
    "plain_number",
    "translates",
    "translators",
]

Numbers = np.ndarray[Any, Any]


class UnsupportedError(Exception):
    """This node cannot become layers, for the reason that is said."""


@dataclass(frozen=True)
class Const:
    """What is known while the model is loaded: one array for each of the sizes that are tried."""

    arrays: tuple[Numbers, ...]
    origin: str = ""
    """The initializer that it is, maybe in another shape; "" for what was computed or is a constant of a node."""
    form: str = ""
    """What was done to its shape."""


@dataclass(frozen=True)
class Tensor:
    """What the model computes: a node of the graph, and a shape for each of the sizes that are tried."""

    source: str
    shapes: tuple[Shape, ...]

    @property
    def rank(self) -> int:
        return len(self.shapes[0])

    @property
    def shape(self) -> Shape:
        """Where it matters that there is one."""
        return self.shapes[0]


Value = Const | Tensor
Output = Value | None


class Call:
    """A node, as the functions that translate it see it."""

    def __init__(self, graph: Any, node: Node, name: str, inputs: Sequence[Value | None], opset: int) -> None:
        self._graph = graph
        self.node = node
        self.name = name
        self.inputs = tuple(inputs)
        self.opset = opset
        self.attributes: Mapping[str, Any] = graph.attributes(node)
        self.read: set[str] = set()

    # What it is given.

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute; those that nobody asks for are an error."""
        self.read.add(name)
        return self.attributes.get(name, default)

    def ignore(self, *names: str) -> None:
        """These attributes change nothing here."""
        self.read.update(names)

    def has(self, i: int) -> bool:
        """Whether input ``i`` is there."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def tensor(self, i: int = 0) -> Tensor:
        """Input ``i``, which is computed by the model."""
        value = self.inputs[i] if self.has(i) else None
        if not isinstance(value, Tensor):
            raise UnsupportedError(f"its input {i} is {'a constant' if value else 'missing'}")
        return value

    def is_const(self, i: int) -> bool:
        """Whether input ``i`` is known."""
        return i < len(self.inputs) and isinstance(self.inputs[i], Const)

    def const(self, i: int, what: str = "") -> Const:
        """Input ``i``, which is known and the same for all sizes."""
        value = self.inputs[i] if self.has(i) else None
        named = f"its input {i}{', ' * bool(what)}{what}, "
        if not isinstance(value, Const):
            raise UnsupportedError(f"{named}{'is not a constant' if value else 'is missing'}")
        self._check_same(value, named)
        return value

    def array(self, i: int, what: str = "") -> Numbers:
        """The numbers of :meth:`const`."""
        return self.const(i, what).arrays[0]

    def weight(self, i: int, what: str) -> Const:
        """A constant of floating numbers."""
        found = self.const(i, what)
        self.weight_of(found, what)
        return found

    def weight_of(self, const: Const, what: str) -> Numbers:
        """The numbers of ``const``, floating and the same for all sizes."""
        self._check_same(const, f"{what} ")
        if const.arrays[0].dtype.kind != "f":
            raise UnsupportedError(f"{what} is of {const.arrays[0].dtype}")
        return const.arrays[0]

    def _check_same(self, const: Const, named: str) -> None:
        first = const.arrays[0]
        if any(other.shape != first.shape or not np.array_equal(other, first) for other in const.arrays[1:]):
            raise UnsupportedError(f"{named}depends on the size of the model's input")

    def several(self, i: int) -> tuple[Numbers, ...]:
        """Input ``i``, known, one array for each size that is tried."""
        value = self.inputs[i] if self.has(i) else None
        if not isinstance(value, Const):
            raise UnsupportedError(f"its input {i} {'is not a constant' if value else 'is missing'}")
        return value.arrays if len(value.arrays) > 1 else value.arrays * self._graph.tries

    def integers(self, name: str, i: int, first: int = 0) -> list[int] | None:
        """Integers that are an attribute ``name`` or, from opset ``first`` on, input ``i``; None without."""
        if first and self.opset >= first:
            return [int(value) for value in np.atleast_1d(self.array(i, name))] if self.has(i) else None
        found = self.attribute(name)
        return None if found is None else [int(value) for value in np.atleast_1d(found)]

    def is_used(self, output: int) -> bool:
        """Whether anybody needs this output."""
        return bool(self._graph.is_used(self.node.output[output]))

    def number(self, i: int, what: str, default: float | None = None) -> float | None:
        """Input ``i``, one known number, as it was before it became a float32; ``default`` where it is missing."""
        if not self.has(i):
            return default
        found = self.array(i, what)
        if found.size != 1:
            raise UnsupportedError(f"its input {i}, {what}, has the shape {found.shape}, must be one number")
        return plain_number(found.reshape(())[()])

    def only_output(self) -> None:
        """Nobody uses what the node gives besides its first output."""
        extra = [name for name in self.node.output[1:] if name and self._graph.is_used(name)]
        if extra:
            raise UnsupportedError(f"its output {extra[0]!r} is used, and only the first one is supported")

    # What it becomes.

    def emit(self, layer: nn.Layer, *tensors: Tensor, part: str = "") -> Tensor:
        """A new node of the graph; ``part`` tells several of one call apart."""
        return self._graph.add_node(self._graph.name_of(self, part), layer, tensors)

    def fill(self, layer: Any, states: Mapping[str, tuple[Const, Numbers]]) -> None:
        """Give parameters and buffers of ``layer`` their numbers; those of one initializer are one parameter."""
        for name, (const, numbers) in states.items():
            state = getattr(layer, name)
            if tuple(state.shape) != numbers.shape:
                raise UnsupportedError(f"its {name} has shape {numbers.shape}, must have {tuple(state.shape)}")
            state.value = numbers
            if const.origin:
                shared: State = self._graph.shared.setdefault(
                    (const.origin, const.form, type(state), numbers.shape, state.dtype), state
                )
                if shared is not state:
                    setattr(layer, name, shared)
        named = [const.origin for const, _ in states.values() if const.origin]
        self._graph.prefer_name(self, named)

    def reshape(self, x: Tensor, targets: Sequence[Sequence[int]], part: str = "") -> Tensor:
        """``x`` in other shapes, one for each size that is tried."""
        shapes = [tuple(int(size) for size in target) for target in targets]
        if tuple(shapes) == x.shapes:
            return x
        if len({len(shape) for shape in shapes}) > 1:
            raise UnsupportedError("the number of its axes depends on the size of the model's input")
        entries = []
        for axis in range(len(shapes[0])):
            sizes = [shape[axis] for shape in shapes]
            kept = axis < x.rank and sizes == [shape[axis] for shape in x.shapes]
            fixed = len(set(sizes)) == 1
            if sizes[0] == 0 or not (kept or fixed or -1 not in entries):
                raise UnsupportedError(
                    f"the shape {shapes[0]} depends on the size of the model's input in several axes"
                )
            entries.append(0 if kept and (axis == 0 or not fixed) else sizes[0] if fixed else -1)
        return self.emit(_reshaping(entries, x), x, part=part)

    def transpose(self, x: Tensor, order: Sequence[int], part: str = "") -> Tensor:
        """``x`` with its axes in this order."""
        if list(order) == list(range(x.rank)):
            return x
        if sorted(order) != list(range(x.rank)):
            raise UnsupportedError(f"the axes {list(order)} are not those of {x.shape}")
        return self.emit(Rearrange.transpose(order), x, part=part)


def plain_number(value: Any) -> float:
    """The number that a float32 stands for: 0.1, not 0.10000000149."""
    return float(str(value)) if isinstance(value, np.float32) else float(value)


def _reshaping(entries: list[int], x: Tensor) -> nn.Layer:
    if entries[0:1] == [0] and len(entries) > 1 and 0 not in entries[1:]:
        return nn.Flatten() if len(entries) == 2 and x.rank > 2 else nn.Reshape(*entries[1:])
    return ReshapeTo(entries)


Translator = Callable[[Call], "Output | Sequence[Output]"]

translators: dict[str, Translator] = {}
"""By operator."""


def translates(*names: str) -> Callable[[Translator], Translator]:
    """Decorator of a function that makes layers of these operators and gives their outputs."""

    def registered(function: Translator) -> Translator:
        for name in names:
            translators[name] = function
        return function

    return registered
