"""What a model computes as nodes with the shapes between them, without running it: what pictures of models are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .containers import Add, Concat, Sequential
from .graph import Graph
from .layer import Layer, inherits_forward
from .state import Shape, Shapes, as_shapes

__all__ = ["End", "Node", "flow"]


class End(NamedTuple):
    """Where a value comes from: a node, by its position, which of its outputs, and its shape."""

    node: int
    output: int
    shape: Shape


class Node(NamedTuple):
    """An input or an output of the model, whose ``kind`` is "", or a layer.

    ``name`` is dotted, ``kind`` the class of the layer, ``detail`` the arguments that it prints.
    """

    name: str
    kind: str
    detail: str
    sources: tuple[End, ...]
    shapes: tuple[Shape, ...]
    """Of its outputs; of an output of the model, its own."""
    joins: bool = False
    """Whether it is what an `Add` or a `Concat` does with its branches, which are nodes of their own."""


def flow(model: Layer, input_shape: Shapes) -> list[Node]:
    """The nodes of ``model`` for an input of ``input_shape``, or for a tuple of the shapes of several.

    Each comes after those that it gets something from, the inputs first. The layers within `Sequential`, `Add`,
    `Concat` and `Graph` are nodes, other layers one each. Errors are those of ``model.output_shape``.

    >>> from numbacnn import nn, use_backend
    >>> with use_backend("reference"):
    ...     model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    >>> [(node.name, node.kind, node.shapes) for node in flow(model, (4, 2, 3))]
    [('input', '', ((4, 2, 3),)), ('0', 'Flatten', ((4, 6),)), ('1', 'Linear', ((4, 3),)), ('output', '', ((4, 3),))]
    """
    shapes = as_shapes(input_shape)
    several = len(as_shapes(model.output_shape(*shapes))) > 1
    names = model.inputs if isinstance(model, Graph) else tuple(f"input {i}" for i in range(len(shapes)))
    names = names if len(shapes) > 1 or isinstance(model, Graph) else ("input",)
    nodes = _Nodes()
    given = [nodes.add(name, "", "", [], [tuple(shape)])[0] for name, shape in zip(names, shapes, strict=True)]
    for i, end in enumerate(nodes.add_layer("", model, given)):
        nodes.add(f"output {i}" if several else "output", "", "", [end], [end.shape])
    return nodes.found


class _Nodes:
    def __init__(self) -> None:
        self.found: list[Node] = []

    def add(
        self, name: str, kind: str, detail: str, sources: Sequence[End], shapes: Sequence[Shape], joins: bool = False
    ) -> list[End]:
        """A node after those that it gets something from; its outputs."""
        node = Node(name, kind, detail, tuple(sources), tuple(map(tuple, shapes)), joins)
        self.found.append(node)
        return [End(len(self.found) - 1, i, shape) for i, shape in enumerate(node.shapes)]

    def add_layer(self, name: str, layer: Layer, given: Sequence[End]) -> list[End]:
        """The nodes of a layer and what is in it; where its outputs come from."""
        within = f"{name}." if name else ""
        if isinstance(layer, Sequential) and inherits_forward(layer, Sequential) and len(layer):
            for child_name, child in layer.named_children():
                given = self.add_layer(f"{within}{child_name}" if child_name else name, child, given)
            return list(given)
        if isinstance(layer, Graph) and inherits_forward(layer, Graph):
            return self._add_graph(within, layer, given)
        outputs = as_shapes(layer.output_shape(*(end.shape for end in given)))
        kind = type(layer).__name__
        for joined in (Add, Concat):
            if isinstance(layer, joined) and inherits_forward(layer, joined):
                ends = [
                    self.add_layer(f"{within}{child_name}", child, given)[0]
                    for child_name, child in layer.named_children()
                ]
                return self.add(name, kind, "", ends, outputs, joins=True)
        return self.add(name, kind, layer.extra_repr(), given, outputs)

    def _add_graph(self, within: str, graph: Graph, given: Sequence[End]) -> list[End]:
        found = {name: [end] for name, end in zip(graph.inputs, given, strict=True)}
        for name in graph.order:
            ends = [found[source.name][source.output or 0] for source in graph.sources(name)]
            found[name] = self.add_layer(f"{within}{name}", graph[name], ends)
        return [found[source.name][source.output or 0] for source in graph.outputs]
