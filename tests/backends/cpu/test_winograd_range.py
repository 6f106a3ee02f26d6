"""Numbers that do not go well with Winograd's transforms: they change the outputs that see them, and no others."""

from __future__ import annotations

import dataclasses

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config

from numbacnn.backends import cpu, reference
from numbacnn.backends.cpu.convolution import winograd_transforms as microkernels
from numbacnn.backends.cpu.convolution.winograd_range import CONTRAST
from numbacnn.backends.geometry import Conv2dGeometry
from tests.numeric import normal, wide

DTYPES = (np.float32, np.float64)
# Strips of a large image, several images at a time, tiles that are cut off, one tile, other tiles, no padding.
PROBLEMS = (
    "n1c16h30k16r3s1p1", "n9c32h6k32r3s1p1", "n2c16h14k20r3s1p1", "n8c16h8k16r3s1p1", "n1c16h8k16r3s1p1",
    "n2c16h13k16r5s1p2", "n2c16h14k16r5s1p0",
)  # fmt: skip
LOCAL = settings(max_examples=12 if config.DISABLE_JIT else 25, deadline=None)


@pytest.mark.parametrize("pass_", ["forward", "backward_input"])
@pytest.mark.parametrize("descriptor", ["n8c32h8k32r3s1p1", "n1c64h30k32r3s1p1", "n2c32h13k32r5s1p2"])
def test_auto_takes_winograd_here(descriptor, pass_):
    assert cpu.choose_conv2d_algorithm(Conv2dGeometry.parse(descriptor), pass_) == "winograd"


def run(backend, g, pass_, source, weight, algorithm):
    """The pass that yields an image, of x or of dy."""
    with np.errstate(all="ignore"):
        if pass_ == "forward":
            return backend.conv2d(source, weight, None, g, algorithm)
        return backend.conv2d_backward_input(source, weight, g, algorithm)


def check(g, pass_, source, weight, algorithm, touched):
    """Against the reference in float64: bits where numbers are not finite, and else the accuracy rule, once among the
    outputs that see what was ``touched`` and once among the others.
    """
    result = run(cpu, g, pass_, source, weight, algorithm)
    expected = run(reference, g, pass_, *wide(source, weight), "im2col")
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(result[~finite], expected[~finite].astype(result.dtype))
    assert np.isfinite(result[finite]).all()
    unit = 1e-5 if source.dtype == np.float32 else 1e-12
    length = weight.size // (g.k if pass_ == "forward" else g.c)
    for group in (finite & touched, finite & ~touched):
        if group.any():
            error, size = np.abs(result[group] - expected[group]).max(), np.abs(expected[group]).max()
            assert error <= unit * np.sqrt(length) * size


def sees(g, pass_, image, row, column):
    """Which outputs see a place of x or dy."""
    shape, of_output = (g.x_shape, g.y_shape) if pass_ == "forward" else (g.y_shape, g.x_shape)
    source = np.zeros(shape)
    source[image, :, row, column] = 1
    touched = run(reference, g, pass_, source, np.ones(g.weight_shape), "im2col") != 0
    assert touched.shape == of_output
    return touched


def data_of(g, pass_, seed, dtype):
    return normal(g.x_shape if pass_ == "forward" else g.y_shape, seed, dtype), normal(g.weight_shape, seed + 1, dtype)


values = st.one_of(
    st.sampled_from((np.nan, np.inf, -np.inf, 1e6, -1e6, 1e30, float(CONTRAST))),
    st.floats(0, 30).map(lambda exponent: 10.0**exponent),
)


