"""The reference against direct formulas and naive loops, on empty arrays, on NaN and infinity."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.backends import reference
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from tests.cases import CONV2D_CASES
from tests.numeric import assert_within, normal, spaced
from tests.strategies import CHECKS, conv2d_geometries, pool2d_geometries, seeds

TINY_CASES = [g for g in CONV2D_CASES if g.macs <= 30_000]
ALGORITHMS = reference.conv2d_algorithms()


def conv2d_terms(g: Conv2dGeometry) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """The positions in y, x and weight of every product that a convolution sums, in seven loops."""
    for n in range(g.n):
        for k in range(g.k):
            group = k * g.groups // g.k
            for oh in range(g.oh):
                for ow in range(g.ow):
                    for c in range(g.c // g.groups):
                        for i in range(g.kh):
                            for j in range(g.kw):
                                h, w = oh * g.sh + i * g.dh - g.pt, ow * g.sw + j * g.dw - g.pl
                                if 0 <= h < g.h and 0 <= w < g.w:
                                    yield (n, k, oh, ow), (n, group * (g.c // g.groups) + c, h, w), (k, c, i, j)


def window(g: Pool2dGeometry, oh: int, ow: int) -> list[tuple[int, int]]:
    """Rows and columns of the image, or of its padding, under one window, in row-major order."""
    return [(oh * g.sh + i * g.dh - g.pt, ow * g.sw + j * g.dw - g.pl) for i in range(g.kh) for j in range(g.kw)]


def inside(g: Pool2dGeometry, position: tuple[int, int]) -> bool:
    return 0 <= position[0] < g.h and 0 <= position[1] < g.w


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("g", TINY_CASES, ids=lambda g: g.descriptor)
def test_conv2d_is_seven_loops(g: Conv2dGeometry, algorithm: str) -> None:
    x, weight, dy, bias = (normal(shape, 1) for shape in (g.x_shape, g.weight_shape, g.y_shape, (g.k,)))
    y = np.zeros(g.y_shape) + bias[:, None, None]
    dx, dweight = np.zeros(g.x_shape), np.zeros(g.weight_shape)
    for in_y, in_x, in_weight in conv2d_terms(g):
        y[in_y] += x[in_x] * weight[in_weight]
        dx[in_x] += dy[in_y] * weight[in_weight]
        dweight[in_weight] += dy[in_y] * x[in_x]
    assert_within(reference.conv2d(x, weight, bias, g, algorithm), y, g.taps)
    assert_within(reference.conv2d_backward_input(dy, weight, g, algorithm), dx, g.taps * g.k)
    assert_within(reference.conv2d_backward_weight(dy, x, g, algorithm), dweight, g.n * g.oh * g.ow)
    assert_within(reference.conv2d_backward_bias(dy), dy.sum((0, 2, 3)), g.n * g.oh * g.ow)


@CHECKS
@given(conv2d_geometries(min_batch=0), seeds)
def test_algorithms_agree_in_float32(g: Conv2dGeometry, seed: int) -> None:
    x, weight, dy = (normal(shape, seed, np.float32) for shape in (g.x_shape, g.weight_shape, g.y_shape))
    for algorithm in ALGORITHMS:
        y = reference.conv2d(x, weight, None, g, algorithm)
        dx = reference.conv2d_backward_input(dy, weight, g, algorithm)
        dweight = reference.conv2d_backward_weight(dy, x, g, algorithm)
        x64, weight64, dy64 = (array.astype(np.float64) for array in (x, weight, dy))
        assert_within(y, reference.conv2d(x64, weight64, None, g, "loops"), g.taps)
        assert_within(dx, reference.conv2d_backward_input(dy64, weight64, g, "loops"), g.taps * g.k)
        assert_within(dweight, reference.conv2d_backward_weight(dy64, x64, g, "loops"), g.n * g.oh * g.ow)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("descriptor", ["n4c8h20k16r3s1p1", "n4c8h20k16r3s2p0", "n4c8h30k4r1s1p0", "n4c8h20k8r5s1p2g8"])
def test_workspace_is_what_a_pass_needs(descriptor: str, algorithm: str) -> None:
    g = Conv2dGeometry.parse(descriptor)
    x, weight, dy = (normal(shape, 1, np.float32) for shape in (g.x_shape, g.weight_shape, g.y_shape))
    passes: dict[str, Callable[[], np.ndarray]] = {
        "forward": lambda: reference.conv2d(x, weight, None, g, algorithm),
        "backward_input": lambda: reference.conv2d_backward_input(dy, weight, g, algorithm),
        "backward_weight": lambda: reference.conv2d_backward_weight(dy, x, g, algorithm),
    }
    for pass_, run in passes.items():
        run()
        tracemalloc.start()
        try:
            result = run()
            needed = tracemalloc.get_traced_memory()[1] - result.nbytes
        finally:
            tracemalloc.stop()
        stated = reference.conv2d_workspace(g, pass_, algorithm, x.itemsize)
        # What Python objects and views take besides arrays is a few KB.
        assert 0.3 * stated <= needed <= 1.1 * stated + 8192, pass_


@np.errstate(invalid="ignore")
def test_padding_adds_no_nan_or_infinity_and_both_go_through() -> None:
    g = Conv2dGeometry.parse("n1c2h5k3r3s1p1")
    for value in (np.nan, np.inf):
        x, weight = np.ones(g.x_shape), normal(g.weight_shape, 1)
        x[0, 1, 2, 3] = value
        reached = np.zeros((5, 5), bool)
        reached[1:4, 2:5] = True
        for algorithm in ALGORITHMS:
            y = reference.conv2d(x, weight, None, g, algorithm)
            assert np.array_equal(~np.isfinite(y), np.broadcast_to(reached, g.y_shape))
            dx = reference.conv2d_backward_input(x[:, [1, 1, 1]], weight, g, algorithm)
            assert np.array_equal(~np.isfinite(dx), np.broadcast_to(reached, g.x_shape))
            dweight = reference.conv2d_backward_weight(np.ones(g.y_shape), x, g, algorithm)
            assert np.isfinite(dweight[:, 0]).all()
            assert not np.isfinite(dweight[:, 1]).any()


@CHECKS
@given(pool2d_geometries(min_batch=0, max_dilation=2), st.booleans(), seeds)
def test_max_pool2d_is_the_first_maximum_of_every_window(g: Pool2dGeometry, ties: bool, seed: int) -> None:
    x = spaced(g.x_shape, seed)
    if ties:
        x = np.random.default_rng(seed).choice([-np.inf, 1.0, 2.0, np.inf, np.nan], g.x_shape)
    y, indices = reference.max_pool2d_with_indices(x, g)
    dy = normal(g.y_shape, seed)
    dx = np.zeros(g.x_shape)
    for n, c, oh, ow in np.ndindex(g.y_shape):
        best, at = -np.inf, -1
        for h, w in filter(lambda position: inside(g, position), window(g, oh, ow)):
            value = x[n, c, h, w]
            if at == -1 or value > best or (math.isnan(value) and not math.isnan(best)):
                best, at = value, h * g.w + w
        assert indices[n, c, oh, ow] == at
        assert np.array_equal(y[n, c, oh, ow], best, equal_nan=True)
        if at >= 0:
            dx[n, c, at // g.w, at % g.w] += dy[n, c, oh, ow]
    np.testing.assert_allclose(reference.max_pool2d_backward(dy, indices, g), dx, rtol=1e-12, atol=1e-12)


def test_max_pool2d_of_padding_alone_is_minus_infinity() -> None:
    g = Pool2dGeometry(1, 1, 1, 3, 2, 1, 1, 1, pt=1, pb=1, dh=2)
    y, indices = reference.max_pool2d_with_indices(np.arange(3.0).reshape(1, 1, 1, 3), g)
    np.testing.assert_array_equal(y, np.full((1, 1, 1, 3), -np.inf))
    np.testing.assert_array_equal(indices, np.full((1, 1, 1, 3), -1))
    np.testing.assert_array_equal(reference.max_pool2d_backward(np.ones(y.shape), indices, g), np.zeros(g.x_shape))


def test_max_pool2d_of_minus_infinity_points_at_its_first_element() -> None:
    g = Pool2dGeometry(1, 1, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1)
    y, indices = reference.max_pool2d_with_indices(np.full(g.x_shape, -np.inf), g)
    assert (y == -np.inf).all()
    np.testing.assert_array_equal(indices[0, 0], [[0, 0, 1], [0, 0, 1], [3, 3, 4]])


@CHECKS
@given(pool2d_geometries(min_batch=0), st.booleans(), seeds)
def test_avg_pool2d_divides_by_the_window_inside(g: Pool2dGeometry, count_include_pad: bool, seed: int) -> None:
    x, dy = normal(g.x_shape, seed), normal(g.y_shape, seed)
    y, dx = np.zeros(g.y_shape), np.zeros(g.x_shape)
    for oh, ow in np.ndindex(g.oh, g.ow):
        positions = window(g, oh, ow)
        in_image = [position for position in positions if inside(g, position)]
        in_padded = [(h, w) for h, w in positions if -g.pt <= h < g.h + g.pb and -g.pl <= w < g.w + g.pr]
        size = max(len(in_padded if count_include_pad else in_image), 1)
        for h, w in in_image:
            y[..., oh, ow] += x[..., h, w] / size
            dx[..., h, w] += dy[..., oh, ow] / size
    np.testing.assert_allclose(reference.avg_pool2d(x, g, count_include_pad), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(reference.avg_pool2d_backward(dy, g, count_include_pad), dx, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("count_include_pad", "expected"),
    [(True, [[1 / 4, 2 / 4, 0], [2 / 4, 4 / 4, 0], [0, 0, 0]]), (False, [[1, 1, 0], [1, 1, 0], [0, 0, 0]])],
)
def test_avg_pool2d_overhang_of_ceil_mode_never_counts(count_include_pad: bool, expected: list[list[float]]) -> None:
    g = Pool2dGeometry(1, 1, 3, 3, 2, 2, 2, 2, pt=1, pl=1, ceil_mode=True)
    y = reference.avg_pool2d(np.ones(g.x_shape), g, count_include_pad)
    np.testing.assert_allclose(y[0, 0], np.array(expected)[: g.oh, : g.ow])
    overhanging = Pool2dGeometry(1, 1, 3, 3, 2, 2, 2, 2, ceil_mode=True)
    np.testing.assert_array_equal(reference.avg_pool2d(np.ones(g.x_shape), overhanging, count_include_pad), 1)


@CHECKS
@given(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), seeds)
def test_batch_norm_formulas(shape: tuple[int, int, int], seed: int) -> None:
    x, weight, bias = 3 + normal(shape, seed), normal(shape[1:2], seed), normal(shape[1:2], seed + 1)
    y, mean, variance, inverse_std = reference.batch_norm_train(x, weight, bias, 1e-5)
    for channel in range(shape[1]):
        values = x[:, channel]
        np.testing.assert_allclose(mean[channel], values.mean())
        np.testing.assert_allclose(variance[channel], values.var(), atol=1e-15)
        np.testing.assert_allclose(inverse_std[channel], 1 / np.sqrt(values.var() + 1e-5))
        x_hat = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        np.testing.assert_allclose(y[:, channel], weight[channel] * x_hat + bias[channel], atol=1e-12)
    in_eval, same_inverse_std = reference.batch_norm_eval(x, weight, bias, mean, variance, 1e-5)
    np.testing.assert_allclose(in_eval, y)
    np.testing.assert_allclose(same_inverse_std, inverse_std)


def test_batch_norm_of_the_first_channels() -> None:
    x, dy, weight = normal((4, 5, 6), 1), normal((4, 3, 6), 2), normal((3,), 3)
    first = x[:, :3]
    results = reference.batch_norm_train(first, weight, weight, 1e-5)
    mean, variance, inverse_std = results[1:]
    for name, before, after in (
        ("batch_norm_train", (), (weight, weight, 1e-5)),
        ("batch_norm_eval", (), (weight, weight, mean + 1, variance, 1e-5)),
        ("batch_norm_train_backward", (dy,), (weight, mean, inverse_std)),
        ("batch_norm_eval_backward", (dy,), (weight, mean, inverse_std)),
    ):
        function = getattr(reference, name)
        for part, alone in zip(function(*before, x, *after), function(*before, first, *after), strict=True):
            np.testing.assert_array_equal(part, alone)


def test_batch_norm_with_its_own_statistics_is_the_identity() -> None:
    x = 5 + 2 * normal((8, 3, 6), 1)
    _, mean, variance, inverse_std = reference.batch_norm_train(x, np.ones(3), np.zeros(3), 1e-5)
    np.testing.assert_allclose(reference.batch_norm_train(x, 1 / inverse_std, mean, 1e-5)[0], x, rtol=1e-12)
    assert (variance > 1).all()


def test_batch_norm_far_from_zero_in_float32() -> None:
    x = (1000 + normal((16, 2, 64), 1)).astype(np.float32)
    y, _, variance, _ = reference.batch_norm_train(x, np.ones(2, np.float32), np.zeros(2, np.float32), 1e-5)
    np.testing.assert_allclose(variance, x.astype(np.float64).var(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 2)), 1, rtol=1e-3)


def test_running_average() -> None:
    average = np.array([1.0, 2.0])
    reference.update_running_average(average, np.array([3.0, 5.0]), 0.1, 2.0)
    np.testing.assert_allclose(average, [0.9 + 0.6, 1.8 + 1.0])


@CHECKS
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from((0.0, 0.2)), seeds)
def test_cross_entropy_formula(n: int, classes: int, label_smoothing: float, seed: int) -> None:
    logits, labels = normal((n, classes), seed), np.random.default_rng(seed).integers(0, classes, n)
    loss, probabilities, _ = reference.softmax_cross_entropy(logits, labels, None, -100, label_smoothing, "sum")
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_probabilities = [value - math.log(sum(math.exp(other) for other in row)) for value in row]
        expected -= (1 - label_smoothing) * log_probabilities[label]
        expected -= label_smoothing * sum(log_probabilities) / classes
    np.testing.assert_allclose(loss, expected, atol=1e-12)
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_array_equal(probabilities, reference.softmax(logits, 1))


def test_cross_entropy_of_large_logits_is_finite() -> None:
    logits = np.array([[1000.0, 0.0], [-1000.0, 1000.0]], np.float32)
    loss, probabilities, _ = reference.softmax_cross_entropy(logits, np.array([1, 1]), reduction="sum")
    assert loss == 1000
    np.testing.assert_array_equal(probabilities, [[1, 0], [0, 1]])


def test_cross_entropy_of_a_class_ruled_out() -> None:
    logits = np.array([[0.0, -np.inf, 0.0]])
    loss, probabilities, _ = reference.softmax_cross_entropy(logits, np.array([0]))
    np.testing.assert_allclose(loss, math.log(2))
    np.testing.assert_allclose(probabilities, [[0.5, 0, 0.5]])


def test_squared_error_sums_in_float64() -> None:
    prediction = np.full((2, 3), 1e30, np.float32)
    assert np.isclose(reference.pointwise_loss_sum(prediction, np.zeros((2, 3), np.float32), "squared"), 6e60)
    np.testing.assert_array_equal(
        reference.pointwise_loss_backward(None, np.array([3.0, 1.0]), np.array([1.0, 2.0]), "squared", scale=0.5),
        [2, -1],
    )


def test_count_correct_takes_the_first_maximum() -> None:
    logits = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [0.0, 1.0, 2.0]])
    assert reference.count_correct(logits, np.array([0, 1, 2])) == 3
    assert reference.count_correct(logits, np.array([1, 2, 0])) == 0


def test_activations() -> None:
    x = np.array([-np.inf, -1000, -1, 0, 1, 1000, np.inf, np.nan])
    np.testing.assert_array_equal(reference.relu(x), [0, 0, 0, 0, 1, 1000, np.inf, np.nan])
    np.testing.assert_allclose(
        reference.sigmoid(x), [0, 0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1, 1, np.nan], rtol=1e-15
    )
    np.testing.assert_allclose(reference.tanh(x), [-1, -1, -math.tanh(1), 0, math.tanh(1), 1, 1, np.nan])
    # Far down the sigmoid keeps its relative accuracy, where 1 - 1 / (1 + exp(x)) would give 0.
    np.testing.assert_allclose(reference.sigmoid(np.array([-40.0])), math.exp(-40), rtol=1e-12)


def test_relu_backward_at_zero_and_nan() -> None:
    dy, y = np.array([1.0, 2.0, 3.0, np.nan, np.nan]), np.array([0.0, 1.0, np.nan, 0.0, 1.0])
    np.testing.assert_array_equal(reference.relu_backward(dy, y), [0, 2, 3, 0, np.nan])


def test_dropout() -> None:
    x = 1 + np.arange(10_000, dtype=np.float32).reshape(100, 100)
    y = reference.dropout(x, 0.25, 1, np.array(2))
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_array_equal(y, reference.dropout(x, 0.25, 1, np.array(2)))
    assert not np.array_equal(y, reference.dropout(x, 0.25, 1, np.array(3)))
    np.testing.assert_array_equal(reference.dropout(x, 0.0, 1, np.array(2)), x)
    np.testing.assert_array_equal(reference.dropout(np.full(5, np.inf), 1.0, 1, np.array(2)), np.zeros(5))


def test_sgd_step_by_hand() -> None:
    parameter, velocity, gradient = np.array([1.0]), np.array([2.0]), np.array([3.0])
    reference.sgd_step(parameter, gradient, None, np.array([0.1, 0.0, 0.5]), False)
    np.testing.assert_allclose(parameter, 1 - 0.1 * 3.5)
    parameter[:], settings = 1, np.array([0.1, 0.9, 0.0])
    reference.sgd_step(parameter, gradient, velocity, settings, False)
    np.testing.assert_allclose(velocity, 0.9 * 2 + 3)
    np.testing.assert_allclose(parameter, 1 - 0.1 * 4.8)
    parameter[:], velocity[:] = 1, 2
    reference.sgd_step(parameter, gradient, velocity, settings, True)
    np.testing.assert_allclose(parameter, 1 - 0.1 * (3 + 0.9 * 4.8))


def test_adam_step_by_hand() -> None:
    step, settings = np.array(1), np.array([0.1, 0.9, 0.99, 1e-8, 0.5])
    for decoupled, decayed, gradient in ((False, 1.0, 3.5), (True, 1 - 0.1 * 0.5, 3.0)):
        parameter, first, second = np.array([1.0]), np.zeros(1), np.zeros(1)
        reference.adam_step(parameter, np.array([3.0]), first, second, step, settings, decoupled)
        np.testing.assert_allclose((first, second), ([0.1 * gradient], [0.01 * gradient**2]))
        # The bias corrections undo the factors of the first step: a step of lr along the sign.
        np.testing.assert_allclose(parameter, decayed - 0.1, rtol=1e-7)


def test_nadam_step_by_hand() -> None:
    settings, product = np.array([0.1, 0.9, 0.99, 1e-8, 0.0, 0.5]), np.array(0.25)
    parameter, first, second = np.array([1.0]), np.array([2.0]), np.zeros(1)
    reference.nadam_step(parameter, np.array([3.0]), first, second, product, np.array(2), settings, False)
    mu, following = (0.9 * (1 - 0.5 * 0.96**power) for power in (1.0, 1.5))
    np.testing.assert_allclose((first[0], second[0], product), (0.9 * 2 + 0.1 * 3, 0.01 * 9, 0.25 * mu))
    step = 3 * (1 - mu) / (1 - 0.25 * mu) + 2.1 * following / (1 - 0.25 * mu * following)
    np.testing.assert_allclose(parameter, 1 - 0.1 * step / np.sqrt(0.09 / (1 - 0.99**2)))


def test_rmsprop_step_by_hand() -> None:
    settings, gradient = np.array([0.1, 0.75, 0.5, 0.25, 0.9]), np.array([3.75])  # with the decay of 1, 4
    for centered, root in ((False, 5.0), (True, 4.0)):
        for heavy in (False, True):
            parameter, square = np.array([1.0]), np.array([28.0])
            mean, buffer = np.array([8 / 3]) if centered else None, np.array([2.0]) if heavy else None
            reference.rmsprop_step(parameter, gradient, square, mean, buffer, settings)
            step = 4 / (root + 0.5) + (0.9 * 2 if heavy else 0)
            np.testing.assert_allclose(parameter, 1 - 0.1 * step)
            np.testing.assert_allclose(square, 25)
            assert mean is None or np.allclose(mean, 3)
            assert buffer is None or np.allclose(buffer, step)
    parameter, square, mean = np.zeros(1), np.ones(1), np.ones(1)
    reference.rmsprop_step(parameter, np.zeros(1), square, mean, None, np.array([0.1, 1 - 1e-9, 0.5, 0.0, 0.0]))
    assert parameter == 0 and not np.isnan(parameter)


def test_adagrad_step_by_hand() -> None:
    parameter, square = np.array([1.0]), np.array([9.0])
    reference.adagrad_step(parameter, np.array([3.0]), square, np.array(3), np.array([0.1, 0.5, 0.25, 1.0]))
    np.testing.assert_allclose((parameter, square), ([1 - 0.1 / (1 + 2 * 0.5) * 4 / 5.25], [25]))


def test_lion_step_by_hand() -> None:
    parameter, first = np.array([1.0, 1.0, 1.0]), np.array([1.0, -1.0, 0.0])
    gradient, settings = np.array([-8.0, -2.0, 0.0]), np.array([0.1, 0.9, 0.75, 0.5])
    reference.lion_step(parameter, gradient, first, settings)
    np.testing.assert_allclose(parameter, [0.95 - 0.1, 0.95 + 0.1, 0.95])
    np.testing.assert_allclose(first, [0.75 - 2, -0.75 - 0.5, 0])


def test_reductions_over_nothing_give_zero() -> None:
    g = Conv2dGeometry.parse("n0c3h6k5r3s1p1")
    pool = Pool2dGeometry(0, 3, 6, 6, 2, 2, 2, 2)
    empty, weight = np.zeros(g.x_shape), np.ones(g.weight_shape)
    for algorithm in ALGORITHMS:
        assert reference.conv2d(empty, weight, np.ones(5), g, algorithm).shape == g.y_shape
        assert reference.conv2d_backward_input(np.zeros(g.y_shape), weight, g, algorithm).shape == g.x_shape
        dweight = reference.conv2d_backward_weight(np.zeros(g.y_shape), empty, g, algorithm)
        np.testing.assert_array_equal(dweight, np.zeros(g.weight_shape))
    np.testing.assert_array_equal(reference.conv2d_backward_bias(np.zeros(g.y_shape)), np.zeros(5))
    y, indices = reference.max_pool2d_with_indices(empty, pool)
    assert y.shape == indices.shape == pool.y_shape
    assert reference.max_pool2d_backward(y, indices, pool).shape == pool.x_shape
    assert reference.avg_pool2d_backward(reference.avg_pool2d(empty, pool, True), pool, True).shape == pool.x_shape
    _, mean, variance, inverse_std = reference.batch_norm_train(np.zeros((0, 3, 4)), np.ones(3), np.ones(3), 0.25)
    np.testing.assert_array_equal((mean, variance, inverse_std), (np.zeros(3), np.zeros(3), np.full(3, 2)))
    np.testing.assert_array_equal(reference.linear(np.zeros((2, 0)), np.zeros((3, 0)), np.ones(3)), np.ones((2, 3)))
    np.testing.assert_array_equal(
        reference.linear_backward_weight(np.zeros((0, 3)), np.zeros((0, 4))), np.zeros((3, 4))
    )
    np.testing.assert_array_equal(reference.linear_backward_bias(np.zeros((0, 3))), np.zeros(3))
    loss, probabilities, _ = reference.softmax_cross_entropy(np.zeros((0, 3)), np.zeros(0, np.int64), reduction="sum")
    assert (float(loss), probabilities.shape) == (0, (0, 3))
    assert reference.pointwise_loss_sum(np.zeros((0, 3)), np.zeros((0, 3)), "squared") == 0
    assert reference.count_correct(np.zeros((0, 3)), np.zeros(0, np.int64)) == 0
    assert reference.dropout(np.zeros((0, 3)), 0.5, 1, np.array(2)).shape == (0, 3)
