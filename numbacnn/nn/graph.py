"""Layers as nodes of a directed acyclic graph: several inputs and outputs, and values that are used in many places."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

from .. import ops
from ..backends import Array
from .child import answered, backward_through, keeping_for, passes_on, plans_gradients, taken_over, trains
from .container import Container, naming
from .conv import Conv2d
from .grad_mode import enables_grad_within, needs_no_input_gradient
from .graph_plan import Plan, Source, checked_inputs, checked_source, value_of
from .layer import Layer, check_result, is_stock
from .linear import Linear
from .merge import Sum
from .normalization import BatchNorm2d
from .receptive import ReceptiveField
from .state import Shape, Shapes, as_shapes
from .view_layer import ViewLayer

__all__ = ["Graph"]


class Graph(Container):
    """Layers that get each other's outputs: a directed acyclic graph of named nodes, run in a fixed order.

    A node is a layer and where its inputs come from, ``(layer, source, ...)``; a source is the name of an input or of a
    node, or ``(name, i)`` for output i of a node that has several. ``forward`` runs the nodes in an order in which
    sources come first, among those that could be next in the order of ``nodes``; ``backward`` runs them in reverse.
    The gradient of a value that is used in several places is the sum of what these give, the last use first. A value
    is free after its last use, a gradient once its node has it.

    Nodes join values by a layer of several inputs, `Sum`, `Product` or `Concatenate`. One layer may be at several
    nodes, as of a siamese network: its gradients add up. An activation that alone uses what a `Conv2d`, `BatchNorm2d`
    or `Linear` gives is computed along with it, to the same bits. A graph is a layer: in a `Sequential`, a node of
    another graph, a model.

    Args:
        nodes: name -> (layer, source, ...), in any order. Names are strings without dots.
        inputs: the name of the input, or names of several: what ``forward`` takes, in their order.
        outputs: of what is returned, the source or a list of sources, of nodes; by default the last node. With a list,
            ``forward`` returns a tuple, and ``backward`` takes one, in which None is for an output without a gradient.

    Raises:
        TypeError: for a node that is no such tuple.
        ValueError: naming the nodes, for a source that there is not, a cycle, an input that no node uses and a node
            that leads to no output.

    Example:
        >>> from numbacnn import nn
        >>> block = nn.Graph(
        ...     {
        ...         "conv": (nn.Conv2d(8, 8, 3, padding=1), "x"),
        ...         "relu": (nn.ReLU(), "conv"),
        ...         "sum": (nn.Sum(), "relu", "x"),
        ...     }
        ... )
        >>> block
        Graph(inputs='x', outputs='sum'
          (conv): Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)) <- x
          (relu): ReLU() <- conv
          (sum): Sum() <- relu, x
        )
        >>> block.output_shape((4, 8, 16, 16))
        (4, 8, 16, 16)
    """

    _no_members = (*Container._no_members, "_sources", "_plan")

    def __init__(
        self,
        nodes: Mapping[str, tuple[Any, ...]],
        inputs: str | Sequence[str] = "x",
        outputs: Any = None,
    ) -> None:
        if not isinstance(nodes, Mapping) or not nodes:
            raise TypeError(f"`nodes` {nodes!r} must be a mapping of names to (layer, source, ...), with one at least")
        for name, node in nodes.items():
            if not isinstance(node, tuple) or len(node) < 2:
                raise TypeError(f"node {name!r} is {node!r}, must be (layer, source, ...)")
        super().__init__({name: node[0] for name, node in nodes.items()})
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        self.inputs: tuple[str, ...] = checked_inputs(names, nodes)
        self._sources = {
            name: tuple(checked_source(f"node {name!r}", given, (*names, *nodes)) for given in node[1:])
            for name, node in nodes.items()
        }
        several = isinstance(outputs, list)
        wanted = outputs if several else [list(nodes)[-1] if outputs is None else outputs]
        self.outputs: tuple[Source, ...] = tuple(checked_source("`outputs`", given, tuple(nodes)) for given in wanted)
        if not self.outputs or len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"`outputs` {outputs!r} must be one or more, each once")
        self.returns_several = several
        self.takes_several = len(self.inputs) > 1
        self._plan = Plan.of(self.inputs, self.outputs, self._sources)

    def _check_children(self, named: dict[str, Any]) -> None:
        for name, layer in named.items():
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"the node name {name!r} must be a string without dots")
            if not isinstance(layer, Layer):
                hint = f"an instance, {layer.__name__}(...)" if isinstance(layer, type) else "a Layer"
                raise TypeError(f"the layer of node {name!r} is {layer!r}, must be {hint}")

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            self._refuse("a part of it is `nn.upto(graph, name)`")
        return super().__getitem__(index)

    def __delitem__(self, index: Any) -> None:
        self._refuse("make a new one of its nodes")

    def _change(self, named: dict[str, Any]) -> None:
        if named.keys() != self._layers.keys():
            self._refuse("a node that it does not have needs sources")
        super()._change(named)

    def _refuse(self, instead: str) -> NoReturn:
        raise TypeError(f"the nodes of a Graph stay, only their layers can be replaced: {instead}")

    # What it computes.

    @plans_gradients
    @enables_grad_within
    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self.inputs):
            raise TypeError(f"Graph takes {len(self.inputs)} inputs, {self._listed(self.inputs)}, got {len(inputs)}")
        self._check_shapes([tuple(x.shape) for x in inputs if hasattr(x, "shape")])
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        remembered = _Remembered(self._layers) if self.saves else None
        shapes: dict[str, tuple[Shape, ...]] = {}
        """Of the nodes with several outputs."""
        activated: dict[str, Any] = {}
        """Of activations that were computed along with their sources, whose turn is to come."""
        needed = self._needed(False) if needs_no_input_gradient() else set()
        for name in self._plan.order:
            layer = self._layers[name]
            is_wanted = any(source.name in needed for source in self._sources[name])
            with naming(name, layer), keeping_for(layer, is_wanted):
                if name in activated:
                    values[name] = layer.saved = activated.pop(name)
                else:
                    given = [value_of(values, source) for source in self._sources[name]]
                    only_use = self._plan.only_use.get(name)
                    following = self._layers[only_use] if only_use else None
                    activation = taken_over(layer, following)
                    if activation is not None:
                        step = cast("Conv2d | Linear | BatchNorm2d", layer)
                        activated[cast(str, only_use)] = step.forward_with(given[0], activation)
                    elif passes_on(layer) and name not in self._plan.returned:
                        values[name] = cast(ViewLayer, layer).forward_view(*given)
                    else:
                        values[name] = check_result(layer, layer.forward(*given))
            if remembered is not None:
                remembered.take(name)
                if isinstance(values.get(name), tuple):
                    shapes[name] = tuple(tuple(y.shape) for y in values[name])
            for gone in self._plan.last_uses[name]:
                values.pop(gone, None)
        found = tuple(value_of(values, source) for source in self.outputs)
        self.saved = (remembered, shapes)
        return found if self.returns_several else found[0]

    @plans_gradients
    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        """The gradient of the input, or a tuple of those of several; nodes are asked only for what is needed."""
        remembered, shapes = self.saved
        totals = _Totals(self)
        given = dy if self.returns_several else (dy,)
        if not isinstance(given, (tuple, list)) or len(given) != len(self.outputs):
            raise TypeError(f"`dy` must be a tuple with one for each output, {self._listed(map(str, self.outputs))}")
        for source, gradient in zip(self.outputs, given, strict=True):
            if gradient is not None:
                totals.add(source, gradient)
        needed = self._needed(input_gradient)
        for name in reversed(self._plan.order):
            layer, sources = self._layers[name], self._sources[name]
            remembered.put_back(name)
            gradient = totals.pop(name, shapes.get(name))
            if gradient is None or name not in needed:
                answered(layer)
                continue
            wanted = any(source.name in needed for source in sources)
            own = not any(source.name in self.inputs for source in sources)
            try:
                if own and is_stock(layer, Sum, passes=("forward", "backward")):
                    dxs: Any = cast(Sum, layer).backward_shared(gradient)
                elif own and passes_on(layer):
                    dxs = cast(ViewLayer, layer).backward_view(gradient)
                else:
                    dxs = backward_through(layer, gradient, wanted)
            except Exception:
                with naming(name, layer):
                    raise
            if wanted:
                for source, dx in zip(sources, dxs if isinstance(dxs, tuple) else (dxs,), strict=True):
                    if source.name in needed:
                        totals.add(source, dx)
        if not input_gradient:
            return None
        dxs = tuple(totals.pop(name) for name in self.inputs)
        for name, dx in zip(self.inputs, dxs, strict=True):
            if dx is None:
                raise ValueError(f"`dy` is None for every output that input {name!r} leads to")
        return dxs if self.takes_several else dxs[0]

    def _check_shapes(self, shapes: Sequence[Shape]) -> None:
        """A subclass says here what inputs it cannot take, where a node's error would not say why."""

    def _needed(self, input_gradient: bool) -> set[str]:
        """The inputs and nodes whose values' gradients are needed: by the caller or by parameters before them."""
        found = set(self.inputs) if input_gradient else set()
        for name in self._plan.order:
            before = any(source.name in found for source in self._sources[name])
            if before or trains(self._layers[name]):
                found.add(name)
        return found

    # What is known without computing.

    def output_shape(self, *shapes: Shape) -> Any:
        found = self._shapes(shapes)
        outputs = tuple(value_of(found, source) for source in self.outputs)
        return outputs if self.returns_several else outputs[0]

    def child_inputs(self, *shapes: Shape) -> list[tuple[str, Layer, Shapes]]:
        found = self._shapes(shapes)
        inputs = []
        for name in self._plan.order:
            of_node = tuple(value_of(found, source) for source in self._sources[name])
            inputs.append((name, self._layers[name], of_node if len(of_node) > 1 else of_node[0]))
        return inputs

    def _shapes(self, shapes: tuple[Shape, ...]) -> dict[str, Any]:
        if len(shapes) != len(self.inputs):
            raise TypeError(f"Graph has {len(self.inputs)} inputs, got {len(shapes)} shapes")
        self._check_shapes(shapes)
        found: dict[str, Any] = {name: tuple(shape) for name, shape in zip(self.inputs, shapes, strict=True)}
        for name in self._plan.order:
            layer = self._layers[name]
            with naming(name, layer):
                found[name] = layer.output_shape(*[value_of(found, source) for source in self._sources[name]])
        return found

    def flops(self, *shapes: Shape) -> int:
        return sum(child.flops(*as_shapes(inner)) for _, child, inner in self.child_inputs(*shapes))

    def algorithms(self, *shapes: Shape) -> dict[str, str]:
        return {}

    # A graph within another gets a list, with the field of each of its inputs.

    def child_fields(self, field: Any, shape: Shapes, image: tuple[int, int]) -> list[Any]:
        return self._fields(field, shape, image)[0]

    def receptive_field(self, field: Any, shape: Any, image: tuple[int, int]) -> ReceptiveField:
        after = self._fields(field, shape, image)[1]
        return functools.reduce(ReceptiveField.joined, [after[source.name] for source in self.outputs])

    def _fields(self, field: Any, shape: Shapes, image: tuple[int, int]) -> tuple[list[Any], dict[str, ReceptiveField]]:
        """Before each node, in order, and after each input and node."""
        of_inputs = field if isinstance(field, list) else [field] * len(self.inputs)
        after, before = dict(zip(self.inputs, of_inputs, strict=True)), []
        for name, layer, inner in self.child_inputs(*as_shapes(shape)):
            given: Any = [after[source.name] for source in self._sources[name]]
            if not (isinstance(layer, Graph) and layer.takes_several):
                given = functools.reduce(ReceptiveField.joined, given)
            before.append(given)
            with naming(name, layer):
                after[name] = layer.receptive_field(given, cast(Shape, inner), image)
        return before, after

    # Its parts.

    def part(self, name: str, layer: Layer) -> Graph:
        """The graph that leads to node ``name``, in which that one has ``layer``; of the same layers otherwise.

        ``layer`` may be a part of that node's layer, which may take fewer inputs.
        """
        sources, whole = dict(self._sources), self._layers[name]
        if isinstance(whole, Graph) and isinstance(layer, Graph):
            inputs = zip(whole.inputs, sources[name], strict=True)
            sources[name] = tuple(source for given, source in inputs if given in layer.inputs)
        needed = {name}
        for other in reversed(self._plan.order):
            if other in needed:
                needed |= {source.name for source in sources[other]}
        layers = {**self._layers, name: layer}
        nodes = {other: (layers[other], *sources[other]) for other in self._layers if other in needed}
        part = Graph(nodes, [other for other in self.inputs if other in needed], name)
        part.backend, part.training = self.backend, self.training
        return part

    def bypass(self, name: str) -> None:
        """Take out node ``name``, of one input: those that used what it gave get what it got."""
        (before,) = self._sources.pop(name)
        del self._layers[name]
        self._sources = {
            other: tuple(before if source.name == name else source for source in sources)
            for other, sources in self._sources.items()
        }
        self.outputs = tuple(before if source.name == name else source for source in self.outputs)
        self._plan = Plan.of(self.inputs, self.outputs, self._sources)

    def only_use(self, name: str) -> str | None:
        """The node that alone uses what node ``name`` gives, which is not returned either; None without one."""
        return self._plan.only_use.get(name)

    def sources(self, name: str) -> tuple[Source, ...]:
        """Where the inputs of node ``name`` come from."""
        return self._sources[name]

    @property
    def order(self) -> tuple[str, ...]:
        """The nodes as ``forward`` runs them."""
        return self._plan.order

    def _listed(self, names: Any) -> str:
        return ", ".join(map(repr, names))

    def __repr__(self) -> str:
        outputs = [str(source) for source in self.outputs]
        head = f"Graph(inputs={_one_or_all(self.inputs)!r}, "
        head += f"outputs={(outputs if self.returns_several else outputs[0])!r}"
        lines = [
            f"({name}): {layer!r}".replace("\n", "\n  ") + f" <- {', '.join(map(str, self._sources[name]))}"
            for name, layer in self._layers.items()
        ]
        return "\n  ".join([head, *lines]) + "\n)"


