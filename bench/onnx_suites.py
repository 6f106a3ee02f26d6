"""The test suites of the package `onnx`: graphs with inputs and recorded outputs, and what loads and compares them.

Weights that a test has among its inputs become initializers, since here they are parameters. What is not loaded is
excluded by a rule that says why.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn import nn
from numbacnn.onnx.call import translators
from numbacnn.onnx.folding import FOLDS

__all__ = [
    "EXCLUDED",
    "SUITES",
    "Recorded",
    "Tally",
    "assert_computes",
    "cases",
    "light_network",
    "light_networks",
    "reason",
    "run_suite",
    "with_drawn_weights",
]

SUITES = ("node", "pytorch-converted", "pytorch-operator", "simple")
EXCLUDED = {
    r"3d|Conv3d|Pool3d": "images of three axes",
    r"_expanded": "what an operator is made of in other operators, of which some have no gradient here",
    r"training_mode|dropout_default_mask|argmax": "second outputs",
    r"layer_normalization": "their second outputs; test_runtimes has layer normalisation",
    r"matmul_(1d_3d|1d_1d)$": "products of vectors",
    r"Embedding|non_float_params|shape|test_size|sequence|strnorm": "whole numbers, strings and sequences",
    r"operator_pow|test_pow": "powers by what is computed",
    r"gradient|shrink|sign_model": "operators of no convolutional network",
    r"averagepool_2d_dilations|averagepool_2d_pads$|lppool|averagepool_1d_dil": "pooling that no layer here does",
    r"tf_crop_and_resize|not_larger|not_smaller": "Resize that crops, and that keeps an aspect ratio",
    r"empty|zero_size|allowzero|start_out_of_bounds": "tensors without elements",
    r"attention|rotary|causal_conv": "parts of transformers",
    r"celu|depthtospace|spacetodepth|reduce_log_sum": "they are of opset 28",
    r"test_cast": "other precisions: what is computed is float32 or float64",
}
"""Why tests are not passed, by a pattern of their names."""


class Recorded(NamedTuple):
    """A graph, and what it gives."""

    name: str
    proto: Any
    inputs: list[Any]
    outputs: list[Any]


@dataclass
class Tally:
    """How a suite went: ``passed`` and ``excluded`` tests, and what is ``wrong`` with the others, by name."""

    passed: int = 0
    excluded: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All tests."""
        return self.passed + self.excluded + len(self.wrong)


def _data() -> Path:
    """The folder of recorded tests; ImportError without the package ``onnx``."""
    return Path(str(import_module("onnx").__file__)).parent / "backend" / "test" / "data"


def _tensor(path: Path) -> Any:
    import onnx

    try:
        return onnx.numpy_helper.to_array(onnx.load_tensor(path))
    except Exception:  # sequences have another format
        return None


def cases(suite: str) -> Iterator[Recorded]:
    """The tests of one of SUITES; of ``node`` those that are made of operators here, of floating numbers."""
    return _of_nodes() if suite == "node" else _of_folder(suite)


def _of_folder(suite: str) -> Iterator[Recorded]:
    import onnx

    for folder in sorted((_data() / suite).iterdir()):
        data = folder / "test_data_set_0"
        arrays = [
            [_tensor(data / f"{what}_{i}.pb") for i in range(len(list(data.glob(f"{what}_*"))))]
            for what in ("input", "output")
        ]
        yield Recorded(folder.name, onnx.load(folder / "model.onnx"), *arrays)


def _of_nodes() -> Iterator[Recorded]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = import_module("onnx.backend.test.case.node").collect_testcases(None)
    for case in collected:
        operators = {node.op_type for node in case.model.graph.node}
        if not case.data_sets or not operators & set(translators) or not operators <= {*translators, *FOLDS}:
            continue
        inputs, outputs = case.data_sets[0]
        arrays = [x for x in (*inputs, *outputs) if x is not None]
        if all(isinstance(x, np.ndarray) for x in arrays) and any(x.dtype.kind == "f" for x in inputs if x is not None):
            yield Recorded(case.name, case.model, list(inputs), list(outputs))


def reason(name: str) -> str | None:
    """Why the test of this name is excluded, if it is."""
    return next((why for pattern, why in EXCLUDED.items() if re.search(pattern, name)), None)


def _loaded(case: Recorded, bound: list[int], path: Path) -> tuple[nn.Graph, list[Any]]:
    """The graph with the inputs ``bound`` as initializers, and what its others get."""
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    given = [info.name for info in proto.graph.input if info.name not in initializers]
    for i in bound:
        if case.inputs[i] is not None:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(case.inputs[i]), given[i]))
    onnx.save(proto, path)
    graph = nc.onnx.load(path)
    names = {name.replace(".", "/"): x for name, x in zip(given, case.inputs, strict=True)}
    return graph, [names[name] for name in graph.inputs]


def assert_computes(case: Recorded, path: Path) -> None:
    """Outputs are those recorded, and there are gradients; the graph is written to ``path``."""
    whole = [i for i, x in enumerate(case.inputs) if x is not None and x.dtype.kind != "f"]
    # First with all that is floating computed, then with one of the inputs.
    ways = [whole, list(range(1, len(case.inputs))), [0, *range(2, len(case.inputs))]]
    errors = []
    for bound in ways:
        try:
            graph, inputs = _loaded(case, bound, path)
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


def run_suite(suite: str) -> Tally:
    """Load and run all tests of one of SUITES; one that passes counts as passed even if a rule would exclude it."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in cases(suite):
            try:
                assert_computes(case, Path(folder, "model.onnx"))
                tally.passed += 1
            except Exception as error:
                if reason(case.name) is None:
                    tally.wrong[case.name] = str(error)[:300]
                else:
                    tally.excluded += 1
    return tally


def light_networks() -> list[str]:
    """The names of the well-known networks that the package has in light: their weights are one number, repeated."""
    return sorted(path.stem for path in (_data() / "light").glob("*.onnx"))


def light_network(name: str) -> Recorded:
    """One of them with its recorded output; the input is the one that the package says it was recorded for."""
    import onnx

    size = 3 * 224 * 224
    x = (np.arange(size) / size).reshape(1, 3, 224, 224).astype(np.float32)
    folder = _data() / "light"
    return Recorded(name, onnx.load(folder / f"{name}.onnx"), [x], [_tensor(folder / f"{name}_output_0.pb")])


def with_drawn_weights(proto: Any, seed: int = 0) -> Any:
    """A light network with random weights, whose features do not explode, and without the Softmax at its end.

    A Softmax of large numbers would give ones and zeros, whatever their last digits are.
    """
    import onnx

    drawn, rng = onnx.ModelProto(), np.random.default_rng(seed)
    drawn.CopyFrom(proto)
    graph, (output,) = drawn.graph, drawn.graph.output
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Softmax" and output.name in node.output:
            output.name = node.input[0]
            output.type.tensor_type.ClearField("shape")
        elif node.op_type == "ConstantOfShape":
            shape = tuple(int(size) for size in shapes[node.input[0]])
            if len(shape) > 1:
                fan_in = int(np.prod(shape[1:]))
                weights = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
            else:
                weights = rng.uniform(0.5, 1.5, shape).astype(np.float32)
            graph.initializer.append(onnx.numpy_helper.from_array(weights, node.output[0]))
        else:
            continue
        graph.node.remove(node)
    return drawn
