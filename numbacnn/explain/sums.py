"""How one number comes about, written out: a class for each kind of sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..ops.arguments import integer, one_of

__all__ = ["Copied", "FunctionValue", "Joined", "Largest", "Mean", "Normalized", "Term", "WeightedSum", "WrittenSum"]

Values = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

MINUS = "\N{MINUS SIGN}"
MOST = 4
"""Of the terms, how many are written by default."""


class Term(NamedTuple):
    """A part of a sum: how it is written, and the number that it is."""

    text: str
    value: float


class WrittenSum:
    """How one number comes about: the ``terms``, the ``total`` that they make, and the equation as ``text``.

    All is float64, computed of the numbers that the layer got, of which it makes the same up to its own rounding.
    """

    @property
    def total(self) -> float:
        """The number."""
        raise NotImplementedError

    @property
    def terms(self) -> list[Term]:
        """What it is made of; of a weighted sum, a mean and a maximum those of most weight first."""
        raise NotImplementedError

    def text(self, most: int = MOST) -> str:
        """The equation, on one line; of terms of which there can be any number, at most ``most`` one by one.

        Raises:
            ValueError: unless ``most`` is at least 1.
        """
        return f"{self._left(integer('most', most, 1))} = {number(self.total)}"

    def _left(self, most: int) -> str:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class WeightedSum(WrittenSum):
    """Inputs times weights, plus a bias: what convolutions, `Linear` and `Upsample` compute.

    >>> WeightedSum(np.array([1.0, 2.0]), np.array([0.5, -0.25]), np.array([True, True]), bias=0.25).text()
    '1·0.5 + 2·(−0.25) + bias 0.25 = 0.25'
    """

    inputs: Values
    """What the layer sees, the padding too: (c / groups, kh, kw), or (in_features,)."""
    weights: Values
    """Of the same shape."""
    inside: Mask
    """Of the same shape: False for padding, and where a transposed convolution has a weight that no input meets."""
    bias: float | None

    @property
    def total(self) -> float:
        return float((self.inputs * self.weights).sum() + (self.bias or 0))

    @property
    def terms(self) -> list[Term]:
        """Of inputs that are inside, or not 0, and the bias."""
        counts = self.inside | (self.inputs != 0)
        products = [
            Term(f"{number(x)}·{_factor(weight)}", x * weight)
            for x, weight in zip(self.inputs[counts].tolist(), self.weights[counts].tolist(), strict=True)
        ]
        products.sort(key=_by_weight)
        return products if self.bias is None else [*products, Term(f"bias {number(self.bias)}", self.bias)]

    def _left(self, most: int) -> str:
        terms = self.terms
        bias = [] if self.bias is None else [terms.pop()]
        return _plus([*_first(terms, most), *[term.text for term in bias]])


@dataclass(frozen=True, eq=False)
class Largest(WrittenSum):
    """The maximum of a window.

    >>> Largest(np.array([[1.0, 3.0], [2.0, 0.0]]), np.ones((2, 2), bool)).text(most=2)
    'max(3, 2, … (2 more)) = 3'
    """

    inputs: Values
    """What the window sees, (kh, kw), minus infinity in the padding."""
    inside: Mask
    """Of the same shape: False in the padding, which is never the maximum."""

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """Where in the window the maximum is, of equal ones the first; None in a window of padding alone."""
        if not self.inside.any():
            return None
        values = np.where(self.inside, self.inputs, -np.inf)
        # The first one inside where all that is inside is minus infinity; NaN is the maximum wherever it is.
        place = (self.inside & (np.isnan(values) if np.isnan(values).any() else values == values.max())).argmax()
        return tuple(int(i) for i in np.unravel_index(place, values.shape))

    @property
    def total(self) -> float:
        return -np.inf if self.chosen is None else float(self.inputs[self.chosen])

    @property
    def terms(self) -> list[Term]:
        """Those inside."""
        return [Term(number(x), x) for x in sorted(self.inputs[self.inside].tolist(), reverse=True)]

    def _left(self, most: int) -> str:
        terms = self.terms
        more = [f"… ({len(terms) - most} more)"] * (len(terms) > most)
        return f"max({', '.join([*[term.text for term in terms[:most]], *more])})"


@dataclass(frozen=True, eq=False)
class Mean(WrittenSum):
    """The sum of a window, over a number that is mostly how many it adds up.

    >>> Mean(np.array([[1.0, 3.0]]), np.array([[True, True]]), divisor=2).text()
    '(3 + 1) / 2 = 2'
    """

    inputs: Values
    """What the window sees, (kh, kw), 0 in the padding."""
    counts: Mask
    """Of the same shape: which of them the divisor counts, where it is not set otherwise."""
    divisor: int

    @property
    def total(self) -> float:
        return float(self.inputs.sum() / self.divisor)

    @property
    def terms(self) -> list[Term]:
        """Those that count."""
        return sorted([Term(number(x), x) for x in self.inputs[self.counts].tolist()], key=_by_weight)

    def _left(self, most: int) -> str:
        return f"({_plus(_first(self.terms, most))}) / {self.divisor}"


@dataclass(frozen=True, eq=False)
class Normalized(WrittenSum):
    """``(input - mean) / sqrt(variance + eps) * weight + bias``.

    >>> Normalized(3.0, mean=1.0, variance=4.0, eps=0.0, weight=0.5, bias=1.0).text()
    '(3 − 1) / √(4 + 0) · 0.5 + 1 = 1.5'
    """

    input: float
    mean: float
    variance: float
    eps: float
    weight: float | None
    bias: float | None

    @property
    def total(self) -> float:
        scaled = (self.input - self.mean) / np.sqrt(self.variance + self.eps)
        return float(scaled * (1 if self.weight is None else self.weight) + (self.bias or 0))

    @property
    def terms(self) -> list[Term]:
        names = ("input", "mean", "variance", "eps", "weight", "bias")
        return [Term(f"{name} {number(value)}", value) for name in names if (value := getattr(self, name)) is not None]

    def _left(self, most: int) -> str:
        text = f"({number(self.input)} {MINUS} {_factor(self.mean)}) / √({number(self.variance)} + {number(self.eps)})"
        text += "" if self.weight is None else f" · {_factor(self.weight)}"
        return text if self.bias is None else _plus([text, number(self.bias)])


@dataclass(frozen=True, eq=False)
class FunctionValue(WrittenSum):
    """A function of one number: what activations compute.

    >>> FunctionValue("ReLU", "", input=-1.5, output=0.0).text()
    'ReLU(−1.5) = 0'
    """

    name: str
    """That of the layer's class."""
    settings: str
    """The layer's, as ``print`` shows them."""
    input: float
    output: float

    @property
    def total(self) -> float:
        return self.output

    @property
    def terms(self) -> list[Term]:
        return [Term(number(self.input), self.input)]

    def _left(self, most: int) -> str:
        return f"{self.name}{self.settings and f'({self.settings})'}({number(self.input)})"


