"""Empty arrays and numbers near the largest: every backend gives what the reference gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import backends
from numbacnn.backends import reference
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry
from tests.on_numpy import OnNumPy

KINDS = ("squared", "smooth_l1", "huber", "logistic")
HUGE = np.float32(3e38)
AVAILABLE = [name for name, reason in backends.available().items() if reason is None]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def conv_calls(n: int, k: int) -> list[tuple[str, tuple[Any, ...]]]:
    g = Conv2dGeometry(n, 2, 4, 5, k, 3, 3, pt=1, pl=1)
    x, weight, dy = zeros(*g.x_shape), zeros(*g.weight_shape), zeros(*g.y_shape)
    calls: list[tuple[str, tuple[Any, ...]]] = [("conv2d_backward_bias", (dy,))]
    for algorithm in ("loops", "im2col"):
        calls += [
            ("conv2d", (x, weight, zeros(k), g, algorithm)),
            ("conv2d_backward_input", (dy, weight, g, algorithm)),
            ("conv2d_backward_weight", (dy, x, g, algorithm)),
        ]
    return calls


def empty_calls() -> list[tuple[str, tuple[Any, ...]]]:
    """Every sum, over no samples, no positions, no features, no classes."""
    labels = np.zeros(0, np.int64)
    pool = Pool2dGeometry(0, 2, 5, 5, 3, 3, 2, 2)
    calls = [
        *conv_calls(0, 3),
        ("max_pool2d", (zeros(*pool.x_shape), pool)),
        ("max_pool2d_backward", (zeros(*pool.y_shape), np.zeros(pool.y_shape, np.int32), pool)),
        ("avg_pool2d", (zeros(*pool.x_shape), pool, True)),
        ("avg_pool2d_backward", (zeros(*pool.y_shape), pool, True)),
        *[("pointwise_loss_sum", (zeros(0, 3), zeros(0, 3), kind, 1.0)) for kind in KINDS],
        *[("pointwise_loss_backward", (None, zeros(0, 3), zeros(0, 3), kind, 1.0)) for kind in KINDS],
        ("global_norm", ([zeros(0), zeros(0, 3)],)),
        ("prelu", (zeros(2, 0, 3, 3), zeros(0))),
        ("prelu_backward", (zeros(2, 3, 0, 3), zeros(2, 3, 0, 3), zeros(3))),
        ("prelu_backward", (zeros(0, 3), zeros(0, 3), zeros(1))),
        ("multiply", (zeros(2, 0, 3, 3), zeros(2, 0, 1, 1))),
        ("multiply", (zeros(2, 3, 0, 3), zeros(2, 3, 1, 1))),
        ("sum_of_products", (zeros(2, 3, 0, 4), zeros(2, 3, 0, 4))),
        ("sum_of_products", (zeros(0, 3, 2, 4), zeros(0, 3, 2, 4))),
        ("jitter_colors", (zeros(2, 3, 0, 4), *[np.ones(2, np.float32)] * 3, zeros(2))),
        ("affine_images", (zeros(2, 3, 0, 4), np.zeros((2, 2, 5), np.int64), 2, 3, True, zeros(3))),
        (
            "mix_images",
            (zeros(2, 3, 0, 4), zeros(2, 3, 0, 4), *[np.zeros((2, *s), np.int64) for s in ((), (4,))], zeros(2)),
        ),
        *[("adjust_images", (zeros(2, 3, 0, 4), np.full(2, kind), np.ones(2, np.float32))) for kind in range(9)],
    ]
    for shape in ((0, 2, 5), (3, 2, 0), (0, 2, 0), (3, 0, 5)):
        c = shape[1]
        x, one = zeros(*shape), np.ones(c, np.float32)
        for eps in (0.0, 1e-5):
            calls += [("batch_norm_train", (x, one, one, eps)), ("batch_norm_eval", (x, one, one, one, one, eps))]
        for inverse_std in (one, one * np.float32(np.inf)):
            for name in ("batch_norm_train_backward", "batch_norm_eval_backward"):
                calls.append((name, (x, x, one, one, inverse_std)))
            for groups in {1, max(c, 1)}:
                of_groups = np.broadcast_to(inverse_std[:1] if c else np.float32(1), (shape[0], groups)).copy()
                calls.append(("group_norm_backward", (x, x, one, np.ones_like(of_groups), of_groups, groups)))
        calls += [("group_norm", (x, one, None, groups, eps)) for groups in {1, max(c, 1)} for eps in (0.0, 1e-5)]
        calls += [
            ("local_response_norm", (x, 3, 1.0, 0.75, 1.0)),
            ("local_response_norm_backward", (x, x, x, 3, 1.0, 1.0)),
        ]
    for n, i, o in ((0, 4, 3), (5, 0, 3), (5, 4, 0), (0, 0, 0)):
        x, weight, dy = zeros(n, i), zeros(o, i), zeros(n, o)
        calls += [
            ("linear", (x, weight, np.ones(o, np.float32))),
            ("linear_backward_input", (dy, weight)),
            ("linear_backward_weight", (dy, x)),
            ("linear_backward_bias", (dy,)),
        ]
    for classes in (0, 3):
        logits = zeros(0, classes)
        for smoothing in (0.0, 0.1):
            calls += [
                ("softmax_cross_entropy", (logits, labels, None, -100, smoothing, reduction))
                for reduction in ("mean", "sum", "none")
            ]
            calls += [
                ("softmax_cross_entropy", (logits, logits, None, -100, smoothing, "sum")),
                ("softmax_cross_entropy_backward", (np.array(1.0), logits, labels, None, -100, smoothing)),
                ("softmax_cross_entropy_backward", (np.array(1.0), logits, logits, None, -100, smoothing)),
            ]
        calls += [
            ("nll_loss", (logits, labels)),
            ("nll_loss", (np.zeros((2, classes, 0, 3), np.float32), np.zeros((2, 0, 3), np.int64))),
            ("nll_loss_backward", (np.array(1.0), logits, labels)),
            ("softmax_cross_entropy", (np.zeros((2, classes, 0, 3), np.float32), np.zeros((2, 0, 3), np.int64))),
        ]
        calls += [
            ("softmax", (logits, 1)),
            ("softmax_backward", (logits, logits, 0)),
            ("count_correct", (logits, labels)),
        ]
    return [
        *calls,
        ("softmax", (zeros(3, 0), 1)),
        ("softmax", (zeros(3, 0), 0)),
        ("softmax", (zeros(3, 0, 4), 1, True)),
    ]


def huge_calls() -> list[tuple[str, tuple[Any, ...]]]:
    """Means, losses and norms of numbers whose sums or squares are too large for float32."""
    signs = np.where(np.arange(2 * 3 * 1200).reshape(2, 3, 1200) % 3, 1, -1).astype(np.float32)
    one, labels = np.ones(3, np.float32), np.array([0, 2])
    # Of each plane, and of all rows, the first half is as far above zero as the second is below. Sums of these, where
    # they are not too large, are exact in whatever order.
    halves = np.float32(2.0**127) * np.where(np.arange(1200) < 600, one[0], -one[0])
    halves = np.broadcast_to(halves, (2, 3, 1200)).copy()
    calls: list[tuple[str, tuple[Any, ...]]] = [
        *[("pointwise_loss_sum", (signs[0] * HUGE, signs[1] * HUGE, kind, 1e30)) for kind in KINDS],
        *[("pointwise_loss", (signs[0] * HUGE, signs[1] * HUGE, kind, 1e30)) for kind in KINDS],
        *[("pointwise_loss_backward", (None, signs[0] * HUGE, signs[1] * HUGE, kind, 1e30)) for kind in KINDS],
        ("nll_loss", (signs[:, :, 0] * HUGE, labels)),
        ("global_norm", ([signs * HUGE],)),
        ("softmax", (signs[:, :, 0] * HUGE, 1)),
        ("softmax", (signs[:, :, 0] * HUGE, 0)),
        ("softmax_cross_entropy", (signs[:, :, 0] * HUGE, labels, None, -100, 0.1, "sum")),
        ("batch_norm_train", (np.abs(signs) * HUGE, one, one, 1e-5)),
        ("batch_norm_eval_backward", (halves / 4, signs, one, zeros(3), one)),
        ("batch_norm_train_backward", (halves / 4, signs, one, zeros(3), one)),
        ("group_norm", (np.abs(signs) * HUGE, one, one, 1, 1e-5)),
        ("group_norm", ((np.abs(signs) * HUGE).reshape(2, 3, 30, 40), one, one, 3, 1e-5)),
        ("group_norm_backward", (halves / 4, signs, one, zeros(2, 3), np.ones((2, 3), np.float32), 3)),
        (
            "group_norm_backward",
            (*(a.reshape(2, 3, 30, 40) for a in (halves / 4, signs)), one, zeros(2, 1), np.ones((2, 1), np.float32), 1),
        ),
        ("conv2d_backward_bias", (halves.reshape(2, 3, 30, 40),)),
        ("linear_backward_bias", (halves[0].T.copy(),)),
    ]
    for length in (1, 5, 1200):
        x = signs[:, :, :length] * np.float32(1e25)
        calls += [("batch_norm_train", (x, one, one, 1e-5)), ("group_norm", (x, one, one, 3, 1e-5))]
        calls += [("group_norm", (x[:, :, :, None], one, one, 1, 1e-5))]
    for h, window, stride in ((6, 2, 2), (7, 3, 1), (9, 3, 3), (9, 9, 9), (30, 29, 1), (12, 8, 1), (6, 3, 2)):
        g = Pool2dGeometry(1, 2, h, h, window, window, stride, stride)
        calls += [("avg_pool2d", (np.full(g.x_shape, sign * HUGE), g, True)) for sign in (1, -1)]
    return calls


def assert_alike(ours: OnNumPy, name: str, arguments: tuple[Any, ...]) -> None:
    # Each argument is an array of its own.
    arguments = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in arguments)
    with np.errstate(all="ignore"):
        expected = getattr(reference, name)(*arguments)
        results = getattr(ours, name)(*arguments)
    if not isinstance(expected, tuple):
        expected, results = (expected,), (results,)
    for result, right in zip(results, expected, strict=True):
        assert result.shape == right.shape
        assert result.dtype == right.dtype
        np.testing.assert_allclose(result, right, rtol=1e-5, atol=1e-5, err_msg=f"{name}{arguments}")


@pytest.mark.parametrize("function", sorted({name for name, _ in empty_calls()}))
def test_sums_of_nothing(ours: OnNumPy, function: str) -> None:
    for name, arguments in empty_calls():
        if name == function:
            assert_alike(ours, name, arguments)


@pytest.mark.parametrize("function", sorted({name for name, _ in huge_calls()}))
def test_sums_of_the_largest_numbers(ours: OnNumPy, function: str) -> None:
    for name, arguments in huge_calls():
        if name == function:
            assert_alike(ours, name, arguments)


@pytest.mark.parametrize("wrong", [-1, 5, 2**62])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", AVAILABLE)
def test_an_index_outside_of_the_data_set(name: str, dtype: Any, wrong: int) -> None:
    backend = backends.get(name)
    images = backend.asarray(np.ones((5, 1, 2, 2), dtype))
    labels, index = backend.asarray(np.arange(5)), backend.asarray(np.array([3, wrong]))
    if name == "cuda":
        pixels = backend.to_numpy(backend.gather_images(images, index))
        assert np.isfinite(pixels[0]).all()
        assert np.isnan(pixels[1]).all()
        np.testing.assert_array_equal(backend.to_numpy(backend.gather_samples(labels, index)), [3, -1])
        return
    with pytest.raises(IndexError, match=f"`index` must be in 0..4, but holds {wrong}"):
        backend.gather_images(images, index)
    with pytest.raises(IndexError, match=f"`index` must be in 0..4, but holds {wrong}"):
        backend.gather_samples(labels, index)


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_captured_batch_reads_nothing_outside_of_the_data_set(name: str) -> None:
    backend = backends.get(name)
    images, labels = backend.asarray(np.ones((5, 4), np.float32)), backend.asarray(np.arange(5))
    index = backend.asarray(np.array([3, 0]))
    batch: list[Any] = []

    def gather() -> None:
        batch[:] = [backend.gather_images(images, index), backend.gather_samples(labels, index)]

    launches = backend.capture(gather)
    if launches is None:
        pytest.skip(f"{name} captures nothing here")
    backend.assign(index, backend.asarray(np.array([-1, 4])))
    launches[0]()
    pixels, found = (backend.to_numpy(array) for array in batch)
    np.testing.assert_array_equal(np.isnan(pixels).all(axis=1), [True, False])
    np.testing.assert_array_equal(found, [-1, 4])
