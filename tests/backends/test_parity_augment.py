"""Warped, mixed and adjusted images against loops over pixels, on every backend, and with any number of threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import get_num_threads, set_num_threads

from numbacnn import backends
from numbacnn.backends import reference
from numbacnn.backends.shared import adjustments
from numbacnn.backends.shared.sampling import places_of
from tests.numeric import normal
from tests.on_numpy import OnNumPy
from tests.strategies import CHECKS, IN_PYTHON, dtypes, seeds

LARGEST = 4 if IN_PYTHON else 7
sides = st.integers(1, LARGEST)
shapes = st.tuples(st.integers(0, 3), st.sampled_from((1, 3)), sides, sides)
KINDS = list(range(9))


def laid(x: np.ndarray, last: bool) -> np.ndarray:
    """The images, lying with channels last or plane by plane."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x


def lies_at(image: np.ndarray, row: float, column: float, bilinear: bool, fill: np.ndarray) -> np.ndarray:
    """What lies at a place in the image (c, h, w)."""
    _, h, w = image.shape

    def pixel(i: int, j: int) -> np.ndarray:
        return image[:, i, j].astype(np.float64) if 0 <= i < h and 0 <= j < w else fill

    if not bilinear:
        return pixel(math.floor(row + 0.5), math.floor(column + 0.5))
    top, left = math.floor(row), math.floor(column)
    value = np.zeros(len(image))
    for i in (0, 1):
        for j in (0, 1):
            weight = abs(1 - i - (row - top)) * abs(1 - j - (column - left))
            if weight > 0:
                value += weight * pixel(top + i, left + j)
    return value


@CHECKS
@given(shapes, sides, sides, st.booleans(), st.booleans(), st.booleans(), dtypes, seeds)
@example((2, 3, 1, 1), 2, 3, True, True, True, np.float32, 1)
@example((2, 1, 4, 4), 4, 4, True, False, True, np.float64, 2)
def test_warped_images(
    ours: OnNumPy, shape: tuple[int, ...], oh: int, ow: int, bilinear: bool, last: bool, clamped: bool, dtype: Any,
    seed: int,
) -> None:  # fmt: skip
    rng, (n, c, h, w) = np.random.default_rng(seed), shape
    x, fill = normal(shape, seed, dtype), normal((c,), seed, dtype)
    # Of quarters of a pixel, of which all is exact; and of fifths from there, so that no place is between two pixels.
    matrices = rng.integers(-8, 9, (n, 2, 3)) / 4
    if not bilinear:
        matrices[..., 2] += 0.2
    low, high = (np.array([0, 0]), np.array([h - 1, w - 1])) if clamped else (np.array([-1, -1]), np.array([h, w]))
    places = places_of(matrices, low, high, oh, ow)
    expected = np.empty((n, c, oh, ow))
    for i in range(n):
        for row in range(oh):
            for column in range(ow):
                at = matrices[i] @ [column, row, 1]
                down, across = (min(max(at[axis], low[axis]), high[axis]) for axis in (0, 1))
                expected[i, :, row, column] = lies_at(x[i], down, across, bilinear, fill.astype(np.float64))
    for backend in (OnNumPy(reference), ours):
        y = backend.affine_images(laid(x, last), places, oh, ow, bilinear, fill)
        assert y.shape == expected.shape and y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-8)


def test_a_place_far_away_is_beyond_the_image(ours: OnNumPy) -> None:
    matrices = np.array([[[1e30, -1e30, 1e30], [0, 1e12, -1e20]]])
    x, fill = np.ones((1, 1, 3, 3)), np.array([7.0])
    places = places_of(matrices, np.array([-1, -1]), np.array([3, 3]), 3, 3)
    for bilinear in (False, True):
        np.testing.assert_array_equal(ours.affine_images(x, places, 3, 3, bilinear, fill), np.full((1, 1, 3, 3), 7.0))