class _Remembered:
    """What layers at several nodes saved at each of them: a layer itself remembers its last pass alone."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        places: dict[int, int] = {}
        inner = {name: layer.layers() for name, layer in layers.items()}
        for name in inner:
            for layer in inner[name]:
                places[id(layer)] = places.get(id(layer), 0) + 1
        self._shared = {
            name: shared
            for name, of_node in inner.items()
            if (shared := [layer for layer in of_node if places[id(layer)] > 1])
        }
        self._saved: dict[str, list[Any]] = {}

    def take(self, name: str) -> None:
        if name in self._shared:
            self._saved[name] = [layer._saved for layer in self._shared[name]]

    def put_back(self, name: str) -> None:
        for layer, saved in zip(self._shared.get(name, ()), self._saved.get(name, ()), strict=True):
            vars(layer).update(_saved=saved, _unanswered=1, _ambiguous=False)


class _Totals:
    """The gradients of values, which grow until their node takes them."""

    def __init__(self, graph: Graph) -> None:
        self._backend = graph.backend
        self._sums: dict[Source, Array] = {}
        self._owned: set[Source] = set()
        """Sums that nobody else has, to which more can be added in place."""

    def add(self, source: Source, gradient: Array) -> None:
        if source not in self._sums:
            self._sums[source] = gradient
        elif source in self._owned:
            self._backend.accumulate(self._sums[source], gradient)
        else:
            self._sums[source] = ops.add([self._sums[source], gradient], backend=self._backend)
            self._owned.add(source)

    def pop(self, name: str, shapes: tuple[Shape, ...] | None = None) -> Any:
        """The gradient of what ``name`` gave; of several outputs, of ``shapes``, a tuple; None where none came."""
        if shapes is None:
            self._owned.discard(Source(name))
            return self._sums.pop(Source(name), None)
        parts = [self._sums.pop(Source(name, i), None) for i in range(len(shapes))]
        if all(part is None for part in parts):
            return None
        dtype = next(part.dtype for part in parts if part is not None)
        return tuple(
            self._backend.zeros(shape, dtype) if part is None else part
            for part, shape in zip(parts, shapes, strict=True)
        )


def _one_or_all(names: tuple[str, ...]) -> Any:
    return names[0] if len(names) == 1 else list(names)
