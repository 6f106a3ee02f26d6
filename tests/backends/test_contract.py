"""Every backend has the contract's functions, by name, by signature, by file, and keeps its general promises."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import numbacnn.backends
from numbacnn import backends
from numbacnn.backends import contract
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from tests.cases import CONV2D_CASES
from tests.numeric import normal

FOLDER = Path(numbacnn.backends.__file__).parent
AVAILABLE = [name for name, reason in backends.available().items() if reason is None]
FUNCTIONS = [name for name, value in vars(contract.Backend).items() if inspect.isfunction(value) and name[0] != "_"]
PASSES: tuple[contract.ConvPass, ...] = ("forward", "backward_input", "backward_weight")


def rooms() -> dict[str, list[str]]:
    """The functions of each file, by the headings of the contract."""
    found: dict[str, list[str]] = {}
    for line in inspect.getsource(contract.Backend).splitlines():
        if heading := re.match(r"    # (\w+)\.py", line):
            room = found.setdefault(heading[1], [])
        elif function := re.match(r"    def (\w+)\(", line):
            room.append(function[1])
    return found


def test_headings_cover_the_contract() -> None:
    assert sorted(function for functions in rooms().values() for function in functions) == sorted(FUNCTIONS)
    assert len(FUNCTIONS) > 40


def test_reference_and_cpu_are_available() -> None:
    assert backends.available() == {**backends.available(), "reference": None, "cpu": None}


@pytest.mark.parametrize("name", AVAILABLE)
def test_name_is_the_key(name: str) -> None:
    assert backends.get(name).name == name


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_signature_is_the_contract_s(name: str, function: str) -> None:
    expected = list(inspect.signature(getattr(contract.Backend, function)).parameters.values())[1:]
    actual = list(inspect.signature(getattr(backends.get(name), function)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in actual] == [(p.name, p.kind, p.default) for p in expected]


@pytest.mark.parametrize("name", AVAILABLE)
def test_nothing_else_is_public(name: str) -> None:
    public = {
        key
        for key, value in vars(backends.get(name)).items()
        if not key.startswith("_") and not isinstance(value, ModuleType) and key != "annotations"
    }
    assert public == {*FUNCTIONS, "name"}


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("room", [room for room in rooms() if room != "memory"])
def test_functions_live_in_files_named_alike(name: str, room: str) -> None:
    module = importlib.import_module(f"numbacnn.backends.{name}.{room}")
    for function in rooms()[room]:
        assert getattr(module, function) is getattr(backends.get(name), function)


@pytest.mark.parametrize("path", [*(FOLDER / "reference").glob("*.py"), *(FOLDER / "shared").glob("*.py")])
def test_definitions_import_only_numpy(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = ["." if node.level else str(node.module)]
        else:
            continue
        assert {name.partition(".")[0] for name in imported} <= {"", "__future__", "collections", "math", "numpy", "typing"}


@pytest.mark.parametrize("name", AVAILABLE)
def test_memory(name: str) -> None:
    backend = backends.get(name)
    source = np.arange(6).reshape(2, 3).T
    array = backend.asarray(source, np.float32)
    assert backend.is_array(array)
    assert not backend.is_array([1.0])
    assert not backend.is_array(2.0)
    assert backend.asarray(array) is array
    values = backend.to_numpy(array)
    assert values.flags.c_contiguous
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, source)
    assert backend.asarray(1.5, np.float64).shape == ()
    assert backend.asarray([[1, 2]], np.float32).shape == (1, 2)

    copied = backend.copy(array)
    backend.assign(copied, backend.zeros((3, 2), np.float32))
    np.testing.assert_array_equal(backend.to_numpy(copied), np.zeros((3, 2)))
    np.testing.assert_array_equal(backend.to_numpy(array), source)
    assert backend.empty([0, 4], np.float64).shape == (0, 4)
    assert backend.zeros([], np.int64).shape == ()
    backend.synchronize()
    assert backend.device_name() in {"cpu", "cuda:0"}


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("pass_", PASSES)
def test_convolution_algorithms_are_named_and_weighed(name: str, pass_: contract.ConvPass) -> None:
    backend = backends.get(name)
    algorithms = backend.conv2d_algorithms()
    assert {"loops", "im2col"} <= set(algorithms)
    assert len(set(algorithms)) == len(algorithms)
    assert "auto" not in algorithms
    for geometry in CONV2D_CASES:
        assert backend.choose_conv2d_algorithm(geometry, pass_) in algorithms
        for algorithm in algorithms:
            single = backend.conv2d_workspace(geometry, pass_, algorithm, 4)
            assert isinstance(single, int)
            assert 0 <= single <= backend.conv2d_workspace(geometry, pass_, algorithm, 8)


CONV = Conv2dGeometry.parse("n2c4h6w5k6r3s2p1g2")
POINTWISE = Conv2dGeometry.parse("n1c4h6w5k6r1s1p0")
POOL = Pool2dGeometry(2, 3, 5, 6, 3, 2, 2, 2, 1, 1, 1, 1)

Call = tuple[str, Callable[[Any], tuple[Any, ...]]]


def calls() -> list[Call]:
    """Every function that computes new arrays, with arguments of a dtype; a list stands for a list of arrays."""

    def x(*shape: int) -> Callable[[Any], np.ndarray]:
        return lambda dtype: normal(shape, len(shape), dtype)

    def with_arrays(*arguments: Any) -> Callable[[Any], tuple[Any, ...]]:
        return lambda dtype: tuple(
            [a(dtype) for a in argument] if isinstance(argument, list) else argument(dtype) if callable(argument) else argument
            for argument in arguments
        )

    labels = np.array([2, 0, 1, 2])
    indices = np.zeros(POOL.y_shape, np.int32)
    found: list[Call] = []
    for algorithm in ("auto", "loops", "im2col"):
        for g in (CONV, POINTWISE):
            found += [
                ("conv2d", with_arrays(x(*g.x_shape), x(*g.weight_shape), x(g.k), g, algorithm)),
                ("conv2d", with_arrays(x(*g.x_shape), x(*g.weight_shape), None, g, algorithm)),
                ("conv2d_backward_input", with_arrays(x(*g.y_shape), x(*g.weight_shape), g, algorithm)),
                ("conv2d_backward_weight", with_arrays(x(*g.y_shape), x(*g.x_shape), g, algorithm)),
            ]
    return [
        *found,
        ("conv2d_backward_bias", with_arrays(x(*CONV.y_shape))),
        ("max_pool2d", with_arrays(x(*POOL.x_shape), POOL)),
        ("max_pool2d_backward", with_arrays(x(*POOL.y_shape), indices, POOL)),
        ("avg_pool2d", with_arrays(x(*POOL.x_shape), POOL, True)),
        ("avg_pool2d_backward", with_arrays(x(*POOL.y_shape), POOL, False)),
        ("batch_norm_train", with_arrays(x(4, 3, 5), x(3), x(3), 1e-5)),
        ("batch_norm_train_backward", with_arrays(x(4, 3, 5), x(4, 3, 5), x(3), x(3), x(3))),
        ("batch_norm_eval", with_arrays(x(4, 3, 5), x(3), x(3), x(3), np.ones(3), 1e-5)),
        ("batch_norm_eval_backward", with_arrays(x(4, 3, 5), x(4, 3, 5), x(3), x(3), x(3))),
        ("linear", with_arrays(x(4, 5), x(3, 5), x(3))),
        ("linear", with_arrays(x(4, 5), x(3, 5), None)),
        ("linear_backward_input", with_arrays(x(4, 3), x(3, 5))),
        ("linear_backward_weight", with_arrays(x(4, 3), x(4, 5))),
        ("linear_backward_bias", with_arrays(x(4, 3))),
        *[(name, with_arrays(x(*shape))) for name in ("relu", "sigmoid", "tanh") for shape in ((4, 3, 2, 2), ())],
        *[
            (f"{name}_backward", with_arrays(x(*shape), x(*shape)))
            for name in ("relu", "sigmoid", "tanh")
            for shape in ((4, 3, 2, 2), ())
        ],
        *[("dropout", with_arrays(x(4, 5), p, 3, 4)) for p in (0.0, 0.4, 1.0)],
        ("add", with_arrays([x(4, 5)])),
        ("add", with_arrays([x(4, 5), x(4, 5), x(4, 5)])),
        ("concat", with_arrays([x(4, 5, 2, 2), x(4, 1, 2, 2)])),
        ("concat", with_arrays([x(4, 5)])),
        ("split", with_arrays(x(4, 5, 2, 2), [2, 0, 3])),
        ("split", with_arrays(x(4, 5), [5])),
        ("softmax", with_arrays(x(4, 3))),
        ("softmax_cross_entropy", with_arrays(x(4, 3), labels, 0.1)),
        ("softmax_cross_entropy_backward", with_arrays(x(4, 3), labels, 0.1, 0.25)),
        ("squared_error", with_arrays(x(4, 3), x(4, 3))),
        ("squared_error_backward", with_arrays(x(4, 3), x(4, 3), 0.25)),
        ("count_correct", with_arrays(x(4, 3), labels)),
    ]
