"""Sums as text, and what they are of no numbers, of infinity and of NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn.explain import (
    Copied,
    FunctionValue,
    Joined,
    Largest,
    Mean,
    Normalized,
    Term,
    WeightedSum,
    WrittenSum,
)

NAN, INF = float("nan"), float("inf")


def weighted(inputs: Any, weights: Any, bias: float | None = None, inside: Any = None) -> WeightedSum:
    inputs = np.asarray(inputs, np.float64)
    counts = np.ones(inputs.shape, bool) if inside is None else np.asarray(inside)
    return WeightedSum(inputs, np.asarray(weights, np.float64), counts, bias)


def largest(*inputs: float, inside: Any = None) -> Largest:
    return Largest(np.array(inputs), np.ones(len(inputs), bool) if inside is None else np.array(inside))


def mean(*inputs: float, divisor: int, counts: Any = None) -> Mean:
    return Mean(np.array(inputs), np.ones(len(inputs), bool) if counts is None else np.array(counts), divisor)


@pytest.mark.parametrize(
    ("written", "most", "text"),
    [
        (weighted([1, 2, 3], [0.5, -1, 0.25], bias=-0.1), 4, "2·(−1) + 3·0.25 + 1·0.5 + bias −0.1 = −0.85"),
        (weighted([1, 2, 3], [0.5, -1, 0.25], bias=-0.1), 1, "2·(−1) + … (2 more: 1.25) + bias −0.1 = −0.85"),
        (weighted([1, 2, 3], [0.5, -1, 0.25]), 2, "2·(−1) + 3·0.25 + … (1 more: 0.5) = −0.75"),
        (weighted([-3, -2], [1, 1]), 2, "−3·1 − 2·1 = −5"),
        (weighted([0, 2], [0.5, -1], inside=[False, True]), 4, "2·(−1) = −2"),
        (weighted([4, 2], [0.5, -1], inside=[False, True]), 4, "4·0.5 + 2·(−1) = 0"),  # reflected
        (weighted([0, 0], [0.5, -1], inside=[False, False]), 4, "0 = 0"),
        (weighted([0, 0], [0.5, -1], bias=2, inside=[False, False]), 4, "bias 2 = 2"),
        (weighted([-0.0], [1]), 4, "0·1 = 0"),
        (weighted([1e-7, 123456], [1, 1]), 4, "1.23e+05·1 + 1e-07·1 = 1.23e+05"),
        (largest(1, -3, 2), 4, "max(2, 1, −3) = 2"),
        (largest(1, -3, 2), 1, "max(2, … (2 more)) = 2"),
        (largest(-INF, -3, inside=[False, True]), 4, "max(−3) = −3"),
        (largest(-INF, -INF, inside=[False, False]), 4, "max() = −inf"),
        (mean(1, 2, 3, divisor=3), 2, "(3 + 2 + … (1 more: 1)) / 3 = 2"),
        (mean(1, 2, 0, divisor=2, counts=[True, True, False]), 4, "(2 + 1) / 2 = 1.5"),
        (mean(0, divisor=1, counts=[False]), 4, "(0) / 1 = 0"),
        (Normalized(1, -2, 9, 0, None, None), 4, "(1 − (−2)) / √(9 + 0) = 1"),
        (Normalized(1, -2, 9, 0, -1, -0.5), 4, "(1 − (−2)) / √(9 + 0) · (−1) − 0.5 = −1.5"),
        (FunctionValue("LeakyReLU", "negative_slope=0.5", -3, -1.5), 1, "LeakyReLU(negative_slope=0.5)(−3) = −1.5"),
        (Joined("+", ("a", "b", "c"), (-1, -2, 3)), 2, "−1 − 2 + … (1 more: 3) = 0"),
        (Joined("·", ("a", "b", "c"), (-1, -2, 3)), 2, "−1·(−2)·… (1 more) = 6"),
        (Joined("·", ("a", "b"), (-1, -2)), 2, "−1·(−2) = 2"),
        (Copied("input", (3,), -1.5), 1, "input at (3,) = −1.5"),
        (Copied("padding", None, 0), 1, "padding = 0"),
    ],
)
def test_text(written: WrittenSum, most: int, text: str) -> None:
    assert written.text(most) == text
    assert all(isinstance(term, Term) for term in written.terms)


@pytest.mark.parametrize("most", [0, -1])
def test_at_least_one_term_is_written(most: int) -> None:
    with pytest.raises(ValueError, match=f"`most` {most} must be"):
        largest(1).text(most)


def test_the_largest_is_the_one_that_pooling_takes() -> None:
    """The first of equal ones, NaN above all, and never padding, whatever is beside it."""
    assert largest(1, 2, 2).chosen == (1,)
    assert largest(1, NAN, INF, NAN).chosen == (1,)
    assert np.isnan(largest(1, NAN).total)
    assert largest(-INF, -INF, inside=[False, True]).chosen == (1,)
    assert largest(-INF, -INF, inside=[False, False]).chosen is None
    assert Largest(np.array([[1.0, 2.0], [3.0, 0.0]]), np.ones((2, 2), bool)).chosen == (1, 0)


def test_terms_make_the_total() -> None:
    """Where they are added, multiplied or compared."""
    products = weighted([1, 2, 3], [0.5, -1, 0.25], bias=-0.1)
    assert [term.value for term in products.terms] == [-2, 0.75, 0.5, -0.1]
    assert products.terms[-1].text == "bias −0.1"
    assert sum(term.value for term in products.terms) == pytest.approx(products.total)
    assert [term.value for term in largest(1, 3, 2).terms] == [3, 2, 1]
    assert Joined("·", ("a", "b"), (2, 3)).terms == [Term("a: 2", 2), Term("b: 3", 3)]
    assert [term.text for term in Normalized(1, 2, 3, 4, None, 5).terms] == [
        *("input 1", "mean 2", "variance 3", "eps 4", "bias 5")
    ]


def test_signs_are_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="`sign` '-' must be"):
        Joined("-", ("a", "b"), (1, 2))
