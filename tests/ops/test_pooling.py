"""Pooling: the printed numbers of the course, borders, indices, and the tolerance to small shifts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn import ops

X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
SMALL = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)


def windows(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool):
    """Along one axis, the positions (relative to the image) that each window covers, out of PyTorch's description."""
    extent = dilation * (kernel - 1) + 1
    start, result = -before, []
    while start + extent <= size + after or (ceil_mode and start < size and start + extent - stride < size + after):
        result.append([start + dilation * tap for tap in range(kernel)])
        start += stride
    return result


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"kernel_size": 3}, [[10]]),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, [[5, 7], [13, 15]]),
        ({"kernel_size": (2, 3), "stride": (2, 3), "padding": (0, 1)}, [[5, 7], [13, 15]]),
    ],
)
def test_max_pool(backend, arguments, expected):
    np.testing.assert_array_equal(backend.to_numpy(ops.max_pool2d(X, **arguments)), [[expected]])


def test_each_channel_is_pooled_on_its_own(backend):
    y = ops.max_pool2d(np.concatenate([X, X + 1], axis=1), 3, padding=1, stride=2)
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[5, 7], [13, 15]], [[6, 8], [14, 16]]]])


def test_max_and_average_of_2x2_windows(backend):
    np.testing.assert_array_equal(backend.to_numpy(ops.max_pool2d(SMALL, 2, 1)), [[[[4, 5], [7, 8]]]])
    np.testing.assert_array_equal(backend.to_numpy(ops.avg_pool2d(SMALL, 2, 1)), [[[[2, 3], [5, 6]]]])


def test_pooled_edge_detector_tolerates_a_shift_by_one_pixel(backend):
    """An edge between columns 3 and 4, or one pixel to the right, is found in the same place of the pooled map."""
    image = np.ones((1, 1, 6, 8), np.float32)
    image[..., 4:] = 0
    shifted = np.ones_like(image)
    shifted[..., 5:] = 0
    kernel = np.array([[[[1.0, -1.0]]]], np.float32)
    maps = [backend.to_numpy(ops.conv2d(x, kernel)) for x in (image, shifted)]
    assert not np.array_equal(maps[0], maps[1])
    pooled = [backend.to_numpy(ops.max_pool2d(y, 2, stride=1)) for y in maps]
    assert pooled[0][0, 0, :, 3].all()
    assert pooled[1][0, 0, :, 3].all()


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_average_counts_what_is_inside_the_padded_image(backend, ceil_mode):
    """Of ones: along an axis the windows hold 2, 3, 1 of them and 3, 3, 2 with the padding; the third overhangs it."""
    ones, real, padded = np.ones((1, 1, 4, 4), np.float32), np.array([2, 3, 1]), np.array([3, 3, 2])
    count = 3 if ceil_mode else 2
    y = backend.to_numpy(ops.avg_pool2d(ones, 3, 2, 1, ceil_mode))
    np.testing.assert_allclose(y[0, 0], (np.outer(real, real) / np.outer(padded, padded))[:count, :count], rtol=1e-6)
    y = backend.to_numpy(ops.avg_pool2d(ones, 3, 2, 1, ceil_mode, count_include_pad=False))
    np.testing.assert_array_equal(y[0, 0], np.ones((count, count)))


