"""An ONNX graph as an `nn.Graph`: shapes are followed, constants folded, and what is not supported collected."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..files import user_path
from ..nn.state import Shape, as_shapes
from ..ops.arguments import shape_of
from . import norms, pointwise, resize, shapes, windows
from .call import Call, Const, Tensor, UnsupportedError, Value, plain_number, translators
from .folding import FOLDS, KEEPING, fold
from .messages import Attribute, Model, Node, ValueInfo, read_model
from .patterns import Recognised, recognised
from .tensors import MOST_ELEMENTS, array_of, name_of_type

__all__ = ["Import", "load"]

_TRANSLATE = (norms, pointwise, resize, shapes, windows)
"""They fill `translators`."""

OLDEST, NEWEST = 6, 27
OF_PATTERNS = {"AdaptiveAveragePool", "ChannelShuffle", "Linear", "PartOfSequence", "PowerPool", "Silu"}
"""Operators that `patterns` makes and ONNX does not have."""
FLOATING = (1, 10, 11, 16)
"""The TensorProto.DataType of inputs that are taken: what is computed is float32 or float64 all the same."""

# Sizes that are tried for what a file leaves open: of the batch, and of the other axes.
_BATCHES = (2, 3)
_OPEN = ((224, 256), (288, 192), (160, 320))


def load(path: str | os.PathLike[str], shape: Any = None) -> nn.Graph:
    """The model in an ONNX file, as a graph of this package's layers, in evaluation mode.

    It is trained like any other after ``model.train()``: ``backward`` works, and the file's initializers are its
    parameters and buffers, under their names with ``/`` for dots: ``layer1.0.conv1.weight`` is ``weight`` of node
    ``layer1/0/conv1``. Opsets 6 to 27 are read, without the package ``onnx`` and without running anything that the file
    contains. Numbers of float16 and bfloat16 become float32.

    Args:
        path: The file. Weights in other files are read if they are in its folder.
        shape: That of the input, or a tuple of those of several, where the file leaves sizes open on which the layers
            depend. The first axis, the batch, may stay open; its size here says nothing.

    Raises:
        ValueError: for a file that is no ONNX model or is damaged, and for one with parts that are not supported, each
            of which is listed with its node; all that is known before anything runs. Messages name the file.
        OSError: for a file that cannot be read; FileNotFoundError where there is none.

    Example:
        >>> import tempfile, pathlib
        >>> import numbacnn as nc
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "model.onnx")
        ...     nc.onnx.save(nc.nn.Sequential(nc.nn.Conv2d(1, 6, 3), nc.nn.ReLU()), path, (1, 1, 8, 8))
        ...     nc.onnx.load(path)
        Graph(inputs='x', outputs='1'
          (0): Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1)) <- x
          (1): ReLU() <- 0
        )
    """
    path = user_path(path)
    return Import(read_model(path), path, shape).graph()


class Import:
    """The translation of one model; ``problems`` is what is wrong with it, a line each."""

    def __init__(self, model: Model, path: Path, shape: Any = None) -> None:
        self._path = path
        self._folder = path.parent
        self.problems: list[str] = []
        self.shared: dict[Any, Any] = {}
        self.opset = self._opset(model)
        assert model.graph is not None
        self._proto = model.graph
        self._values: dict[str, Value | None] = {}
        """By name; None is what could not be translated."""
        self._nodes: dict[str, tuple[Any, ...]] = {}
        self.inputs: dict[str, str] = {}
        """The name in the graph of each input of the file."""
        self._wanted = shape
        try:
            self._read()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def graph(self) -> nn.Graph:
        """The layers; ValueError lists what is not supported."""
        if self.problems:
            more = "" if not self._is_open else " (`shape` can fix the sizes that the file leaves open)"
            listed = "".join(f"\n- {problem}" for problem in self.problems)
            raise ValueError(f"{self._path} has parts that are not supported{more}:{listed}")
        return self._graph

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Those of the inputs, with sizes for what is open."""
        return tuple(shapes[0] for shapes in self._input_shapes.values())

    # What the file says.

    def _opset(self, model: Model) -> int:
        versions = {entry.domain: entry.version for entry in model.opset_import}
        version = versions.get("", versions.get("ai.onnx", 1))
        if not OLDEST <= version <= NEWEST:
            self.problems.append(f"opset {version}: must be {OLDEST} to {NEWEST}")
        return version

    def attributes(self, node: Node) -> dict[str, Any]:
        """Those of a node, by name."""
        return {attribute.name: self._attribute(attribute) for attribute in node.attribute}

    def _attribute(self, attribute: Attribute) -> Any:
        kind = attribute.type
        if kind == 1:
            return plain_number(np.float32(attribute.f))
        if kind == 2:
            return attribute.i
        if kind == 3:
            return bytes(attribute.s).decode("utf-8", "replace")
        if kind == 4 and attribute.t is not None:
            return array_of(attribute.t, self._folder)
        if kind == 6:
            return [plain_number(value) for value in attribute.floats]
        if kind == 7:
            return attribute.ints.tolist()
        if kind == 8:
            return [bytes(text).decode("utf-8", "replace") for text in attribute.strings]
        raise UnsupportedError(f"its attribute {attribute.name!r} is of kind {kind}")

    def _read(self) -> None:
        proto = self._proto
        if proto.sparse_initializer:
            self.problems += [f"sparse initializer of {len(proto.sparse_initializer)} tensors"]
        initializers = {tensor.name: tensor for tensor in proto.initializer}
        nodes = recognised(proto, self._folder, self.opset)
        needed, wanted = self._needed(nodes)
        self._used = wanted | {info.name for info in proto.output}
        for name, tensor in initializers.items():
            if name in self._used:
                self._values[name] = Const((array_of(tensor, self._folder),), origin=name)
        given = [info for info in proto.input if info.name not in initializers]
        self._set_inputs([info for info in given if info.name in self._used])
        for index, node in enumerate(nodes):
            if index in needed:
                self._translate(node)
        if not self.problems:
            self._finish([info.name for info in proto.output])

    def _needed(self, nodes: list[Node]) -> tuple[set[int], set[str]]:
        """The nodes that lead to an output, and the names that they use."""
        wanted, needed = {info.name for info in self._proto.output}, set()
        used: set[str] = set()
        for index in range(len(nodes) - 1, -1, -1):
            if wanted & {name for name in nodes[index].output if name}:
                needed.add(index)
                wanted.update(nodes[index].input)
                used.update(nodes[index].input)
        return needed, used - {""}

    def _set_inputs(self, infos: list[ValueInfo]) -> None:
        shapes = [self._open_shape(info) for info in infos]
        given = None if self._wanted is None else [tuple(shape) for shape in as_shapes(self._wanted)]
        if given is not None and len(given) != len(infos):
            raise ValueError(f"`shape` {self._wanted!r} is of {len(given)} inputs, the model has {len(infos)}")
        names: dict[str, tuple[int, int]] = {}
        found: dict[str, list[tuple[int, int]]] = {}
        self._is_open = False
        for i, (info, sizes) in enumerate(zip(infos, shapes, strict=True)):
            if sizes is None:
                if given is None:
                    raise ValueError(f"input {info.name!r} has no shape: give `shape`")
                sizes = [None, *given[i][1:]]
            if given is not None:
                sizes = self._with_given(info.name, sizes, given[i])
            tried = []
            for axis, size in enumerate(sizes):
                if isinstance(size, int):
                    tried.append((size, size))
                    continue
                options = _BATCHES if axis == 0 else _OPEN[(axis - 2) % len(_OPEN)]
                self._is_open |= axis > 0
                tried.append(names.setdefault(size, options) if size else options)
            found[info.name] = tried
        is_fixed = all(a == b for tried in found.values() for a, b in tried)
        self._input_shapes = {
            name: tuple(tuple(pair[i] for pair in tried) for i in range(1 if is_fixed else 2))
            for name, tried in found.items()
        }
        self.tries = 1 if is_fixed else 2
        for info in infos:
            name = self._unique(_as_name(info.name) or "x", self.inputs.values())
            self.inputs[info.name] = name
            self._values[info.name] = Tensor(name, self._input_shapes[info.name])
            kind = info.type.tensor_type.elem_type if info.type and info.type.tensor_type else 0
            if kind not in FLOATING:
                self.problems.append(f"input {info.name!r}: it is of {name_of_type(kind)}, must be floating")

    def _with_given(self, name: str, sizes: Sequence[Any], given: Shape) -> list[Any]:
        given = shape_of("shape", given, ", ".join("n" * len(sizes)))
        for axis, (size, own) in enumerate(zip(sizes, given, strict=True)):
            if isinstance(size, int) and size != own and axis > 0:
                raise ValueError(f"`shape` {given} does not fit input {name!r}, whose axis {axis} is {size}")
        return [size if axis == 0 else own for axis, (size, own) in enumerate(zip(sizes, given, strict=True))]

    def _open_shape(self, info: ValueInfo) -> list[Any] | None:
        """Of each axis its size, or the name of what it is; None for an input of which nothing is said."""
        of_tensor = info.type.tensor_type if info.type else None
        if of_tensor is None or of_tensor.shape is None:
            return None
        if any(dim.dim_value < 0 or dim.dim_value >= 1 << 31 for dim in of_tensor.shape.dim):
            raise ValueError(f"input {info.name!r} has a size that none can have")
        return [dim.dim_value or dim.dim_param for dim in of_tensor.shape.dim]

    # Node by node.

    def _translate(self, node: Node) -> None:
        operator = node.op_type if node.op_type.isidentifier() else repr(node.op_type)
        label = f"node {node.name or '/'.join(node.output)!r} ({operator})"
        try:
            if any(name in self._values for name in node.output if name):
                raise UnsupportedError("its output has the name of another value")
            unknown = [name for name in node.input if name and name not in self._values]
            if unknown:
                raise UnsupportedError(f"its input {unknown[0]!r} comes from nowhere, or from a node that comes later")
            outputs = self._outputs(node)
        except (UnsupportedError, ValueError, TypeError) as error:
            self.problems.append(f"{label}: {error}")
            outputs = []
        except (ArithmeticError, LookupError, AttributeError, MemoryError) as error:
            self.problems.append(f"{label}: its settings do not fit: {error}")
            outputs = []
        for i, name in enumerate(node.output):
            if name:
                self._values[name] = outputs[i] if i < len(outputs) else None

    def _outputs(self, node: Node) -> Sequence[Value | None]:
        op = node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedError(f"it is of the domain {node.domain!r}")
        if op in OF_PATTERNS and not isinstance(node, Recognised):
            raise UnsupportedError("this operator is not supported")
        inputs = [self._values[name] if name else None for name in node.input]
        if op not in translators and op not in FOLDS:
            raise UnsupportedError("this operator is not supported")
        if any(value is None and name for value, name in zip(inputs, node.input, strict=True)):
            if op not in translators:
                raise UnsupportedError("this operator is supported of constants alone")
            return []  # What is wrong is before it.
        if all(value is None or isinstance(value, Const) for value in inputs) and op in FOLDS:
            return self._folded(node, inputs)
        if op not in translators:
            raise UnsupportedError("this operator is supported of constants alone")
        call = Call(self, node, self._call_name(node), inputs, self.opset)
        found = translators[op](call)
        unread = set(call.attributes) - call.read
        if unread:
            raise UnsupportedError(f"its attributes {sorted(unread)} are unknown")
        return [found] if isinstance(found, (Const, Tensor)) or found is None else list(found)

    def _folded(self, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
        attributes = self.attributes(node)
        constants = [value for value in inputs if isinstance(value, Const)]
        times = max((len(value.arrays) for value in constants), default=1)
        per_try = []
        for i in range(times):
            arrays = [value.arrays[i % len(value.arrays)] if isinstance(value, Const) else None for value in inputs]
            per_try.append(fold(node.op_type, arrays, attributes, self.opset))
        origin = form = ""
        if node.op_type in KEEPING and constants and constants[0].origin:
            origin = constants[0].origin
            turned = node.op_type == "Transpose" and constants[0].arrays[0].ndim == 2
            form = constants[0].form + ("T" if turned else f"{node.op_type}{per_try[0][0].shape}")
        return [
            Const(tuple(found[i] for found in per_try), origin, form.replace("TT", "")) for i in range(len(per_try[0]))
        ]

    # What `Call` asks for.

    def is_used(self, name: str) -> bool:
        """Whether a node or the model needs the value ``name``."""
        return name in self._used

    def _call_name(self, node: Node) -> str:
        return _as_name(node.name or next((name for name in node.output if name), node.op_type)) or node.op_type

    def name_of(self, call: Call, part: str) -> str:
        """That of a new node of a call."""
        return self._unique(f"{call.name}/{part}" if part else call.name, [*self._nodes, *self.inputs.values()])

    def prefer_name(self, call: Call, origins: Sequence[str]) -> None:
        """Name the next node of ``call`` after those of its weights that have a dotted name.

        What an exporter has turned or folded has none.
        """
        prefixes = {origin.rpartition(".")[0] for origin in origins if "." in origin}
        if len(prefixes) == 1 and (prefix := _as_name(prefixes.pop())):
            call.name = prefix

    def _unique(self, name: str, taken: Any) -> str:
        known, found, count = set(taken), name, 1
        while found in known:
            count += 1
            found = f"{name}_{count}"
        return found

    def add_node(self, name: str, layer: nn.Layer, tensors: Sequence[Tensor]) -> Tensor:
        """A node with this layer, and the shapes of what it gives."""
        tries = range(self.tries)
        shapes = tuple(tuple(layer.output_shape(*[tensor.shapes[i] for tensor in tensors])) for i in tries)
        if any(math.prod(shape) > MOST_ELEMENTS for shape in shapes):
            raise UnsupportedError(f"it would give the shape {shapes[0]}")
        self._nodes[name] = (layer, *[tensor.source for tensor in tensors])
        return Tensor(name, shapes)

    def _finish(self, outputs: Sequence[str]) -> None:
        if not outputs:
            raise ValueError("the model has no outputs")
        sources: list[str] = []
        for name in outputs:
            value = self._values.get(name)
            if not isinstance(value, Tensor):
                kind = "a constant" if value else "given by nothing"
                self.problems.append(f"output {name!r}: it is {kind}")
                continue
            source = value.source
            if source in self.inputs.values() or source in sources:
                copy = self._unique(_as_name(name) or "y", [*self._nodes, *self.inputs.values()])
                self.add_node(copy, nn.Identity(), [value])
                source = copy
            sources.append(source)
        if self.problems:
            return
        kept = self._leading(sources)
        inputs = [name for name in self.inputs.values() if name in kept]
        nodes = {name: node for name, node in self._nodes.items() if name in kept}
        wanted: Any = sources if len(sources) > 1 else sources[0]
        self._graph = nn.Graph(nodes, inputs if len(inputs) > 1 else inputs[0], wanted).eval()

    def _leading(self, sources: Sequence[str]) -> set[str]:
        """The nodes and inputs that lead to ``sources``."""
        kept, left = set(), list(sources)
        while left:
            name = left.pop()
            if name not in kept:
                kept.add(name)
                left += self._nodes[name][1:] if name in self._nodes else []
        return kept


def _as_name(name: str) -> str:
    """``name`` as that of a node: without dots, and without a slash before it."""
    return re.sub(r"/+", "/", name.replace(".", "/")).strip("/")