@pytest.mark.parametrize("pass_", ["forward", "backward_input"])
@LOCAL
@given(data=st.data(), descriptor=st.sampled_from(PROBLEMS), dtype=st.sampled_from(DTYPES), value=values)
def test_one_number_changes_only_the_outputs_that_see_it(pass_, data, descriptor, dtype, value):
    g = Conv2dGeometry.parse(descriptor)
    source, weight = data_of(g, pass_, data.draw(st.integers(0, 9), "seed"), dtype)
    place = tuple(data.draw(st.integers(0, size - 1), "place") for size in source.shape)
    source[place] = value
    check(g, pass_, source, weight, "winograd", sees(g, pass_, place[0], *place[2:]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("pass_", ["forward", "backward_input"])
@pytest.mark.parametrize("size", ["h6k16r3s1p1", "h9k16r5s1p2"])
def test_every_place_of_a_tile(pass_, size, background, value):
    """A batch of images, each with the number at another place; beside zeros, exactly zero where it is not seen."""
    places = int(size[1]) ** 2
    g = Conv2dGeometry.parse(f"n{places}c16{size}")
    source, weight = data_of(g, pass_, 3, np.float32)
    source *= background
    flat = source.reshape(*source.shape[:2], -1)
    touched = np.zeros((places, 1, *g.x_shape[2:]), bool)
    for place in range(places):
        flat[place, 7, place] = value
        touched[place] = sees(dataclasses.replace(g, n=1), pass_, 0, *divmod(place, g.w))[0, :1]
    touched = np.broadcast_to(touched, g.y_shape)
    check(g, pass_, source, weight, "winograd", touched)
    if not background:
        assert not run(cpu, g, pass_, source, weight, "winograd")[~touched].any()


def test_an_infinity_among_zeros():
    g = Conv2dGeometry.parse("n1c16h32k16r3s1p1")
    x, weight = np.zeros(g.x_shape, np.float32), normal(g.weight_shape, 1, np.float32)
    x[0, 3, 17, 9] = np.inf
    y = run(cpu, g, "forward", x, weight, "winograd")
    assert (np.isinf(y).sum(), np.isnan(y).sum(), np.count_nonzero(y)) == (144, 0, 144)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tap", [(0, 0), (0, 1), (1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pass_", ["forward", "backward_input"])
def test_weights_that_are_not_finite(pass_, dtype, tap, value):
    """What an infinite weight makes of padding is the affair of ``direct``, which pads as well."""
    g = Conv2dGeometry.parse("n2c16h14k20r3s1p1")
    source, weight = data_of(g, pass_, 5, dtype)
    weight[3, 5, tap[0], tap[1]] = value
    results, expected = (run(cpu, g, pass_, source, weight, a) for a in ("winograd", "direct"))
    finite = np.isfinite(expected)
    assert not finite.all()
    np.testing.assert_array_equal(np.isfinite(results), finite)
    np.testing.assert_array_equal(results[~finite], expected[~finite])
    np.testing.assert_allclose(results[finite], expected[finite], rtol=0, atol=2e-4)


@pytest.mark.parametrize("pass_", ["forward", "backward_input"])
@pytest.mark.parametrize("tap", [(0, 0), (1, 2), (1, 1)])
def test_a_huge_weight_does_not_change_outputs_that_see_zeros_there(pass_, tap):
    g = Conv2dGeometry.parse("n1c16h30k16r3s1p1")
    source, weight = data_of(g, pass_, 7, np.float32)
    source[:, 5 if pass_ == "forward" else 3, ::2] = 0
    weight[3, 5, tap[0], tap[1]] = 1e6
    without = weight.copy()
    without[3, 5, tap[0], tap[1]] = 0
    expected = run(reference, g, pass_, *wide(source, weight), "im2col")
    touched = np.abs(expected - run(reference, g, pass_, *wide(source, without), "im2col")) > 0
    assert touched.any()
    check(g, pass_, source, weight, cpu.choose_conv2d_algorithm(g, pass_), touched)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("of_x", "of_weight"), [(0.99, 1e-2), (1e-4, 0.1), (1e-2, 1e-2)])
def test_finite_sums_of_large_numbers_stay_finite(dtype, of_x, of_weight):
    """Shares of the largest number, and of what the weights may be without an overflow of the sums."""
    g = Conv2dGeometry.parse("n2c16h14k20r3s1p1")
    largest = float(np.finfo(dtype).max)
    x = (np.sign(normal(g.x_shape, 1)) * largest * of_x).astype(dtype)
    weight = (np.sign(normal(g.weight_shape, 2)) * of_weight / of_x / 144).astype(dtype)
    y = run(cpu, g, "forward", x, weight, "winograd")
    assert np.isfinite(y).all()
    expected = run(reference, g, "forward", (x / largest).astype(np.float64), weight.astype(np.float64), "im2col")
    np.testing.assert_allclose(y / dtype(largest), expected, rtol=0, atol=2e-5 * of_weight)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
