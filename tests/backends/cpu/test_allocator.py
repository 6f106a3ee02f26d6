"""Memory that is used again: never while something refers to it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from numbacnn.backends.cpu.runtime import allocator

LARGE = (allocator.MIN_BYTES // 4 + 5,)


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    fresh = allocator._Pool()
    monkeypatch.setattr(allocator, "_pool", fresh)
    return fresh


def address(x):
    return x.__array_interface__["data"][0]


def test_where_an_array_begins():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (x, x[1:], x[:, 2:], x.T, x.view(np.uint8), np.empty(0), np.ndarray((2,), np.int16, x, 6)):
        assert allocator.address_of(view) == address(view)


def test_memory_is_used_again_when_the_array_is_gone():
    first = allocator.empty(LARGE, np.float32)
    where = address(first)
    second = allocator.empty(LARGE, np.float32)
    assert address(second) != where
    del first
    third = allocator.empty(LARGE, np.float32)
    assert address(third) == where
    assert where % allocator.ALIGNMENT == address(second) % allocator.ALIGNMENT == 0


@pytest.mark.parametrize("keep", [lambda x: x[5:], lambda x: x.reshape(1, -1)[:, ::2].T, lambda x: x.view(np.int32)])
def test_a_view_keeps_the_memory(keep):
    x = allocator.empty(LARGE, np.float32)
    x[...] = 7
    view, where = keep(x), address(x)
    expected = view.copy()
    del x
    other = allocator.empty(LARGE, np.float32)
    assert address(other) != where
    other[...] = 1
    np.testing.assert_array_equal(view, expected)


def test_shapes_dtypes_and_small_arrays(pool):
    for shape, dtype in (((3, 5), np.float32), ((0, 7), np.float64), ((), np.int32), ((64, 1000), np.float64)):
        x = allocator.empty(shape, dtype)
        assert (x.shape, x.dtype) == (shape, dtype) and x.flags.c_contiguous and x.flags.writeable
    assert len(pool.blocks) == 1  # of the large one
    assert allocator.empty_like(np.zeros((2, 3), np.int8)).shape == (2, 3)


def test_a_block_serves_arrays_of_about_its_size(pool):
    size = 10 * allocator.MIN_BYTES
    allocator.empty((size,), np.int8)
    allocator.empty((size - size // 4,), np.int8)
    assert len(pool.blocks) == 1
    allocator.empty((size // 2,), np.int8)
    assert len(pool.blocks) == 2


def test_what_lies_idle_is_bounded_and_can_be_released(pool, monkeypatch):
    monkeypatch.setattr(allocator, "IDLE_BYTES", 4 * allocator.MIN_BYTES)
    held = allocator.empty((allocator.MIN_BYTES,), np.int8)
    for i in range(1, 12):
        allocator.empty((allocator.MIN_BYTES * 2**i,), np.int8)
    assert sum(pool.sizes) <= 2 * 2**11 * allocator.MIN_BYTES
    allocator.release()
    assert pool.sizes == [held.size]


def test_blocks_that_serve_nothing_for_long_are_given_back(pool, monkeypatch):
    monkeypatch.setattr(allocator, "SWEEP", 10)
    allocator.empty((8 * allocator.MIN_BYTES,), np.int8)
    for _ in range(30):
        allocator.empty((allocator.MIN_BYTES,), np.int8)
    assert pool.sizes == [allocator.MIN_BYTES]


def test_threads_do_not_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(300):
            x = allocator.empty(LARGE, np.float32)
            x[...] = number
            if (x != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
