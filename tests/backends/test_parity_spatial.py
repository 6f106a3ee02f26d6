"""Images of another size: the reference against loops over pixels, and every fast backend against the reference."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from numbacnn.backends import reference
from numbacnn.backends.geometry import Resampling
from numbacnn.backends.shared.rearranging import nested_loops, rearranged_shape
from tests.numeric import assert_within, normal, wide
from tests.on_numpy import OnNumPy
from tests.strategies import CHECKS, SIMULATED, dtypes, seeds

MODES = ("constant", "reflect", "replicate", "circular")
Pads = tuple[int, int, int, int]

sizes = st.sampled_from((1, 2, 3, 5, 8, 17))
image_shapes = st.tuples(st.integers(0, 3), st.sampled_from((1, 3, 17)), sizes, sizes)
layouts = st.booleans()


def laid(x: np.ndarray, last: bool) -> np.ndarray:
    """Images as they were, or the same channels last."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x


@st.composite
def side_pairs(draw: st.DrawFn, mode: str, size: int) -> tuple[int, int]:
    """What is allowed of an axis of ``size`` pixels, of which at least one stays."""
    cut = draw(st.sampled_from(((0, 0), (0, 0), (-min(2, size - 1), 0), (0, -min(1, size - 1)))))
    most = {"reflect": size - 1, "circular": size + sum(cut)}.get(mode, 4)
    more = [draw(st.integers(0, min(most, 4))) for _ in cut]
    before, after = (part or pad for part, pad in zip(cut, more, strict=True))
    return before, after


@st.composite
def paddings(draw: st.DrawFn, batch: int = 0) -> tuple[tuple[int, ...], Pads, str]:
    n, c, h, w = draw(image_shapes)
    mode = draw(st.sampled_from(MODES))
    return (max(n, batch), c, h, w), (*draw(side_pairs(mode, h)), *draw(side_pairs(mode, w))), mode


@st.composite
def axes(draw: st.DrawFn, size: int, mode: str, align_corners: bool) -> Resampling:
    scale = draw(st.sampled_from((0.0, 0.0, 0.3, 0.75, 1.1, 2.0, 2.6)))
    outputs = draw(sizes) if not scale else max(1, math.floor(size * scale))
    return Resampling(size, outputs, mode, align_corners and mode == "linear", scale)


@st.composite
def resamplings(draw: st.DrawFn, batch: int = 0) -> tuple[tuple[int, ...], Resampling, Resampling]:
    n, c, h, w = draw(image_shapes)
    mode, align = draw(st.sampled_from(("nearest", "linear"))), draw(st.booleans())
    return (max(n, batch), c, h, w), draw(axes(h, mode, align)), draw(axes(w, mode, align))


def padded_pixel(point: int, size: int, before: int, after: int, mode: str) -> int | None:
    """Which pixel a point of a padded axis is."""
    pixel = point - before
    if mode == "replicate":
        return min(max(pixel, 0), size - 1)
    if mode == "reflect":
        return abs(pixel) if pixel < size else 2 * (size - 1) - pixel
    if mode == "circular":
        first, end = max(-before, 0), size - max(-after, 0)
        return first + (pixel - first) % (end - first)
    return pixel if 0 <= pixel < size else None


@CHECKS
@given(paddings(batch=1), seeds)
def test_padding_is_pixel_by_pixel(drawn: tuple[tuple[int, ...], Pads, str], seed: int) -> None:
    (n, c, h, w), (top, bottom, left, right), mode = drawn
    x = normal((n, c, h, w), seed)
    expected = np.empty((n, c, h + top + bottom, w + left + right))
    for row, column in np.ndindex(*expected.shape[2:]):
        i, j = padded_pixel(row, h, top, bottom, mode), padded_pixel(column, w, left, right, mode)
        expected[:, :, row, column] = -1.5 if i is None or j is None else x[:, :, i, j]
    np.testing.assert_array_equal(reference.pad2d(x, (top, bottom, left, right), mode, -1.5), expected)