@given(data=st.data())
@settings(max_examples=60)
def test_against_windows_one_by_one(backend, data):
    ceil_mode = data.draw(st.booleans(), "ceil_mode")
    count_include_pad = data.draw(st.booleans(), "count_include_pad")
    axes, padding = [], []
    for name in "hw":
        size = data.draw(st.integers(1, 7), name)
        kernel, stride = data.draw(st.integers(1, 4), f"k{name}"), data.draw(st.integers(1, 4), f"s{name}")
        half = st.integers(0, kernel // 2)
        padding.append((data.draw(half, f"before {name}"), data.draw(half, f"after {name}")))
        axes.append((size, kernel, stride))
    (h, kh, sh), (w, kw, sw) = axes
    rows = windows(h, kh, sh, *padding[0], 1, ceil_mode)
    columns = windows(w, kw, sw, *padding[1], 1, ceil_mode)
    x = np.random.default_rng(data.draw(st.integers(0, 9), "seed")).permutation(2 * h * w).reshape(1, 2, h, w) * 1.0
    arguments = ((kh, kw), (sh, sw), tuple(padding))
    if not rows or not columns:
        for pool in (ops.max_pool2d, ops.avg_pool2d):
            with pytest.raises(ValueError, match="does not fit the padded input"):
                pool(x, *arguments, ceil_mode=ceil_mode)
        return
    maxima, indices = ops.max_pool2d(x, *arguments, ceil_mode=ceil_mode, return_indices=True)
    averages = backend.to_numpy(ops.avg_pool2d(x, *arguments, ceil_mode, count_include_pad))
    maxima, indices = backend.to_numpy(maxima), backend.to_numpy(indices)
    assert maxima.shape == indices.shape == averages.shape == (1, 2, len(rows), len(columns))
    (top, bottom), (left, right) = padding
    for channel in range(2):
        for i, j in np.ndindex(len(rows), len(columns)):
            seen = [(r, c) for r in rows[i] for c in columns[j] if 0 <= r < h and 0 <= c < w]
            inside = [(r, c) for r in rows[i] for c in columns[j] if -top <= r < h + bottom and -left <= c < w + right]
            where = max(seen, key=lambda position: x[(0, channel, *position)])
            assert maxima[0, channel, i, j] == x[(0, channel, *where)]
            assert indices[0, channel, i, j] == where[0] * w + where[1]
            total = sum(x[(0, channel, *position)] for position in seen)
            expected = total / len(inside if count_include_pad else seen)
            np.testing.assert_allclose(averages[0, channel, i, j], expected, rtol=1e-12)


@given(
    size=st.integers(1, 7),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=40)
def test_dilated_max_pool(backend, size, kernel, stride, dilation, data):
    extent = dilation * (kernel - 1) + 1
    before, after = (data.draw(st.integers(0, extent // 2), name) for name in ("before", "after"))
    rows = windows(size, kernel, stride, before, after, dilation, False)
    x = np.random.default_rng(0).permutation(size).reshape(1, 1, size, 1) - 50.0
    arguments = ((kernel, 1), (stride, 1), ((before, after), (0, 0)), (dilation, 1))
    if not rows:
        with pytest.raises(ValueError, match="does not fit the padded input"):
            ops.max_pool2d(x, *arguments)
        return
    y, indices = ops.max_pool2d(x, *arguments, return_indices=True)
    for value, index, row in zip(backend.to_numpy(y).flat, backend.to_numpy(indices).flat, rows, strict=True):
        seen = [r for r in row if 0 <= r < size]
        expected = max(seen, key=lambda r: x[0, 0, r, 0]) if seen else -1
        assert index == expected
        assert value == (x[0, 0, expected, 0] if seen else -np.inf)


def test_indices_are_int32_and_name_the_first_maximum_in_row_major_order(backend):
    x = np.zeros((1, 1, 3, 4), np.float32)
    x[0, 0, 1, 2] = x[0, 0, 2, 0] = 5
    y, indices = ops.max_pool2d(x, 3, 1, return_indices=True)
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(backend.to_numpy(y), [[[[5, 5]]]])
    np.testing.assert_array_equal(backend.to_numpy(indices), [[[[6, 6]]]])


def test_nan_wins_and_minus_infinity_is_a_value(backend):
    x = np.full((1, 2, 2, 2), -np.inf, np.float32)
    x[0, 0, 0, 1] = 7
    x[0, 0, 1, 1] = np.nan
    y, indices = (backend.to_numpy(a) for a in ops.max_pool2d(x, 2, return_indices=True))
    np.testing.assert_array_equal(y[0, :, 0, 0], [np.nan, -np.inf])
    np.testing.assert_array_equal(indices[0, :, 0, 0], [3, 0])


def test_max_backward_sends_each_cotangent_to_its_maximum(backend):
    x = np.array([[[[1, 2, 3], [4, 9, 5], [6, 7, 8]]]], np.float32)
    _, indices = ops.max_pool2d(x, 2, 1, return_indices=True)
    dx = ops.max_pool2d_backward(np.array([[[[1, 2], [3, 4]]]], np.float32), indices, x.shape, 2, 1)
    np.testing.assert_array_equal(backend.to_numpy(dx), [[[[0, 0, 0], [0, 10, 0], [0, 0, 0]]]])


@pytest.mark.parametrize(("count_include_pad", "corner"), [(True, 4), (False, 1)])
def test_average_backward_shares_out_by_the_window_size(backend, count_include_pad, corner):
    """Windows of one real and three padded elements: 4 or 1 count."""
    dy = np.array([[[[4, 8], [12, 16]]]], np.float32)
    dx = ops.avg_pool2d_backward(dy, (1, 1, 2, 2), 2, 2, 1, False, count_include_pad)
    np.testing.assert_array_equal(backend.to_numpy(dx), dy / corner)


def test_global_average(backend):
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
    y = ops.global_avg_pool2d(x)
    np.testing.assert_allclose(backend.to_numpy(y), x.mean(axis=(2, 3), keepdims=True), rtol=1e-14)
    dy = np.arange(6, dtype=np.float64).reshape(2, 3, 1, 1)
    dx = ops.global_avg_pool2d_backward(dy, x.shape)
    np.testing.assert_allclose(backend.to_numpy(dx), np.broadcast_to(dy / 20, x.shape), rtol=1e-14)


def test_stride_defaults_to_the_window(backend):
    geometry = ops.pool2d_geometry((2, 3, 9, 8), (3, 2))
    assert (geometry.sh, geometry.sw) == (3, 2)
    assert tuple(ops.avg_pool2d(np.ones((2, 3, 9, 8)), (3, 2)).shape) == (2, 3, 3, 4)


def test_same_padding_with_stride_1_keeps_the_size(backend):
    y = ops.max_pool2d(X, 2, stride=1, padding="same")
    np.testing.assert_array_equal(
        backend.to_numpy(y)[0, 0], [[5, 6, 7, 7], [9, 10, 11, 11], [13, 14, 15, 15], [13, 14, 15, 15]]
    )
    lower = ops.max_pool2d(X, 2, stride=1, padding="same_lower")
    np.testing.assert_array_equal(backend.to_numpy(lower)[0, 0], X[0, 0])


@pytest.mark.parametrize("kernel", [5, 6])
def test_ceil_mode_takes_an_overhanging_window_even_as_the_only_one(backend, kernel):
    """As PyTorch does for a stride larger than the overhang."""
    with pytest.raises(ValueError, match="output would be 0x0"):
        ops.max_pool2d(X, kernel)
    np.testing.assert_array_equal(backend.to_numpy(ops.max_pool2d(X, kernel, ceil_mode=True)), [[[[15]]]])
    np.testing.assert_array_equal(backend.to_numpy(ops.avg_pool2d(X, kernel, ceil_mode=True)), [[[[7.5]]]])


def test_images_whose_places_do_not_fit_int32_are_refused() -> None:
    assert ops.pool2d_geometry((1, 1, 32768, 65535), 2).y_shape == (1, 1, 16384, 32767)
    image = np.broadcast_to(np.float32(0), (1, 1, 32768, 65536))
    for call in (
        lambda: ops.pool2d_geometry(image.shape, 2),
        lambda: ops.max_pool2d(image, 2, return_indices=True),
        lambda: ops.max_pool2d_backward(image[..., ::2, ::2], image[..., ::2, ::2], image.shape, 2),
    ):
        with pytest.raises(ValueError, match=r"`x` \(1, 1, 32768, 65536\) must have images of fewer than 2147483648"):
            call()


def test_windows_beyond_32_bits_are_refused() -> None:
    for name in ("kernel_size", "stride", "dilation", "padding"):
        with pytest.raises(ValueError, match=f"`{name}` .* must be"):
            ops.pool2d_geometry((1, 1, 8, 8), **{"kernel_size": 2, name: 2**31})
