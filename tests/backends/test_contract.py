"""Every backend has the contract's functions, by name, by signature, by file, and keeps its general promises."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import numbacnn.backends
from numbacnn import backends
from numbacnn.backends import contract
from numbacnn.backends.geometry import AdaptivePool2dGeometry, Conv2dGeometry, Pool2dGeometry, Resampling
from numbacnn.backends.rare import RARE
from numbacnn.backends.reference.activation import _FORMULAS as KINDS
from tests.cases import CONV2D_CASES
from tests.numeric import normal
from tests.strategies import SIMULATED

FOLDER = Path(numbacnn.backends.__file__).parent
# In the simulator cuda alone: the others are what they are without it.
AVAILABLE = ["cuda"] if SIMULATED else [name for name, reason in backends.available().items() if reason is None]
FUNCTIONS = [name for name, value in vars(contract.Backend).items() if inspect.isfunction(value) and name[0] != "_"]
OF_THE_PACKAGE = {"RARE", "TYPE_CHECKING", "annotations", "imported_when_asked"}
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


def test_what_is_rare_is_told_by_the_contract() -> None:
    assert {room: list(functions) for room, functions in RARE.items()} == {
        room: sorted(rooms()[room]) for room in sorted(RARE)
    }
    # A file that is imported stands for its name.
    assert not set(RARE) & set(FUNCTIONS)


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
        if not key.startswith("_") and not isinstance(value, ModuleType) and key not in OF_THE_PACKAGE
    }
    public |= {function for functions in RARE.values() for function in functions}
    assert public == {*FUNCTIONS, "name", "asynchronous"}


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("room", list(rooms()))
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
        assert {name.partition(".")[0] for name in imported} <= {
            "",
            "__future__",
            "collections",
            "math",
            "numpy",
            "typing",
        }


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
    assert backend.device_name() in {"cpu", "cuda:0", "cuda:simulator"}
    assert backend.free_memory() is None or backend.free_memory() > 0


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
            double = backend.conv2d_workspace(geometry, pass_, algorithm, 8)
            assert single >= 0 and double >= 0
            # Others may plan differently for wider numbers, and the reference widens what it sums.
            if algorithm in ("loops", "im2col") and (name, pass_) != ("reference", "backward_weight"):
                assert single <= double


CONV = Conv2dGeometry.parse("n2c4h6w5k6r3s2p1g2")
POINTWISE = Conv2dGeometry.parse("n1c4h6w5k6r1s1p0")
DEPTHWISE = Conv2dGeometry.parse("n2c3h6k6r3s2p1g3")
POOL = Pool2dGeometry(2, 3, 5, 6, 3, 2, 2, 2, 1, 1, 1, 1)
ADAPTIVE = AdaptivePool2dGeometry(2, 3, 5, 6, 2, 4)

PAD_MODES = ("constant", "reflect", "replicate", "circular")
RESAMPLINGS = (
    *[(Resampling(5, 7, mode), Resampling(6, 4, mode, scale=0.8)) for mode in ("nearest", "linear")],
    (Resampling(5, 300, "linear", align_corners=True), Resampling(6, 6, "linear")),
)
WARPS = np.tile(np.array([[1, 3, -2, -4, 20], [3, -1, 2, -4, 24]]) << 30, (4, 1, 1))


def calls(dtype: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """Every function that computes new arrays, with arguments of ``dtype``."""

    def x(*shape: int) -> np.ndarray:
        return normal(shape, 5, dtype)

    labels, planes = np.array([2, 0, 1, 2]), np.array([[[2, 0]], [[1, 2]]])
    variance = np.ones(3, dtype)
    indices = np.zeros(POOL.y_shape, np.int32)
    found: list[tuple[str, tuple[Any, ...]]] = []
    for algorithm in ("loops", "im2col"):
        for g in (CONV, POINTWISE, DEPTHWISE):
            found += [
                ("conv2d", (x(*g.x_shape), x(*g.weight_shape), x(g.k), g, algorithm)),
                ("conv2d", (x(*g.x_shape), x(*g.weight_shape), None, g, algorithm)),
                ("conv2d", (x(*g.x_shape), x(*g.weight_shape), x(g.k), g, algorithm, "tanh")),
                ("conv2d_backward_input", (x(*g.y_shape), x(*g.weight_shape), g, algorithm)),
                ("conv2d_backward_weight", (x(*g.y_shape), x(*g.x_shape), g, algorithm)),
            ]
    for activation in ("relu", "sigmoid", "tanh"):
        for shape in ((4, 3, 2, 2), ()):
            found += [(activation, (x(*shape),)), (f"{activation}_backward", (x(*shape), x(*shape)))]
    for kind in KINDS:
        found += [
            ("pointwise", (x(4, 5), kind, (0.5, 2.0))),
            ("pointwise_backward", (x(4, 5), x(4, 5), kind, (0.5, 2.0))),
        ]
    return [
        *found,
        ("prelu", (x(4, 3, 2, 2), x(3))),
        ("prelu", (x(4, 3), x(1))),
        ("prelu_backward", (x(4, 3, 2, 2), x(4, 3, 2, 2), x(3))),
        ("prelu_backward", (x(4, 3), x(4, 3), x(1))),
        ("conv2d_backward_bias", (x(*CONV.y_shape),)),
        ("max_pool2d", (x(*POOL.x_shape), POOL)),
        ("max_pool2d_with_indices", (x(*POOL.x_shape), POOL)),
        ("max_pool2d_backward", (x(*POOL.y_shape), indices, POOL)),
        ("avg_pool2d", (x(*POOL.x_shape), POOL, True)),
        ("avg_pool2d_backward", (x(*POOL.y_shape), POOL, False)),
        ("avg_pool2d", (x(*POOL.x_shape), POOL, True, 3)),
        ("avg_pool2d_backward", (x(*POOL.y_shape), POOL, True, 3)),
        ("max_pool2d", (x(*ADAPTIVE.x_shape), ADAPTIVE)),
        ("max_pool2d_with_indices", (x(*ADAPTIVE.x_shape), ADAPTIVE)),
        ("max_pool2d_backward", (x(*ADAPTIVE.y_shape), np.zeros(ADAPTIVE.y_shape, np.int32), ADAPTIVE)),
        ("avg_pool2d", (x(*ADAPTIVE.x_shape), ADAPTIVE, True)),
        ("avg_pool2d_backward", (x(*ADAPTIVE.y_shape), ADAPTIVE, True)),
        ("batch_norm_train", (x(4, 3, 5), x(3), x(3), 1e-5)),
        ("batch_norm_train", (x(4, 3, 5), x(3), x(3), 1e-5, "relu")),
        ("batch_norm_train_backward", (x(4, 3, 5), x(4, 3, 5), x(3), x(3), x(3))),
        ("batch_norm_train", (x(4, 7, 5), x(3), x(3), 1e-5)),
        ("batch_norm_train_backward", (x(4, 3, 5), x(4, 7, 5), x(3), x(3), x(3))),
        ("batch_norm_eval", (x(4, 7, 5), x(3), x(3), x(3), variance, 1e-5)),
        ("batch_norm_eval_backward", (x(4, 3, 5), x(4, 7, 5), x(3), x(3), x(3))),
        ("batch_norm_eval", (x(4, 3, 5), x(3), x(3), x(3), variance, 1e-5)),
        ("batch_norm_eval", (x(4, 7, 5), x(3), x(3), x(3), variance, 1e-5, "tanh")),
        ("batch_norm_eval_backward", (x(4, 3, 5), x(4, 3, 5), x(3), x(3), x(3))),
        ("group_norm", (x(4, 6, 5), x(6), x(6), 2, 1e-5)),
        ("group_norm", (x(4, 6, 5), x(6), None, 6, 1e-5)),
        ("group_norm", (x(4, 6, 2, 3), None, None, 1, 1e-5)),
        ("group_norm", (x(4, 6), x(6), x(6), 3, 1e-5)),
        ("group_norm_backward", (x(4, 6, 5), x(4, 6, 5), x(6), x(4, 2), x(4, 2), 2)),
        ("group_norm_backward", (x(4, 6, 2, 3), x(4, 6, 2, 3), x(6), x(4, 3), x(4, 3), 3)),
        ("local_response_norm", (x(4, 6, 5), 3, 0.5, 0.75, 1.0)),
        ("local_response_norm", (x(4, 6, 2, 3), 4, 0.5, 0.6, 1.0)),
        ("local_response_norm_backward", (x(4, 6, 2, 3), x(4, 6, 2, 3), x(4, 6, 2, 3) ** 2 + 1, 4, 0.5, 0.75)),
        ("linear", (x(4, 5), x(3, 5), x(3))),
        ("linear", (x(4, 5), x(3, 5), None)),
        ("linear", (x(4, 5), x(3, 5), None, "relu")),
        ("linear_backward_input", (x(4, 3), x(3, 5))),
        ("linear_backward_weight", (x(4, 3), x(4, 5))),
        ("linear_backward_bias", (x(4, 3),)),
        *[("dropout", (x(4, 5), p, 3, np.array(4))) for p in (0.0, 0.4, 1.0)],
        ("add", ([x(4, 5)],)),
        ("add", ([x(4, 5), x(4, 5), x(4, 5)],)),
        ("multiply", (x(4, 5), x(4, 5))),
        ("multiply", (x(4, 5, 2, 3), x(4, 5, 1, 1))),
        ("sum_of_products", (x(4, 5, 2, 3), x(4, 5, 2, 3))),
        ("take_channels", (x(4, 5, 2, 2), 2, 3)),
        ("take_channels", (x(4, 5), 0, 0)),
        ("gather_images", (x(4, 3, 2, 2), labels)),
        ("gather_images", (np.full((3, 1, 2, 2), 9, np.uint8), labels)),
        ("gather_samples", (np.arange(3), labels)),
        ("flip_and_crop", (x(4, 3, 5, 6), labels - 1, -labels, labels % 2, 5, 6)),
        ("jitter_colors", (x(4, 3, 5, 6), *[np.ones(4, dtype)] * 3, np.full(4, 0.25, dtype))),
        ("normalize_images", (x(4, 3, 5, 6), x(3), variance)),
        *[("affine_images", (x(4, 3, 5, 6), WARPS, 3, 4, bilinear, x(3))) for bilinear in (False, True)],
        *[
            ("mix_images", (x(4, 3, 5, 6), source, labels, np.tile([1, 4, 2, 6], (4, 1)), np.full(4, 0.25, dtype)))
            for source in (x(3, 3, 5, 6), x(3, 3, 1, 1))
        ],
        *[("adjust_images", (np.abs(x(9, c, 5, 6)), np.arange(9), np.full(9, 0.75, dtype))) for c in (1, 3)],
        *[("pad2d", (x(2, 3, 5, 6), (1, 2, 0, -1), mode, 2.0)) for mode in PAD_MODES],
        *[("pad2d_backward", (x(2, 3, 8, 5), (2, 3, 5, 6), (1, 2, 0, -1), mode)) for mode in PAD_MODES],
        *[("resample2d", (x(2, 3, 5, 6), *axes)) for axes in RESAMPLINGS],
        *[("resample2d_backward", (x(2, 3, axes[0].outputs, axes[1].outputs), *axes)) for axes in RESAMPLINGS],
        ("rearrange", (x(2, 12, 5, 6), ((2,), (3, 2, 2), (5,), (6,)), ((0,), (1,), (4, 2), (5, 3)))),
        ("rearrange", (x(2, 3), ((2,), (3,)), ((1,), (0,)))),
        *[("softmax", (x(4, 3, 2, 5), axis, logarithm)) for axis in range(4) for logarithm in (False, True)],
        ("softmax", (x(4, 3), 1)),
        *[
            ("softmax_backward", (x(4, 3, 2, 5), x(4, 3, 2, 5), axis, logarithm))
            for axis in range(4)
            for logarithm in (False, True)
        ],
        *[
            ("softmax_cross_entropy", (of_classes, target, weight, 1, 0.1, reduction))
            for of_classes, target in ((x(4, 3), labels), (x(4, 3), variance * x(4, 3)), (x(2, 3, 1, 2), planes))
            for weight, reduction in ((None, "mean"), (variance, "sum"), (variance, "none"))
        ],
        *[
            ("softmax_cross_entropy_backward", (scale, of_classes, target, weight, 1, 0.1))
            for of_classes, target, each in (
                (x(4, 3), labels, x(4)),
                (x(4, 3), variance * x(4, 3), x(4)),
                (x(2, 3, 1, 2), planes, x(2, 1, 2)),
            )
            for weight, scale in ((None, np.array(0.5)), (variance, np.array(0.5)), (variance, each))
        ],
        *[
            call
            for weight, reduction, scale in ((None, "mean", np.array(0.5)), (variance, "none", x(2, 1, 2)))
            for call in (
                ("nll_loss", (x(2, 3, 1, 2), planes, weight, 1, reduction)),
                ("nll_loss_backward", (scale, x(2, 3, 1, 2), planes, weight, 1)),
            )
        ],
        *[
            call
            for kind in ("squared", "smooth_l1", "huber", "logistic")
            for factors in ((None, None), (x(4, 3), x(4, 3)))
            for call in (
                ("pointwise_loss", (x(4, 3), x(4, 3), kind, 0.5, *factors)),
                ("pointwise_loss_sum", (x(4, 3), x(4, 3), kind, 0.5, *factors, 0.25)),
                ("pointwise_loss_backward", (factors[0], x(4, 3), x(4, 3), kind, 0.5, *factors, 0.25)),
            )
        ],
        ("expand", (x(3, 1, 2), (4, 3, 5, 2))),
        ("expand", (x(), ())),
        ("count_correct", (x(4, 3), labels)),
        ("count_correct", (x(2, 3, 1, 2), planes, 2, 1)),
        ("count_classes", (x(2, 3, 1, 2), planes, 1)),
        ("largest_classes", (x(2, 3, 1, 2),)),
        ("global_norm", ([x(4, 5)],)),
        ("global_norm", ([x(4, 5), x(), x(0, 3)],)),
    ]


# Results whose dtype is not that of the arguments: by position.
FIXED_DTYPES = {
    "gather_images": {0: np.float32},
    "gather_samples": {0: np.int64},
    "max_pool2d_with_indices": {1: np.int32},
    "softmax_cross_entropy": {0: np.float64, 2: np.float64},
    "nll_loss": {0: np.float64, 1: np.float64},
    "pointwise_loss_sum": {0: np.float64},
    "count_correct": {0: np.int64},
    "count_classes": {0: np.int64},
    "largest_classes": {0: np.int64},
    "global_norm": {0: np.float64},
}
IN_PLACE = {
    "accumulate",
    "adagrad_step",
    "adam_step",
    "add_bias",
    "add_channels",
    "assign",
    "clip_scale",
    "divide",
    "fill_zero",
    "increment",
    "lion_step",
    "nadam_step",
    "put_channels",
    "rmsprop_step",
    "sgd_step",
    "update_running_average",
}


def test_every_function_is_called() -> None:
    not_arithmetic = {
        "choose_conv2d_algorithm",
        "conv2d_algorithms",
        "conv2d_workspace",
        *rooms()["memory"],
        *rooms()["capture"],
    }
    assert {name for name, _ in calls(np.float32)} == {*FUNCTIONS} - not_arithmetic - IN_PLACE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", sorted({name for name, _ in calls(np.float32)}))
@pytest.mark.parametrize("name", AVAILABLE)
def test_results_are_new_contiguous_and_of_the_dtype(name: str, function: str, dtype: Any) -> None:
    backend = backends.get(name)
    for arguments in [arguments for called, arguments in calls(dtype) if called == function]:
        nested = [argument if isinstance(argument, list) else [argument] for argument in arguments]
        before = [[np.array(item) if isinstance(item, np.ndarray) else None for item in items] for items in nested]
        given = [
            [backend.asarray(item) if isinstance(item, np.ndarray) else item for item in items] for items in nested
        ]
        call = [
            items if isinstance(argument, list) else items[0] for items, argument in zip(given, arguments, strict=True)
        ]
        results = getattr(backend, function)(*call)
        results = results if isinstance(results, (tuple, list)) else [results]

        arrays = [(item, old) for row in zip(given, before, strict=True) for item, old in zip(*row, strict=True)]
        arrays = [(backend.to_numpy(item), old) for item, old in arrays if old is not None]
        for item, old in arrays:
            np.testing.assert_array_equal(item, old)
        for position, result in enumerate(results):
            assert backend.is_array(result)
            values = backend.to_numpy(result)
            assert values.flags.c_contiguous or np.moveaxis(values, 1, -1).flags.c_contiguous
            of_elements = position == 0 and isinstance(arguments[-1], str) and arguments[-1] == "none"
            assert values.dtype == (dtype if of_elements else FIXED_DTYPES.get(function, {}).get(position, dtype))
            assert not any(np.shares_memory(values, item) for item, _ in arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", AVAILABLE)
def test_updates_change_their_targets_and_only_read_the_rest(name: str, dtype: Any) -> None:
    backend = backends.get(name)

    def x(seed: int) -> Any:
        return backend.asarray(normal((3, 4), seed, dtype))

    gradient = x(9)
    hyper = (0.1, 0.9, 0.99, 1e-8, 0.1, 0.004)
    sgd, four, adam, nadam = (backend.asarray(np.array(hyper[:length])) for length in (3, 4, 5, 6))
    step, norm, mu_product = (backend.asarray(np.array(number)) for number in (1, 4.0, 1.0))
    for update, targets in (
        (lambda p: backend.accumulate(p, gradient), 1),
        (lambda p: backend.accumulate(p, gradient, 0.5), 1),
        (lambda p: backend.add_channels(p, gradient), 1),
        (lambda p: backend.put_channels(p, gradient, 0), 1),
        (lambda p: backend.assign(p, gradient), 1),
        (lambda p: backend.clip_scale(p, norm, 2.0), 1),
        (lambda p: backend.divide(p, norm), 1),
        (lambda p: backend.fill_zero(p), 1),
        (lambda p: backend.update_running_average(p, gradient, 0.1, 1.5), 1),
        (lambda p: backend.sgd_step(p, gradient, None, sgd, False), 1),
        (lambda p, v: backend.sgd_step(p, gradient, v, sgd, True), 2),
        (lambda p, m, v: backend.adam_step(p, gradient, m, v, step, adam, False), 3),
        (lambda p, m, v: backend.adam_step(p, gradient, m, v, step, adam, True), 3),
        (lambda p, m, v: backend.nadam_step(p, gradient, m, v, mu_product, step, nadam, False), 3),
        (lambda p, v: backend.rmsprop_step(p, gradient, v, None, None, adam), 2),
        (lambda p, v, m: backend.rmsprop_step(p, gradient, v, m, None, adam), 3),
        (lambda p, v, b: backend.rmsprop_step(p, gradient, v, None, b, adam), 3),
        (lambda p, v, m, b: backend.rmsprop_step(p, gradient, v, m, b, adam), 4),
        (lambda p, v: backend.adagrad_step(p, gradient, v, step, four), 2),
        (lambda p, m: backend.lion_step(p, gradient, m, four), 2),
    ):
        arrays = [backend.asarray(np.abs(normal((3, 4), seed, dtype))) for seed in range(targets)]
        before = [np.array(backend.to_numpy(array)) for array in arrays]
        assert update(*arrays) is None
        for array, old in zip(arrays, before, strict=True):
            values = backend.to_numpy(array)
            assert values.dtype == dtype
            assert not np.array_equal(values, old)
        np.testing.assert_array_equal(backend.to_numpy(gradient), normal((3, 4), 9, dtype))


@pytest.mark.parametrize("name", AVAILABLE)
def test_counting_on_the_backend(name: str) -> None:
    backend = backends.get(name)
    counter, total = (backend.asarray(np.array(start)) for start in (2**40, 5))
    backend.increment(counter)
    backend.accumulate(total, counter)
    assert int(backend.to_numpy(counter)) == 2**40 + 1
    assert int(backend.to_numpy(total)) == 2**40 + 6
    mean = backend.asarray(np.array(0.25))
    backend.accumulate(mean, backend.asarray(np.array(0.5)), 3.0)
    assert float(backend.to_numpy(mean)) == 1.75
    for array in (counter, mean):
        backend.fill_zero(array)
        assert backend.to_numpy(array) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("name", AVAILABLE)
def test_batches_are_gathered_to_the_same_bits(name: str, dtype: Any) -> None:
    backend = backends.get(name)
    rng = np.random.default_rng(0)
    images = (rng.random((256, 2, 3, 5)) * 255).astype(dtype)
    images[:, 0, 0, 0] = np.arange(256)
    labels, index = rng.integers(0, 10, 256), np.append(rng.permutation(256), [7, 7])
    chosen = [backend.asarray(array) for array in (images, labels, index)]
    expected = images[index].astype(np.float32) / np.float32(255 if dtype == np.uint8 else 1)
    np.testing.assert_array_equal(backend.to_numpy(backend.gather_images(chosen[0], chosen[2])), expected)
    np.testing.assert_array_equal(backend.to_numpy(backend.gather_samples(chosen[1], chosen[2])), labels[index])
    assert backend.gather_images(chosen[0], chosen[2][:0]).shape == (0, 2, 3, 5)
    assert backend.gather_samples(chosen[1], chosen[2][3:5]).shape == (2,)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 5), (0, 2)])
@pytest.mark.parametrize("name", AVAILABLE)
def test_samples_of_any_kind_are_gathered(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    backend = backends.get(name)
    samples = (np.random.default_rng(0).standard_normal((9, *shape)) * 50).astype(dtype)
    index = np.array([8, 0, 3, 3])
    gathered = backend.to_numpy(backend.gather_samples(backend.asarray(samples), backend.asarray(index)))
    assert gathered.dtype == (dtype if np.dtype(dtype).kind == "f" else np.int64)
    np.testing.assert_array_equal(gathered, samples[index])


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", AVAILABLE)
def test_a_result_and_its_activation_in_one_call_are_the_same_bits(name: str, dtype: Any, activation: Any) -> None:
    backend = backends.get(name)
    separate = getattr(backend, activation)

    def x(*shape: int) -> Any:
        return backend.asarray(3 * normal(shape, 4, dtype))

    def assert_same(actual: Any, expected: Any) -> None:
        if SIMULATED:  # where sums are wider than what is stored
            np.testing.assert_allclose(backend.to_numpy(actual), backend.to_numpy(expected), rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(backend.to_numpy(actual), backend.to_numpy(expected))

    descriptors: tuple[str, ...] = ("n2c3h23k5r3s1p1", "n2c4h9w17k6r3s2p1g2", "n3c4h13k8r1s1p0")
    rows, columns = 33, 45
    if SIMULATED:
        descriptors, rows, columns = ("n1c4h4w6k6r3s2p1g2",), 3, 5
    for descriptor in descriptors:
        g = Conv2dGeometry.parse(descriptor)
        image, kernel = x(*g.x_shape), x(*g.weight_shape)
        for bias in (x(g.k), None):
            for algorithm in backend.conv2d_algorithms():
                actual = backend.conv2d(image, kernel, bias, g, algorithm, activation)
                assert_same(actual, separate(backend.conv2d(image, kernel, bias, g, algorithm)))
    for bias in (x(columns), None):
        actual = backend.linear(x(rows, 50), x(columns, 50), bias, activation)
        assert_same(actual, separate(backend.linear(x(rows, 50), x(columns, 50), bias)))
