"""Convolutions and linear layers in less precision than float32: within its bound, and exact where its numbers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import backends, nn
from numbacnn.backends.geometry import Conv2dGeometry

if backends.available()["cuda"] is not None:
    pytest.skip("neither a GPU nor the simulator", allow_module_level=True)

from numbacnn.backends import cuda as cuda_backend
from numbacnn.backends import reference
from numbacnn.backends.contract import Backend
from numbacnn.backends.cuda.block import gemm_plan

cuda: Any = cuda_backend
definition: Backend = reference

# How far a factor may be off, relative to itself.
ROUNDING = {"tf32": 2.0**-11, "tf32x3": 2.0**-20, "bf16": 2.0**-8}
STRIDED = "n2c17h5k18r3s2p1"
IN_PARTS = "n1c16h4k16r3s1p1"
POINTWISE = "n1c40h4k17r1s1p0"


def operands(g: Conv2dGeometry, whole: bool = False) -> list[np.ndarray]:
    """x, weight, bias, dy; whole numbers of few bits, or any."""
    rng = np.random.default_rng(0)
    shapes = (g.x_shape, g.weight_shape, (g.k,), g.y_shape)
    if whole:
        return [rng.integers(-64, 65, shape).astype(np.float32) for shape in shapes]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def passes(backend: Any, g: Conv2dGeometry, arrays: list[np.ndarray], algorithm: str, activation: Any = None) -> Any:
    x, weight, bias, dy = map(backend.asarray, arrays)
    yield backend.conv2d(x, weight, bias, g, algorithm, activation)
    yield backend.conv2d_backward_input(dy, weight, g, algorithm)
    yield backend.conv2d_backward_weight(dy, x, g, algorithm)


@pytest.mark.parametrize(("mode", "descriptor"), [("tf32", STRIDED), ("tf32x3", POINTWISE), ("bf16", IN_PARTS)])
def test_convolutions_are_within_the_bound(mode: str, descriptor: str) -> None:
    g = Conv2dGeometry.parse(descriptor)
    arrays = operands(g)
    exact = list(passes(definition, g, [x.astype(np.float64) for x in arrays], "loops", "relu"))
    size = list(passes(definition, g, [np.abs(x).astype(np.float64) for x in arrays], "loops", "relu"))
    with nc.precision(mode):
        found = [np.asarray(y) for y in passes(cuda, g, arrays, "implicit_gemm", "relu")]
    again = 2.01 * ROUNDING[mode] + 1e-6
    for y, expected, largest in zip(found, exact, size, strict=True):
        assert (np.abs(y - expected) <= again * largest).all()
        # So much more than float32 would be off by that nothing else can have been computed.
        assert mode == "tf32x3" or np.abs(y - expected).max() > 0.02 * ROUNDING[mode] * largest.max()


@pytest.mark.parametrize("mode", ROUNDING)
def test_products_of_whole_numbers_are_exact_to_the_same_bits_each_time(mode: str) -> None:
    g = Conv2dGeometry.parse(POINTWISE)
    x, weight, bias, _ = operands(g, whole=True)
    expected = definition.conv2d(x, weight, bias, g, "loops")
    with nc.precision(mode):
        for _ in range(2):
            y = cuda.conv2d(*map(cuda.asarray, (x, weight, bias)), g, "implicit_gemm")
            np.testing.assert_array_equal(np.asarray(y), expected)


def test_the_reduction_is_split_into_parts() -> None:
    g = Conv2dGeometry.parse(IN_PARTS)
    assert gemm_plan.plan_of(g.k, g.n * g.oh * g.ow, g.taps, 1, np.dtype(np.float32), operands="tf32").splits > 1


@pytest.mark.parametrize(("n", "i", "o"), [(17, 20, 18)])
def test_linear_layers(n: int, i: int, o: int) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (rng.standard_normal(s).astype(np.float32) for s in ((n, i), (o, i), (o,), (n, o)))
    with nc.precision("tf32"):
        device = list(map(cuda.asarray, (x, weight, bias, dy)))
        found = cuda.linear(*device[:3], "tanh"), cuda.linear_backward_input(device[3], device[1])
        found += (cuda.linear_backward_weight(device[3], device[0]),)
    expected = np.tanh(x @ weight.T + bias), dy @ weight, dy.T @ x
    for y, exact, terms in zip(found, expected, (i, o, n), strict=True):
        difference = np.abs(np.asarray(y) - exact).max()
        assert 1e-6 < difference < 2.01 * 2.0**-11 * 16 * terms


def test_what_is_too_small_or_in_float64_is_computed_in_full() -> None:
    rng = np.random.default_rng(0)
    for n, o, dtype in ((15, 20, np.float32), (20, 15, np.float32), (17, 17, np.float64)):
        x, weight = (cuda.asarray(rng.standard_normal(shape).astype(dtype)) for shape in ((n, 4), (o, 4)))
        full = np.asarray(cuda.linear(x, weight, None))
        with nc.precision("bf16"):
            np.testing.assert_array_equal(np.asarray(cuda.linear(x, weight, None)), full)


def test_sessions_take_no_capture_of_another_precision() -> None:
    rng = np.random.default_rng(0)
    with nc.use_backend("cuda"):
        model = nn.Linear(16, 16)
    x = rng.standard_normal((16, 16)).astype(np.float32)
    session, found = nn.InferenceSession(model), []
    for mode in ("float32", "tf32", "float32", "bf16"):
        with nc.precision(mode):
            found.append(np.asarray(session(x)))
            np.testing.assert_array_equal(found[-1], np.asarray(model(x)))
    np.testing.assert_array_equal(found[0], found[2])
    assert len({y.tobytes() for y in found}) == 3
