"""Captured steps of the CPU: what they keep, what they prepare, what cannot be captured."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import cpu
from numbacnn.backends.cpu.runtime import allocator, captured
from numbacnn.backends.cpu.runtime.arena import Arena
from numbacnn.backends.geometry import Conv2dGeometry
from tests.numeric import normal

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

LARGE = (allocator.MIN_BYTES // 4 + 5,)


def one(function, **options):
    (launch,) = cpu.capture(function, **options)
    return launch


def test_nothing_is_done_before_the_launch_and_memory_stays_for_the_next():
    x, result = cpu.asarray(np.full(LARGE, -2, np.float32)), None

    def work():
        nonlocal result
        y = cpu.relu(cpu.add([x, x]))
        result = cpu.add([y, y])
        cpu.increment(counter)

    counter = np.zeros((), np.int64)
    launch = one(work)
    assert counter == 0
    for value in (3, 5):
        x[...] = value
        others = [allocator.empty(LARGE, np.float32) for _ in range(8)]
        for other in others:
            other[...] = np.nan
        launch()
        np.testing.assert_array_equal(result, np.full(LARGE, 4 * value))
        assert all(np.isnan(other).all() for other in others)
    assert counter == 2


def test_memory_is_used_again_within_a_step(monkeypatch):
    sizes = []
    monkeypatch.setattr(captured, "Arena", lambda size=0: (sizes.append(size), Arena(size))[1])
    x = cpu.asarray(np.ones(LARGE, np.float32))

    def work():
        y = x
        for _ in range(20):
            y = cpu.relu(y)

    one(work)()
    assert [0, 2 * LARGE[0] * 4] == [sizes[0], sizes[1] // 64 * 64 - 2 * (-LARGE[0] * 4 % 64)]


def test_what_numpy_does_keeps_no_memory_from_use_within_a_step(monkeypatch):
    sizes, results = [], []
    monkeypatch.setattr(captured, "Arena", lambda size=0: (sizes.append(size), Arena(size))[1])
    x = cpu.asarray(np.arange(LARGE[0], dtype=np.float32))

    def work():
        y = x
        for _ in range(20):
            y = cpu.copy(y)
        results.append(y)

    launch = one(work)
    assert sizes[0] == 0 and sizes[1] < 3 * x.nbytes
    for _ in range(2):
        x[...] = x[::-1]
        launch()
        np.testing.assert_array_equal(results[-1], x)


def test_arrays_that_were_there_before_are_kept():
    results = []

    def of_three():
        x = allocator.empty(LARGE, np.float32)
        x[...] = 3
        return one(lambda: results.append(cpu.relu(x)))

    launch = of_three()
    for _ in range(4):
        allocator.empty(LARGE, np.float32)[...] = -1
    launch()
    assert (results[-1] == 3).all()


@pytest.mark.parametrize("algorithm", ["direct", "winograd", "im2col"])
def test_weights_are_laid_out_once_where_they_are_constant(algorithm):
    g = Conv2dGeometry.parse("n2c16h12k32r3s1p1")
    x, weight = normal(g.x_shape, 1, np.float32), normal(g.weight_shape, 2, np.float32)
    expected = [cpu.conv2d(x, weight, None, g, algorithm)]
    results = []
    follows = one(lambda: results.append(cpu.conv2d(x, weight, None, g, algorithm)))
    stays = one(lambda: results.append(cpu.conv2d(x, weight, None, g, algorithm)), constant=[weight])
    weight[...] = normal(g.weight_shape, 3, np.float32)
    expected.append(cpu.conv2d(x, weight, None, g, algorithm))
    follows()
    np.testing.assert_array_equal(results[1], expected[1])
    if algorithm != "im2col":  # which reads weights as they are
        stays()
        np.testing.assert_array_equal(results[-1], expected[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_launch_keeps_to_the_number_of_threads(threads):
    former = numba.get_num_threads()
    if former < 2:
        pytest.skip("there is one thread")
    g = Conv2dGeometry.parse("n4c16h24k32r3s1p1")
    x, weight = normal(g.x_shape, 1, np.float32), normal(g.weight_shape, 2, np.float32)
    results = []
    try:
        numba.set_num_threads(3 - threads)
        launch = one(lambda: results.append(cpu.conv2d(x, weight, None, g, "direct")))
        numba.set_num_threads(threads)
        launch()
    finally:
        numba.set_num_threads(former)
    np.testing.assert_array_equal(results[-1], cpu.conv2d(x, weight, None, g, "direct"))


def test_what_cannot_be_captured_is_said_and_everything_goes_on():
    x = np.ones(5, np.float32)
    with pytest.warns(RuntimeWarning, match="it cannot be captured: an array that is read"):
        assert cpu.capture(lambda: cpu.to_numpy(x)) is None
    with pytest.raises(ZeroDivisionError):
        cpu.capture(lambda: 1 / 0)
    np.testing.assert_array_equal(cpu.add([x, x]), np.full(5, 2))
    assert cpu.to_numpy(x) is x


def test_conversions_and_new_arrays_are_part_of_a_step():
    x = np.full((2, 3), 1e300)  # more than float32 holds, which no warning is to tell while a step is written down
    found = {}

    def work():
        found["converted"] = cpu.asarray(x, np.float32)
        found["turned"] = cpu.asarray(x.T)
        found["listed"] = cpu.asarray([1, 2])
        found["same"] = cpu.asarray(x)
        found["zeros"] = cpu.zeros((2,), np.float32)
        cpu.assign(found["zeros"], cpu.asarray(np.ones(2, np.float32)))
        found["copy"] = cpu.copy(found["zeros"])

    launch = one(work)
    x[:] = np.arange(6).reshape(2, 3)
    launch()
    np.testing.assert_array_equal(found["converted"], x)
    np.testing.assert_array_equal(found["turned"], x.T)
    assert found["converted"].dtype == np.float32 and found["turned"].flags.c_contiguous
    assert found["same"] is x and found["listed"].tolist() == [1, 2]
    assert found["copy"].tolist() == found["zeros"].tolist() == [1, 1]


def test_a_capture_within_another_is_refused():
    x = np.ones(5, np.float32)
    launch = one(lambda: cpu.relu(x))
    for work in (launch, lambda: cpu.capture(lambda: cpu.relu(x))):
        with pytest.warns(RuntimeWarning, match="it cannot be captured: a"):
            assert cpu.capture(work) is None
    launch()
