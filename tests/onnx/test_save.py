"""What is saved and loaded computes the same: outputs and gradients, of every layer and of every model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from bench.exchange import draw_states
from numbacnn import nn
from numbacnn.onnx.messages import read_model
from numbacnn.onnx.tensors import array_of
from numbacnn.onnx.writer import layer_writers
from tests.models.variants import ALL, OTHERS, UNETS
from tests.registry import ENTRIES, Case
from tests.registry.test_layers import assert_near, cases, made, passes
from tests.strategies import IN_PYTHON

DRAWS = 2 if IN_PYTHON else 8
MODELS = {**ALL, **UNETS, **{name: OTHERS[name] for name in ("series_fcn", "series_resnet")}}
CONTAINERS = {"Add", "Concat", "DenseBlock", "Graph", "InferenceSession", "Layer", "Sequential"}

# Where an operator of ONNX is missing, and the nodes in its place come back as several layers: the same up to rounding.
ROUNDED = {
    "AdaptiveMaxPool2d": "the largest elements of rows, then of columns; gradients add up in another order",
    "BatchNorm1d": "without running averages, over the samples as one",
    "BatchNorm2d": "without running averages, over the samples as one",
    "CircularPad2d": "pieces that are joined",
    "ReflectionPad2d": "cut off after padding",
    "ReplicationPad2d": "cut off after padding",
    "SyncBatchNorm": "without running averages, over the samples as one",
}


def shapes_of(case: Case) -> Any:
    shapes = tuple(x.shape for x in case.inputs)
    return shapes if len(shapes) > 1 else shapes[0]


def by_last_name(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `passes` gives, the parameters by what the layer calls them."""
    return {name.rpartition(".")[2]: value for name, value in found.items()}


def test_every_layer_can_be_written() -> None:
    layers = {getattr(nn, name) for name in nn.__all__ if name not in CONTAINERS}
    kinds = {kind for kind in layers if isinstance(kind, type) and issubclass(kind, nn.Layer)}
    assert not kinds - set(layer_writers)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("opset", [17, 21])
def test_a_layer_comes_back(tmp_path: Path, name: str, opset: int) -> None:
    path, differing = tmp_path / "layer.onnx", []
    for seed, case in enumerate(cases(name, np.float32, DRAWS)):
        layer = made(case, seed).eval()
        nc.onnx.save(layer, path, shapes_of(case), opset=opset)
        loaded = nc.onnx.load(path)
        expected, found = passes(layer, case.inputs, False), by_last_name(passes(loaded, case.inputs, False))
        # Counts of batches and running averages that evaluation does not use are not in the file.
        expected = {key: value for key, value in expected.items() if key in found or not key.startswith(("num", "run"))}
        assert_near({key: found[key] for key in expected}, expected, 1e-5)
        if any(not np.array_equal(found[key], value) for key, value in expected.items()):
            differing.append(repr(layer))
    assert not differing or name in ROUNDED, differing


@pytest.mark.parametrize("opset", range(13, 22))
def test_every_opset_has_every_layer(tmp_path: Path, opset: int) -> None:
    path = tmp_path / "layer.onnx"
    for name in ENTRIES:
        (case,) = cases(name, np.float32, 1)
        layer = made(case).eval()
        nc.onnx.save(layer, path, shapes_of(case), opset=opset)
        expected, found = passes(layer, case.inputs, False), passes(nc.onnx.load(path), case.inputs, False)
        assert_near({"y": found["y"], "dx": found["dx 0"]}, {"y": expected["y"], "dx": expected["dx 0"]}, 1e-5)
        assert read_model(path).opset_import[0].version == opset


@pytest.mark.parametrize("name", ["Conv2d", "Linear", "BatchNorm2d", "GroupNorm", "PReLU", "LayerNorm", "Upsample"])
def test_float64_stays(tmp_path: Path, name: str) -> None:
    for seed, case in enumerate(cases(name, np.float64, DRAWS)):
        layer = made(case, seed).eval()
        nc.onnx.save(layer, tmp_path / "layer.onnx", shapes_of(case))
        found = passes(nc.onnx.load(tmp_path / "layer.onnx"), case.inputs, False)
        assert found["y"].dtype == np.float64
        assert_near({"y": found["y"]}, {"y": passes(layer, case.inputs, False)["y"]}, 1e-6)


