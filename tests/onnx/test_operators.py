"""Operators of formulas that people write into their networks: NumPy does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from tests.onnx.graphs import node, written

X = np.random.default_rng(0).uniform(0.5, 2, (2, 3, 4, 5)).astype(np.float32)


def loaded(path: Path, nodes: list[Any], weights: dict[str, Any] | None = None, opset: int = 17) -> nn.Graph:
    return nc.onnx.load(written(path / "m.onnx", nodes, {"x": ("N", 3, 4, 5)}, weights=weights, opset=opset))


@pytest.mark.parametrize(("op", "expected"), [("Exp", np.exp(X)), ("Log", np.log(X)), ("Sqrt", np.sqrt(X))])
def test_functions(tmp_path: Path, op: str, expected: Any) -> None:
    np.testing.assert_allclose(loaded(tmp_path, [node(op, ["x"], "y")])(X), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("exponent", [-2, -1, -0.5, 0, 0.25, 0.5, 1, 2, 3, 4])
def test_powers_by_a_constant(tmp_path: Path, exponent: float) -> None:
    graph = loaded(tmp_path, [node("Pow", ["x", "p"], "a"), node("Relu", ["a"], "y")], {"p": np.float32(exponent)})
    np.testing.assert_allclose(graph(X), X.astype(np.float64) ** exponent, rtol=3e-6)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("ReduceL1", lambda x, **options: np.abs(x).sum(**options)),
        ("ReduceL2", lambda x, **options: np.sqrt((x * x).sum(**options))),
        ("ReduceSumSquare", lambda x, **options: (x * x).sum(**options)),
        ("ReduceLogSum", lambda x, **options: np.log(np.abs(x.sum(**options)))),
    ],
)
def test_reductions(tmp_path: Path, op: str, function: Any, opset: int, keepdims: int) -> None:
    weights = {"axes": np.array([1, 3])} if opset == 18 else None
    settings = {} if opset == 18 else {"axes": [1, 3]}
    inputs = ["x", "axes"] if opset == 18 else ["x"]
    graph = loaded(tmp_path, [node(op, inputs, "y", keepdims=keepdims, **settings)], weights, opset)
    x = X if op == "ReduceLogSum" else X - np.float32(1)
    np.testing.assert_allclose(graph(x), function(x, axis=(1, 3), keepdims=bool(keepdims)), rtol=2e-6, atol=1e-6)
    # Of constants the same is worked out while the file is read.
    if op in ("ReduceL1", "ReduceL2"):
        nodes = [node(op, ["w", *inputs[1:]], "a", **settings), node("Add", ["x", "a"], "y")]
        folded = loaded(tmp_path, nodes, {"w": x[:1], **(weights or {})}, opset)
        np.testing.assert_allclose(folded(X), X + function(x[:1], axis=(1, 3), keepdims=True), rtol=2e-6)


def test_a_clip_of_constants(tmp_path: Path) -> None:
    weights = {"w": X[:1] - 1, "low": np.float32(-0.25), "high": np.float32(0.5)}
    for inputs, low in ((["w", "low", "high"], -0.25), (["w", "", "high"], None)):
        expected = (X[:1] - 1).clip(low, 0.5)
        graph = loaded(tmp_path, [node("Clip", inputs, "a"), node("Mul", ["x", "a"], "y")], weights)
        np.testing.assert_allclose(graph(X), X * expected, rtol=1e-6)


def test_attention_between_pixels(tmp_path: Path) -> None:
    """The non-local block's: each pixel's features are a mean over all, weighted by likeness."""
    nodes = [
        node("Reshape", ["x", "flat"], "keys"),
        node("Transpose", ["keys"], "queries", perm=[0, 2, 1]),
        node("MatMul", ["queries", "keys"], "likeness"),
        node("Softmax", ["likeness"], "shares"),
        node("MatMul", ["shares", "queries"], "y"),
    ]
    graph = loaded(tmp_path, nodes, {"flat": np.array([0, 3, -1])})
    for count in (1, 2, 5):
        x = np.resize(X, (count, 3, 4, 5))
        keys = x.reshape(count, 3, 20)
        queries = keys.transpose(0, 2, 1)
        shares = np.exp(queries @ keys)
        shares /= shares.sum(-1, keepdims=True)
        np.testing.assert_allclose(graph(x), shares @ queries, rtol=1e-5)
    nc.onnx.save(graph, tmp_path / "again.onnx", (2, 3, 4, 5))
    np.testing.assert_array_equal(nc.onnx.load(tmp_path / "again.onnx")(X), graph(X))


def standardized(end: list[Any], weights: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Layer normalisation before opset 17, over the last axis."""
    nodes = [
        node("ReduceMean", ["x"], "mean", axes=[-1]),
        node("Sub", ["x", "mean"], "centred"),
        node("Pow", ["centred", "two"], "squares"),
        node("ReduceMean", ["squares"], "variance", axes=[-1]),
        node("Add", ["variance", "eps"], "more"),
        node("Sqrt", ["more"], "deviation"),
        node("Div", ["centred", "deviation"], "standard"),
        node("Mul", ["standard", "n.weight"], "scaled"),
        *end,
    ]
    return nodes, {"two": np.float32(2), "eps": np.float32(1e-3), "n.weight": np.float32([1, 2, 3, 4, 5]), **weights}