def test_bias_and_activation(activation):
    g = Conv2dGeometry.parse("n2c16h14k20r3s1p1")
    x, weight, bias = (normal(shape, 4, np.float32) for shape in (g.x_shape, g.weight_shape, (g.k,)))
    x[0, 1, 2, 3], x[0, 2, 9, 9], x[1, 0, 0, 0], x[1, 0, 13, 5] = np.inf, 1e6, -np.inf, np.nan
    with np.errstate(all="ignore"):
        y = cpu.conv2d(x, weight, bias, g, cpu.choose_conv2d_algorithm(g, "forward"), activation)
        expected = reference.conv2d(*wide(x, weight, bias), g, "loops", activation)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(y[~finite], expected[~finite].astype(np.float32))
    np.testing.assert_allclose(y[finite], expected[finite], rtol=3e-4, atol=3e-4)


def test_all_are_nan():
    g = Conv2dGeometry.parse("n2c16h14k20r3s1p1")
    x, weight = np.full(g.x_shape, np.nan, np.float32), np.full(g.weight_shape, np.nan, np.float32)
    assert np.isnan(run(cpu, g, "forward", x, normal(g.weight_shape, 1, np.float32), "winograd")).all()
    assert np.isnan(run(cpu, g, "forward", normal(g.x_shape, 1, np.float32), weight, "winograd")).all()
    assert np.isnan(run(cpu, g, "backward_input", np.full(g.y_shape, np.nan, np.float32), weight, "winograd")).all()


@pytest.mark.parametrize("descriptor", PROBLEMS)
def test_same_bits_for_any_number_of_threads(descriptor):
    former = numba.get_num_threads()
    g = Conv2dGeometry.parse(descriptor)
    x, weight = data_of(g, "forward", 8, np.float32)
    x[:, 3, 1, 4], x[-1, 5, 5, 5] = 1e6, np.inf
    results = []
    try:
        for threads in (1, former):
            numba.set_num_threads(threads)
            results.append(run(cpu, g, "forward", x, weight, "winograd"))
    finally:
        numba.set_num_threads(former)
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is captured")
@pytest.mark.parametrize("constant", [True, False])
def test_captured(constant):
    """Weights that are transformed once tell at every launch what they allow."""
    g = Conv2dGeometry.parse("n2c16h14k20r3s1p1")
    x, weight = data_of(g, "forward", 9, np.float32)
    results = []
    (launch,) = cpu.capture(
        lambda: results.append(cpu.conv2d(x, weight, None, g, "winograd")), constant=[weight] if constant else []
    )
    for value in (1, np.inf, 1e6, np.nan, 2):
        x[1, 3, 5, 7] = value
        launch()
        np.testing.assert_array_equal(results[-1], run(cpu, g, "forward", x, weight, "winograd"))


@numba.njit
def extreme(microkernel, x, step, terms, y, count):
    microkernels.extreme(microkernel, x, 3, step, terms, y, 2, count)


@numba.njit
def largest_of_pixels(microkernel, x, channels, count, y):
    microkernels.largest_of_pixels(microkernel, x, 3, channels, count, y, 2)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("largest", [True, False])
def test_extremes(dtype, size, largest):
    microkernel = microkernels.extremes("test", largest, size)
    rng = np.random.default_rng(0)
    for terms, step, count in [(1, 1, 1), (2, 70, 65), (5, 1, 130), (9, 31, 17)]:
        x = rng.standard_normal(1000).astype(dtype) * 10.0 ** rng.integers(-30, 30, 1000)
        x = x.astype(dtype)
        x[rng.integers(0, 1000, 40)] = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 0, -0.0], 40)
        y, expected = np.zeros(300, dtype), np.zeros(300, dtype)
        microkernel.definition(x, 3, step, terms, expected, 2, count)
        extreme(microkernel.address(np.dtype(dtype)), x, step, terms, y, count)
        np.testing.assert_array_equal(y[: 2 + count], expected[: 2 + count])


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [16, 32, 64])
def test_extremes_of_pixels(dtype, size):
    microkernel = microkernels.pixel_extremes(size)
    rng = np.random.default_rng(0)
    lanes = size // np.dtype(dtype).itemsize
    for vectors, count in [(1, 1), (2, 17), (3, 40)]:
        x = rng.standard_normal(3 + 48 * vectors * lanes).astype(dtype) * 10.0 ** rng.integers(-30, 30, 1)
        x = x.astype(dtype)
        x[rng.integers(0, x.size, 20)] = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 0, -0.0], 20)
        y, expected = np.zeros(60, dtype), np.zeros(60, dtype)
        microkernel.definition(x, 3, vectors * lanes, count, expected, 2)
        largest_of_pixels(microkernel.address(np.dtype(dtype)), x, vectors * lanes, count, y)
        np.testing.assert_array_equal(y[: 2 + count], expected[: 2 + count])
