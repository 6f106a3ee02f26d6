"""Maxima of windows one dimension at a time: down each column of a window, then across what that found.

A 3 x 3 window takes 6 comparisons and not 9, neighbouring planes share vectors, and what lies outside of the image is
masked by bits from a table, so that nothing is copied to be padded. Which of the elements it was is not found out.

roofline: one read of x and one write of y; kh + kw operations an output in L1.
"""

from __future__ import annotations

import functools

import numpy as np

from ..geometry import Pool2dGeometry
from .jit import Scratch, kernel
from .pool_rows import MAX_INSIDE, STEPS, max_inside
from .simd import VECTOR_BYTES

__all__ = ["applies", "find_maxima"]

# Of a plane: the tables are as large as one.
MOST_ELEMENTS = 1 << 14
# Of planes that a chunk could take all of, so many chunks.
FEWEST_CHUNKS = 8


@kernel
def _max_down_and_across(
    chunk, x, y, row_offsets, row_inside, column_offsets, column_inside, largest, down, across, planes, kh, kw, sh,
    line_words, before,
):  # fmt: skip
    """A chunk is ``planes`` planes: first the largest of each column of a window, then of these, planes as if a row.

    ``line_words`` are those of ``row_inside`` for a row of outputs, 0 if they are for all planes of a chunk at once.
    The columns' maxima begin ``before`` in ``largest``.
    """
    h, w, oh, ow = x.shape[2], x.shape[3], y.shape[2], y.shape[3]
    image, values = x.reshape(-1), y.reshape(-1)
    first = chunk * planes
    here = min(planes, x.shape[0] * x.shape[1] - first)
    lines, length = (1, here * h * w) if line_words == 0 else (here * oh, w)
    for line in range(lines):
        at = ((first + line // oh) * h + line % oh * sh) * w
        max_inside(
            down, image, at, row_offsets, 0, row_inside, line % oh * line_words, kh, largest, before + line * length,
            length,
        )  # fmt: skip
    max_inside(
        across, largest, before, column_offsets, 0, column_inside, 0, kw, values, first * oh * ow, here * oh * ow
    )  # fmt: skip


def applies(g: Pool2dGeometry) -> bool:
    """Whether that saves comparisons, and neighbouring outputs, of all rows, are neighbours in x or two apart."""
    return (
        g.kh + g.kw < g.kh * g.kw
        and g.sw in STEPS
        and g.w == g.sw * g.ow
        and g.h * g.w <= MOST_ELEMENTS
        and g.n * g.c > 0
    )


def find_maxima(x: np.ndarray, g: Pool2dGeometry, y: np.ndarray, planes: int) -> None:
    """Where it :func:`applies`, by chunks of up to ``planes`` planes."""
    planes = min(planes, -(-g.n * g.c // FEWEST_CHUNKS))
    tables = _tables(g, planes, VECTOR_BYTES // x.itemsize)
    # A window reaches so far beyond the columns, where some number has to be.
    beyond = g.pl + (g.kw - 1) * g.dw
    _max_down_and_across(
        -(-g.n * g.c // planes), x, y, *tables, Scratch(planes * g.oh * g.w + 2 * beyond, x.dtype), MAX_INSIDE[1],
        MAX_INSIDE[g.sw], planes, g.kh, g.kw, g.sh, 0 if _is_flat(g) else tables[1].size // g.oh, beyond,
    )  # fmt: skip


def _is_flat(g: Pool2dGeometry) -> bool:
    """Whether the rows of outputs of all planes follow each other as the rows of x do."""
    return g.sh == 1 and g.oh == g.h


@functools.lru_cache(maxsize=256)
def _tables(g: Pool2dGeometry, planes: int, lanes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Offsets and insides (``pool_rows.py``) of the rows of a window, then of its columns."""
    rows = np.arange(g.kh) * g.dh - g.pt
    of_rows = np.arange(g.oh) * g.sh + rows[:, None]
    in_rows = np.repeat((of_rows >= 0) & (of_rows < g.h), g.w, axis=1)
    if _is_flat(g):
        row_inside = _bits(np.tile(in_rows, planes), lanes)
    else:
        row_inside = np.concatenate([_bits(line, lanes) for line in np.split(in_rows, g.oh, axis=1)])
    columns = np.arange(g.kw) * g.dw - g.pl
    of_columns = np.arange(g.ow) * g.sw + columns[:, None]
    in_columns = np.tile((of_columns >= 0) & (of_columns < g.w), planes * g.oh)
    return rows * g.w, row_inside, columns, _bits(in_columns, lanes)


def _bits(inside: np.ndarray, lanes: int) -> np.ndarray:
    """A word for each tap of each vector, of the booleans (taps, outputs)."""
    taps, outputs = inside.shape
    vectors = -(-outputs // lanes)
    padded = np.zeros((taps, vectors * lanes), np.int64)
    padded[:, :outputs] = inside
    return (padded.reshape(taps, vectors, lanes) << np.arange(lanes)).sum(axis=2).T.ravel()
