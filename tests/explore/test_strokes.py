"""Drawings are brought to where the digits of MNIST are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn.explore.strokes import centred


@given(
    st.integers(0, 199), st.integers(0, 199), st.integers(8, 80), st.integers(8, 80), st.sampled_from([28, 28, 12, 64])
)
@settings(max_examples=60)
def test_wherever_and_however_large_it_is_drawn(top: int, left: int, height: int, width: int, size: int) -> None:
    drawing = np.zeros((280, 280), np.uint8)
    drawing[top : top + height, left : left + width] = 255
    result = centred(drawing, size)
    assert result.shape == (size, size) and result.max() > 200
    rows, columns = np.nonzero(result)
    longest = max(rows.max() - rows.min(), columns.max() - columns.min()) + 1
    assert longest == round(size * 20 / 28)
    for found in (rows, columns):
        assert abs((found * result[rows, columns]).sum() / result.sum(dtype=float) + 0.5 - size / 2) <= 1


def test_the_centre_of_mass_counts() -> None:
    drawing = np.zeros((280, 280), np.uint8)
    drawing[0:200, 0:20] = 255  # a long stem, and at its foot
    drawing[180:200, 0:100] = 255
    result = centred(drawing, 28).astype(float)
    for axis in (0, 1):
        moment = (result.sum(axis=1 - axis) @ (np.arange(28) + 0.5)) / result.sum()
        assert moment == pytest.approx(14, abs=0.51)
    rows = np.flatnonzero(result.any(axis=1))
    assert rows.min() < 28 - 1 - rows.max()  # the box is not in the centre


@pytest.mark.parametrize("value", [0, 1])
def test_nothing_or_next_to_nothing(value: int) -> None:
    drawing = np.zeros((280, 280), np.uint8)
    drawing[5, 5] = value
    assert centred(drawing, 28).shape == (28, 28)
    assert centred(np.zeros((280, 280), np.uint8), 28).max() == 0
