"""The reference's gradients: central differences in float64, and the adjoint identity of everything linear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.backends import reference
from numbacnn.backends.geometry import AdaptivePool2dGeometry, Conv2dGeometry, Pool2dGeometry
from tests.numeric import assert_gradients, normal, spaced
from tests.strategies import CHECKS, adaptive_pool2d_geometries, conv2d_geometries, pool2d_geometries, seeds

algorithms = st.sampled_from(reference.conv2d_algorithms())
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def assert_adjoint(dy: np.ndarray, y: np.ndarray, dx: np.ndarray, x: np.ndarray) -> None:
    """<dy, A x> = <A^T dy, x>."""
    assert dx.shape == x.shape
    left, right = np.vdot(dy, y), np.vdot(dx, x)
    assert abs(left - right) <= 1e-12 * (1 + np.vdot(np.abs(dy), np.abs(y)))


@CHECKS
@given(conv2d_geometries(), algorithms, seeds)
def test_conv2d(g: Conv2dGeometry, algorithm: str, seed: int) -> None:
    x, weight, bias = normal(g.x_shape, seed), normal(g.weight_shape, seed), normal((g.k,), seed)
    dy = normal(g.y_shape, seed)
    gradients = (
        reference.conv2d_backward_input(dy, weight, g, algorithm),
        reference.conv2d_backward_weight(dy, x, g, algorithm),
        reference.conv2d_backward_bias(dy),
    )
    assert_gradients(lambda *a: reference.conv2d(*a, g, algorithm), (x, weight, bias), gradients, dy, seed)


@CHECKS
@given(conv2d_geometries(min_batch=0), algorithms, seeds)
def test_conv2d_adjoints(g: Conv2dGeometry, algorithm: str, seed: int) -> None:
    x, weight, dy = normal(g.x_shape, seed), normal(g.weight_shape, seed), normal(g.y_shape, seed)
    y = reference.conv2d(x, weight, None, g, algorithm)
    assert_adjoint(dy, y, reference.conv2d_backward_input(dy, weight, g, algorithm), x)
    assert_adjoint(dy, y, reference.conv2d_backward_weight(dy, x, g, algorithm), weight)


@CHECKS
@given(pool2d_geometries(max_dilation=2), seeds)
def test_max_pool2d(g: Pool2dGeometry, seed: int) -> None:
    x = spaced(g.x_shape, seed)
    _, indices = reference.max_pool2d_with_indices(x, g)
    seen = indices >= 0
    dy = np.where(seen, normal(g.y_shape, seed), 0)

    def finite_maxima(x: np.ndarray) -> np.ndarray:
        return np.where(seen, reference.max_pool2d(x, g), 0)

    assert_gradients(finite_maxima, (x,), (reference.max_pool2d_backward(dy, indices, g),), dy, seed)


@CHECKS
@given(pool2d_geometries(), st.booleans(), seeds)
def test_avg_pool2d(g: Pool2dGeometry, count_include_pad: bool, seed: int) -> None:
    x, dy = normal(g.x_shape, seed), normal(g.y_shape, seed)
    dx = reference.avg_pool2d_backward(dy, g, count_include_pad)
    assert_gradients(lambda x: reference.avg_pool2d(x, g, count_include_pad), (x,), (dx,), dy, seed)
    assert_adjoint(dy, reference.avg_pool2d(x, g, count_include_pad), dx, x)


@CHECKS
@given(shapes, st.sampled_from(("square", "root", "power", "exp", "log")), st.floats(0.3, 4), st.floats(0.1, 9), seeds)
def test_powers(shape: tuple[int, ...], kind: str, exponent: float, scale: float, seed: int) -> None:
    parameters = {"root": (scale,), "power": (exponent, scale)}.get(kind, ())
    x, dy = np.abs(normal(shape, seed)) + 0.5, normal(shape, seed + 1)
    dx = reference.pointwise_backward(dy, x, kind, parameters)
    assert_gradients(lambda x: reference.pointwise(x, kind, parameters), (x,), (dx,), dy, seed)


@CHECKS
@given(adaptive_pool2d_geometries(), seeds)
def test_adaptive_pool2d(g: AdaptivePool2dGeometry, seed: int) -> None:
    x, dy = spaced(g.x_shape, seed), normal(g.y_shape, seed)
    y, indices = reference.max_pool2d_with_indices(x, g)
    dx = reference.max_pool2d_backward(dy, indices, g)
    assert_gradients(lambda x: reference.max_pool2d(x, g), (x,), (dx,), dy, seed)
    np.testing.assert_array_equal(x.reshape(g.n, g.c, -1)[..., indices[0, 0]][0, 0], y[0, 0])
    dx = reference.avg_pool2d_backward(dy, g, True)
    assert_gradients(lambda x: reference.avg_pool2d(x, g, True), (x,), (dx,), dy, seed)
    assert_adjoint(dy, reference.avg_pool2d(x, g, True), dx, x)


@CHECKS
@given(st.tuples(st.integers(2, 5), st.integers(1, 5), st.integers(1, 5)), seeds)
def test_batch_norm(shape: tuple[int, int, int], seed: int) -> None:
    # Values a whole unit apart: 1/std bends too much for central differences where a channel's are close together.
    x, dy = 10 * spaced(shape, seed), normal(shape, seed)
    weight, bias = normal(shape[1:2], seed), normal(shape[1:2], seed + 1)

    _, mean, variance, inverse_std = reference.batch_norm_train(x, weight, bias, 1e-5)
    gradients = reference.batch_norm_train_backward(dy, x, weight, mean, inverse_std)
    assert_gradients(lambda *a: reference.batch_norm_train(*a, 1e-5)[0], (x, weight, bias), gradients, dy, seed)

    mean, variance = mean + 1, variance + 2
    _, inverse_std = reference.batch_norm_eval(x, weight, bias, mean, variance, 1e-5)
    gradients = reference.batch_norm_eval_backward(dy, x, weight, mean, inverse_std)
    assert_gradients(
        lambda *a: reference.batch_norm_eval(*a, mean, variance, 1e-5)[0], (x, weight, bias), gradients, dy, seed
    )


@CHECKS
@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 5)), seeds)
def test_group_norm(sizes: tuple[int, int, int, int], seed: int) -> None:
    n, groups, channels, length = sizes
    shape = (n, groups * channels, length)
    x, dy = 10 * spaced(shape, seed), normal(shape, seed)
    weight, bias = normal(shape[1:2], seed), normal(shape[1:2], seed + 1)
    _, mean, _, inverse_std = reference.group_norm(x, weight, bias, groups, 1e-5)
    gradients = reference.group_norm_backward(dy, x, weight, mean, inverse_std, groups)
    assert_gradients(
        lambda *a: reference.group_norm(*a, groups, 1e-5)[0], (x, weight, bias),
        [gradient for gradient in gradients if gradient is not None], dy, seed,
    )  # fmt: skip
    dx = reference.group_norm_backward(dy, x, None, mean, inverse_std, groups)[0]
    assert_gradients(lambda x: reference.group_norm(x, None, None, groups, 1e-5)[0], (x,), (dx,), dy, seed)


@CHECKS
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 3)), st.integers(1, 9),
    st.sampled_from((0.5, 0.75, 2.0)), seeds,
)  # fmt: skip
def test_local_response_norm(shape: tuple[int, int, int], size: int, beta: float, seed: int) -> None:
    x, dy = normal(shape, seed), normal(shape, seed + 1)
    scale = reference.local_response_norm(x, size, 0.5, beta, 1.5)[1]
    dx = reference.local_response_norm_backward(dy, x, scale, size, 0.5, beta)
    assert_gradients(lambda x: reference.local_response_norm(x, size, 0.5, beta, 1.5)[0], (x,), (dx,), dy, seed)


@CHECKS
@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5), seeds)
def test_linear(n: int, inputs: int, outputs: int, seed: int) -> None:
    x, weight, bias = normal((n, inputs), seed), normal((outputs, inputs), seed), normal((outputs,), seed)
    dy = normal((n, outputs), seed)
    dx, dweight = reference.linear_backward_input(dy, weight), reference.linear_backward_weight(dy, x)
    gradients = (dx, dweight, reference.linear_backward_bias(dy))
    assert_gradients(reference.linear, (x, weight, bias), gradients, dy, seed)
    y = reference.linear(x, weight, None)
    assert_adjoint(dy, y, dx, x)
    assert_adjoint(dy, y, dweight, weight)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
@CHECKS
@given(shape=shapes, seed=seeds)
def test_activation(name: str, shape: tuple[int, ...], seed: int) -> None:
    function, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
    x, dy = spaced(shape, seed), normal(shape, seed)
    assert_gradients(function, (x,), (backward(dy, function(x)),), dy, seed)


@CHECKS
@given(shapes, st.floats(0, 1), st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1).map(np.array))
def test_dropout_is_its_own_adjoint(shape: tuple[int, ...], p: float, seed: int, offset: np.ndarray) -> None:
    x, dy = normal(shape, 0), normal(shape, 1)
    assert_adjoint(dy, reference.dropout(x, p, seed, offset), reference.dropout(dy, p, seed, offset), x)


@CHECKS
@given(st.tuples(*[st.integers(0, 4)] * 3), st.sampled_from(((), (2,), (2, 3))), seeds)
def test_channels_are_put_taken_and_added(sizes: tuple[int, int, int], rest: tuple[int, ...], seed: int) -> None:
    before, count, after = sizes
    whole, part = normal((3, sum(sizes), *rest), seed), normal((3, count, *rest), seed + 1)
    old = whole.copy()
    reference.put_channels(whole, part, before)
    np.testing.assert_array_equal(reference.take_channels(whole, before, count), part)
    np.testing.assert_array_equal(whole, np.concatenate([old[:, :before], part, old[:, before + count :]], axis=1))
    assert reference.take_channels(whole, before + count, after).shape == (3, after, *rest)
    old = whole.copy()
    reference.add_channels(whole, part)
    np.testing.assert_array_equal(whole[:, :count], old[:, :count] + part)
    np.testing.assert_array_equal(whole[:, count:], old[:, count:])


@CHECKS
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from((0.0, 0.1, 1.0)), st.sampled_from((1.0, -0.3)), seeds)
def test_losses(n: int, classes: int, label_smoothing: float, scale: float, seed: int) -> None:
    logits, labels = normal((n, classes), seed), np.random.default_rng(seed).integers(0, classes, n)
    options = (None, -100, label_smoothing)
    _, probabilities, _ = reference.softmax_cross_entropy(logits, labels, *options, "sum")
    gradient = reference.softmax_cross_entropy_backward(np.array(scale), probabilities, labels, *options)
    cotangent = np.array(scale)
    assert_gradients(
        lambda x: reference.softmax_cross_entropy(x, labels, *options, "sum")[0],
        (logits,),
        (gradient,),
        cotangent,
        seed,
    )
    target = normal((n, classes), seed + 1)
    gradient = reference.pointwise_loss_backward(None, logits, target, "squared", scale=scale)
    assert_gradients(
        lambda x: reference.pointwise_loss_sum(x, target, "squared"), (logits,), (gradient,), cotangent, seed
    )
