"""A kernel for each instruction of ``block/ptx.py``, for tests that run them and tests that only compile them."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbacnn.backends.cuda.block import fragments, ptx
from numbacnn.backends.cuda.runtime.kernel import block_kernel
from numbacnn.backends.cuda.runtime.target import cuda, device_function, unsigned

_a, _b, _c = (device_function(of) for of in (fragments.a_of_lane, fragments.b_of_lane, fragments.c_of_lane))
_row = device_function(fragments.row_of_matrix)
_of_first, _of_second, _of_all = ptx.wait_for_copies(2), ptx.wait_for_copies(1), ptx.wait_for_copies(0)

WORDS = 128


@device_function
def a_at(a, lane, register, width, first):
    row, column = _a(lane, register)
    return a[row * width + first + column]


@device_function
def b_at(b, lane, register, first):
    row, column = _b(lane, register)
    return b[(first + row) * 8 + column]


@device_function
def c_at(lane, register):
    row, column = _c(lane, register)
    return row * 8 + column


@device_function
def store(d, lane, values):
    d[c_at(lane, 0)], d[c_at(lane, 1)], d[c_at(lane, 2)], d[c_at(lane, 3)] = values


@block_kernel(32)
def tf32_product(block, lane, a, b, c, d):  # type: ignore[no-untyped-def]
    """d = c + a b of 16 x 8 by 8 x 8."""
    a0, a1, a2, a3 = a_at(a, lane, 0, 8, 0), a_at(a, lane, 1, 8, 0), a_at(a, lane, 2, 8, 0), a_at(a, lane, 3, 8, 0)
    c0, c1, c2, c3 = c[c_at(lane, 0)], c[c_at(lane, 1)], c[c_at(lane, 2)], c[c_at(lane, 3)]
    store(d, lane, ptx.mma_tf32(a0, a1, a2, a3, b_at(b, lane, 0, 0), b_at(b, lane, 1, 0), c0, c1, c2, c3))


@block_kernel(32)
def bf16_product(block, lane, a, b, c, d):  # type: ignore[no-untyped-def]
    """d = c + a b of 16 x 16 by 16 x 8, each pair from the words of two steps of 8."""
    a0 = ptx.pack_bf16(a_at(a, lane, 0, 16, 0), a_at(a, lane, 2, 16, 0))
    a1 = ptx.pack_bf16(a_at(a, lane, 1, 16, 0), a_at(a, lane, 3, 16, 0))
    a2 = ptx.pack_bf16(a_at(a, lane, 0, 16, 8), a_at(a, lane, 2, 16, 8))
    a3 = ptx.pack_bf16(a_at(a, lane, 1, 16, 8), a_at(a, lane, 3, 16, 8))
    b0 = ptx.pack_bf16(b_at(b, lane, 0, 0), b_at(b, lane, 1, 0))
    b1 = ptx.pack_bf16(b_at(b, lane, 0, 8), b_at(b, lane, 1, 8))
    c0, c1, c2, c3 = c[c_at(lane, 0)], c[c_at(lane, 1)], c[c_at(lane, 2)], c[c_at(lane, 3)]
    store(d, lane, ptx.mma_bf16(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3))


@block_kernel(32)
def rounded(block, lane, x, y, pairs):  # type: ignore[no-untyped-def]
    y[lane] = ptx.round_tf32(x[lane])
    pairs[lane] = ptx.pack_bf16(x[lane], x[31 - lane])


@block_kernel(32)
def through_matrices(block, lane, x, y):  # type: ignore[no-untyped-def]
    """y[lane, register] is what ldmatrix brings of the 16 x 8 of x, which 16 bytes at a time go to shared memory."""
    shared = cuda.shared.array(128, np.float32, alignment=16)
    ptx.copy_four(shared, 4 * lane, x, 4 * lane, True)
    ptx.commit_copies()
    _of_all()
    cuda.syncthreads()
    row, column = _row(lane)
    y0, y1, y2, y3 = ptx.load_matrices(shared, row * 8 + column)
    ptx.store_four(y, 4 * lane, y0, y1, y2, y3)


@block_kernel(32)
def through_copies(block, lane, x, y, inside):  # type: ignore[no-untyped-def]
    """Three groups of copies of a word, waited for one after the other; zeros from lane ``inside`` on."""
    shared = cuda.shared.array(96, np.float32, alignment=16)
    for group in range(3):
        ptx.copy_word(shared, 32 * group + lane, x, 32 * group + lane, lane < inside)
        ptx.commit_copies()
    _of_first()
    y[lane] = shared[unsigned(lane)]
    _of_second()
    y[32 + lane] = shared[unsigned(32 + lane)]
    _of_all()
    y[64 + lane] = shared[unsigned(64 + lane)]


@block_kernel(32)
def sixteen_bytes(block, lane, x, y):  # type: ignore[no-untyped-def]
    """Four words of each lane from global memory to shared and back, the lanes in reverse."""
    shared = cuda.shared.array(128, np.float32, alignment=16)
    x0, x1, x2, x3 = ptx.load_four(x, 4 * lane)
    ptx.store_four(shared, 4 * (31 - lane), x0, x1, x2, x3)
    cuda.syncthreads()
    y0, y1, y2, y3 = ptx.load_four(shared, 4 * lane)
    ptx.store_four(y, 4 * lane, y0, y1, y2, y3)


def run_all(new: Any) -> None:
    """Launch each kernel once on arrays that ``new(shape, dtype)`` makes."""
    x, words = new((WORDS,), np.float32), new((WORDS,), np.int32)
    tf32_product(1, x, x, x, new((WORDS,), np.float32))
    bf16_product(1, new((256,), np.float32), x, x, new((WORDS,), np.float32))
    rounded(1, x, new((WORDS,), np.float32), words)
    through_matrices(1, x, new((WORDS,), np.float32))
    through_copies(1, x, new((WORDS,), np.float32), 20)
    sixteen_bytes(1, x, new((WORDS,), np.float32))
