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
