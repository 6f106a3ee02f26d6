"""Nodes that together are one layer: GELU made of an error function, group normalisation made of another one, ...

A pattern is a tree of operators; what it finds becomes one node, and the nodes within it are left to whoever else uses
them. `save` writes those of these layers for which an opset has no operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .messages import Attribute, Graph, Node, attributes_of
from .tensors import array_of

__all__ = ["Recognised", "adaptive_matrix", "recognised"]

Pattern = Any
"""A string is a value, the same wherever it is; a number a constant; ``("Op", pattern, ...)`` a node.

A string that begins with ``#`` is a constant of any value.
"""
Found = dict[str, Any]

_COMMUTE = {"Add", "Mul"}
_TOLERANCE = 1e-5
_MOST_IDENTITIES = 4
"""By so many nodes one value may be another; exporters put one where two weights are equal."""


class Recognised(Node):
    """What stands for several nodes: an operator of ONNX, some with more attributes, or one that only is here."""


def recognised(graph: Graph, folder: Path, opset: int) -> list[Node]:
    """The nodes of ``graph``, with one in place of each pattern that was found."""
    search = _Search(graph, folder)
    nodes = []
    for node in graph.node:
        made = None
        for pattern, make in _BY_ROOT.get(node.op_type, ()):
            found: Found = {}
            if node.domain in ("", "ai.onnx") and len(node.output) == 1 and search.matches(node, pattern, found):
                made = make(search, node, found)
                if made is not None:
                    break
        nodes.append(made or node)
    return nodes


class _Search:
    def __init__(self, graph: Graph, folder: Path) -> None:
        self._by_output = {name: node for node in graph.node for name in node.output}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._folder = folder

    def constant(self, name: str) -> Any:
        """The numbers of ``name`` where that is an initializer, a constant of a node, or the same again; else None."""
        for _ in range(_MOST_IDENTITIES):
            node = self._by_output.get(name)
            if node is None or node.op_type != "Identity" or not node.input:
                break
            name = node.input[0]
        tensor = self._initializers.get(name)
        if tensor is None:
            node = self._by_output.get(name)
            if node is None or node.op_type != "Constant" or not node.attribute:
                return None
            attribute = node.attribute[0]
            if attribute.name == "value_float":
                return np.float32(attribute.f)
            tensor = attribute.t
        try:
            return None if tensor is None else array_of(tensor, self._folder)
        except ValueError:
            return None  # Whoever reads it will say so.

    def node(self, name: str) -> Node | None:
        """The node that gives ``name``."""
        return self._by_output.get(name)

    def matches(self, node: Node, pattern: Pattern, found: Found) -> bool:
        """Whether ``node`` is the root of ``pattern``; ``found`` gets the names of values, and nodes by operator."""
        op, *inputs = pattern
        if node.op_type != op or len([name for name in node.input if name]) != len(inputs):
            return False
        orders = [node.input, node.input[::-1]] if op in _COMMUTE else [node.input]
        for order in orders:
            tried = dict(found)
            if all(self._fits(name, inner, tried) for name, inner in zip(order, inputs, strict=True)):
                tried[op] = node
                found.clear()
                found.update(tried)
                return True
        return False

    def _fits(self, name: str, pattern: Pattern, found: Found) -> bool:
        if isinstance(pattern, tuple):
            node = self._by_output.get(name)
            return node is not None and self.matches(node, pattern, found)
        if isinstance(pattern, str):
            if pattern.startswith("#") and self.constant(name) is None:
                return False
            return bool(found.setdefault(pattern, name) == name)
        value = self.constant(name)
        if value is None or value.size != 1:
            return False
        return abs(float(value.reshape(())) - pattern) <= _TOLERANCE * max(1.0, abs(pattern))

    def number(self, name: str) -> float | None:
        """The one number of a constant."""
        value = self.constant(name)
        if value is None or value.size != 1:
            return None
        scalar = np.asarray(value).reshape(())[()]
        return float(str(scalar)) if isinstance(scalar, np.float32) else float(scalar)


def _made(op: str, node: Node, inputs: list[str], **settings: Any) -> Node:
    return Recognised(inputs, list(node.output), node.name, op, attributes_of(settings))


Make = Callable[[_Search, Node, Found], "Node | None"]


def _plain(op: str, **settings: Any) -> Make:
    return lambda search, node, found: _made(op, node, [found["x"]], **settings)


def _attribute_of(node: Node, name: str) -> Attribute | None:
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def _linear(search: _Search, node: Node, found: Found) -> Node | None:
    weight, bias = found["w"], found["b"]
    sizes = _shape_of_weight(search, weight), _shape_of_weight(search, bias)
    if sizes[0] is None or len(sizes[0]) != 2 or sizes[1] != (sizes[0][1],):
        return None
    return _made("Linear", node, [found["x"], weight, bias])


def _shape_of_weight(search: _Search, name: str) -> tuple[int, ...] | None:
    """That of an initializer, which may be turned."""
    node = search.node(name)
    if node is not None and node.op_type == "Transpose" and len(node.input) == 1:
        shape = _shape_of_weight(search, node.input[0])
        return None if shape is None or len(shape) != 2 else shape[::-1]
    value = search.constant(name)
    return None if value is None else tuple(value.shape)


def _group_norm(search: _Search, node: Node, found: Found) -> Node | None:
    norm, grouped, restored = found["InstanceNormalization"], search.constant(found["#g"]), found["shape"]
    scale, bias = search.constant(found["#s"]), search.constant(found["#z"])
    if grouped is None or grouped.size != 3 or int(grouped.reshape(-1)[2]) != -1 or int(grouped.reshape(-1)[0]) != 0:
        return None
    if not np.all(scale == 1) or np.any(bias):
        return None
    eps = _attribute_of(norm, "epsilon")
    settings = {"num_groups": int(grouped.reshape(-1)[1]), "epsilon": 1e-5 if eps is None else eps.f}
    again = search.node(restored)
    if again is None or again.op_type != "Shape" or list(again.input) != [found["x"]]:
        sizes = search.constant(restored)
        if sizes is None:
            return None
        settings["restored"] = sizes.reshape(-1).tolist()
    return _made("GroupNormalization", node, [found[name] for name in ("x", "w", "b") if name in found], **settings)


def _hardswish(search: _Search, node: Node, found: Found) -> Node | None:
    alpha, beta = (_attribute_of(found["HardSigmoid"], name) for name in ("alpha", "beta"))
    if alpha is None or abs(alpha.f - 1 / 6) > _TOLERANCE or (beta is not None and beta.f != 0.5):
        return None
    return _made("HardSwish", node, [found["x"]])


def _shuffle(search: _Search, node: Node, found: Found) -> Node | None:
    split, restored = search.constant(found["#split"]), search.constant(found["#restored"])
    order = _attribute_of(found["Transpose"], "perm")
    axes = 0 if split is None else split.size
    if restored is None or order is None or axes < 3 or order.ints.tolist() != [0, 2, 1, *range(3, axes)]:
        return None
    settings = {"split": split.reshape(-1).tolist(), "restored": restored.reshape(-1).tolist()}
    return _made("ChannelShuffle", node, [found["x"]], **settings)


def _softplus(search: _Search, node: Node, found: Found) -> Node | None:
    beta = search.number(found["#b"]) if "#b" in found else 1.0
    threshold = search.number(found["#t"])
    if beta is None or threshold is None:
        return None
    return _made("Softplus", node, [found["x"]], beta=beta, threshold=threshold)


def _adaptive(search: _Search, node: Node, found: Found) -> Node | None:
    rows, columns = search.constant(found["#r"]), search.constant(found["#c"])
    if rows.ndim != 2 or columns.ndim != 2:
        return None
    for matrix in (rows, columns.T):
        if not np.allclose(matrix, adaptive_matrix(matrix.shape[1], matrix.shape[0]), rtol=0, atol=1e-6):
            return None
    return _made("AdaptiveAveragePool", node, [found["x"]], output_size=[rows.shape[0], columns.shape[1]])


def adaptive_matrix(size: int, outputs: int) -> np.ndarray[Any, Any]:
    """The matrix (outputs, size) of means of windows that share ``size`` out, as of `nn.AdaptiveAvgPool2d`.

    >>> adaptive_matrix(3, 2).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    matrix = np.zeros((outputs, size))
    for i in range(outputs):
        first, end = i * size // outputs, -(-(i + 1) * size // outputs)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