@dataclass(frozen=True, eq=False)
class Joined(WrittenSum):
    """The sum or the product of what branches give at one place.

    >>> Joined("+", ("input 0", "input 1"), (1.5, -2.0)).text()
    '1.5 − 2 = −0.5'
    """

    sign: str
    """``"+"`` or ``"·"``."""
    names: tuple[str, ...]
    """Of the branches, or "input 0", "input 1", ..."""
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        one_of("sign", self.sign, ("+", "·"))

    @property
    def total(self) -> float:
        return float(sum(self.values) if self.sign == "+" else np.prod(self.values))

    @property
    def terms(self) -> list[Term]:
        """Each with the name of its branch."""
        return [Term(f"{name}: {number(x)}", x) for name, x in zip(self.names, self.values, strict=True)]

    def _left(self, most: int) -> str:
        if self.sign == "+":
            return _plus(_first([Term(number(x), x) for x in self.values], most))
        rest = len(self.values) - most
        more = [f"… ({rest} more)"] * (rest > 0)
        return "·".join([*[_factor(x) if i else number(x) for i, x in enumerate(self.values[:most])], *more])


@dataclass(frozen=True, eq=False)
class Copied(WrittenSum):
    """One number of an input, where a layer only puts numbers elsewhere.

    >>> Copied("branch 1", (0, 2, 3), 0.5).text()
    'branch 1 at (0, 2, 3) = 0.5'
    """

    source: str
    """"input", the name of a branch or of one of several inputs, or "padding"."""
    position: tuple[int, ...] | None
    """Where in it; None for padding."""
    value: float

    @property
    def total(self) -> float:
        return self.value

    @property
    def terms(self) -> list[Term]:
        return [Term(self._left(MOST), self.value)]

    def _left(self, most: int) -> str:
        return self.source if self.position is None else f"{self.source} at {self.position}"


def number(x: float) -> str:
    """Three digits, with a minus sign as long as a plus sign.

    >>> number(-0.12345), number(28)
    ('−0.123', '28')
    """
    return f"{MINUS if x < 0 else ''}{abs(x):.3g}"


def _factor(x: float) -> str:
    return f"({number(x)})" if x < 0 else number(x)


def _by_weight(term: Term) -> float:
    return -abs(term.value)


def _first(terms: Sequence[Term], most: int) -> list[str]:
    """The first terms one by one, the others together."""
    rest = terms[most:]
    more = f"… ({len(rest)} more: {number(sum(term.value for term in rest))})"
    return [*[term.text for term in terms[:most]], *[more] * bool(rest)]


def _plus(texts: Sequence[str]) -> str:
    """Their sum, in which what begins with a minus sign is taken away.

    >>> _plus(["2", "−3·x", "y"])
    '2 − 3·x + y'
    """
    first, *others = texts or ["0"]
    return first + "".join(
        f" {MINUS} {text.removeprefix(MINUS)}" if text.startswith(MINUS) else f" + {text}" for text in others
    )