def points(axis: Resampling) -> list[list[tuple[int, float]]]:
    """For each output the pixels that it is made of, and their weights, in floating numbers."""
    scale, found = axis.scale or axis.outputs / axis.size, []
    for o in range(axis.outputs):
        if axis.mode == "nearest":
            found.append([(min(int(np.float32(o) * np.float32(1 / scale)), axis.size - 1), 1.0)])
            continue
        at = max((o + 0.5) / scale - 0.5, 0)
        if axis.align_corners:
            at = o * (axis.size - 1) / (axis.outputs - 1) if axis.outputs > 1 else 0.0
        elif axis.size == axis.outputs:
            at = o
        at = min(at, axis.size - 1)
        before = min(math.floor(at), max(axis.size - 2, 0))
        found.append([(before, 1 - at + before), (min(before + 1, axis.size - 1), at - before)])
    return found


@CHECKS
@given(resamplings(batch=1), seeds)
def test_resampling_is_point_by_point(drawn: tuple[tuple[int, ...], Resampling, Resampling], seed: int) -> None:
    shape, rows, columns = drawn
    if rows.mode == "nearest":
        # As many points as pixels, or twice as many, are taken to be exactly so far apart.
        rows, columns = (a._replace(scale=0.0) if a.outputs in (a.size, 2 * a.size) else a for a in (rows, columns))
    x, expected = normal(shape, seed), np.zeros((*shape[:2], rows.outputs, columns.outputs))
    for (row, of_row), (column, of_column) in itertools.product(enumerate(points(rows)), enumerate(points(columns))):
        for (i, v), (j, u) in itertools.product(of_row, of_column):
            expected[:, :, row, column] += v * u * x[:, :, i, j]
    assert_within(reference.resample2d(x, rows, columns), expected, 4, 10.0)


@CHECKS
@given(paddings(), resamplings(), seeds)
def test_gradients_are_adjoint(padding: Any, resampling: Any, seed: int) -> None:
    """<dy, A x> = <A^T dy, x>."""
    (shape, pads, mode), (other_shape, rows, columns) = padding, resampling
    x, other = normal(shape, seed), normal(other_shape, seed)
    y, other_y = reference.pad2d(x, pads, mode, 0.0), reference.resample2d(other, rows, columns)
    dy, other_dy = normal(y.shape, seed + 1), normal(other_y.shape, seed + 1)
    dx, other_dx = (
        reference.pad2d_backward(dy, shape, pads, mode),
        reference.resample2d_backward(other_dy, rows, columns),
    )
    for left, right in ((dy * y, dx * x), (other_dy * other_y, other_dx * other)):
        assert abs(left.sum() - right.sum()) <= 1e-11 * (1 + np.abs(left).sum())


@CHECKS
@given(paddings(), layouts, dtypes, seeds)
@example(((2, 17, 5, 8), (2, 1, 3, 4), "reflect"), True, np.float32, 1)
@example(((2, 3, 1, 1), (0, 40, 30, 0), "replicate"), True, np.float32, 1)
@example(((1, 3, 5, 8), (-2, 1, 3, -1), "circular"), False, np.float32, 1)
def test_padding(ours: OnNumPy, drawn: tuple[tuple[int, ...], Pads, str], last: bool, dtype: Any, seed: int) -> None:
    shape, pads, mode = drawn
    x = laid(normal(shape, seed, dtype), last)
    expected = reference.pad2d(x, pads, mode, 2.5)
    np.testing.assert_array_equal(ours.pad2d(x, pads, mode, 2.5), expected)
    np.testing.assert_array_equal(ours.pad2d(x, pads, mode, -math.inf), reference.pad2d(x, pads, mode, -math.inf))
    dy = laid(normal(expected.shape, seed, dtype), last)
    dx = reference.pad2d_backward(*wide(dy), shape, pads, mode)
    assert_within(ours.pad2d_backward(dy, shape, pads, mode), dx, 9)