def _powers(search: _Search, node: Node, found: Found) -> Node | None:
    power, root, count = (search.number(found[name]) for name in ("#p", "#q", "#k"))
    pool = found["AveragePool"]
    settings = {attribute.name: attribute for attribute in pool.attribute}
    kernel = settings["kernel_shape"].ints if "kernel_shape" in settings else np.zeros(0)
    if power is None or not root or not count or abs(power * root - 1) > _TOLERANCE or math.prod(kernel) != count:
        return None
    made = _made("PowerPool", node, [found["x"]], norm_type=power)
    made.attribute += pool.attribute
    return made


def _response_norm(search: _Search, node: Node, found: Found) -> Node | None:
    alpha, k, beta = (search.number(found[name]) for name in ("#alpha", "#k", "#beta"))
    kernel = _attribute_of(found["AveragePool"], "kernel_shape")
    pads = _attribute_of(found["AveragePool"], "pads")
    if alpha is None or k is None or beta is None or kernel is None or pads is None:
        return None
    size = int(kernel.ints[0])
    if kernel.ints.tolist() != [size, 1] or pads.ints.tolist() != [size // 2, 0, (size - 1) // 2, 0]:
        return None
    return _made("LRN", node, [found["x"]], size=size, alpha=alpha, beta=beta, bias=k)


def _layer_norm(search: _Search, node: Node, found: Found) -> Node | None:
    division, mean, variance = found["Div"], search.node(found["Sub"].input[1]), found["ReduceMean"]
    axes = [] if mean is None else [_attribute_of(one, "axes") for one in (mean, variance)]
    kept = [] if mean is None else [_attribute_of(one, "keepdims") for one in (mean, variance)]
    eps, scale, bias = search.number(found["#eps"]), search.constant(found["#w"]), search.constant(found["#b"])
    if found["Pow"].input[0] != division.input[0] or eps is None or any(one and one.i != 1 for one in kept):
        return None
    found_axes = [[] if one is None else one.ints.tolist() for one in axes]
    count = len(found_axes[0]) if found_axes else 0
    trailing = list(range(-count, 0))
    if not count or found_axes != [trailing, trailing] or scale.ndim != count or scale.shape != bias.shape:
        return None
    inputs = [found["x"], found["#w"], found["#b"]]
    return _made("LayerNormalization", node, inputs, axis=-count, epsilon=eps)


def _part_of_sequence(search: _Search, node: Node, found: Found) -> Node | None:
    sizes, index = search.constant(found["#sizes"]), search.number(found["#i"])
    axis = _attribute_of(found["SplitToSequence"], "axis")
    if sizes is None or sizes.ndim > 1 or index is None:
        return None
    settings = {"axis": 0 if axis is None else axis.i, "index": int(index), "equal": int(sizes.ndim == 0)}
    return _made("PartOfSequence", node, [found["x"]], sizes=sizes.reshape(-1).tolist(), **settings)


_SQUARES = ("Mul", "x", "x")
_CUBE = ("Mul", "x", _SQUARES)
_NORMALISED = ("Reshape", ("InstanceNormalization", ("Reshape", "x", "#g"), "#s", "#z"), "shape")

_CENTRED = ("Sub", "x", ("ReduceMean", "x"))
_STANDARD = ("Div", _CENTRED, ("Sqrt", ("Add", ("ReduceMean", ("Pow", _CENTRED, 2.0)), "#eps")))

PATTERNS: list[tuple[Pattern, Make]] = [
    (("Mul", "x", ("Sigmoid", "x")), _plain("Silu")),
    (("Mul", "x", ("Tanh", ("Softplus", "x"))), _plain("Mish")),
    (("Mul", "x", ("HardSigmoid", "x")), _hardswish),
    (("Mul", ("Mul", "x", ("Add", ("Erf", ("Div", "x", math.sqrt(2))), 1.0)), 0.5), _plain("Gelu")),
    (("Mul", ("Mul", "x", ("Add", ("Erf", ("Mul", "x", math.sqrt(0.5))), 1.0)), 0.5), _plain("Gelu")),
    (("Mul", ("Mul", "x", 0.5), ("Add", ("Erf", ("Div", "x", math.sqrt(2))), 1.0)), _plain("Gelu")),
    (("Mul", "x", ("Mul", ("Add", ("Erf", ("Div", "x", math.sqrt(2))), 1.0), 0.5)), _plain("Gelu")),
    (("Mul", "x", ("Mul", ("Add", ("Erf", ("Mul", "x", math.sqrt(0.5))), 1.0), 0.5)), _plain("Gelu")),
    (("Mul", ("Mul", "x", 0.5), ("Add", ("Erf", ("Mul", "x", math.sqrt(0.5))), 1.0)), _plain("Gelu")),
    (
        (
            "Mul",
            ("Mul", "x", 0.5),
            ("Add", ("Tanh", ("Mul", ("Add", "x", ("Mul", _CUBE, 0.044715)), math.sqrt(2 / math.pi))), 1.0),
        ),
        _plain("Gelu", approximate="tanh"),
    ),
    (("Where", ("Greater", "x", "#t"), "x", ("Softplus", "x")), _softplus),
    (("Where", ("Greater", ("Mul", "x", "#b"), "#t"), "x", ("Div", ("Softplus", ("Mul", "x", "#b")), "#b")), _softplus),
    (("Add", ("MatMul", "x", "w"), "b"), _linear),
    (("Add", ("Mul", _STANDARD, "#w"), "#b"), _layer_norm),
    (("SequenceAt", ("SplitToSequence", "x", "#sizes"), "#i"), _part_of_sequence),
    (("Add", ("Mul", _NORMALISED, "w"), "b"), _group_norm),
    (_NORMALISED, _group_norm),
    (("Reshape", ("Transpose", ("Reshape", "x", "#split")), "#restored"), _shuffle),
    (("MatMul", "#r", ("MatMul", "x", "#c")), _adaptive),
    (("Pow", ("Mul", ("AveragePool", ("Pow", "x", "#p")), "#k"), "#q"), _powers),
    (
        (
            "Div",
            "x",
            (
                "Pow",
                ("Add", ("Mul", ("Reshape", ("AveragePool", ("Reshape", _SQUARES, "#in")), "shape"), "#alpha"), "#k"),
                "#beta",
            ),
        ),
        _response_norm,
    ),
]

_BY_ROOT: dict[str, list[tuple[Pattern, Make]]] = {}
for _pattern, _make in PATTERNS:
    _BY_ROOT.setdefault(_pattern[0], []).append((_pattern, _make))
