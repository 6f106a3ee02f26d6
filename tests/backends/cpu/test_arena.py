"""Places in a captured step's memory: never two arrays in one, and gaps are filled."""

from __future__ import annotations

import random

import numpy as np
import pytest

from numbacnn.backends.cpu.runtime.arena import ALIGNMENT, Arena


def run(arena, seed):
    """Arrays that come and go; each holds its number from beginning to end."""
    rng = random.Random(seed)
    held, live, most = [], 0, 0
    for number in range(400):
        while held and rng.random() < 0.45:
            x, value = held.pop(rng.randrange(len(held)))
            assert (x == value).all()
            live -= -(-max(x.nbytes, 1) // ALIGNMENT) * ALIGNMENT
            del x
        shape = tuple(rng.choice((0, 1, 3, 17, 100)) for _ in range(rng.randrange(3)))
        dtype = np.dtype(rng.choice((np.float32, np.float64, np.int32, np.uint8)))
        x = arena.take(shape, dtype)
        assert x.shape == shape and x.dtype == dtype and x.flags.c_contiguous and x.flags.writeable
        assert x.__array_interface__["data"][0] % ALIGNMENT == 0 or not x.size
        assert arena.holds(x) and arena.holds(x.reshape(-1)[1:])
        value = number % 100
        x[...] = value
        live += -(-max(x.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        most = max(most, live)
        held.append((x, value))
    assert all((x == value).all() for x, value in held)
    return most


@pytest.mark.parametrize("seed", range(5))
def test_arrays_share_memory_only_one_after_the_other(seed):
    first = Arena()
    most = run(first, seed)
    second = Arena(first.extent)
    run(second, seed)
    assert most <= first.extent == second.extent <= 1.5 * most


def test_what_does_not_fit_has_memory_of_its_own_that_stays():
    arena = Arena(ALIGNMENT)
    first, second = arena.take((16,), np.dtype(np.float32)), arena.take((16,), np.dtype(np.float32))
    first[...], second[...] = 1, 2
    assert (first == 1).all() and arena.extent == 2 * ALIGNMENT
    where = second.__array_interface__["data"][0]
    del second
    third = np.full(16, 3, np.float32)
    assert not arena.holds(third) and third.__array_interface__["data"][0] != where


@pytest.mark.parametrize("size", [0, ALIGNMENT, 4 * ALIGNMENT])
def test_a_lent_array_keeps_no_place(size):
    arena = Arena(size)
    first, x = arena.take((32,), np.dtype(np.float32)), arena.take((4, 8), np.dtype(np.int32))[::2, 1:]
    where, x[...] = x.__array_interface__["data"][0], 7
    lent = arena.lend(x)
    assert (lent == 7).all() and (lent.shape, lent.strides, lent.dtype) == (x.shape, x.strides, x.dtype)
    assert lent.__array_interface__["data"][0] == where
    assert (lent is x) == (size < 4 * ALIGNMENT)  # its memory is not the arena's piece
    del x
    again = arena.take((4, 8), np.dtype(np.int32))[::2, 1:]
    assert (again.__array_interface__["data"][0] == where) == (lent.base is not None and size == 4 * ALIGNMENT)
    assert arena.lend(outside := np.zeros(3)) is outside
    del first
