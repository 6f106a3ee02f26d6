"""The tile product, the one loop behind convolutions by matrix product and linear layers: C = A B + bias.

A block of threads computes a tile of C, bm x bn. It walks along the reduction bk at a time: the tiles of A (bk x bm)
and B (bk x bn) go to shared memory, and every thread multiplies tm numbers of one with tn of the other, its part of C
staying in registers. While it multiplies one step, the loads of the next are under way; two tiles of each take turns,
so that one barrier a step is enough. Where the elements of A, B and C lie, ``places.py`` says. Each element of C is
summed by one thread in the order of p, whatever the tile; a long reduction is split into parts, by sizes only.

roofline: 2 m n k operations. A step of the 128 x 128 tile does 2 * 128 * 128 operations for each (128 + 128) numbers
loaded, 32 a byte in float32; the H200 needs 14 a byte from memory. What bounds it is the issue of instructions: of the
some 1550 that a thread takes for a step of 16 of this tile, with an image as B, 1024 are multiply-adds (counted in the
machine code for compute capability 9.0), so that 66 % of the peak is the most; with strides 70 %.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...contract import Activation
from ...shared.activations import ACTIVATIONS
from ..runtime import device_array
from ..runtime.device_array import DeviceArray
from ..runtime.kernel import Kernel, block_kernel, kernel
from ..runtime.target import SIMULATED, cuda, device_function, quotient, scalar, signed, unsigned, within, word
from .gemm_plan import LONGEST_STEP, Tile, operands_of, plan_of
from .places import OF_A, OF_B, OF_C, Image, Strides
from .pointwise import activate
from .reduce import COLUMNS, LANES, THREADS
from .tensor_gemm import comes_in_fours, tensor_kernel

__all__ = ["multiply", "product_kernel", "table"]


@functools.cache
def product_kernel(
    tile: Tile, dtype: np.dtype[Any], a_by_table: bool, b_kind: str, c_by_table: bool, activation: Activation
) -> Kernel:
    """The kernel for a tile and a way to find elements; ``b_kind`` is ``"stride"``, ``"table"`` or ``"image"``."""
    real = dtype.type
    threads, code = tile.threads, ACTIVATIONS[activation]
    a_offset, c_offset = OF_A[a_by_table], OF_C[c_by_table]
    b_offset, b_start, b_step, b_place = OF_B[b_kind]
    bm, bn, bk, rows, columns = tile
    a_loads, b_loads = bm * bk // threads, bn * bk // threads
    # Rows of A's tile are 4 apart from a multiple of the 32 banks, so that a warp's stores of 8 x 4 do not collide.
    a_pitch = bm + 4
    a_size, b_size, accumulators = 2 * bk * a_pitch, 2 * bk * bn, rows * columns
    # A thread's columns are runs of four, and a run is beside those of the neighbours: 16 bytes apart, threads read
    # different banks, while with eight columns in a row they would meet in the same ones.
    in_run = min(4, columns)
    run, runs_apart = unsigned(in_run), unsigned(bn // columns * in_run)
    tm, tn, steps = unsigned(rows), unsigned(columns), unsigned(bk)
    a_row, a_stage = unsigned(a_pitch), unsigned(bk * a_pitch)
    b_row, b_stage = unsigned(bn), unsigned(bk * bn)
    across = unsigned(bn // columns)
    a_rows_apart, b_rows_apart = unsigned(threads // bk), unsigned(threads // bn)
    a_count, b_count, zero, one = unsigned(a_loads), unsigned(b_loads), unsigned(0), unsigned(1)
    half, two = unsigned(bk // 2), unsigned(2)

    @device_function
    def fetch(a, b, tables, fetched, places, thread, p0, last, strides, image):
        """The numbers that this thread brings to the tiles of step p0, into registers; zeros after the last step."""
        next_a, next_b, steps_b, rows_a = fetched
        a_column_stride, b_row_stride = strides
        start, at = places
        for u in range(b_count):
            p = p0 + signed(thread // b_row + u * b_rows_apart)
            steps_b[u] = b_step(tables[1], p, last)
        p = p0 + signed(thread % steps)
        inside = within(p, last)
        place = a_offset(tables[0], a_column_stride, p if inside else last - 1)
        for u in range(a_count):
            value = a[word(place + rows_a[u])]
            next_a[u] = value if inside else scalar(a, 0)
        for u in range(b_count):
            # Without a branch, so that the loads of all elements are under way together: outside, b[0] is read.
            inside, element = b_place(start, at, steps_b[u], b_row_stride, image)
            value = b[element if inside else word(0)]
            inside &= within(p0 + signed(thread // b_row + u * b_rows_apart), last)
            next_b[u] = value if inside else scalar(b, 0)

    @device_function
    def deposit(fetched, tile_a, tile_b, thread, stage):
        """What :func:`fetch` brought, into shared memory."""
        for u in range(a_count):
            row = thread // steps + u * a_rows_apart
            tile_a[stage * a_stage + (thread % steps) * a_row + row] = fetched[0][u]
        for u in range(b_count):
            step = thread // b_row + u * b_rows_apart
            tile_b[stage * b_stage + step * b_row + thread % b_row] = fetched[1][u]

    @device_function
    def column_of(v):
        """Of a thread's column ``v``, from its first one."""
        return v // run * runs_apart + v % run

    @device_function
    def take(tile_a, tile_b, first_a, first_b, mine, sums):
        """One step: this thread's rows of A's tile times its columns of B's."""
        mine_a, mine_b = mine
        for u in range(tm):
            mine_a[u] = tile_a[first_a + u]
        for v in range(tn):
            mine_b[v] = tile_b[first_b + column_of(v)]
        for u in range(tm):
            for v in range(tn):
                sums[u * tn + v] += mine_a[u] * mine_b[v]

    def product(block, index, a, b, c, bias, a_table, fixed, moving, c_table, sizes, strides, image):
        m, n, k, part, tiles_m, tiles_n, batch, has_bias = sizes
        a_row_stride, a_column_stride, a_batch, b_row_stride, b_column_stride, b_batch = strides[:6]
        c_row_stride, c_column_stride, c_batch, c_part, bias_row, bias_column, bias_batch = strides[6:]
        tile_a = cuda.shared.array(a_size, real, alignment=16)
        tile_b = cuda.shared.array(b_size, real, alignment=16)
        sums = cuda.local.array(accumulators, real)
        mine_a = cuda.local.array(rows, real)
        mine_b = cuda.local.array(columns, real)
        next_a = cuda.local.array(a_loads, real)
        next_b = cuda.local.array(b_loads, real)
        steps_b = cuda.local.array(b_loads, np.int64)
        rows_a = cuda.local.array(a_loads, np.int32)
        mine, fetched = (mine_a, mine_b), (next_a, next_b, steps_b, rows_a)

        rest = quotient(block, tiles_m)
        i0 = (block - rest * tiles_m) * bm
        group = quotient(rest, tiles_n)
        j0 = (rest - group * tiles_n) * bn
        split = quotient(group, batch)
        member = group - split * batch
        first = split * part
        last = min(k, first + part)

        # Rows and columns beyond C are read as its last ones and not stored, which costs the loop nothing.
        thread = unsigned(index)
        at = b_offset(fixed, b_column_stride, min(j0 + signed(thread % b_row), n - 1))
        start = b_start(member * b_batch, at, image)
        for u in range(a_count):
            i = min(i0 + signed(thread // steps + u * a_rows_apart), m - 1)
            rows_a[u] = word(member * a_batch + i * a_row_stride)
        moves = (a_column_stride, b_row_stride)
        for v in range(tm * tn):
            sums[v] = scalar(c, 0)

        stage, tables, places = zero, (a_table, moving), (start, at)
        if first < last:
            fetch(a, b, tables, fetched, places, thread, first, last, moves, image)
            deposit(fetched, tile_a, tile_b, thread, stage)
        cuda.syncthreads()
        my_row, my_column = thread // across * tm, thread % across * run
        p0 = first
        while p0 < last:
            following = p0 + bk
            if following < last:
                fetch(a, b, tables, fetched, places, thread, following, last, moves, image)
            first_a, first_b = stage * a_stage + my_row, stage * b_stage + my_column
            for p in range(half):  # two steps at a time, which halves what the loop costs
                take(tile_a, tile_b, first_a + two * p * a_row, first_b + two * p * b_row, mine, sums)
                take(tile_a, tile_b, first_a + (two * p + one) * a_row, first_b + (two * p + one) * b_row, mine, sums)
            if following < last:
                stage = one - stage
                deposit(fetched, tile_a, tile_b, thread, stage)
                cuda.syncthreads()
            p0 = following

        for v in range(tn):
            column = j0 + signed(my_column + column_of(v))
            if column < n:
                place = member * c_batch + split * c_part + c_offset(c_table, c_column_stride, column)
                for u in range(tm):
                    row = i0 + signed(my_row + u)
                    if row < m:
                        value = sums[u * tn + v]
                        if has_bias:
                            value += bias[member * bias_batch + row * bias_row + column * bias_column]
                        c[place + row * c_row_stride] = value
        if code:
            # In a second loop that is not unrolled: 64 exponentials in a row would push the sums out of the registers.
            for v in range(tn):
                column = j0 + signed(my_column + column_of(v))
                if column < n:
                    place = member * c_batch + c_offset(c_table, c_column_stride, column)
                    for u in range(tm):
                        row = i0 + signed(my_row + u)
                        if row < m:
                            value = c[place + row * c_row_stride]
                            c[place + row * c_row_stride] = activate(code, value, c)

    variant = f"{dtype.name}-{'x'.join(map(str, tile))}-{a_by_table:d}{b_kind}{c_by_table:d}-{activation}"
    return block_kernel(threads, f"{__name__}.product-{variant}")(product)


# From so many parts on, a thread that adds all of an element's waits longer for them than threads for each other.
MANY_PARTS = 3 if SIMULATED else 16


@device_function
def _finish(i, y, total, bias, has_bias, run, period, activation):
    """y[i] = activation(total + the bias of its row or column)."""
    if has_bias:
        row = quotient(i, run)
        total += bias[row - quotient(row, period) * period]
    y[i] = activate(activation, total, y)


@kernel
def _sum_of_parts(i, y, parts, bias, g):
    """What the parts have for element i."""
    count, size, has_bias, run, period, activation = g
    total = parts[i]
    for part in range(1, count):
        total += parts[part * size + i]
    _finish(i, y, total, bias, has_bias, run, period, activation)


@block_kernel(THREADS)
def _sum_of_many_parts(block, thread, y, parts, bias, g):
    """The same of COLUMNS neighbouring elements, LANES threads to each, in float64."""
    count, size, has_bias, run, period, activation = g
    sums = cuda.shared.array(THREADS, np.float64)
    lane = quotient(thread, COLUMNS)
    own = thread - lane * COLUMNS
    i = block * COLUMNS + own
    total = 0.0
    for part in range(lane, count, LANES):
        total += parts[part * size + min(i, size - 1)]
    sums[thread] = total
    cuda.syncthreads()
    if lane == 0 and i < size:
        for other in range(1, LANES):
            total += sums[other * COLUMNS + own]
        _finish(i, y, scalar(y, total), bias, has_bias, run, period, activation)


def multiply(
    c: DeviceArray,
    a: DeviceArray,
    b: DeviceArray,
    sizes: tuple[int, int, int],
    strides: tuple[Strides, Strides, Strides],
    *,
    batch: int = 1,
    a_table: DeviceArray | None = None,
    b_fixed: DeviceArray | None = None,
    b_moving: DeviceArray | None = None,
    c_table: DeviceArray | None = None,
    image: Image | None = None,
    bias: DeviceArray | None = None,
    bias_strides: Strides | None = None,
    activation: Activation = None,
) -> None:
    """C = activation(A B + bias) for each of ``batch`` matrices; ``sizes`` are m, n, k, ``strides`` those of a, b, c.

    A long reduction may be split into parts, unless C is only some of the elements of ``c``. The bias has one number
    for each row, all matrices' after another, or one for each column.
    """
    m, n, k = sizes
    if not m * n * batch:
        return
    operands = operands_of(m, n, c.dtype)
    tile, splits, part = plan_of(m, n, k, batch, c.dtype, c.size == m * n * batch, operands)
    whole = splits == 1
    target = c if whole else device_array.new((splits, c.size), c.dtype)
    nothing = _nothing()
    a_strides, b_strides, c_strides = strides
    bias_row, bias_column, bias_batch = bias_strides or Strides(0)
    tiles_m, tiles_n = -(-m // tile.bm), -(-n // tile.bn)
    b_kind = "stride" if b_fixed is None else "table" if b_moving is None else "image"
    kernel_of = functools.partial(product_kernel, tile, c.dtype)
    if operands != "float32":
        in_fours = a_table is None and comes_in_fours(tile, a, a_strides, k)
        kernel_of = functools.partial(tensor_kernel, tile, operands, in_fours)
    run = kernel_of(a_table is not None, b_kind, c_table is not None, activation if whole else None)
    run(
        tiles_m * tiles_n * batch * splits,
        a,
        b,
        target,
        c if bias is None else bias,
        nothing if a_table is None else a_table,
        nothing if b_fixed is None else b_fixed,
        nothing if b_moving is None else b_moving,
        nothing if c_table is None else c_table,
        (m, n, k, part, tiles_m, tiles_n, batch, int(whole and bias is not None)),
        (*a_strides, *b_strides, *c_strides, c.size, bias_row, bias_column, bias_batch),
        tuple(image or (0, 0, 0, 0)),
    )
    if not whole:
        each = (c_strides.row, m * batch) if bias_row else (1, n)
        finish = (splits, c.size, int(bias is not None), *each, ACTIVATIONS[activation])
        arguments = (c, target, target if bias is None else bias, finish)
        if splits < MANY_PARTS:
            _sum_of_parts(c.size, *arguments)
        else:
            _sum_of_many_parts(-(-c.size // COLUMNS), *arguments)


@functools.cache
def _nothing() -> DeviceArray:
    """Stands for a table that is not there."""
    return device_array.uploaded(np.zeros(1, np.int64))


def table(make: Callable[..., np.ndarray]) -> Callable[..., DeviceArray]:
    """Decorator: the int64 table of some sizes, made once and kept on the device.

    Its last number is repeated, so that a tile may look beyond it.
    """

    @functools.cache
    def made(*sizes: Any) -> DeviceArray:
        numbers = np.asarray(make(*sizes), np.int64).reshape(-1)
        padded = np.pad(numbers, (0, LONGEST_STEP), "edge") if numbers.size else np.zeros(LONGEST_STEP, np.int64)
        return device_array.uploaded(padded)

    return made
