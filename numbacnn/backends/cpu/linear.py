"""The fully connected layer: y = x W^T + b for x (n, c) and W (k, c), and its gradients.

None of the three products turns W on its side, which would take longer than multiplying it with a small batch:

- y: rows of W times rows of x, lane by lane along c; lanes are added up at the end;
- dx: numbers of dy, broadcast, times rows of W, of which a few columns at a time are packed;
- dW: numbers of dy, turned on its side, times rows of x, packed likewise.

roofline: 2 n k c operations at the rate of the tile; W or dW passes through memory once, and bounds batches below
about 50.
"""

from __future__ import annotations

import numpy as np

from ..contract import Activation
from ..shared.activations import ACTIVATIONS
from .bands import round_up
from .elementwise import activate, activation_of, fill_zero
from .jit import Scratch, function, kernel
from .memory import empty
from .simd import VECTOR_BYTES, copy_run, lane_sum, lanes_of
from .tiles import (
    DOT_COLUMNS,
    DOT_ROWS,
    DOT_TILE,
    LARGEST,
    TRANSPOSITION,
    multiply_dot,
    multiply_gathered,
    transpose,
)

__all__ = ["linear", "linear_backward_bias", "linear_backward_input", "linear_backward_weight"]

COLUMNS = 64
# Of y: output channels of a chunk; samples and vectors along c that are multiplied before the next.
CHANNELS, SAMPLES, VECTORS = 16, 96, 64
# Of a gradient: tile widths of a chunk, rows of the packed operand at a time.
PANELS, DEPTH = 4, 128
FEWEST_CHUNKS = 8


@kernel
def _forward_channels(
    chunk, x, weight, bias, y, weight_at, x_at, steps, sums, tile, activating, activation, channels, samples,
):  # fmt: skip
    """A chunk is ``channels`` output channels: sums[channel, sample, lane] of ``samples`` samples at a time."""
    n, c, k = x.shape[0], x.shape[1], weight.shape[0]
    lanes = lanes_of(x.itemsize)
    first, end = chunk * channels, min((chunk + 1) * channels, k)
    flat_x, flat_weight, flat_y = x.reshape(-1), weight.reshape(-1), y.reshape(-1)
    whole = c // lanes
    for sample in range(0, n, samples):
        here = min(samples, n - sample)
        row = (here + DOT_COLUMNS - 1) // DOT_COLUMNS * DOT_COLUMNS * lanes
        for depth in range(0, max(whole, 1), VECTORS):
            vectors = min(VECTORS, whole - depth)
            for i in range(0, end - first, DOT_ROWS):
                for j in range(0, here, DOT_COLUMNS):
                    at = i * row + j * lanes
                    if vectors > 0:
                        multiply_dot(
                            tile, flat_weight, 0, weight_at, first + i, steps, depth, flat_x, 0, x_at, sample + j,
                            steps, depth, vectors, lanes, sums, at, row, 1 if depth > 0 else 0,
                        )  # fmt: skip
                    if depth + vectors == whole and c > whole * lanes:
                        multiply_dot(
                            tile, flat_weight, 0, weight_at, first + i, steps, whole, flat_x, 0, x_at, sample + j,
                            steps, whole, 1, c - whole * lanes, sums, at, row, 1 if whole > 0 else 0,
                        )  # fmt: skip
        for j in range(here):
            at = (sample + j) * k + first
            for i in range(end - first):
                total = lane_sum(sums, i * row + j * lanes) if c > 0 else y.dtype.type(0)
                flat_y[at + i] = total + bias[first + i] if bias.size > 0 else total
            activate(activating, flat_y, at, end - first, activation)


