"""ONNX graphs for tests, made of messages: no package is needed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn.onnx import messages
from numbacnn.onnx.tensors import tensor_of

__all__ = ["info", "model", "node", "written"]


def node(
    op: str, inputs: Sequence[str], outputs: str | Sequence[str], name: str = "", **settings: Any
) -> messages.Node:
    """A node; an array among the settings is a tensor."""
    settings = {
        key: tensor_of("", value) if isinstance(value, np.ndarray) else value for key, value in settings.items()
    }
    given = [outputs] if isinstance(outputs, str) else list(outputs)
    return messages.Node(list(inputs), given, name, op, messages.attributes_of(settings))


def info(name: str, shape: Sequence[int | str] | None, kind: int = 1) -> messages.ValueInfo:
    """An input or output; of its sizes a string is a name, "" nothing."""
    if shape is None:
        return messages.ValueInfo(name, messages.Type(messages.TensorType(kind)))
    dims = [messages.Dimension(dim_param=d) if isinstance(d, str) else messages.Dimension(dim_value=d) for d in shape]
    return messages.ValueInfo(name, messages.Type(messages.TensorType(kind, messages.Shape(dims))))


def model(
    nodes: Sequence[messages.Node],
    shapes: Mapping[str, Sequence[int | str] | None],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, Any] | None = None,
    opset: int = 17,
) -> messages.Model:
    """The inputs are those of ``shapes``."""
    graph = messages.Graph(
        node=list(nodes),
        name="g",
        initializer=[tensor_of(name, np.asarray(array)) for name, array in (weights or {}).items()],
        input=[info(name, shape) for name, shape in shapes.items()],
        output=[info(name, None) for name in outputs],
    )
    return messages.Model(ir_version=8, graph=graph, opset_import=[messages.OperatorSet(version=opset)])


def written(path: Path, *arguments: Any, **options: Any) -> Path:
    """The file of a `model` of these arguments."""
    path.write_bytes(messages.write_model(model(*arguments, **options)))
    return path
