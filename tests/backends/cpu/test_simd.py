"""The vocabulary of vectors, in every width, against its definitions in plain Python."""

from __future__ import annotations

import functools

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends.cpu.vector import simd

WIDTHS = (16, 32, 64)
# Narrower vectors run on every machine, and wider ones in parts.
pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.parametrize("dtype", [np.float32, np.float64]),
    pytest.mark.parametrize("size", WIDTHS),
]


@functools.cache
def _run_copies(size):
    definition, compiled = simd.run_copies(size)
    return definition, numba.njit(lambda target, source, count: compiled(target, 3, source, 1, count))


@pytest.mark.parametrize("count", [0, 1, 5, 64, 71])
def test_run_copies(dtype, size, count):
    """Nothing before or after the run is written."""
    definition, run = _run_copies(size)
    source = np.random.default_rng(count).standard_normal(1 + count).astype(dtype)
    target = np.zeros(3 + count + 40, dtype)
    expected = target.copy()
    definition(expected, 3, source, 1, count)
    run(target, source, count)
    assert np.array_equal(target, expected)


@pytest.mark.parametrize("count", [0, 1, 3, 99])
def test_masked_tails_and_sums(dtype, size, count):
    """The lanes beyond ``count`` are neither read nor written."""
    lanes = size // np.dtype(dtype).itemsize
    source = np.arange(1, lanes + 1).astype(dtype)
    target, total = np.full(lanes, -1, dtype), np.zeros(1, dtype)
    _total_of_first(size)(source, target, total, count)
    assert total[0] == source[:count].sum()
    assert np.array_equal(target, np.where(np.arange(lanes) < count, source, -1))


@functools.cache
def _total_of_first(size):
    """Compiled, what copies ``count`` elements and adds them up."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def total_of_first(typing_context, source, target, count):
        def codegen(context, builder, signature, arguments):
            v = simd.Vectors(builder, context.get_value_type(signature.args[0].dtype), size)
            at = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in range(2)]
            mask = v.mask(arguments[2])
            values = v.load_masked(at[0], mask)
            v.store_masked(values, at[1], mask)
            return v.sum(values)

        return source.dtype(source, target, types.int64), codegen

    @numba.njit
    def run(source, target, total, count):
        total[0] = total_of_first(source, target, count)

    return run
