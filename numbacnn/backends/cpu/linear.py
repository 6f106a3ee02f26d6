"""The fully connected layer: y = x W^T + b for x (n, c) and W (k, c), and its gradients.

None of the three products turns W on its side, which would take longer than multiplying it with a small batch:

- y: numbers of W, broadcast, times columns of x, which are transposed; and so are the finished sums;
- dx: numbers of dy times rows of W;
- dW: numbers of dy, transposed, times rows of x.

A few columns of the second operand at a time are packed. Few samples, which would leave most of a tile empty, have
loops of their own, which pass through W or dW once, row after row: y is rows of W times rows of x, lane by lane along
c, whose lanes are added up at the end; dx is numbers of dy times rows of W, of parts of the rows, whose sums are added
up; a row of dW is numbers of dy times rows of x.

roofline: 2 n k c operations at the rate of the tile; W or dW passes through memory once, and bounds batches below
about 16.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..contract import Activation
from ..geometry import round_up
from ..shared.activations import ACTIVATIONS
from .runtime.allocator import empty
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .runtime.microkernel import Microkernel
from .vector.activations import activate, activation_of
from .vector.blocks import block, blocks, fill_zero
from .vector.column_sums import column_sums
from .vector.layout import transpose_matrices
from .vector.simd import VECTOR_BYTES, clear, copy_run, flattened, lane_sum, lanes_of
from .vector.sums import RUN_IN_ORDER, SUM_IN_ORDER, move_sums
from .vector.tiles import (
    DOT_COLUMNS,
    DOT_ROWS,
    TRANSPOSITION,
    choose_tile,
    dot_tile,
    multiply_dot,
    multiply_gathered,
    transpose,
)

__all__ = ["linear", "linear_backward_bias", "linear_backward_input", "linear_backward_weight"]

# So many samples are few, and so many output channels are then a chunk.
FEW_SAMPLES, CHANNELS = DOT_COLUMNS, 16
# So many are few for the gradients; parts of the rows of W, and their elements at least.
FEW_GRADIENTS, MAX_PARTS, PART_ELEMENTS = 4, 16, 1 << 14
# Tile widths of a chunk, rows of the packed operand at a time, rows of the product that are worth packing it again.
PANELS, DEPTH, ROWS = 4, 256, 96
MIN_CHUNKS = 8


class _Channels(NamedTuple):
    """What :func:`_forward_channels` is told."""

    tile: Microkernel
    activating: Microkernel | int
    activation: int
    channels: int


class _Columns(NamedTuple):
    """What :func:`_multiply_columns` is told."""

    tile: Microkernel
    transposition: Microkernel
    activating: Microkernel | int
    height: int
    width: int
    rows_of_chunk: int
    row_chunks: int
    depth: int
    run: int
    transposed: int
    activation: int


@kernel
def _forward_channels(chunk, x, weight, bias, y, weight_at, x_at, steps, sums, p):
    """A chunk is ``p.channels`` output channels: sums[channel, sample, lane]."""
    n, c, k = x.shape[0], x.shape[1], weight.shape[0]
    lanes = lanes_of(x.itemsize)
    first, end = chunk * p.channels, min((chunk + 1) * p.channels, k)
    flat_x, flat_weight, flat_y = flattened(x), flattened(weight), flattened(y)
    whole = c // lanes
    row = x_at.size * lanes
    for i in range(0, end - first, DOT_ROWS):
        if whole > 0:
            multiply_dot(
                p.tile, flat_weight, 0, weight_at, first + i, steps, 0, flat_x, 0, x_at, 0, steps, 0, whole, whole,
                lanes, sums, i * row, row, 0,
            )  # fmt: skip
        if c > whole * lanes:
            multiply_dot(
                p.tile, flat_weight, 0, weight_at, first + i, steps, whole, flat_x, 0, x_at, 0, steps, whole, 1, 1,
                c - whole * lanes, sums, i * row, row, 1 if whole > 0 else 0,
            )  # fmt: skip
    for j in range(n):
        at = j * k + first
        for i in range(end - first):
            total = lane_sum(sums, i * row + j * lanes) if c > 0 else y.dtype.type(0)
            flat_y[at + i] = total + bias[first + i] if bias.size > 0 else total
        activate(p.activating, flat_y, at, end - first, p.activation)


@kernel
def _add_rows(chunk, dy, weight, sums, rows):
    """A chunk is ``rows`` rows of W: sums[chunk, sample] is the sum of numbers of dy times these, four at a time."""
    n, k, c = dy.shape[0], weight.shape[0], weight.shape[1]
    first, end = chunk * rows, min((chunk + 1) * rows, k)
    w, to = flattened(weight), chunk * n * c
    clear(sums, to, to + n * c)
    whole = first + (end - first) // 4 * 4
    for i in range(first, whole, 4):
        at = np.uintp(i * c)
        second, third, fourth = at + np.uintp(c), at + np.uintp(2 * c), at + np.uintp(3 * c)
        for s in range(n):
            p, d0, d1, d2, d3 = np.uintp(to + s * c), dy[s, i], dy[s, i + 1], dy[s, i + 2], dy[s, i + 3]
            for j in range(np.uintp(c)):
                sums[p + j] += (d0 * w[at + j] + d1 * w[second + j]) + (d2 * w[third + j] + d3 * w[fourth + j])
    for i in range(whole, end):
        at = np.uintp(i * c)
        for s in range(n):
            p, d0 = np.uintp(to + s * c), dy[s, i]
            for j in range(np.uintp(c)):
                sums[p + j] += d0 * w[at + j]


@kernel
def _add_sums(chunk, sums, dx):
    """A chunk is a block of dx, the sum of those of all parts."""
    flat = flattened(dx)
    for i in block(chunk, flat.size):
        total = 0.0
        for at in range(i, sums.size, flat.size):
            total += sums[at]
        flat[i] = total


@kernel
def _multiply_rows(chunk, dy, x, dweight, rows):
    """A chunk is ``rows`` rows of dW: each is the sum of numbers of dy times rows of x."""
    n, k, c = dy.shape[0], dweight.shape[0], x.shape[1]
    flat_x, flat = flattened(x), flattened(dweight)
    for i in range(chunk * rows, min((chunk + 1) * rows, k)):
        to, d0 = np.uintp(i * c), dy[0, i]
        for j in range(np.uintp(c)):
            flat[to + j] = d0 * flat_x[j]
        for s in range(1, n):
            p, d = np.uintp(s * c), dy[s, i]
            for j in range(np.uintp(c)):
                flat[to + j] += d * flat_x[p + j]


@inlined
def pack_columns(transposition, source, row_size, transposed, first_row, rows, first_column, columns, width, packed):
    """packed[panel, row, ``width``] of ``columns`` columns of a matrix, with zeros behind the last.

    ``source`` is the matrix or, ``transposed``, its transpose, with rows of ``row_size``.
    """
    for panel in range((columns + width - 1) // width):
        here, at, column = min(width, columns - panel * width), panel * rows * width, first_column + panel * width
        if transposed > 0:
            transpose(transposition, source, column * row_size + first_row, row_size, here, rows, packed, at, width)
        for row in range(rows):
            if transposed == 0:
                copy_run(packed, at, source, (first_row + row) * row_size + column, here)
            for i in range(at + here, at + width):
                packed[i] = 0
            at += width


@kernel
def _multiply_columns(chunk, a, row_at, a_steps, b, bias, zeros, c, multiples, packed, sums, totals, p):
    """A B, where A[i, k] is a[row_at[i] + a_steps[k]], B (depth, columns) is ``b``, and C (rows, columns) the product.

    If ``p.transposed``, ``b`` is the transpose of B and ``c`` becomes that of the product, with ``bias`` added to its
    rows, activated. A chunk is PANELS tile widths of columns and ``p.rows_of_chunk`` rows of the product. Sums are
    those of ``p.run`` products; with ``totals``, one for each of ``sums``, they go on in float64. ``multiples`` are
    those of the tile's width.
    """
    rows, columns = (c.shape[1], c.shape[0]) if p.transposed > 0 else (c.shape[0], c.shape[1])
    first_row, first = chunk % p.row_chunks * p.rows_of_chunk, chunk // p.row_chunks * PANELS * p.width
    here, columns_here = min(p.rows_of_chunk, rows - first_row), min(PANELS * p.width, columns - first)
    padded = (here + p.height - 1) // p.height * p.height
    panels = (columns_here + p.width - 1) // p.width
    flat_b, flat_c = flattened(b), flattened(c)
    places = row_at[first_row:]
    totals[:] = 0
    held = 0
    for start in range(0, p.depth, DEPTH):
        size = min(DEPTH, p.depth - start)
        if totals.size > 0 and held + size > SUM_IN_ORDER:
            move_sums(sums, 0, totals, 0, panels * padded * p.width)
            held = 0
        pack_columns(
            p.transposition, flat_b, b.shape[1], p.transposed, start, size, first, columns_here, p.width, packed
        )
        for panel in range(panels):
            multiply_gathered(
                p.tile, p.height, a, 0, places, padded, a_steps, start, size, p.run, packed, panel * size * p.width,
                multiples, 0, zeros, 0, sums, panel * padded * p.width, multiples, p.width, 1 if held > 0 else 0,
            )  # fmt: skip
        held += size
    if totals.size > 0:
        for i in range(panels * padded * p.width):
            sums[np.uintp(i)] += totals[np.uintp(i)]
    if p.transposed > 0:
        for panel in range(panels):
            wide = min(p.width, columns_here - panel * p.width)
            at = (first + panel * p.width) * rows + first_row
            transpose(p.transposition, sums, panel * padded * p.width, p.width, here, wide, flat_c, at, rows)
        for column in range(first, first + columns_here):
            at = column * rows + first_row
            if bias.size > 0:
                for row in range(here):
                    flat_c[np.uintp(at + row)] += bias[np.uintp(first_row + row)]
            activate(p.activating, flat_c, at, here, p.activation)
    else:
        for row in range(here):
            at = (first_row + row) * columns + first
            for panel in range(panels):
                wide = min(p.width, columns_here - panel * p.width)
                copy_run(flat_c, at + panel * p.width, sums, (panel * padded + row) * p.width, wide)


@cached_launches
def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: Activation = None) -> np.ndarray:
    n, c, k = *x.shape, weight.shape[0]
    bias = np.empty(0, x.dtype) if bias is None else bias
    if n > FEW_SAMPLES and c:
        y = empty((n, k), x.dtype)
        _multiply(weight.reshape(-1), c, x, y, c, bias, ACTIVATIONS[activation], transposed=True)
        return y
    y = empty((n, k), x.dtype)
    lanes = VECTOR_BYTES // x.itemsize
    # Whole register tiles of both.
    channels = max(1, min(CHANNELS, k // MIN_CHUNKS) // DOT_ROWS) * DOT_ROWS
    if n:
        weight_at, x_at = _places(k, round_up(k, channels), c), _places(n, n, c)
        _forward_channels(
            -(-k // channels), x, weight, bias, y, weight_at, x_at, np.arange(c // lanes + 1) * lanes,
            Scratch(channels * x_at.size * lanes, x.dtype),
            _Channels(_dot_tile(n), activation_of(ACTIVATIONS[activation]), ACTIVATIONS[activation], channels),
        )  # fmt: skip
    return y


@cached_launches
def linear_backward_input(dy: np.ndarray, weight: np.ndarray) -> np.ndarray:
    (n, k), c = dy.shape, weight.shape[1]
    dx = empty((n, c), dy.dtype)
    if 0 < n <= FEW_GRADIENTS and dx.size and k:
        rows = max(-(-k // MAX_PARTS), min(k, -(-PART_ELEMENTS // c)))
        parts = -(-k // rows)
        sums = empty((parts * dx.size,), dy.dtype)
        _add_rows(parts, dy, weight, sums, rows)
        _add_sums(blocks(dx), sums, dx)
        return dx
    _multiply(dy.reshape(-1), k, weight, dx, k)
    return dx


@cached_launches
def linear_backward_weight(dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    (n, k), c = dy.shape, x.shape[1]
    dweight = empty((k, c), dy.dtype) if out is None else out
    if 0 < n <= FEW_GRADIENTS and dweight.size:
        rows = max(1, -(-PART_ELEMENTS // c))
        _multiply_rows(-(-k // rows), dy, x, dweight, rows)
        return dweight
    transposed = empty((k, n), dy.dtype)
    transpose_matrices(dy[None], transposed[None])
    _multiply(transposed.reshape(-1), n, x, dweight, n, run=RUN_IN_ORDER)
    return dweight


@cached_launches
def linear_backward_bias(dy: np.ndarray) -> np.ndarray:
    return column_sums(dy)


def _multiply(
    a: np.ndarray, a_row: int, b: np.ndarray, c: np.ndarray, depth: int, bias: np.ndarray | None = None,
    activation: int = 0, transposed: bool = False, run: int = DEPTH,
) -> None:  # fmt: skip
    """See the kernel; A is flat with rows of ``a_row``."""
    if not depth:
        fill_zero(c)
    if not c.size or not depth:
        return
    rows, columns = c.shape[::-1] if transposed else c.shape
    tile = choose_tile(columns, a.itemsize)
    width = tile.vectors * VECTOR_BYTES // a.itemsize
    column_chunks = -(-columns // (PANELS * width))
    row_chunks = max(1, min(-(-rows // (4 * tile.rows)), -(-MIN_CHUNKS // column_chunks), -(-rows // ROWS)))
    row_chunks = max(row_chunks, -(-rows // (ROWS * 8)))
    rows_of_chunk = round_up(-(-rows // row_chunks), tile.rows)
    row_chunks = -(-rows // rows_of_chunk)
    sums = PANELS * rows_of_chunk * width
    _multiply_columns(
        column_chunks * row_chunks, a, _places(rows, round_up(rows, tile.rows), a_row), np.arange(a_row), b,
        np.empty(0, a.dtype) if bias is None else bias, np.zeros(width, a.dtype), c,
        np.arange(max(DEPTH, rows_of_chunk)) * width, Scratch(PANELS * DEPTH * width, a.dtype), Scratch(sums, a.dtype),
        Scratch(sums if run < DEPTH and depth > SUM_IN_ORDER else 0, np.dtype(np.float64)),
        _Columns(
            tile=tile.microkernel, transposition=TRANSPOSITION, activating=activation_of(activation),
            height=tile.rows, width=width, rows_of_chunk=rows_of_chunk, row_chunks=row_chunks, depth=depth, run=run,
            transposed=int(transposed), activation=activation,
        ),
    )  # fmt: skip


@functools.cache
def _dot_tile(samples: int) -> Microkernel:
    return dot_tile(DOT_ROWS, samples)


def _places(count: int, padded: int, distance: int) -> np.ndarray:
    """Where each row begins; the last one again up to ``padded``."""
    return np.minimum(np.arange(padded), count - 1) * distance
