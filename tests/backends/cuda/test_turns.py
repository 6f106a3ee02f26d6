"""How the simulator runs the threads of a block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.strategies import SIMULATED

pytestmark = pytest.mark.skipif(not SIMULATED, reason="not the simulator")

THREADS = 4

if SIMULATED:
    from numbacnn.backends import cuda as cuda_backend
    from numbacnn.backends.cuda.runtime.kernel import block_kernel, kernel
    from numbacnn.backends.cuda.runtime.target import cuda

    backend: Any = cuda_backend

    @block_kernel(THREADS)
    def turned(block, thread, y, waits, bad):  # type: ignore[no-untyped-def]
        shared = cuda.shared.array(THREADS, np.float32)
        shared[thread] = block * THREADS + thread
        if thread == bad:
            y[-1] = 0
        if waits:
            cuda.syncthreads()
        y[block * THREADS + thread] = shared[THREADS - 1 - thread]

    @kernel
    def waiting(i, y):  # type: ignore[no-untyped-def]
        cuda.syncthreads()


def test_threads_that_do_not_wait_miss_what_comes_later_in_either_order() -> None:
    y = backend.zeros((2, THREADS), np.float32)
    turned(2, y, 1, THREADS)
    np.testing.assert_array_equal(np.asarray(y), [[3, 2, 1, 0], [7, 6, 5, 4]])
    turned(2, y, 0, THREADS)
    missed = np.isnan(np.asarray(y))
    assert missed.sum(axis=1).tolist() == [2, 2] and missed.any(axis=0).all()


@pytest.mark.parametrize("bad", range(THREADS))
def test_a_thread_that_fails_ends_the_launch_and_no_other(bad: int) -> None:
    y = backend.zeros((1, THREADS), np.float32)
    for _ in range(2):  # either thread is the first
        with pytest.raises(IndexError, match="index -1 is outside of memory of 4 elements"):
            turned(1, y, 1, bad)
    turned(1, y, 1, THREADS)
    np.testing.assert_array_equal(np.asarray(y), [[3, 2, 1, 0]])


def test_only_threads_of_a_block_wait() -> None:
    with pytest.raises(RuntimeError, match="only a block kernel may wait"):
        waiting(1, backend.zeros((1,), np.float32))