@CHECKS
@given(resamplings(), layouts, dtypes, seeds)
@example(((2, 3, 5, 7), Resampling(5, 5, "linear"), Resampling(7, 7, "linear")), False, np.float32, 1)
@example(((2, 17, 5, 7), Resampling(5, 10, "linear"), Resampling(7, 14, "linear")), True, np.float32, 1)
@example(((1, 3, 1, 2), Resampling(1, 70, "nearest"), Resampling(2, 50, "nearest")), True, np.float32, 1)
@example(((1, 2, 3, 4), Resampling(3, 0, "linear"), Resampling(4, 4, "linear")), False, np.float32, 1)
@example(((1, 2, 3, 4), Resampling(3, 0, "nearest"), Resampling(4, 4, "nearest")), False, np.float32, 1)
def test_resampling(
    ours: OnNumPy, drawn: tuple[tuple[int, ...], Resampling, Resampling], last: bool, dtype: Any, seed: int
) -> None:
    shape, rows, columns = drawn
    x = laid(normal(shape, seed, dtype), last)
    expected = reference.resample2d(*wide(x), rows, columns)
    y = ours.resample2d(x, rows, columns)
    assert_within(y, expected, 1, np.abs(x).max(initial=0))
    if rows.mode == "nearest":
        np.testing.assert_array_equal(y, expected)
    dy = laid(normal(expected.shape, seed, dtype), last)
    dx = reference.resample2d_backward(*wide(dy), rows, columns)
    assert_within(ours.resample2d_backward(dy, rows, columns), dx, 16, 10.0 * max(1.0, np.abs(dx).max(initial=0)))


def test_images_of_their_own_size_stay_as_they_are(ours: OnNumPy) -> None:
    x = np.array([[[[np.inf, 1], [-np.inf, np.nan]]]], np.float32)
    for mode in ("nearest", "linear"):
        for scale in (0.0, 1.0, 1.2):
            axis = Resampling(2, 2, mode, scale=scale)
            np.testing.assert_array_equal(ours.resample2d(x, axis, axis), x)


def test_long_sums_are_exact(ours: OnNumPy) -> None:
    """Of equal numbers, in float32."""
    many = 40 if SIMULATED else 1500
    rows, columns = Resampling(1, many, "nearest"), Resampling(1, many, "nearest")
    dx = ours.resample2d_backward(np.full((1, 3, many, many), np.float32(0.1)), rows, columns)
    np.testing.assert_allclose(dx, np.float64(np.float32(0.1)) * many**2, rtol=1e-6)


ARRANGEMENTS = (
    ((2, 12, 3, 4), ((2,), (3, 2, 2), (3,), (4,)), ((0,), (1,), (4, 2), (5, 3))),
    ((2, 3, 6, 4), ((2,), (3,), (3, 2), (2, 2)), ((0,), (1, 3, 5), (2,), (4,))),
    ((2, 68, 3, 5), ((2,), (4, 17), (3,), (5,)), ((0,), (2, 1), (3,), (4,))),
    ((3, 6, 5), ((3,), (2, 3), (5,)), ((0,), (2, 1), (3,))),
    ((5, 7), ((5,), (7,)), ((1,), (0,))),
    ((2, 3, 4), ((2,), (3,), (4,)), ((2,), (0,), (1,))),
    ((2, 3, 4, 5), ((2,), (3,), (4,), (5,)), ((0, 1), (2,), (3,))),
    ((12, 5), ((2, 3, 2), (5,)), ((2,), (1,), (0,), (3,))),
    ((0, 4, 2, 3), ((0,), (2, 2), (2,), (3,)), ((0,), (2, 1), (3,), (4,))),
    ((1, 1, 1, 1), ((1,), (1, 1, 1), (1,), (1,)), ((0,), (1,), (4, 2), (5, 3))),
)


@pytest.mark.parametrize(("shape", "split", "joined"), ARRANGEMENTS)
@pytest.mark.parametrize("last", [False, True])
def test_rearranging(ours: OnNumPy, shape: Any, split: Any, joined: Any, last: bool) -> None:
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    x = laid(x, last and len(shape) == 4)
    expected = reference.rearrange(x, split, joined)
    assert expected.shape == rearranged_shape(split, joined)
    np.testing.assert_array_equal(ours.rearrange(x, split, joined), expected)


def test_neighbouring_loops_are_one() -> None:
    lengths, steps = nested_loops(((2,), (3,), (4,), (5,)), ((0,), (1,), (2,), (3,)), range(4), range(4))
    assert (lengths, steps) == ((1, 1, 1, 1, 1, 120), (0, 0, 0, 0, 0, 1))