def test_what_weighs_nothing_does_not_count(ours: OnNumPy) -> None:
    x = np.array([[[[1, np.nan, 2], [np.inf, 3, -np.inf]]]])
    same = np.array([[[0.0, 1, 0], [1, 0, 0]]])
    places = places_of(same, np.array([-1, -1]), np.array([2, 3]), 2, 3)
    np.testing.assert_array_equal(ours.affine_images(x, places, 2, 3, True, np.array([np.nan])), x)
    whole, none = np.array([[0, 2, 0, 3]]), np.zeros(1)
    ones = np.ones_like(x)
    np.testing.assert_array_equal(ours.mix_images(x, ones, np.zeros(1, np.int64), whole, none), ones)


@CHECKS
@given(shapes, st.integers(1, 3), st.booleans(), st.booleans(), dtypes, seeds)
def test_mixed_images(
    ours: OnNumPy, shape: tuple[int, ...], m: int, one_color: bool, last: bool, dtype: Any, seed: int
) -> None:
    rng, (n, c, h, w) = np.random.default_rng(seed), shape
    x = normal(shape, seed, dtype)
    source = normal((m, c, 1, 1) if one_color else (m, c, h, w), seed + 1, dtype)
    index = rng.integers(0, m, n)
    boxes = np.concatenate([np.sort(rng.integers(0, size + 1, (n, 2)), axis=1) for size in (h, w)], axis=1)
    weight = rng.choice([0, 0.25, 0.7, 1], n).astype(dtype)
    expected = x.astype(np.float64)
    for i, (top, bottom, left, right) in enumerate(boxes):
        for row in range(top, bottom):
            for column in range(left, right):
                other = source[index[i], :, 0 if one_color else row, 0 if one_color else column]
                expected[i, :, row, column] = weight[i] * x[i, :, row, column] + (1 - weight[i]) * other
    for backend in (OnNumPy(reference), ours):
        y = backend.mix_images(laid(x, last), source, index, boxes, weight)
        assert y.shape == shape and y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)


def adjusted(image: np.ndarray, kind: int, amount: float) -> np.ndarray:
    """Pixel by pixel."""
    c, h, w = image.shape
    y = image.copy()
    gray = image.mean(axis=0) if c == 1 else np.tensordot([0.2989, 0.587, 0.114], image, 1)
    for channel, row, column in np.ndindex(c, h, w):
        value, plane = image[channel, row, column], image[channel]

        def blend(other: float, value: float = value) -> float:
            return min(max(amount * value + (1 - amount) * other, 0.0), 1.0)

        if kind == adjustments.BRIGHTNESS:
            value = blend(0.0)
        elif kind == adjustments.COLOR and c == 3:
            value = blend(gray[row, column])
        elif kind == adjustments.CONTRAST:
            value = blend(gray.sum() / (h * w))
        elif kind == adjustments.SHARPNESS and 0 < row < h - 1 and 0 < column < w - 1:
            around = plane[row - 1 : row + 2, column - 1 : column + 2]
            value = blend((around.sum() + 4 * value) / 13)
        elif kind == adjustments.POSTERIZE:
            value = min(math.floor(value * amount), amount - 1) / amount
        elif kind == adjustments.SOLARIZE:
            value = 1 - value if value >= amount else value
        elif kind == adjustments.AUTOCONTRAST and plane.max() > plane.min():
            value = (value - plane.min()) / (plane.max() - plane.min())
        y[channel, row, column] = value
    if kind == adjustments.EQUALIZE:
        for channel in range(c):
            y[channel] = equalized(image[channel])
    return y


