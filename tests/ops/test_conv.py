"""Convolution: the printed numbers of the course, padding, shapes, translation and locality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import ops
from tests.strategies import SIMULATED

X = np.arange(9, dtype=np.float32).reshape(3, 3)
K = np.array([[0, 1], [2, 3]], dtype=np.float32)


def edge_image() -> np.ndarray:
    """Ones with columns 2..5 zero: two vertical edges."""
    image = np.ones((6, 8), np.float32)
    image[:, 2:6] = 0
    return image


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small whole numbers, whose sums of products are exact in float32 whatever the order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def test_corr2d(backend):
    y = backend.to_numpy(ops.corr2d(X, K))
    np.testing.assert_array_equal(y, [[19, 25], [37, 43]])
    assert y.dtype == np.float32


def test_corr2d_finds_vertical_edges_and_no_horizontal_ones(backend):
    kernel = [[1.0, -1.0]]
    np.testing.assert_array_equal(backend.to_numpy(ops.corr2d(edge_image(), kernel)), [[0, 1, 0, 0, 0, -1, 0]] * 6)
    np.testing.assert_array_equal(backend.to_numpy(ops.corr2d(edge_image().T, kernel)), np.zeros((8, 5)))


def test_channels_in_are_summed(backend):
    x = np.stack([X, X + 1])[None]
    weight = np.stack([K, K + 1])[None]
    np.testing.assert_array_equal(backend.to_numpy(ops.conv2d(x, weight)), [[[[56, 72], [104, 120]]]])


def test_channels_out_are_stacked(backend):
    x = np.stack([X, X + 1])[None]
    weight = np.stack([K, K + 1])
    y = ops.conv2d(x, np.stack([weight, weight + 1, weight + 2]))
    expected = [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]
    np.testing.assert_array_equal(backend.to_numpy(y), [expected])


def test_1x1_kernel_is_a_matrix_product_over_channels(backend):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, 3, 3, 3)).astype(np.float32), rng.normal(size=(2, 3, 1, 1)).astype(np.float32)
    expected = (weight[:, :, 0, 0] @ x.reshape(3, 9)).reshape(1, 2, 3, 3)
    np.testing.assert_allclose(backend.to_numpy(ops.conv2d(x, weight)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "options", "size"),
    [
        ((3, 3), {"padding": 1}, (8, 8)),
        ((5, 3), {"padding": (2, 1)}, (8, 8)),
        ((3, 3), {"padding": 1, "stride": 2}, (4, 4)),
        ((3, 5), {"padding": (0, 1), "stride": (3, 4)}, (2, 2)),
    ],
)
def test_sizes_on_an_8x8_image(backend, kernel, options, size):
    y = ops.conv2d(np.ones((1, 1, 8, 8), np.float32), np.ones((1, 1, *kernel), np.float32), **options)
    assert tuple(y.shape) == (1, 1, *size)


@pytest.mark.parametrize(
    ("padding", "sides"),
    [
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        (np.int64(1), ((1, 1), (1, 1))),
        ((2, 1), ((2, 2), (1, 1))),
        ([2, 1], ((2, 2), (1, 1))),
        (np.array([2, 1]), ((2, 2), (1, 1))),
        (((0, 2), (3, 1)), ((0, 2), (3, 1))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 2), (2, 2))),
        ("same_lower", ((2, 1), (2, 2))),
    ],
    ids=repr,
)
def test_every_form_of_padding_puts_zeros_around_the_image(backend, padding, sides):
    rng = np.random.default_rng(1)
    x, weight, bias = integers(rng, 2, 3, 5, 6), integers(rng, 4, 3, 4, 5), integers(rng, 4)
    y = ops.conv2d(x, weight, bias, padding=padding)
    expected = ops.conv2d(np.pad(x, ((0, 0), (0, 0), *sides)), weight, bias)
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(expected))


@pytest.mark.parametrize("padding", ["same", "same_lower"])
@given(h=st.integers(1, 7), w=st.integers(1, 7), kh=st.integers(1, 5), kw=st.integers(1, 5), dilation=st.integers(1, 3))
def test_same_padding_keeps_the_size(padding, h, w, kh, kw, dilation):
    geometry = ops.conv2d_geometry((1, 1, h, w), (1, 1, kh, kw), padding=padding, dilation=dilation)
    assert (geometry.oh, geometry.ow) == (h, w)
    odd_row = dilation * (kh - 1) % 2
    assert geometry.pb - geometry.pt == (odd_row if padding == "same" else -odd_row)


@given(data=st.data())
@settings(max_examples=40)
def test_output_size_is_the_number_of_window_positions(backend, data):
    """Counted one by one, and by the formula of the course in which the padding of both sides is one number."""
    h, kh, sh, dh = (
        data.draw(st.integers(1, high), name) for high, name in ((9, "h"), (4, "kh"), (4, "sh"), (2, "dh"))
    )
    top, bottom = data.draw(st.integers(0, 3), "top"), data.draw(st.integers(0, 3), "bottom")
    extent = dh * (kh - 1) + 1
    positions = len(range(0, h + top + bottom - extent + 1, sh))
    x, weight = np.ones((1, 1, h, 3), np.float32), np.ones((1, 1, kh, 1), np.float32)
    arguments = {"stride": (sh, 1), "padding": ((top, bottom), (0, 0)), "dilation": (dh, 1)}
    if not positions:
        with pytest.raises(ValueError, match=r"output would be 0x3: the kernel"):
            ops.conv2d(x, weight, **arguments)
        return
    assert tuple(ops.conv2d(x, weight, **arguments).shape) == (1, 1, positions, 3)
    if dh == 1:
        assert positions == (h - kh + top + bottom + sh) // sh
        if top + bottom == kh - 1:
            assert positions == (h + sh - 1) // sh


@given(data=st.data())
@settings(max_examples=25)
def test_a_shifted_image_gives_a_shifted_feature_map(backend, data):
    down, right = data.draw(st.integers(0, 3), "down"), data.draw(st.integers(0, 3), "right")
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    kh, kw = data.draw(st.integers(1, 3), "kh"), data.draw(st.integers(1, 3), "kw")
    weight = integers(rng, 2, 2, kh, kw)
    scene = integers(rng, 1, 2, 9, 9)
    y = backend.to_numpy(ops.conv2d(scene[..., 3:9, 3:9], weight))
    shifted = backend.to_numpy(ops.conv2d(scene[..., 3 - down : 9 - down, 3 - right : 9 - right], weight))
    oh, ow = y.shape[2:]
    np.testing.assert_array_equal(shifted[..., down:, right:], y[..., : max(oh - down, 0), : max(ow - right, 0)])


@given(data=st.data())
@settings(max_examples=25)
def test_an_output_changes_only_with_its_receptive_field(backend, data):
    stride, dilation, padding = (data.draw(st.integers(low, 2), name) for low, name in ((1, "s"), (1, "d"), (0, "p")))
    kernel = data.draw(st.integers(1, 3), "kernel")
    row, column = data.draw(st.integers(0, 7), "row"), data.draw(st.integers(0, 7), "column")
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    x, weight = integers(rng, 1, 2, 8, 8), rng.integers(1, 5, (1, 2, kernel, kernel)).astype(np.float32)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    before = backend.to_numpy(ops.conv2d(x, weight, **options))
    x[0, 1, row, column] += 1
    changed = backend.to_numpy(ops.conv2d(x, weight, **options)) != before
    taps = [dilation * u for u in range(kernel)]
    sees = [[i * stride - padding + tap for tap in taps] for i in range(before.shape[2])]
    expected = [[row in sees[i] and column in sees[j] for j in range(before.shape[3])] for i in range(before.shape[2])]
    np.testing.assert_array_equal(changed[0, 0], expected)


def test_a_kernel_as_large_as_the_image_is_a_fully_connected_layer(backend):
    rng = np.random.default_rng(2)
    x, weight, bias = integers(rng, 4, 3, 5, 6), integers(rng, 7, 3, 5, 6), integers(rng, 7)
    y = ops.conv2d(x, weight, bias)
    expected = ops.linear(x.reshape(4, -1), weight.reshape(7, -1), bias)
    np.testing.assert_array_equal(backend.to_numpy(y)[:, :, 0, 0], backend.to_numpy(expected))


def test_groups_are_separate_convolutions(backend):
    rng = np.random.default_rng(3)
    x, weight, bias = integers(rng, 2, 6, 5, 5), integers(rng, 4, 3, 3, 3), integers(rng, 4)
    y = backend.to_numpy(ops.conv2d(x, weight, bias, groups=2))
    halves = [ops.conv2d(x[:, i : i + 3], weight[j : j + 2], bias[j : j + 2]) for i, j in ((0, 0), (3, 2))]
    np.testing.assert_array_equal(y, np.concatenate([backend.to_numpy(half) for half in halves], axis=1))


@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_backward_on_one_window(backend, stride):
    """With an image as large as the kernel: dx = dy weight, dweight = dy x, dbias = dy."""
    rng = np.random.default_rng(4)
    x, weight, dy = integers(rng, 1, 2, 3, 3), integers(rng, 1, 2, 3, 3), np.full((1, 1, 1, 1), 2, np.float32)
    dx, dweight, dbias = (backend.to_numpy(g) for g in ops.conv2d_backward(dy, x, weight, stride))
    np.testing.assert_array_equal(dx, 2 * weight)
    np.testing.assert_array_equal(dweight, 2 * x)
    np.testing.assert_array_equal(dbias, [2])


def test_backward_without_input_gradient(backend):
    rng = np.random.default_rng(5)
    x, weight, dy = integers(rng, 2, 3, 6, 6), integers(rng, 4, 3, 3, 3), integers(rng, 2, 4, 4, 4)
    _, dweight, dbias = ops.conv2d_backward(dy, x, weight)
    nothing, *rest = ops.conv2d_backward(dy, x, weight, input_gradient=False)
    assert nothing is None
    np.testing.assert_array_equal(backend.to_numpy(rest[0]), backend.to_numpy(dweight))
    np.testing.assert_array_equal(backend.to_numpy(rest[1]), backend.to_numpy(dbias))


def test_every_algorithm_gives_the_same(backend):
    rng = np.random.default_rng(6)
    size = (1, 4, 5, 4) if SIMULATED else (2, 4, 9, 7)
    x, weight, bias = integers(rng, *size), integers(rng, 6, 2, 3, 3), integers(rng, 6)
    options = {"padding": ((1, 0), (2, 1)), "groups": 2}
    y = ops.conv2d(x, weight, bias, **options)
    dy = integers(rng, *y.shape)
    gradients = ops.conv2d_backward(dy, x, weight, **options)
    for algorithm in backend.conv2d_algorithms():
        # Not exactly: an algorithm may compute in another basis.
        again = ops.conv2d(x, weight, bias, algorithm=algorithm, **options)
        np.testing.assert_allclose(backend.to_numpy(again), backend.to_numpy(y), rtol=0, atol=2e-3)
        for ours, other in zip(
            ops.conv2d_backward(dy, x, weight, algorithm=algorithm, **options), gradients, strict=True
        ):
            np.testing.assert_allclose(backend.to_numpy(ours), backend.to_numpy(other), rtol=0, atol=2e-2)


def test_choice_names_an_algorithm_for_every_pass(backend):
    geometry = ops.conv2d_geometry((16, 3, 12, 12), (8, 3, 3, 3), padding="same")
    choice = ops.conv2d_choice(geometry)
    assert list(choice) == ["forward", "backward_input", "backward_weight"]
    assert set(choice.values()) <= set(backend.conv2d_algorithms())
    for name in backend.conv2d_algorithms():
        assert set(ops.conv2d_choice(geometry, name).values()) == {name}


def test_geometry_holds_all_sizes():
    geometry = ops.conv2d_geometry((2, 4, 9, 8), (6, 2, 3, 2), (2, 1), ((1, 0), (2, 3)), (1, 2), 2)
    assert geometry.descriptor == "n2c4h9w8k6r3rw2s2sw1p1pb0pw2pr3d1dw2g2"
    assert geometry.y_shape == (2, 6, 4, 11)


def test_backend_by_name_overrides_the_default(backend):
    y = ops.corr2d(X, K, backend="reference")
    np.testing.assert_array_equal(y, [[19, 25], [37, 43]])
    again = ops.corr2d(X, K, backend=backend)
    np.testing.assert_array_equal(backend.to_numpy(again), y)
