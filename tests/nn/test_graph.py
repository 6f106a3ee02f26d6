"""A graph of layers: the nodes called by hand, central differences, memory, and whatever a layer has to stand."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn import nn, optim, testing, use_backend
from numbacnn.backends import Backend
from numbacnn.training import TrainingStep
from tests.strategies import IN_PYTHON

C, SIZE = 3, 4


def layer_of(kind: str, dtype: Any) -> tuple[nn.Layer, int]:
    """A layer that keeps the shape (n, C, SIZE, SIZE), and how many inputs it takes."""
    made = {
        "conv": lambda: nn.Conv2d(C, C, 3, padding=1, dtype=dtype),
        "norm": lambda: nn.BatchNorm2d(C, dtype=dtype),
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "identity": nn.Identity,
        "block": lambda: nn.Sequential(nn.Conv2d(C, C, 1, dtype=dtype), nn.Tanh()),
        "branches": lambda: nn.Add(nn.Identity(), nn.AvgPool2d(3, 1, 1)),
        "sum": nn.Sum,
        "join": lambda: nn.Sequential({"0": nn.Conv2d(2 * C, C, 1, dtype=dtype)}),
    }
    return made[kind](), {"sum": 2, "join": 2}.get(kind, 1)


@st.composite
def graphs(draw: st.DrawFn, dtype: Any = np.float64) -> nn.Graph:
    """Up to 12 nodes, one or two inputs, outputs wherever nobody else uses a value, and maybe elsewhere."""
    inputs = ["x", "u"][: draw(st.integers(1, 2))]
    values, nodes, used = list(inputs), {}, set()
    for i in range(draw(st.integers(len(inputs), 11))):
        kind = draw(
            st.sampled_from(("conv", "norm", "tanh", "sigmoid", "identity", "block", "branches", "sum", "join"))
        )
        layer, count = layer_of(kind, dtype)
        left = [name for name in inputs if name not in used]
        sources = [left[0] if left and not j else draw(st.sampled_from(values)) for j in range(count)]
        if kind == "join":
            nodes[f"joined{i}"] = (nn.Concatenate(), *sources)
            used |= set(sources)
            sources = [f"joined{i}"]
        nodes[f"{kind}{i}"] = (layer, *sources)
        used |= set(sources)
        values.append(f"{kind}{i}")
    ends = [name for name in nodes if name not in used]
    more = [name for name in nodes if name in used and not name.startswith("joined")]
    outputs = ends + draw(st.lists(st.sampled_from(more), max_size=1) if more else st.just([]))
    order = draw(st.permutations(list(nodes)))
    return nn.Graph({name: nodes[name] for name in order}, inputs, outputs)


def inputs_of(graph: nn.Graph, seed: int = 0, n: int = 2, dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, C, SIZE, SIZE)).astype(dtype) for _ in graph.inputs]


def by_hand(graph: nn.Graph, inputs: list[Any]) -> list[np.ndarray]:
    values: dict[str, Any] = dict(zip(graph.inputs, inputs, strict=True))
    left = dict(graph.named_children())
    while left:
        for name, layer in list(left.items()):
            if all(source.name in values for source in graph.sources(name)):
                values[name] = layer(*[values[source.name] for source in graph.sources(name)])
                del left[name]
    return [np.array(graph.backend.to_numpy(values[source.name])) for source in graph.outputs]


@given(graphs(), st.booleans())
@settings(max_examples=5 if IN_PYTHON else 40)
def test_it_is_its_nodes_called_by_hand(backend: Backend, graph: nn.Graph, training: bool) -> None:
    with use_backend(backend):
        graph.to(backend).train(training)
        twin = copy.deepcopy(graph)
        inputs = [backend.asarray(x) for x in inputs_of(graph)]
        expected = by_hand(twin, inputs)
        found = graph(*inputs)
        for y, value, shape in zip(found, expected, graph.output_shape(*[x.shape for x in inputs]), strict=True):
            np.testing.assert_array_equal(backend.to_numpy(y), value)
            assert tuple(y.shape) == shape


@given(graphs(), st.booleans())
@settings(max_examples=5 if IN_PYTHON else 25)
def test_its_gradients_are_central_differences(graph: nn.Graph, training: bool) -> None:
    graph.to("reference").train(training)
    testing.check_gradients(graph, *inputs_of(graph))


@given(graphs(np.float32))
@settings(max_examples=3 if IN_PYTHON else 10)
def test_a_session_gives_the_same_bits(backend: Backend, graph: nn.Graph) -> None:
    graph.to(backend).eval()
    inputs = inputs_of(graph, dtype=np.float32)
    expected = [np.array(backend.to_numpy(y)) for y in graph(*inputs)]
    session = nn.InferenceSession(graph)
    for _ in range(3):
        for y, value in zip(session(*inputs), expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(y), value)
    parts = graph.predict(tuple(inputs) if graph.takes_several else inputs[0], batch_size=1)
    for y, value in zip(parts, expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(y), value, rtol=1e-5, atol=1e-5)


def test_activations_that_are_computed_along_come_later_and_in_any_order(backend: Backend) -> None:
    """Two layers whose activations follow when both are done."""
    rng = np.random.default_rng(0)
    for first, second in (("tanh", "relu"), ("relu", "tanh")):
        layers = {name: nn.Conv2d(C, C, 3, padding=1, dtype=np.float64) for name in ("left", "right", "other")}
        activations = {"tanh": nn.Tanh(), "relu": nn.ReLU()}
        of = {"tanh": "left", "relu": "right"}
        nodes = {
            **{name: (layers[name], "x") for name in ("left", "right")},
            first: (activations[first], of[first]),
            "other": (layers["other"], "x"),
            second: (activations[second], of[second]),
        }
        graph = nn.Graph(nodes, outputs=["tanh", "other", "relu"]).to(backend)
        twin = copy.deepcopy(graph)
        x, *dys = (backend.asarray(rng.standard_normal((2, C, SIZE, SIZE))) for _ in range(4))
        for y, value in zip(graph(x), by_hand(twin, [x]), strict=True):
            np.testing.assert_array_equal(backend.to_numpy(y), value)
        branches = [("left", "tanh"), ("other",), ("right", "relu")]
        expected = 0.0
        for names, dy in zip(branches, dys, strict=True):
            for name in reversed(names):
                dy = twin[name].backward(dy)
            expected = expected + backend.to_numpy(dy)
        np.testing.assert_allclose(backend.to_numpy(graph.backward(tuple(dys))), expected, rtol=1e-12, atol=1e-13)


def residual() -> nn.Graph:
    return nn.Graph(
        {
            "conv": (nn.Conv2d(C, C, 3, padding=1, bias=False), "x"),
            "norm": (nn.BatchNorm2d(C), "conv"),
            "relu": (nn.ReLU(), "norm"),
            "sum": (nn.Sum(), "relu", "x"),
        }
    )


def test_it_is_what_containers_say(backend: Backend) -> None:
    graph = residual()
    same = nn.Add(nn.Sequential(graph["conv"], graph["norm"], graph["relu"]), nn.Identity())
    x = backend.asarray(inputs_of(graph, dtype=np.float32)[0])
    y = backend.to_numpy(graph(x))
    dx = backend.to_numpy(graph.backward(backend.asarray(np.ones(y.shape, np.float32))))
    graph.zero_grad()
    np.testing.assert_array_equal(backend.to_numpy(same(x)), y)
    np.testing.assert_array_equal(backend.to_numpy(same.backward(backend.asarray(np.ones(y.shape, np.float32)))), dx)
    assert graph.flops((1, C, SIZE, SIZE)) == same.flops((1, C, SIZE, SIZE))
    assert nn.receptive_field(graph, (1, C, 8, 8)) == nn.receptive_field(same, (1, C, 8, 8))
    fields = [row.receptive_field.size for row in nc.summary(graph, (1, C, 8, 8)).rows if row.receptive_field]
    assert fields == [(3, 3)] * 5


def test_an_activation_is_computed_along_only_where_nobody_else_sees_before_it() -> None:
    with use_backend("reference"):
        conv, relu = nn.Conv2d(C, C, 1), nn.ReLU()
        x = inputs_of(nn.Graph({"a": (nn.ReLU(), "x")}), dtype=np.float32)[0]
        before = conv(x)
        for outputs, seen in ((None, [np.maximum(before, 0)]), (["conv", "relu"], [before, np.maximum(before, 0)])):
            graph = nn.Graph({"conv": (conv, "x"), "relu": (relu, "conv")}, outputs=outputs)
            found = graph(x)
            for y, value in zip(found if outputs else [found], seen, strict=True):
                np.testing.assert_array_equal(y, value)
        joined = nn.Graph({"conv": (conv, "x"), "relu": (relu, "conv"), "sum": (nn.Sum(), "relu", "conv")})
        np.testing.assert_array_equal(joined(x), np.maximum(before, 0) + before)


def test_a_layer_at_two_nodes_gets_both_gradients(backend: Backend) -> None:
    nc.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(C, 2, 3, dtype=np.float64), nn.Tanh(), nn.Flatten())
    siamese = nn.Graph(
        {"left": (tower, "a"), "right": (tower, "b"), "both": (nn.Concatenate(), "left", "right")}, ["a", "b"]
    )
    assert [name for name, _ in siamese.named_parameters()] == ["left.0.weight", "left.0.bias"]
    assert list(siamese.state_dict()) == ["left.0.weight", "left.0.bias", "right.0.weight", "right.0.bias"]
    testing.check_gradients(siamese, *inputs_of(siamese, 3))
    a, b = inputs_of(siamese, 4)
    y = siamese(a, b)
    dy = backend.asarray(np.random.default_rng(0).standard_normal(y.shape))
    siamese.backward(dy)
    both = np.array(backend.to_numpy(tower[0].weight.grad))
    twin = copy.deepcopy(tower)
    twin.zero_grad()
    half = y.shape[1] // 2
    for x, part in ((a, dy[:, :half]), (b, dy[:, half:])):
        twin(x)
        twin.backward(part)
    np.testing.assert_allclose(backend.to_numpy(twin[0].weight.grad), both, rtol=1e-12)
    with pytest.raises(RuntimeError, match="before `forward`"):
        siamese.drop_saved()
        siamese.backward(dy)


def test_values_are_free_after_their_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    made: list[weakref.ref[Any]] = []

    class Noted(nn.Layer):
        def forward(self, x: Any) -> Any:
            gc.collect()
            alive.append(sum(reference() is not None for reference in made))
            y = np.array(x)
            made.append(weakref.ref(y))
            return y

        def backward(self, dy: Any, input_gradient: bool = True) -> Any:
            return self.forward(dy)

    with use_backend("reference"):
        chain: dict[str, Any] = {"0": (Noted(), "x")}
        chain |= {str(i): (Noted(), str(i - 1)) for i in range(1, 8)}
        graph = nn.Graph(chain)
        graph(np.ones((1, 2)))
        assert max(alive) == 1
        alive.clear()
        made.clear()
        graph.backward(np.ones((1, 2)))
        assert max(alive) <= 2  # the gradient that a node got, and the one that it was made of


def test_what_a_node_is_asked_for_is_needed(backend: Backend) -> None:
    asked: list[tuple[str, bool]] = []

    class Asked(nn.Conv2d):
        def backward(self, dy: Any, input_gradient: bool = True) -> Any:
            asked.append((self.label, input_gradient))
            return super().backward(dy, input_gradient)

    def conv(label: str) -> nn.Layer:
        layer = Asked(C, C, 1)
        layer.label = label
        return layer

    graph = nn.Graph(
        {"a": (conv("a"), "x"), "b": (conv("b"), "x"), "c": (conv("c"), "a"), "sum": (nn.Sum(), "c", "b", "x")}
    )
    y = graph(inputs_of(graph, dtype=np.float32)[0])
    assert graph.backward(backend.asarray(np.ones(y.shape, np.float32)), input_gradient=False) is None
    assert asked == [("c", True), ("b", False), ("a", False)]


def test_outputs_without_a_gradient_and_nodes_of_several_outputs(backend: Backend) -> None:
    nc.manual_seed(0)
    halves = nn.Graph(
        {"one": (nn.Conv2d(C, 2, 1, dtype=np.float64), "x"), "two": (nn.Tanh(), "x")}, outputs=["one", "two"]
    )
    outer = nn.Graph(
        {"halves": (halves, "x"), "join": (nn.Concatenate(), ("halves", 1), ("halves", 0), ("halves", 1))}, "x"
    )
    testing.check_gradients(outer, *inputs_of(outer))
    assert outer.output_shape((1, C, 2, 2)) == (1, 2 * C + 2, 2, 2)
    x = backend.asarray(inputs_of(halves)[0])
    _, two = halves(x)
    dx = halves.backward((None, backend.asarray(np.ones(two.shape))))
    np.testing.assert_allclose(backend.to_numpy(dx), 1 - np.tanh(backend.to_numpy(x)) ** 2, rtol=1e-10)
    assert not np.any(backend.to_numpy(halves["one"].weight.grad))
    with pytest.raises(ValueError, match=r"'halves' gives 2 outputs: a source is \('halves', i\)"):
        nn.Graph({"halves": (halves, "x"), "tanh": (nn.Tanh(), "halves")})(x)
    with pytest.raises(ValueError, match="'tanh' gives one outputs"):
        nn.Graph({"tanh": (nn.Tanh(), "x"), "more": (nn.Tanh(), ("tanh", 0))})(x)
    with pytest.raises(ValueError, match="None for every output that input 'x' leads to"):
        halves(x)
        halves.backward((None, None))


def test_norms_are_folded_and_parts_are_found(backend: Backend) -> None:
    graph = residual()
    for buffer in (graph["norm"].running_mean, graph["norm"].running_var):
        buffer.value = np.random.default_rng(0).uniform(0.5, 1.5, C)
    x = inputs_of(graph, dtype=np.float32)[0]
    expected = backend.to_numpy(graph.eval()(x))
    folded = nn.fold_batch_norm(nn.Sequential(graph))
    assert [name for name, _ in folded[0].named_children()] == ["conv", "relu", "sum"]
    np.testing.assert_allclose(backend.to_numpy(folded(x)), expected, rtol=1e-5, atol=1e-6)
    part = nn.upto(nn.Sequential(graph, nn.ReLU()), "0.norm")
    found = nn.outputs(nn.Sequential(graph), x, ["0.norm", "0.sum"])
    np.testing.assert_array_equal(backend.to_numpy(part(x)), backend.to_numpy(found["0.norm"]))
    np.testing.assert_array_equal(backend.to_numpy(found["0.sum"]), expected)
    seen = nn.Graph({**{name: (graph[name], *graph.sources(name)) for name in graph.order}}, outputs=["norm", "sum"])
    assert "norm" in dict(nn.fold_batch_norm(nn.Graph({"a": (nn.Conv2d(C, C, 1), "x"), "norm": (nn.BatchNorm2d(C), "a"),
                                                       "b": (nn.Sum(), "norm", "a")})).named_children())  # fmt: skip
    assert len(nn.fold_batch_norm(seen)) == 3


def test_a_part_that_ends_within_a_graph_of_several_inputs(backend: Backend) -> None:
    """It needs no more of them than what leads there."""
    inner = nn.Graph(
        {"up": (nn.ReLU(), "b"), "down": (nn.Tanh(), "a"), "sum": (nn.Sum(), "up", "down", "a")}, inputs=["a", "b"]
    )
    outer = nn.Graph(
        {
            "left": (nn.Sigmoid(), "x"),
            "right": (nn.Conv2d(C, C, 3, padding=1), "x"),
            "join": (inner, "left", "right"),
            "end": (nn.Tanh(), "join"),
        }
    )
    x = inputs_of(residual())[0]
    names = ["join.up", "join.down", "join.sum", "join"]
    for name, y in nn.outputs(outer, x, names).items():
        part = nn.upto(outer, name)
        np.testing.assert_array_equal(backend.to_numpy(part(x)), backend.to_numpy(y))
        size = nn.receptive_field(part, x.shape).size
        assert size == ((1, 1) if name == "join.down" else (3, 3))
        assert ("left" in dict(part.named_children())) is (name != "join.up")


def test_squeeze_and_excitation(backend: Backend) -> None:
    nc.manual_seed(0)
    block = nn.Graph(
        {
            "mean": (nn.GlobalAvgPool2d(), "x"),
            "down": (nn.Conv2d(C, 2, 1, dtype=np.float64), "mean"),
            "relu": (nn.ReLU(), "down"),
            "up": (nn.Conv2d(2, C, 1, dtype=np.float64), "relu"),
            "gate": (nn.Sigmoid(), "up"),
            "scaled": (nn.Product(), "x", "gate"),
        }
    )
    testing.check_gradients(block, *inputs_of(block))


def test_a_step_is_captured(backend: Backend) -> None:
    def trained(capture: bool) -> tuple[dict[str, np.ndarray], str | None]:
        nc.manual_seed(1)
        model = nn.Sequential(residual(), nn.Flatten(), nn.Linear(C * SIZE * SIZE, 2))
        step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), capture=capture)
        rng = np.random.default_rng(0)
        for _ in range(3):
            step(rng.standard_normal((2, C, SIZE, SIZE)).astype(np.float32), rng.integers(0, 2, 2))
        return model.state_dict(), step.mode

    (found, mode), (expected, _) = trained(True), trained(False)
    assert mode == ("plain" if backend.capture(lambda: None) is None else "captured")
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_it_is_printed_copied_and_pickled() -> None:
    with use_backend("reference"):
        graph = residual()
    assert repr(graph).splitlines()[0] == "Graph(inputs='x', outputs='sum'"
    assert repr(graph).splitlines()[-2:] == ["  (sum): Sum() <- relu, x", ")"]
    x = inputs_of(graph, dtype=np.float32)[0]
    for other in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert repr(other) == repr(graph)
        np.testing.assert_array_equal(other.eval()(x), graph.eval()(x))
    rows = nc.summary(graph, (1, C, SIZE, SIZE)).rows
    assert [row.name for row in rows] == ["", "conv", "norm", "relu", "sum"]


def conv() -> nn.Layer:
    return nn.Conv2d(C, C, 1)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Graph({}), TypeError, "`nodes` {} must be a mapping"),
        (lambda: nn.Graph({"a": conv()}), TypeError, r"node 'a' is Conv2d.*, must be \(layer, source, ...\)"),
        (lambda: nn.Graph({"a": (nn.ReLU, "x")}), TypeError, r"node 'a' is <class.*must be an instance, ReLU\(...\)"),
        (lambda: nn.Graph({"a.b": (conv(), "x")}), ValueError, "'a.b' must be a string without dots"),
        (lambda: nn.Graph({"a": (conv(), "y")}), ValueError, "node 'a': there is no 'y', but 'x', 'a'"),
        (lambda: nn.Graph({"a": (conv(), 3)}), TypeError, "node 'a': the source 3 must be a name"),
        (lambda: nn.Graph({"a": (nn.Sum(), "x", "b"), "b": (conv(), "a")}), ValueError, "in a cycle: 'a', 'b'"),
        (lambda: nn.Graph({"a": (conv(), "x"), "b": (conv(), "x")}), ValueError, "node 'a' leads to no output"),
        (lambda: nn.Graph({"a": (conv(), "x")}, ["x", "u"]), ValueError, "`inputs` 'u': no node uses them"),
        (lambda: nn.Graph({"a": (conv(), "x")}, ["x", "x"]), ValueError, "'x', a name that is taken"),
        (lambda: nn.Graph({"a": (conv(), "x")}, "a"), ValueError, "'a', a name that is taken"),
        (lambda: nn.Graph({"a": (conv(), "x")}, outputs="x"), ValueError, "`outputs`: there is no 'x'"),
        (lambda: nn.Graph({"a": (conv(), "x")}, outputs=["a", "a"]), ValueError, "each once"),
        (lambda: residual()[1:], TypeError, "nodes of a Graph stay"),
        (lambda: residual().__delitem__("relu"), TypeError, "nodes of a Graph stay"),
        (lambda: residual().__setitem__("more", conv()), TypeError, "needs sources"),
        (lambda: residual()(1, 2), TypeError, "takes 1 inputs, 'x', got 2"),
        (lambda: residual().output_shape((1, 7, 4, 4)), ValueError, "layer 'conv', Conv2d.*has 7 channels"),
        (lambda: residual()(np.ones((1, 7, 4, 4))), ValueError, "layer 'conv', Conv2d.*has 7 channels"),
        (lambda: nn.Sum()(), TypeError, "takes one input or more"),
        (lambda: nn.Sum().output_shape((1, 2), (2, 1)), ValueError, "must all be the same"),
        (lambda: nn.Product().output_shape((1, 2, 3, 3), (1, 2, 3, 1)), ValueError, r"must have .* or \(1, 2, 1, 1\)"),
        (lambda: nn.Concatenate().output_shape((1, 2, 3), (2, 2, 3)), ValueError, "all but axis 1"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(make: Any, error: type[Exception], text: str) -> None:
    with use_backend("reference"), pytest.raises(error, match=text):
        make()


def test_a_layer_is_replaced() -> None:
    with use_backend("reference"):
        graph = residual()
        graph["relu"] = nn.Tanh()
        graph.conv = nn.Conv2d(C, C, 1)
        assert isinstance(graph.relu, nn.Tanh) and graph["conv"].kernel_size == (1, 1)
        assert graph(inputs_of(graph, dtype=np.float32)[0]).shape == (2, C, SIZE, SIZE)


class TwoErrors(nn.Loss):
    """The squared errors of two outputs, added."""

    capturable = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.MSELoss(), nn.MSELoss()

    def to(self, backend: Any) -> nn.Loss:
        self.first.to(backend)
        self.second.to(backend)
        return super().to(backend)

    def compute(self, prediction: Any, target: Any) -> Any:
        losses = [loss.compute(*pair) for loss, *pair in zip(self.parts(), prediction, target, strict=True)]
        self.saved = ()
        return nc.ops.add(losses, backend=self.backend)

    def parts(self) -> list[nn.Loss]:
        return [self.first, self.second]

    def backward(self) -> Any:
        return tuple(loss.backward() for loss in self.parts())


def test_a_step_of_several_inputs_and_outputs_is_captured(backend: Backend) -> None:
    def trained(capture: bool) -> tuple[dict[str, np.ndarray], tuple[float, float, int], str | None]:
        nc.manual_seed(1)
        tower = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        model = nn.Graph(
            {
                "left": (tower, "a"),
                "right": (tower, "b"),
                "both": (nn.Concatenate(), "left", "right"),
                "one": (nn.Linear(8, 2), "both"),
                "two": (nn.Linear(8, 1), "both"),
            },
            ["a", "b"],
            ["one", "two"],
        )
        loss = TwoErrors()
        step = TrainingStep(model, loss, optim.SGD(model.parameters(), lr=0.1), capture=capture)
        rng = np.random.default_rng(0)
        batches = [
            (tuple(rng.standard_normal((2, 5, 3)).astype(np.float32)),
             (rng.random((5, 2)).astype(np.float32), rng.random((5, 1)).astype(np.float32)))
            for _ in range(3)
        ]  # fmt: skip
        for x, y in batches:
            step(x, y)
        totals = step.totals()
        nc.training.fit(model, batches, batches, loss, step.optimizer, 1)
        error, accuracy = nc.training.evaluate(model, batches, loss)
        assert 0 < error < totals[0] / totals[2] and np.isnan(accuracy)
        return model.state_dict(), totals, step.mode

    (found, totals, mode), (expected, plain, _) = trained(True), trained(False)
    assert mode == ("plain" if backend.capture(lambda: None) is None else "captured")
    assert totals[0] == plain[0] and totals[2] == plain[2] == 15
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