def drawn(name: str, dtype: Any) -> tuple[nn.Layer, np.ndarray]:
    """A model whose features neither vanish nor explode, and images for it."""
    function, shape = MODELS[name]
    nn.init.manual_seed(0)
    model = function(dtype=dtype).eval()
    rng = np.random.default_rng(0)
    draw_states(model, rng)
    return model, rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", ["lenet_bn", "resnet18"] if IN_PYTHON else MODELS)
@pytest.mark.parametrize("fold", [False, True])
def test_a_model_comes_back_to_the_bit(tmp_path: Path, name: str, fold: bool) -> None:
    # What folds is the same in float64, in which the rest is written by other lines.
    for dtype in (np.float32,) if fold else (np.float32, np.float64):
        model, x = drawn(name, dtype)
        path = tmp_path / "model.onnx"
        nc.onnx.save(model, path, x.shape, fold_batch_norm=fold)
        loaded = nc.onnx.load(path)
        assert isinstance(loaded, nn.Graph) and not loaded.training
        expected = passes(nn.fold_batch_norm(model) if fold else model, (x,), False)
        found = {key.replace("/", "."): value for key, value in passes(loaded, (x,), False).items()}
        assert found["y"].std() > 1e-3 and np.abs(found["dx 0"]).max() > 1e-6
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            if not key.endswith("num_batches_tracked"):
                np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    model, x = drawn("resnet18", np.float32)
    nc.onnx.save(model, tmp_path / "model.onnx", x.shape)
    loaded = nc.onnx.load(tmp_path / "model.onnx")
    results = []
    for net in (model, loaded):
        net.train()
        step = nc.training.TrainingStep(net, nn.CrossEntropyLoss(), nc.optim.SGD(net.parameters(), lr=0.1))
        before = {key: value.copy() for key, value in net.state_dict().items()}
        for _ in range(3):
            step(x, np.arange(len(x)))
        results.append({key.replace("/", "."): value for key, value in net.state_dict().items()})
        assert all(np.any(value != results[-1][key.replace("/", ".")]) for key, value in before.items())
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        np.testing.assert_array_equal(results[1][key], value, err_msg=key)


def test_names_are_those_of_the_state_dict(tmp_path: Path) -> None:
    model = nc.models.lenet(batch_norm=True)
    nc.onnx.save(model, tmp_path / "model.onnx", (1, 1, 28, 28))
    graph = read_model(tmp_path / "model.onnx").graph
    assert graph is not None
    state = model.state_dict()
    names = [tensor.name for tensor in graph.initializer]
    assert sorted(names) == sorted(name for name in state if not name.endswith("num_batches_tracked"))
    for tensor in graph.initializer:
        np.testing.assert_array_equal(array_of(tensor, None), state[tensor.name])
    loaded = nc.onnx.load(tmp_path / "model.onnx").state_dict()
    assert {name.replace("/", ".") for name in loaded} == set(state)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    hidden, norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
    model = nn.Sequential(hidden, norm, nn.ReLU(), nn.tied_copy(hidden), nn.tied_copy(norm)).eval()
    nc.onnx.save(model, tmp_path / "model.onnx", (2, 8))
    loaded = nc.onnx.load(tmp_path / "model.onnx")
    assert len(loaded.parameters()) == len(model.parameters()) == 4
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    expected, found = passes(model, (x,), False), passes(loaded, (x,), False)
    np.testing.assert_array_equal(found["dx 0"], expected["dx 0"])
    np.testing.assert_array_equal(loaded.parameters()[0].grad, model.parameters()[0].grad)