@function
def pack_columns(source, first_row, rows, row_size, first_column, columns, width, packed):
    """packed[panel, row, ``width``] of ``columns`` columns of a matrix, with zeros behind the last."""
    for panel in range((columns + width - 1) // width):
        here = min(width, columns - panel * width)
        for row in range(rows):
            at = (panel * rows + row) * width
            copy_run(packed, at, source, (first_row + row) * row_size + first_column + panel * width, here)
            for column in range(at + here, at + width):
                packed[column] = 0


@kernel
def _multiply_columns(
    chunk, a, row_at, a_steps, b, b_at, c, packed, sums, tile, height, width, rows_of_chunk, row_chunks, depth,
):  # fmt: skip
    """C = A B, where A[i, k] is a[row_at[i] + a_steps[k]] and B (depth, columns) is as it lies.

    A chunk is PANELS tile widths of columns and ``rows_of_chunk`` rows of C.
    """
    rows, columns = c.shape[0], c.shape[1]
    first_row, first = chunk % row_chunks * rows_of_chunk, chunk // row_chunks * PANELS * width
    here, columns_here = min(rows_of_chunk, rows - first_row), min(PANELS * width, columns - first)
    padded = (here + height - 1) // height * height
    panels = (columns_here + width - 1) // width
    flat_b, flat_c = b.reshape(-1), c.reshape(-1)
    places = row_at[first_row:]
    for start in range(0, depth, DEPTH):
        size = min(DEPTH, depth - start)
        pack_columns(flat_b, start, size, columns, first, columns_here, width, packed)
        for panel in range(panels):
            multiply_gathered(
                tile, height, a, places, padded, a_steps, start, size, packed, panel * size * width, b_at, 0, sums,
                panel * padded * width, width, 1 if start > 0 else 0,
            )  # fmt: skip
    for row in range(here):
        at = (first_row + row) * columns + first
        for panel in range(panels):
            wide = min(width, columns_here - panel * width)
            copy_run(flat_c, at + panel * width, sums, (panel * padded + row) * width, wide)


@kernel
def _transpose_rows(chunk, x, turned, turn):
    """A chunk is COLUMNS columns of x: turned[column, row]."""
    first = chunk * COLUMNS
    here = min(COLUMNS, x.shape[1] - first)
    transpose(
        turn, x.reshape(-1), first, x.shape[1], x.shape[0], here, turned.reshape(-1), first * x.shape[0], x.shape[0]
    )  # fmt: skip


@kernel
def _sum_columns(chunk, dy, sums):
    """A chunk is COLUMNS neighbouring columns, added up row by row."""
    first, end = chunk * COLUMNS, min((chunk + 1) * COLUMNS, dy.shape[1])
    sums[first:end] = 0
    for i in range(dy.shape[0]):
        for j in range(first, end):
            sums[j] += dy[i, j]


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: Activation = None) -> np.ndarray:
    n, c, k = *x.shape, weight.shape[0]
    y = empty((n, k), x.dtype)
    lanes = VECTOR_BYTES // x.itemsize
    # Whole register tiles of both.
    channels = max(1, min(CHANNELS, k // FEWEST_CHUNKS) // DOT_ROWS) * DOT_ROWS
    samples = SAMPLES // DOT_COLUMNS * DOT_COLUMNS
    if n:
        shift = np.empty(0, x.dtype) if bias is None else bias
        weight_at, x_at = _places(k, round_up(k, channels), c), _places(n, round_up(n, DOT_COLUMNS), c)
        _forward_channels(
            -(-k // channels), x, weight, shift, y, weight_at, x_at, np.arange(c // lanes + 1) * lanes,
            Scratch(channels * samples * lanes, x.dtype), DOT_TILE, activation_of, ACTIVATIONS[activation], channels,
            samples,
        )  # fmt: skip
    return y


def linear_backward_input(dy: np.ndarray, weight: np.ndarray) -> np.ndarray:
    n, k = dy.shape
    return _multiply(dy.reshape(-1), k, weight, n)


def linear_backward_weight(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    n, k = dy.shape
    turned = empty((k, n), dy.dtype)
    _transpose_rows(-(-k // COLUMNS), dy, turned, TRANSPOSITION)
    return _multiply(turned.reshape(-1), n, x, k)


def linear_backward_bias(dy: np.ndarray) -> np.ndarray:
    sums = np.empty(dy.shape[1], dy.dtype)
    _sum_columns(-(-dy.shape[1] // COLUMNS), dy, sums)
    return sums


def _multiply(a: np.ndarray, a_row: int, b: np.ndarray, rows: int) -> np.ndarray:
    """A B, for A flat with rows of ``a_row``."""
    depth, columns = b.shape
    c = empty((rows, columns), a.dtype)
    if not depth:
        fill_zero(c)
    if not c.size or not depth:
        return c
    width = LARGEST.vectors * VECTOR_BYTES // a.itemsize
    column_chunks = -(-columns // (PANELS * width))
    row_chunks = max(1, min(-(-rows // (4 * LARGEST.rows)), -(-FEWEST_CHUNKS // column_chunks), -(-rows // SAMPLES)))
    row_chunks = max(row_chunks, -(-rows // (SAMPLES * 8)))
    rows_of_chunk = round_up(-(-rows // row_chunks), LARGEST.rows)
    row_chunks = -(-rows // rows_of_chunk)
    _multiply_columns(
        column_chunks * row_chunks, a, _places(rows, round_up(rows, LARGEST.rows), a_row), np.arange(a_row), b,
        np.arange(DEPTH) * width, c, Scratch(PANELS * DEPTH * width, a.dtype),
        Scratch(PANELS * rows_of_chunk * width, a.dtype), LARGEST.routine, LARGEST.rows, width, rows_of_chunk,
        row_chunks, depth,
    )  # fmt: skip
    return c


def _places(count: int, padded: int, distance: int) -> np.ndarray:
    """Where each row begins; the last one again up to ``padded``."""
    return np.minimum(np.arange(padded), count - 1) * distance
