"""A model as an ONNX graph: containers are followed to their layers, whose nodes `layer_nodes` writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import __version__, nn
from ..files import replacing
from ..nn.layer import inherits_forward
from ..nn.state import Shape, State, as_shapes
from ..ops.arguments import flag, integer, shape_of
from . import messages
from .tensors import DTYPES, tensor_of

__all__ = ["Export", "layer_writers", "save", "writes"]

OLDEST, NEWEST = 13, 21
IR_VERSION = 8
BATCH = "n"

Writer = Callable[["Export", Any, str, list[str], list[Shape]], str]

layer_writers: dict[type[nn.Layer], Writer] = {}
"""Of each kind of layer what writes its nodes: (export, layer, name, inputs, their shapes) -> the output."""


def writes(*kinds: type[nn.Layer]) -> Callable[[Writer], Writer]:
    """Decorator of the function that writes the nodes of layers of these kinds."""

    def registered(function: Writer) -> Writer:
        layer_writers.update(dict.fromkeys(kinds, function))
        return function

    return registered


def save(
    model: nn.Layer,
    path: str | os.PathLike[str],
    shape: Any,
    *,
    opset: int = 17,
    dynamic_batch: bool = True,
    fold_batch_norm: bool = False,
) -> None:
    """Write ``model`` as it predicts, in evaluation mode, to an ONNX file, without the package ``onnx``.

    Every layer and container of this package can be written. The weights have the names of the state dict, each node
    that of its layer. The format is that of IR version 8, which runtimes of the last years read. `load` gives a model
    of the same outputs and gradients; only `nn.Dropout2d`, which does nothing in evaluation mode, is not in the file.

    Args:
        model: A model; its mode does not matter, and it is not changed.
        path: The file, which is replaced as a whole.
        shape: That of the input, (n, c, h, w) or what the model takes, or a tuple of the shapes of several inputs.
        opset: Of the operators, 13 to 21.
        dynamic_batch: Whether the batch, the first axis, may be of any size; else it is that of ``shape``. The other
            sizes are those of ``shape``.
        fold_batch_norm: Whether normalisation goes into the weights before it where it can, see `nn.fold_batch_norm`.

    Raises:
        TypeError: for a model with layers that are not of this package, all of which are listed.
        ValueError: for an ``opset`` or a ``shape`` that cannot be, and for a model of more than 2 GB.
        OSError: for a file that cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> import numbacnn as nc
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "lenet.onnx")
        ...     nc.onnx.save(nc.models.lenet(), path, (1, 1, 28, 28))
        ...     path.stat().st_size // 1000
        247
    """
    if not isinstance(model, nn.Layer):
        raise TypeError(f"`model` {model!r} must be a Layer")
    opset = integer("opset", opset, OLDEST, NEWEST)
    shapes = _checked_shapes(model, shape)
    if flag("fold_batch_norm", fold_batch_norm):
        model = nn.fold_batch_norm(model)
    export = Export(model, shapes, opset, flag("dynamic_batch", dynamic_batch))
    data = messages.write_model(export.model)
    if len(data) >= 1 << 31:
        raise ValueError(f"`model` would be a file of {len(data)} bytes, must be less than 2 GiB")
    with replacing(path) as temporary:
        temporary.write_bytes(data)


class Export:
    """The graph of a model while it is written; ``model`` is the message."""

    def __init__(self, model: nn.Layer, shapes: Sequence[Shape], opset: int, dynamic_batch: bool) -> None:
        self.opset = opset
        self._nodes: list[messages.Node] = []
        self._initializers: dict[str, messages.Tensor] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._taken: set[str] = set()
        self._state_names: dict[int, str] = {}
        for name, state in model._named_states():
            self._state_names.setdefault(id(state), name)
            self._taken.add(name)
        self._dynamic = dynamic_batch
        self._check_layers(model)
        parameters = model.parameters()
        dtype = parameters[0].dtype if parameters else np.dtype(np.float32)
        names = list(model.inputs) if isinstance(model, nn.Graph) else [f"x{i}" for i in range(len(shapes))]
        if len(shapes) == 1 and not isinstance(model, nn.Graph):
            names = ["x"]
        inputs = [self._value(name, dtype) for name in names]
        outputs = self._outputs(model, "", inputs, list(shapes))
        found = as_shapes(model.output_shape(*shapes))
        named = [str(source).replace("[", "_").rstrip("]") for source in getattr(model, "outputs", ())]
        wanted = named if len(outputs) > 1 else ["y"]
        outputs = [self._named(output, name, inputs) for output, name in zip(outputs, wanted, strict=True)]
        graph = messages.Graph(
            node=self._nodes,
            name=type(model).__name__,
            initializer=list(self._initializers.values()),
            input=[self._info(name, shape) for name, shape in zip(inputs, shapes, strict=True)],
            output=[self._info(name, shape) for name, shape in zip(outputs, found, strict=True)],
        )
        self.model = messages.Model(
            ir_version=IR_VERSION,
            producer_name="numbacnn",
            producer_version=__version__,
            graph=graph,
            opset_import=[messages.OperatorSet(version=opset)],
        )

    def _check_layers(self, model: nn.Layer) -> None:
        foreign = [
            f"{name or 'the model'}: {type(layer).__name__}"
            for name, layer in model.named_layers()
            if not (type(layer) in layer_writers and inherits_forward(layer, type(layer)))
            and not any(isinstance(layer, kind) and inherits_forward(layer, kind) for kind in _CONTAINERS)
        ]
        if foreign:
            listed = "".join(f"\n- {one}" for one in foreign)
            raise TypeError(f"`model` has layers that are not of this package, for which ONNX has nothing:{listed}")

    # What writers use.

    def node(self, op: str, inputs: Sequence[str], name: str, **settings: Any) -> str:
        """The output of a new node."""
        dtype = next((self._dtypes[one] for one in inputs if one in self._dtypes), np.dtype(np.float32))
        output = self._value(name, dtype)
        attributes = messages.attributes_of(settings)
        self._nodes.append(messages.Node(list(inputs), [output], output, op, attributes))
        return output

    def constant(self, array: Any, name: str) -> str:
        """A value that is no weight, as a node."""
        array = np.asarray(array)
        output = self._value(name, array.dtype)
        attributes = messages.attributes_of({"value": tensor_of("", array)})
        self._nodes.append(messages.Node([], [output], output, "Constant", attributes))
        return output

    def scalar(self, number: float, like: str, name: str) -> str:
        """A number of the dtype of the value ``like``."""
        return self.constant(np.array(number, self._dtypes[like]), name)

    def numbers(self, values: Sequence[int], name: str) -> str:
        """Sizes, axes or indices."""
        return self.constant(np.array(values, np.int64), name)

    def state(self, state: State) -> str:
        """A parameter or buffer, under its name in the state dict."""
        name = self._state_names[id(state)]
        if name not in self._initializers:
            array = np.asarray(state.backend.to_numpy(state.value))
            self._initializers[name] = tensor_of(name, array)
            self._dtypes[name] = array.dtype
        return name

    def dtype(self, value: str) -> np.dtype[Any]:
        """That of a value."""
        return self._dtypes[value]

    def batch(self, shape: Shape) -> tuple[int, ...]:
        """``shape`` as that of a Reshape which leaves the batch as it is."""
        return (0, *shape[1:])

    def _cast(self, value: str, dtype: np.dtype[Any], name: str) -> str:
        if self._dtypes[value] == dtype:
            return value
        number = next(number for number, known in DTYPES.items() if known == dtype)
        output = self.node("Cast", [value], f"{name}/cast", to=number)
        self._dtypes[output] = dtype
        return output

    def _value(self, name: str, dtype: Any) -> str:
        found, count = name, 1
        while found in self._taken:
            count += 1
            found = f"{name}_{count}"
        self._taken.add(found)
        self._dtypes[found] = np.dtype(dtype)
        return found

    def _named(self, output: str, name: str, inputs: Sequence[str]) -> str:
        """The value ``output``, which is renamed where nothing else but the node that gives it has its name."""
        if output in inputs or any(output in node.input for node in self._nodes):
            return self.node("Identity", [output], name)
        renamed = self._value(name, self._dtypes[output]) if name != output else name
        for node in self._nodes:
            node.output = [renamed if one == output else one for one in node.output]
        return renamed

    def _info(self, name: str, shape: Shape) -> messages.ValueInfo:
        dims = [messages.Dimension(dim_value=size) for size in shape]
        if self._dynamic and dims:
            dims[0] = messages.Dimension(dim_param=BATCH)
        number = next(number for number, known in DTYPES.items() if known == self._dtypes[name])
        return messages.ValueInfo(name, messages.Type(messages.TensorType(number, messages.Shape(dims))))

    # Layers within layers.

    def _outputs(self, layer: nn.Layer, name: str, inputs: list[str], shapes: list[Shape]) -> list[str]:
        if isinstance(layer, nn.Graph):
            return self._graph(layer, name, inputs, shapes)
        return [self._output(layer, name, inputs, shapes)]

    def _output(self, layer: nn.Layer, name: str, inputs: list[str], shapes: list[Shape]) -> str:
        if isinstance(layer, nn.Graph):
            (only,) = self._graph(layer, name, inputs, shapes)
            return only
        if isinstance(layer, nn.Sequential):
            (x,) = inputs
            for child_name, child, inner in layer.child_inputs(shapes[0]):
                x = self._output(child, _joined(name, child_name), [x], list(as_shapes(inner)))
            return x
        if isinstance(layer, (nn.Add, nn.Concat)):
            return self._branches(layer, name, inputs[0], shapes[0])
        if isinstance(layer, nn.DenseBlock):
            (x,) = inputs
            for child_name, child, inner in layer.child_inputs(shapes[0]):
                own = _joined(name, child_name)
                y = self._output(child, own, [x], list(as_shapes(inner)))
                x = self.node("Concat", [x, y], f"{own}/joined", axis=1)
            return x
        dtypes = {state.dtype for kind in (nn.Parameter, nn.Buffer) for _, state in layer._members(kind) if state.shape}
        wanted = dtypes.pop() if dtypes else np.result_type(*[self._dtypes[value] for value in inputs])
        own_name = name or type(layer).__name__.lower()
        given = [self._cast(value, wanted, own_name) for value in inputs]
        return layer_writers[type(layer)](self, layer, own_name, given, shapes)

    def _branches(self, layer: nn.Add | nn.Concat, name: str, x: str, shape: Shape) -> str:
        outputs = []
        # In a graph the last use of a value gives its gradient first: so branches are added up from the first one on.
        for child_name, child, inner in reversed(layer.child_inputs(shape)):
            outputs.append(self._output(child, _joined(name, child_name), [x], list(as_shapes(inner))))
        outputs.reverse()
        own_name = name or type(layer).__name__.lower()
        if len(outputs) == 1:
            return outputs[0]
        if isinstance(layer, nn.Concat):
            return self.node("Concat", outputs, own_name, axis=1)
        return self.node("Add" if len(outputs) == 2 else "Sum", outputs, own_name)

    def _graph(self, graph: nn.Graph, name: str, inputs: list[str], shapes: list[Shape]) -> list[str]:
        values: dict[str, list[str]] = {own: [value] for own, value in zip(graph.inputs, inputs, strict=True)}
        for node, layer, inner in graph.child_inputs(*shapes):
            given = [values[source.name][source.output or 0] for source in graph.sources(node)]
            values[node] = self._outputs(layer, _joined(name, node), given, list(as_shapes(inner)))
        return [values[source.name][source.output or 0] for source in graph.outputs]


def _checked_shapes(model: nn.Layer, shape: Any) -> list[Shape]:
    """One for each input of ``model``."""
    given = as_shapes(tuple(shape) if isinstance(shape, list) else shape)
    if any(not isinstance(one, (tuple, list)) for one in given):
        raise TypeError(f"`shape` {shape!r} must be a shape, or a tuple of the shapes of several inputs")
    count = len(model.inputs) if isinstance(model, nn.Graph) else None if model.takes_several else 1
    if count not in (None, len(given)):
        raise ValueError(f"`shape` {shape!r} is of {len(given)} inputs, {type(model).__name__} takes {count}")
    return [shape_of("shape", one, ", ".join("n" * len(one))) for one in given]


def _joined(name: str, child: str) -> str:
    return f"{name}.{child}" if name and child else name or child


_CONTAINERS = (nn.Graph, nn.Sequential, nn.Add, nn.Concat, nn.DenseBlock)