def test_layer_normalisation_made_of_nodes(tmp_path: Path) -> None:
    nodes, weights = standardized([node("Add", ["scaled", "n.bias"], "y")], {"n.bias": np.float32([1, 0, 2, 0, 3])})
    expected = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-3)
    expected = expected * weights["n.weight"] + weights["n.bias"]
    graph = loaded(tmp_path, nodes, weights, 13)
    assert isinstance(graph["n"], nn.LayerNorm) and len(list(graph.named_layers())) == 2
    np.testing.assert_allclose(graph(X), expected, rtol=1e-4, atol=1e-5)
    # Weights that are equal to others are those by another name.
    scaled = node("Mul", ["standard", "other"], "scaled")
    again = [node("Identity", ["n.weight"], "other"), *nodes[:-2], scaled, nodes[-1]]
    assert any(isinstance(layer, nn.LayerNorm) for layer in loaded(tmp_path, again, weights, 13).layers())
    np.testing.assert_allclose(loaded(tmp_path, again, weights, 13)(X), expected, rtol=1e-4, atol=1e-5)
    # Over another axis it is not that layer, and neither is a factor for each row.
    other = [node("ReduceMean", ["x"], "mean", axes=[-2]), *nodes[1:]]
    found = loaded(tmp_path, other, weights, 13)
    assert not any(isinstance(layer, nn.LayerNorm) for layer in found.layers())
    centred = X - X.mean(-2, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * weights["n.weight"] + weights["n.bias"]
    np.testing.assert_allclose(found(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["divided", "multiplied"])
def test_gelu_made_of_nodes(tmp_path: Path, form: str) -> None:
    scale = ("Div", 2**0.5) if form == "divided" else ("Mul", 0.5**0.5)
    nodes = [
        node(scale[0], ["x", "s"], "a"),
        node("Erf", ["a"], "b"),
        node("Add", ["b", "one"], "c"),
        node("Mul", ["half", "c"], "d"),
        node("Mul", ["x", "d"], "y"),
    ]
    graph = loaded(tmp_path, nodes, {"s": np.float32(scale[1]), "one": np.float32(1), "half": np.float32(0.5)})
    assert [type(layer) for _, layer in graph.named_layers()][1:] == [nn.GELU]


@pytest.mark.parametrize(("sizes", "shapes"), [(np.array(2), [2, 1]), (np.array([1, 2]), [1, 2]), (np.array(9), [3])])
def test_parts_of_sequences(tmp_path: Path, sizes: Any, shapes: list[int]) -> None:
    for i, size in enumerate(shapes):
        nodes = [node("SplitToSequence", ["x", "s"], "parts", axis=1), node("SequenceAt", ["parts", "i"], "y")]
        first = sum(shapes[:i])
        for index in (i, i - len(shapes)):
            graph = loaded(tmp_path, nodes, {"s": sizes, "i": np.array(index)})
            np.testing.assert_array_equal(graph(X), X[:, first : first + size])
    for wrong, index in ((sizes, len(shapes)), (np.array([1, 1]), 0), (np.array(0), 0)):
        nodes = [node("SplitToSequence", ["x", "s"], "parts", axis=1), node("SequenceAt", ["parts", "i"], "y")]
        with pytest.raises(ValueError, match=f"part {index} of the sizes"):
            loaded(tmp_path, nodes, {"s": wrong, "i": np.array(index)})


def test_constants_cast_to_what_is_computed(tmp_path: Path) -> None:
    """A convolution without a bias has one of zeros then, which is none to train."""
    kernel = np.random.default_rng(1).standard_normal((4, 3, 1, 1)).astype(np.float32)
    nodes = [
        node("CastLike", ["zero", "x"], "a"),
        node("Expand", ["a", "four"], "bias"),
        node("Conv", ["x", "c.weight", "bias"], "b"),
        node("CastLike", ["two", "b"], "c"),
        node("CastLike", ["b", "x"], "d"),
        node("Mul", ["d", "c"], "y"),
    ]
    weights = {"zero": np.array(0), "two": np.array(2), "four": np.array([4]), "c.weight": kernel}
    graph = loaded(tmp_path, nodes, weights)
    assert [name for name, _ in graph.named_parameters()] == ["c.weight"]
    np.testing.assert_allclose(graph(X), 2 * np.einsum("oc,nchw->nohw", kernel[:, :, 0, 0], X), rtol=1e-5, atol=1e-6)
    whole = [node("CastLike", ["x", "two"], "y")]
    with pytest.raises(ValueError, match="it makes whole numbers of what the model computes"):
        loaded(tmp_path, whole, weights)


def test_a_weight_that_an_exporter_turned_leaves_the_name_to_the_bias(tmp_path: Path) -> None:
    weights = {"onnx::MatMul_3": np.ones((5, 2), np.float32), "block.head.bias": np.zeros(2, np.float32)}
    nodes = [
        node("MatMul", ["x", "onnx::MatMul_3"], "a", name="/block/head/MatMul"),
        node("Add", ["block.head.bias", "a"], "y", name="/block/head/Add"),
    ]
    names = [name for name, _ in loaded(tmp_path, nodes, weights).named_parameters()]
    assert names == ["block/head.weight", "block/head.bias"]
