"""The test suites of the package `onnx`: what is loaded computes what they have recorded.

A test is a graph with inputs and outputs. Weights that it has among its inputs become initializers, since here they are
parameters. What is not loaded is excluded by a rule that says why.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.onnx import load
from numbacnn.onnx.call import translators
from numbacnn.onnx.folding import FOLDS

onnx = pytest.importorskip("onnx")

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted(path.stem for path in (DATA / "light").glob("*.onnx"))

EXCLUDED = {
    r"3d|Conv3d|Pool3d": "images of three axes",
    r"_expanded": "what an operator is made of in other operators, of which some have no gradient here",
    r"training_mode|dropout_default_mask|argmax": "second outputs",
    r"layer_normalization": "their second outputs; test_runtimes has layer normalisation",
    r"matmul_(1d_3d|3d|4d|bcast)$": "products of two computed matrices",
    r"Embedding|non_float_params|shape|test_size|sequence|strnorm": "whole numbers, strings and sequences",
    r"operator_(exp|sqrt|pow)|test_pow|PoissonNLL|reduce_log_sum": "exponentials, roots, powers, logarithms",
    r"gradient|shrink|sign_model": "operators of no convolutional network",
    r"averagepool_2d_dilations|averagepool_2d_pads$|lppool|averagepool_1d_dil": "pooling that no layer here does",
    r"tf_crop_and_resize|not_larger|not_smaller": "Resize that crops, and that keeps an aspect ratio",
    r"empty|zero_size|allowzero|start_out_of_bounds": "tensors without elements",
    r"attention|rotary|causal_conv": "parts of transformers",
    r"celu|depthtospace|spacetodepth": "they are of opset 28",
    r"test_cast": "other precisions: what is computed is float32 or float64",
}


class Recorded(NamedTuple):
    """A graph, and what it gives."""

    name: str
    proto: Any
    inputs: list[Any]
    outputs: list[Any]


def _tensor(path: Path) -> Any:
    try:
        return onnx.numpy_helper.to_array(onnx.load_tensor(path))
    except Exception:  # sequences have another format
        return None


def of_folder(kind: str) -> Iterator[Recorded]:
    for folder in sorted((DATA / kind).iterdir()):
        data = folder / "test_data_set_0"
        arrays = [
            [_tensor(data / f"{what}_{i}.pb") for i in range(len(list(data.glob(f"{what}_*"))))]
            for what in ("input", "output")
        ]
        yield Recorded(folder.name, onnx.load(folder / "model.onnx"), *arrays)


def of_nodes() -> Iterator[Recorded]:
    """Those that are made of operators here, of floating numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = import_module("onnx.backend.test.case.node").collect_testcases(None)
    for case in cases:
        operators = {node.op_type for node in case.model.graph.node}
        if not case.data_sets or not operators & set(translators) or not operators <= {*translators, *FOLDS}:
            continue
        inputs, outputs = case.data_sets[0]
        arrays = [x for x in (*inputs, *outputs) if x is not None]
        if all(isinstance(x, np.ndarray) for x in arrays) and any(x.dtype.kind == "f" for x in inputs if x is not None):
            yield Recorded(case.name, case.model, list(inputs), list(outputs))


def reason(name: str) -> str | None:
    return next((why for pattern, why in EXCLUDED.items() if re.search(pattern, name)), None)


def loaded(case: Recorded, bound: list[int], path: Path) -> tuple[nn.Graph, list[Any]]:
    """The graph with the inputs ``bound`` as initializers, and what its others get."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    given = [info.name for info in proto.graph.input if info.name not in initializers]
    for i in bound:
        if case.inputs[i] is not None:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(case.inputs[i]), given[i]))
    onnx.save(proto, path)
    graph = load(path)
    names = {name.replace(".", "/"): x for name, x in zip(given, case.inputs, strict=True)}
    return graph, [names[name] for name in graph.inputs]


def assert_computes(case: Recorded, path: Path) -> None:
    """Outputs are those recorded, and there are gradients."""
    whole = [i for i, x in enumerate(case.inputs) if x is not None and x.dtype.kind != "f"]
    # First with all that is floating computed, then with one of the inputs.
    ways = [whole, list(range(1, len(case.inputs))), [0, *range(2, len(case.inputs))]]
    errors = []
    for bound in ways:
        try:
            graph, inputs = loaded(case, bound, path)
            break
        except ValueError as error:
            errors.append(str(error))
    else:
        raise AssertionError(errors[0])
    with nn.enable_grad():
        found = graph(*inputs)
        outputs = found if isinstance(found, tuple) else (found,)
        graph.backward(tuple(np.ones_like(y) for y in outputs) if graph.returns_several else np.ones_like(found))
    for y, expected in zip(outputs, case.outputs, strict=True):
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected.astype(y.dtype), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "least"), [("pytorch-converted", 66), ("pytorch-operator", 31), ("simple", 5), ("node", 330)]
)
@pytest.mark.filterwarnings("ignore")
def test_suite(kind: str, least: int, tmp_path: Path) -> None:
    passed, wrong = 0, {}
    for case in of_nodes() if kind == "node" else of_folder(kind):
        try:
            assert_computes(case, tmp_path / "model.onnx")
            passed += 1
        except Exception as error:
            if reason(case.name) is None:
                wrong[case.name] = str(error)[:300]
    assert not wrong
    assert passed >= least


@pytest.mark.parametrize("name", LIGHT)
def test_light_network(name: str) -> None:
    graph = nc.onnx.load(DATA / "light" / f"{name}.onnx")
    expected = _tensor(DATA / "light" / f"{name}_output_0.pb")
    size = 3 * 224 * 224
    x = (np.arange(size) / size).reshape(1, 3, 224, 224).astype(np.float32)
    np.testing.assert_allclose(graph.predict(x), expected, rtol=0, atol=1e-3 * np.abs(expected).max())
