"""The sum that a unit computes as tables of numbers, the parts of most weight first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..explain import Largest, Mean, WeightedSum, WrittenSum
from ..explain.sums import number

__all__ = ["written_out"]

MOST_TABLES = 6
"""Of the kernels of a convolution, one for each map that it reads."""
MOST_ROWS = 24
"""Of the terms of a linear layer."""
MOST_TERMS = 6
"""Of the equation."""
MOST_CELLS = 400
"""Of one table: a window larger than that, such as the whole of an image, is told by the equation alone."""

Table = dict[str, Any]


def written_out(found: WrittenSum) -> dict[str, Any]:
    """``text``, the equation; ``tables``, each with a ``caption`` and ``rows``; ``rest``, what is not in them.

    A cell is a text, or a number ``input`` with its ``weight`` if it has one, whether it is ``inside`` of what the
    layer reads, and ``chosen``, the largest of a window.

    >>> sum = WeightedSum(np.array([1.0, 2.0]), np.array([0.5, -0.25]), np.array([True, True]), bias=0.25)
    >>> written = written_out(sum)
    >>> written["text"], written["tables"][0]["rows"][0]
    ('1·0.5 + 2·(−0.25) + bias 0.25 = 0.25', ['0', '1', '0.5', '0.5'])
    """
    tables, rest = _tables(found)
    return {"text": found.text(MOST_TERMS), "total": found.total, "tables": tables, "rest": rest}


def _tables(found: WrittenSum) -> tuple[list[Table], str]:
    if isinstance(found, WeightedSum):
        return _of_vector(found) if found.inputs.ndim == 1 else _of_kernels(found)
    if isinstance(found, (Largest, Mean)):
        inside = found.inside if isinstance(found, Largest) else found.counts
        chosen = found.chosen if isinstance(found, Largest) else None
        table = _window("what it reads", np.atleast_2d(found.inputs), None, np.atleast_2d(inside), chosen)
        return ([] if found.inputs.size > MOST_CELLS else [table]), ""
    return [], ""


def _of_vector(found: WeightedSum) -> tuple[list[Table], str]:
    products = found.inputs * found.weights
    order = np.argsort(-np.abs(products), kind="stable")
    rows = [
        [str(i), *map(number, (float(found.inputs[i]), float(found.weights[i]), float(products[i])))]
        for i in order[:MOST_ROWS].tolist()
    ]
    rest = order[MOST_ROWS:]
    more = f"{len(rest)} inputs more make {number(float(products[rest].sum()))}." if len(rest) else ""
    head = ["input", "value", "weight", "product"]
    return [{"caption": "inputs times weights", "head": head, "rows": rows}], more


def _of_kernels(found: WeightedSum) -> tuple[list[Table], str]:
    """Of series, whose kernels have one axis, each is a table of a row."""
    maps, inside = (array.reshape(len(array), -1, array.shape[-1]) for array in (found.inputs, found.inside))
    kernels = found.weights.reshape(maps.shape)
    sums = (maps * kernels).sum(axis=(1, 2))
    if maps[0].size > MOST_CELLS:
        return [], ""
    order = np.argsort(-np.abs(sums), kind="stable")
    tables = [
        _window(f"map {i}: {number(float(sums[i]))}", maps[i], kernels[i], inside[i], None)
        for i in order[:MOST_TABLES].tolist()
    ]
    rest = order[MOST_TABLES:]
    return tables, f"{len(rest)} maps more make {number(float(sums[rest].sum()))}." if len(rest) else ""


def _window(
    caption: str,
    inputs: np.ndarray[Any, Any],
    weights: np.ndarray[Any, Any] | None,
    inside: np.ndarray[Any, Any],
    chosen: tuple[int, ...] | None,
) -> Table:
    """Arrays (kh, kw) as one table."""
    rows = []
    for y in range(inputs.shape[0]):
        row = []
        for x in range(inputs.shape[1]):
            cell: dict[str, Any] = {"input": float(inputs[y, x]), "inside": bool(inside[y, x])}
            if weights is not None:
                cell["weight"] = float(weights[y, x])
            if chosen is not None and chosen == (y, x)[-len(chosen) :]:
                cell["chosen"] = True
            row.append(cell)
        rows.append(row)
    return {"caption": caption, "rows": rows}
