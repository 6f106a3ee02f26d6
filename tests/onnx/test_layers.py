"""The layers for what `nn` has none: NumPy does the same, and their gradients are central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, optim, testing, training, use_backend
from numbacnn.onnx.arithmetic import Combine, Function, Reduce
from numbacnn.onnx.layers import Along, PadAxis, Rearrange, ReshapeTo, Take
from numbacnn.onnx.products import MatrixProduct

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5))
CHANNELS = RNG.standard_normal((3, 1, 1)) + 3
MATRIX = RNG.standard_normal((7, 4))

ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "maximum": np.maximum,
    "minimum": np.minimum,
}  # fmt: skip
OTHERS: list[tuple[Callable[[], nn.Layer], Any]] = [
    (lambda: Rearrange.transpose((2, 0, 3, 1)), X.transpose(2, 0, 3, 1)),
    (
        lambda: Rearrange([(-1,), (-1,), (2, -1), (-1,)], [(0,), (2,), (1, 4), (3,)]),
        X.reshape(2, 3, 2, 2, 5).transpose(0, 2, 1, 4, 3).reshape(2, 2, 15, 2),
    ),
    (lambda: Take(1, [2, 0, 0]), X[:, [2, 0, 0]]),
    (lambda: Take(2, [1, 2]), X[:, :, [1, 2]]),
    (lambda: Take(3, [4, 2, 0]), X[..., ::-2]),
    (lambda: Take(0, [1]), X[1:]),
    (lambda: PadAxis(1, 2, 1, value=2.0), np.pad(X, ((0, 0), (2, 1), (0, 0), (0, 0)), constant_values=2)),
    (lambda: PadAxis(2, -1, 1), np.pad(X[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))),
    (lambda: PadAxis(1, 1, 2, "reflect"), np.pad(X, ((0, 0), (1, 2), (0, 0), (0, 0)), "reflect")),
    (lambda: Reduce("mean", (1, 3)), X.mean((1, 3), keepdims=True)),
    (lambda: Reduce("sum", (0,)), X.sum(0, keepdims=True)),
    (lambda: Reduce("max", (2, 3)), X.max((2, 3), keepdims=True)),
    (lambda: Reduce("mean", (0, 1, 2, 3)), X.mean(keepdims=True)),
    (lambda: ReshapeTo((-1, 2, 0)), X.reshape(-1, 2, 4)),
    (lambda: Along(2, MATRIX), np.einsum("oh,nchw->ncow", MATRIX, X)),
    (lambda: Along(1, MATRIX[:, :3]), np.einsum("oc,nchw->nohw", MATRIX[:, :3], X)),
]

POSITIVE = np.abs(X) + 0.5
FUNCTIONS: list[tuple[Function, Any]] = [
    (Function("exp"), np.exp(POSITIVE)),
    (Function("log"), np.log(POSITIVE)),
    (Function("sqrt"), np.sqrt(POSITIVE)),
    (Function("power", 0.3), POSITIVE**0.3),
    (Function("power", -2.5), POSITIVE**-2.5),
]
FACTORS = [
    ((4, 3), (3, 5)),
    ((2, 4, 3), (2, 3, 5)),
    ((2, 3, 4, 3), (2, 3, 3, 1)),
    ((2, 1, 4, 3), (3, 3, 5)),
    ((4, 3), (2, 2, 3, 5)),
    ((0, 4, 3), (0, 3, 5)),
    ((2, 0, 3), (2, 3, 5)),
    ((2, 4, 0), (2, 0, 5)),
]


def assert_does(layer: nn.Layer, inputs: tuple[Any, ...], expected: Any) -> None:
    on_backend = [layer.backend.asarray(x) for x in inputs]
    with nn.enable_grad():
        y = layer.forward(*on_backend)
    np.testing.assert_allclose(layer.backend.to_numpy(y), expected, rtol=1e-12, atol=1e-12)
    assert layer.output_shape(*map(np.shape, inputs)) == expected.shape
    dxs = layer.backward(layer.backend.asarray(expected))
    shapes = [tuple(dx.shape) for dx in (dxs if isinstance(dxs, tuple) else (dxs,))]
    assert shapes == [np.shape(x) for x in inputs]


@pytest.mark.parametrize("operation", ARITHMETIC)
def test_arithmetic_is_that_of_numpy(backend: backends.Backend, operation: str) -> None:
    function = ARITHMETIC[operation]
    assert_does(Combine(operation), (X, CHANNELS), function(X, CHANNELS))
    assert_does(Combine(operation), (X[:1], X + 0.1), function(X[:1], X + 0.1))
    assert_does(Combine(operation, CHANNELS, trainable=True), (X,), function(X, CHANNELS))
    assert_does(Combine(operation, X, constant_first=True, trainable=True), (CHANNELS,), function(X, CHANNELS))
    assert_does(Combine(operation, np.float64(2.5)), (X,), function(X, 2.5))


@pytest.mark.parametrize("operation", ARITHMETIC)
def test_gradients_of_arithmetic(operation: str) -> None:
    with use_backend("reference"):
        testing.check_gradients(Combine(operation), X, CHANNELS)
        testing.check_gradients(Combine(operation), X[:1], X + 0.1)
        testing.check_gradients(Combine(operation, CHANNELS, trainable=True), X)
        testing.check_gradients(Combine(operation, X, constant_first=True, trainable=True), CHANNELS)


@pytest.mark.parametrize(("make", "expected"), OTHERS)
def test_the_others_are_those_of_numpy(backend: backends.Backend, make: Callable[[], nn.Layer], expected: Any) -> None:
    assert_does(make(), (X,), expected)


@pytest.mark.parametrize(("make", "expected"), OTHERS)
def test_gradients_of_the_others(make: Callable[[], nn.Layer], expected: Any) -> None:
    with use_backend("reference"):
        testing.check_gradients(make(), X)


@pytest.mark.parametrize(("layer", "expected"), FUNCTIONS)
def test_functions_are_those_of_numpy(layer: Function, expected: Any, backend: backends.Backend) -> None:
    made = Function(layer.operation, layer.exponent)
    assert_does(made, (POSITIVE,), expected)
    with use_backend("reference"):
        testing.check_gradients(Function(layer.operation, layer.exponent), POSITIVE)


def test_functions_of_zero_and_below(backend: backends.Backend) -> None:
    x = np.float32([0, -1, 2])
    for layer, y, dx in (
        (Function("sqrt"), [0, np.nan, 2**0.5], [0, np.nan, 0.5 / 2**0.5]),
        (Function("log"), [-np.inf, np.nan, np.log(2)], [np.inf, -1, 0.5]),
        (Function("power", 0.5), [0, np.nan, 2**0.5], [0, np.nan, 0.5 / 2**0.5]),
        (Function("power", 4.0), [0, 1, 16], [0, -4, 32]),
    ):
        with nn.enable_grad(), np.errstate(all="ignore"):
            found = backend.to_numpy(layer(backend.asarray(x)))
            slope = backend.to_numpy(layer.backward(backend.asarray(np.ones_like(x))))
        np.testing.assert_allclose(found, np.float32(y), rtol=1e-6, err_msg=repr(layer))
        np.testing.assert_allclose(slope, np.float32(dx), rtol=1e-6, err_msg=repr(layer))


@pytest.mark.parametrize(("a", "b"), FACTORS)
def test_products_of_matrices(a: tuple[int, ...], b: tuple[int, ...], backend: backends.Backend) -> None:
    left, right = RNG.standard_normal(a), RNG.standard_normal(b)
    layer = MatrixProduct()
    assert_does(layer, (left, right), left @ right)
    assert layer.flops(a, b) == 2 * (left @ right).size * a[-1]
    if left.size and right.size:
        with use_backend("reference"):
            testing.check_gradients(MatrixProduct(), left, right)


def test_a_product_of_one_matrix_with_itself(backend: backends.Backend) -> None:
    graph = nn.Graph({"turned": (Rearrange.transpose((0, 2, 1)), "x"), "y": (MatrixProduct(), "x", "turned")})
    x = RNG.standard_normal((2, 3, 4))
    with nn.enable_grad():
        y = graph(backend.asarray(x))
        dx = graph.backward(backend.asarray(np.ones((2, 3, 3))))
    np.testing.assert_allclose(backend.to_numpy(y), x @ x.transpose(0, 2, 1), rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(dx), 2 * np.ones((2, 3, 3)) @ x, rtol=1e-12)


def test_nan_and_infinity_go_through(backend: backends.Backend) -> None:
    a, b = np.float32([np.nan, np.inf, -np.inf, 1]), np.float32([1, 2, 3, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        for operation, function in ARITHMETIC.items():
            layer = Combine(operation)
            y = layer.backend.to_numpy(layer(*map(layer.backend.asarray, (a, b))))
            np.testing.assert_array_equal(y, function(a, b), err_msg=operation)


@pytest.mark.parametrize(
    ("layer", "shapes", "what"),
    [
        (Combine("add"), ((2, 3), (2, 4)), "cannot be broadcast"),
        (Rearrange.transpose((1, 0)), ((2, 3, 4),), "must have 2 axes"),
        (Rearrange([(2, -1), (-1,)], [(0, 1), (2,)]), ((3, 4),), "does not split"),
        (Take(1, [3]), ((2, 3),), "these are not"),
        (PadAxis(1, -2, -1), ((2, 3),), "nothing would be left"),
        (Reduce("mean", (2,)), ((2, 3),), "must have the axes"),
        (ReshapeTo((4, 0)), ((2, 3),), "cannot become"),
        (ReshapeTo((1, 1, 0)), ((2, 3),), "does not have"),
        (Along(0, MATRIX), ((3, 3),), "must have 4"),
        (MatrixProduct(), ((2, 3), (2, 3)), "cannot multiply matrices"),
        (MatrixProduct(), ((3,), (3, 2)), "cannot multiply matrices"),
        (MatrixProduct(), ((2, 2, 3), (3, 3, 2)), "cannot multiply matrices"),
    ],
)
def test_shapes_that_do_not_fit(layer: nn.Layer, shapes: tuple[tuple[int, ...], ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        layer.output_shape(*shapes)


def all_layers() -> list[tuple[nn.Layer, tuple[Any, ...]]]:
    x, channels = X.astype(np.float32), CHANNELS.astype(np.float32)
    layers: list[tuple[nn.Layer, tuple[Any, ...]]] = [(make(), (x,)) for make, _ in OTHERS]
    layers += [(Function(made.operation, made.exponent), (np.abs(x) + 1,)) for made, _ in FUNCTIONS]
    layers.append((MatrixProduct(), (x, np.ascontiguousarray(x.transpose(0, 1, 3, 2)))))
    for operation in ARITHMETIC:
        layers.append((Combine(operation), (x, channels)))
        layers.append((Combine(operation, channels, trainable=True), (x,)))
    return layers


def test_sessions_predict_the_same(backend: backends.Backend) -> None:
    for layer, inputs in all_layers():
        expected = np.array(backend.to_numpy(layer.eval()(*inputs)))
        session = nn.InferenceSession(layer)
        for _ in range(3):
            np.testing.assert_array_equal(backend.to_numpy(session(*inputs)), expected, err_msg=repr(layer))


def test_captured_steps_train_as_plain_ones(backend: backends.Backend) -> None:
    results = []
    for capture in (False, True):
        nn.init.manual_seed(0)
        model = nn.Graph(
            {
                "scale": (Combine("multiply", CHANNELS.astype(np.float32), trainable=True), "x"),
                "shift": (Combine("subtract", CHANNELS.astype(np.float32), trainable=True), "scale"),
                "most": (Combine("maximum"), "shift", "x"),
                "turned": (Rearrange.transpose((0, 2, 1, 3)), "most"),
                "part": (Take(1, [3, 0, 1]), "turned"),
                "padded": (PadAxis(1, 1, 0), "part"),
                "ratio": (Combine("divide", np.float32(3.0)), "padded"),
                "wide": (Along(3, MATRIX[:, [0, 1, 2, 3, 0]].astype(np.float32)), "ratio"),
                "slopes": (Function("exp"), "wide"),
                "roots": (Function("power", 0.5), "slopes"),
                "columns": (Rearrange.transpose((0, 1, 3, 2)), "roots"),
                "pairs": (MatrixProduct(), "columns", "wide"),
                "mean": (Reduce("mean", (1,)), "pairs"),
                "flat": (ReshapeTo((0, -1)), "mean"),
                "head": (nn.Linear(49, 2), "flat"),
            }
        )
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        step = training.TrainingStep(model, nn.CrossEntropyLoss(), optimizer, capture=capture)
        for _ in range(3):
            step(X.astype(np.float32), np.array([0, 1]))
        results.append(model.state_dict())
    for name, value in results[0].items():
        np.testing.assert_array_equal(results[1][name], value, err_msg=name)