def test_graphs_of_several_inputs_and_outputs(tmp_path: Path) -> None:
    inner = nn.Graph({"a": (nn.ReLU(), "u"), "b": (nn.Tanh(), "u")}, "u", ["a", "b"])
    graph = nn.Graph(
        {
            "left.right".replace(".", "_"): (nn.Conv2d(3, 4, 1), "p"),
            "both": (nn.Sum(), "left_right", "q"),
            "inner": (inner, "both"),
            "joined": (nn.Concatenate(), ("inner", 0), ("inner", 1)),
        },
        ["p", "q"],
        ["joined", "both"],
    ).eval()
    nc.onnx.save(graph, tmp_path / "model.onnx", ((2, 3, 5, 5), (2, 4, 5, 5)))
    loaded = nc.onnx.load(tmp_path / "model.onnx")
    assert loaded.inputs == ("p", "q") and len(loaded.outputs) == 2
    rng = np.random.default_rng(0)
    inputs = tuple(rng.standard_normal((2, c, 5, 5)).astype(np.float32) for c in (3, 4))
    for y, expected in zip(loaded(*inputs), graph(*inputs), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_the_batch_is_open_or_fixed(tmp_path: Path) -> None:
    model, path = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)), tmp_path / "model.onnx"
    nc.onnx.save(model, path, (4, 1, 8, 8))
    graph = read_model(path).graph
    assert graph is not None and graph.input[0].type is not None and graph.output[0].type is not None
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == ["n", 1, 8, 8]
    assert [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == ["n", 3]
    nc.onnx.save(model, path, (4, 1, 8, 8), dynamic_batch=False)
    graph = read_model(path).graph
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [4, 1, 8, 8]
    assert nc.onnx.load(path)(np.zeros((7, 1, 8, 8), np.float32)).shape == (7, 3)


@pytest.mark.parametrize("opset", [17, 21])
def test_what_was_loaded_is_saved_again(tmp_path: Path, opset: int) -> None:
    """Also layers that only files have."""
    from numbacnn.onnx.arithmetic import Combine, Function, Reduce
    from numbacnn.onnx.layers import Along, PadAxis, Rearrange, ReshapeTo, Take

    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 4, (2, 4, 6, 5)).astype(np.float32)
    parts: list[nn.Layer] = [
        *[Combine(name, 2.5) for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")],
        Combine("divide", rng.uniform(1, 2, (4, 1, 1)).astype(np.float32), constant_first=True, trainable=True),
        *[Reduce(name, (1, 3)) for name in ("mean", "sum", "max")],
        Rearrange.transpose((0, 2, 3, 1)),
        Rearrange([(-1,), (2, -1), (-1,), (-1,)], [(0,), (2, 1), (3,), (4,)]),
        Take(1, [1, 2]), Take(2, [5, 3, 1]), PadAxis(1, 1, -1), PadAxis(3, 1, 2, "reflect"),
        *[Function(name) for name in ("exp", "log", "sqrt")], Function("power", 1.5),
        ReshapeTo((-1, 6, 2)), Along(1, rng.standard_normal((3, 4)).astype(np.float32)),
        Along(2, rng.standard_normal((3, 6)).astype(np.float32)),
        Along(3, rng.standard_normal((3, 5)).astype(np.float32)),
    ]  # fmt: skip
    for layer in parts:
        nc.onnx.save(layer.eval(), tmp_path / "layer.onnx", x.shape, opset=opset)
        found = passes(nc.onnx.load(tmp_path / "layer.onnx"), (x,), False)
        assert_near({"y": found["y"]}, {"y": passes(layer, (x,), False)["y"]}, 1e-6)
        nc.onnx.save(nc.onnx.load(tmp_path / "layer.onnx"), tmp_path / "again.onnx", x.shape, opset=opset)
        again = nc.onnx.load(tmp_path / "again.onnx")
        np.testing.assert_array_equal(again(x), found["y"], err_msg=repr(layer))


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    class Own(nn.ReLU):
        pass

    model, path = nn.Sequential({"a": nn.ReLU(), "b": nn.Sequential(Own()), "c": Own()}), tmp_path / "model.onnx"
    with pytest.raises(TypeError, match=r"(?s)not of this package.*\n- b.0: Own\n- c: Own"):
        nc.onnx.save(model, path, (1, 1, 8, 8))
    with pytest.raises(TypeError, match="`model` 3 must be a Layer"):
        nc.onnx.save(3, path, (1, 1, 8, 8))
    with pytest.raises(ValueError, match="`opset` 12 must be"):
        nc.onnx.save(nn.ReLU(), path, (1, 1, 8, 8), opset=12)
    with pytest.raises((TypeError, ValueError), match="`dynamic_batch`"):
        nc.onnx.save(nn.ReLU(), path, (1, 1, 8, 8), dynamic_batch=3)
    with pytest.raises(ValueError, match="takes 3"):
        nc.onnx.save(nn.Conv2d(3, 4, 3), path, (1, 1, 8, 8))
    with pytest.raises(TypeError, match="`shape` 3 must be a shape"):
        nc.onnx.save(nn.ReLU(), path, 3)
    with pytest.raises(ValueError, match="is of 2 inputs, ReLU takes 1"):
        nc.onnx.save(nn.ReLU(), path, ((1, 2), (1, 2)))
    with pytest.raises(ValueError, match="is of 1 inputs, Graph takes 2"):
        nc.onnx.save(nn.Graph({"s": (nn.Sum(), "p", "q")}, ["p", "q"]), path, (1, 2))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        nc.onnx.save(nn.ReLU(), tmp_path / "nowhere" / "model.onnx", (1, 1, 8, 8))
    assert not list(tmp_path.iterdir())
