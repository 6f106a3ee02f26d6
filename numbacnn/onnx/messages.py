"""The messages of an ONNX file that matter here, with the numbers and names of onnx.proto, and the file around them."""

# ruff: noqa: RUF009 - `field` is that of dataclasses, with what the format says of it

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .protobuf import MalformedError, decode, encode, field

__all__ = [
    "Attribute", "Dimension", "Entry", "Graph", "Model", "Node", "OperatorSet", "Shape", "SparseTensor", "Tensor",
    "TensorType", "Type", "ValueInfo", "attributes_of", "read_model", "write_model",
]  # fmt: skip

Numbers = np.ndarray[Any, Any]


@dataclass
class Entry:
    """StringStringEntryProto."""

    key: str = field(1, "string")
    value: str = field(2, "string")


@dataclass
class Tensor:
    """TensorProto."""

    dims: Numbers = field(1, "int", repeated=True)
    data_type: int = field(2, "int")
    segment: Any = field(3, "bytes")
    float_data: Numbers = field(4, "float", repeated=True)
    int32_data: Numbers = field(5, "int", repeated=True)
    string_data: list[Any] = field(6, "bytes", repeated=True)
    int64_data: Numbers = field(7, "int", repeated=True)
    name: str = field(8, "string")
    raw_data: Any = field(9, "bytes")
    double_data: Numbers = field(10, "double", repeated=True)
    uint64_data: Numbers = field(11, "int", repeated=True)
    external_data: list[Entry] = field(13, Entry, repeated=True)
    data_location: int = field(14, "int")


@dataclass
class SparseTensor:
    """SparseTensorProto, of which only the name is of use, which its values have."""

    values: Tensor | None = field(1, Tensor)


@dataclass
class Dimension:
    """TensorShapeProto.Dimension: a number, a name, or neither."""

    dim_value: int = field(1, "int")
    dim_param: str = field(2, "string")


@dataclass
class Shape:
    """TensorShapeProto."""

    dim: list[Dimension] = field(1, Dimension, repeated=True)


@dataclass
class TensorType:
    """TypeProto.Tensor."""

    elem_type: int = field(1, "int")
    shape: Shape | None = field(2, Shape)


@dataclass
class Type:
    """TypeProto, of the kinds of which only that of tensors is of use."""

    tensor_type: TensorType | None = field(1, TensorType)


@dataclass
class ValueInfo:
    """ValueInfoProto."""

    name: str = field(1, "string")
    type: Type | None = field(2, Type)


@dataclass
class Attribute:
    """AttributeProto; of graphs and functions it holds the bytes."""

    name: str = field(1, "string")
    f: float = field(2, "float")
    i: int = field(3, "int")
    s: Any = field(4, "bytes")
    t: Tensor | None = field(5, Tensor)
    g: Any = field(6, "bytes")
    floats: Numbers = field(7, "float", repeated=True)
    ints: Numbers = field(8, "int", repeated=True)
    strings: list[Any] = field(9, "bytes", repeated=True)
    type: int = field(20, "int")

    @property
    def chosen(self) -> str | None:
        """The field of its value, which some readers miss where it is 0 and left out."""
        return {1: "f", 2: "i", 3: "s"}.get(self.type)


@dataclass
class Node:
    """NodeProto."""

    input: list[str] = field(1, "string", repeated=True)
    output: list[str] = field(2, "string", repeated=True)
    name: str = field(3, "string")
    op_type: str = field(4, "string")
    attribute: list[Attribute] = field(5, Attribute, repeated=True)
    domain: str = field(7, "string")


@dataclass
class Graph:
    """GraphProto."""

    node: list[Node] = field(1, Node, repeated=True)
    name: str = field(2, "string")
    initializer: list[Tensor] = field(5, Tensor, repeated=True)
    input: list[ValueInfo] = field(11, ValueInfo, repeated=True)
    output: list[ValueInfo] = field(12, ValueInfo, repeated=True)
    sparse_initializer: list[SparseTensor] = field(15, SparseTensor, repeated=True)


@dataclass
class OperatorSet:
    """OperatorSetIdProto."""

    domain: str = field(1, "string")
    version: int = field(2, "int")


@dataclass
class Model:
    """ModelProto."""

    ir_version: int = field(1, "int")
    producer_name: str = field(2, "string")
    producer_version: str = field(3, "string")
    graph: Graph | None = field(7, Graph)
    opset_import: list[OperatorSet] = field(8, OperatorSet, repeated=True)
    metadata_props: list[Entry] = field(14, Entry, repeated=True)


def attributes_of(settings: Mapping[str, Any]) -> list[Attribute]:
    """An attribute of each setting, of the type of its value; lists are of whole numbers."""
    made = []
    for name, value in settings.items():
        if isinstance(value, str):
            made.append(Attribute(name=name, s=value.encode(), type=3))
        elif isinstance(value, int):
            made.append(Attribute(name=name, i=value, type=2))
        elif isinstance(value, float):
            made.append(Attribute(name=name, f=value, type=1))
        elif isinstance(value, Tensor):
            made.append(Attribute(name=name, t=value, type=4))
        else:
            made.append(Attribute(name=name, ints=np.array(value, np.int64), type=7))
    return made


def read_model(path: Path) -> Model:
    """The model in a file.

    Raises:
        ValueError: naming the file, for bytes that are none.
        OSError: for a file that cannot be read; FileNotFoundError where there is none.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    data = path.read_bytes()
    try:
        model = decode(Model, data)
        if model.graph is None:
            raise MalformedError("it has no graph")
    except MalformedError as error:
        raise ValueError(f"{path} is no ONNX model: {error}") from None
    return model


def write_model(model: Model) -> bytes:
    """The bytes of the file."""
    return encode(model)