def equalized(plane: np.ndarray) -> np.ndarray:
    """As the Python Imaging Library does, whose levels are whole numbers."""
    levels = [int(255.999 * value) for value in plane.ravel()]
    step = (len(levels) - levels.count(max(levels))) // 255
    if step == 0:
        return plane
    table = [min((sum(level < k for level in levels) + step // 2) // step, 255) for k in range(256)]
    return np.array([table[level] for level in levels]).reshape(plane.shape) / 255


def amount_of(kind: int) -> float:
    return {adjustments.POSTERIZE: 16.0, adjustments.SOLARIZE: 0.4}.get(kind, 1.75)


@CHECKS
@given(shapes, st.booleans(), dtypes, seeds)
@example((3, 3, 3, 3), True, np.float32, 1)
@example((len(KINDS), 1, 3, 4), False, np.float32, 0)  # each of the kinds
def test_adjusted_images(ours: OnNumPy, shape: tuple[int, ...], last: bool, dtype: Any, seed: int) -> None:
    # The middle of a level, so that no rounding makes another one of it, and each of the kinds in turn.
    n, *_ = shape
    x = ((np.random.default_rng(seed).integers(0, 255, shape) + 0.5) / 255).astype(dtype)
    kinds = (np.arange(n) + seed) % len(KINDS)
    amounts = np.array([amount_of(kind) for kind in kinds], dtype)
    expected = [adjusted(image.astype(np.float64), *of) for image, *of in zip(x, kinds, amounts, strict=True)]
    for backend in (OnNumPy(reference), ours):
        y = backend.adjust_images(laid(x, last), kinds, amounts)
        assert y.shape == shape and y.dtype == dtype
        if n:
            np.testing.assert_allclose(y, expected, rtol=0, atol=3e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("c", [1, 3])
def test_levels_are_equalized(ours: OnNumPy, c: int) -> None:
    """Images that are so large that levels change."""
    x = (np.random.default_rng(3).integers(0, 80, (2, c, 24, 25)) ** 1.2 // 1 / 255 + 0.001).astype(np.float32)
    x[1, 0] = x[1, 0, 0, 0]
    expected = [adjusted(image, adjustments.EQUALIZE, 1.0) for image in x]
    assert np.abs(expected[0] - x[0]).max() > 0.2
    for backend in (OnNumPy(reference), ours):
        y = backend.adjust_images(x, np.full(2, adjustments.EQUALIZE), np.ones(2, np.float32))
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_stays_and_leaves_others_alone(ours: OnNumPy, kind: int) -> None:
    x = (np.random.default_rng(4).random((1, 1, 20, 20)) * 0.9).astype(np.float32)
    x[0, 0, 3, 4] = np.nan
    for backend in (OnNumPy(reference), ours):
        y = backend.adjust_images(x, np.array([kind]), np.full(1, amount_of(kind), np.float32))[0, 0]
        others = np.isnan(y)
        assert others[3, 4]
        if kind == adjustments.CONTRAST:
            assert others.all()
        elif kind == adjustments.SHARPNESS:
            assert others.sum() == 9
        else:
            assert others.sum() == 1


def test_the_same_bits_for_any_number_of_threads() -> None:
    cpu, rng, threads = backends.get("cpu"), np.random.default_rng(0), get_num_threads()
    x = rng.random((9, 3, 40, 33), dtype=np.float32)
    places = places_of(rng.normal(size=(9, 2, 3)), np.array([-1, -1]), np.array([40, 33]), 41, 40)
    boxes = np.tile([3, 30, 4, 29], (9, 1))
    found = []
    try:
        for number in sorted({1, min(2, threads), threads}):
            set_num_threads(number)
            for last in (False, True):
                images = laid(x, last)
                found.append(
                    [
                        cpu.affine_images(images, places, 41, 40, True, np.ones(3, np.float32)),
                        cpu.affine_images(images, places, 41, 40, False, np.ones(3, np.float32)),
                        cpu.mix_images(images, images, np.arange(9)[::-1].copy(), boxes, np.full(9, 0.3, np.float32)),
                        cpu.adjust_images(images, np.array(KINDS), np.full(9, 0.75, np.float32)),
                    ]
                )
    finally:
        set_num_threads(threads)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
