"""Calls that come again: the same bits as the first one, of whatever arrays they are given."""

from __future__ import annotations

import signal
import threading

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import cpu
from numbacnn.backends.cpu.runtime import allocator, launch_cache, threads
from numbacnn.backends.cpu.runtime.captured import record_call
from numbacnn.backends.cpu.runtime.kernel import Scratch, kernel
from numbacnn.backends.geometry import Conv2dGeometry, Pool2dGeometry

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is launched")

G = Conv2dGeometry(3, 5, 9, 8, 7, 3, 3, 2, 1, 1, 1, 1, 1)
SMALL = Conv2dGeometry(2, 6, 6, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1)
DEPTHWISE = Conv2dGeometry(3, 5, 9, 8, 10, 3, 3, 1, 1, 1, 1, 1, 1, groups=5)
POOL = Pool2dGeometry(3, 5, 9, 8, 2, 2, 2, 2)


def values(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def images(*shape, seed):
    x = cpu.empty(shape, np.float32)
    x[...] = values(*shape, seed=seed)
    return x


def filters(g, seed):
    return values(*g.weight_shape, seed=seed + 1), values(g.k, seed=seed + 2)


CALLS = {
    "conv2d": lambda make, seed: cpu.conv2d(make(*G.x_shape, seed=seed), *filters(G, seed), G, "direct", "relu"),
    "winograd": lambda make, seed: cpu.conv2d(
        make(*SMALL.x_shape, seed=seed), filters(SMALL, seed)[0], None, SMALL, "winograd", None
    ),
    "depthwise": lambda make, seed: cpu.conv2d(
        make(*DEPTHWISE.x_shape, seed=seed), *filters(DEPTHWISE, seed), DEPTHWISE, "direct", "tanh"
    ),
    "backward_input": lambda make, seed: cpu.conv2d_backward_input(
        make(*G.y_shape, seed=seed), filters(G, seed)[0], G, "direct"
    ),
    "backward_weight": lambda make, seed: cpu.conv2d_backward_weight(
        make(*G.y_shape, seed=seed), make(*G.x_shape, seed=seed + 1), G, "direct"
    ),
    "backward_weight_out": lambda make, seed: cpu.conv2d_backward_weight(
        make(*G.y_shape, seed=seed), make(*G.x_shape, seed=seed + 1), G, "direct", np.empty(G.weight_shape, np.float32)
    ),
    "winograd_weight": lambda make, seed: cpu.conv2d_backward_weight(
        make(*SMALL.y_shape, seed=seed), make(*SMALL.x_shape, seed=seed + 1), SMALL, "winograd"
    ),
    "backward_bias": lambda make, seed: cpu.conv2d_backward_bias(make(*G.y_shape, seed=seed)),
    "batch_norm_train": lambda make, seed: cpu.batch_norm_train(
        make(4, 5, 6, 7, seed=seed), values(5, seed=seed + 1), values(5, seed=seed + 2), 1e-5, "relu"
    ),
    "batch_norm_eval": lambda make, seed: cpu.batch_norm_eval(
        make(4, 5, 6, 7, seed=seed), *(values(5, seed=seed + i) for i in (1, 2, 3)), values(5, seed=seed + 4) ** 2, 1e-5
    ),
    "group_norm": lambda make, seed: cpu.group_norm(
        make(4, 6, 5, 7, seed=seed), values(6, seed=seed + 1), values(6, seed=seed + 2), 3, 1e-5
    ),
    "group_norm_runs": lambda make, seed: cpu.group_norm(values(4, 6, 5, seed=seed), None, None, 3, 1e-5),
    "group_norm_backward": lambda make, seed: cpu.group_norm_backward(
        make(4, 6, 5, 7, seed=seed),
        make(4, 6, 5, 7, seed=seed + 3),
        values(6, seed=seed + 1),
        values(4, 3, seed=seed + 2),
        values(4, 3, seed=seed + 4),
        3,
    ),
    "local_response_norm": lambda make, seed: cpu.local_response_norm(make(4, 6, 5, 7, seed=seed), 3, 0.5, 0.75, 1.0),
    "linear": lambda make, seed: cpu.linear(values(20, 9, seed=seed), values(11, 9, seed=seed + 1), values(11, seed=1)),
    "linear_backward_weight": lambda make, seed: cpu.linear_backward_weight(
        values(20, 9, seed=seed), values(20, 5, seed=seed + 1)
    ),
    "max_pool": lambda make, seed: cpu.max_pool2d_with_indices(make(*POOL.x_shape, seed=seed), POOL),
    "avg_pool": lambda make, seed: cpu.avg_pool2d(make(*POOL.x_shape, seed=seed), POOL, True),
}


def as_list(found):
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("make", [values, images])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_comes_again_gives_the_bits_of_the_first(call, make, monkeypatch):
    seeds = range(0, 60, 10)
    found = [as_list(call(make, seed)) for seed in seeds]
    with monkeypatch.context() as context:
        context.setattr(launch_cache.captured, "current_recording", lambda: None)
        context.setattr(launch_cache, "config", type("Off", (), {"DISABLE_JIT": True}))
        expected = [as_list(call(make, seed)) for seed in seeds]
    for results, others in zip(found, expected, strict=True):
        for x, y in zip(results, others, strict=True):
            assert (x.shape, x.strides, x.dtype) == (y.shape, y.strides, y.dtype)
            np.testing.assert_array_equal(x, y)
    addresses = [allocator.address_of(x) for results in found for x in results if x.size]
    assert len(set(addresses)) == len(addresses)


@kernel
def _scaled(chunk, x, y, z, work, factor):
    for i in range(x.size):
        work[i] = factor * x[i]
    for i in range(x.size):
        z[i] = work[i] + y[i]


@pytest.fixture
def runs():
    """How often the function was run by Python, and the function."""
    count = [0]

    @launch_cache.cached_launches
    def run(x, y, factor):
        count[0] += 1
        between, z = allocator.empty(x.shape, x.dtype), np.empty_like(x)
        _scaled(1, x, y, between, Scratch(x.size, x.dtype), factor)
        _scaled(1, between, y, z, Scratch(x.size, x.dtype), factor)
        return z

    return count, run


@pytest.mark.parametrize("size", [5, 100_000])
def test_python_runs_twice(runs, size):
    count, run = runs
    for seed in range(6):
        x, y = values(size, seed=seed), values(size, seed=seed + 1)
        np.testing.assert_allclose(run(x, y, 3.0), 9 * x + 4 * y, rtol=1e-4, atol=1e-4)
    assert count == [2]
    np.testing.assert_allclose(run(x, y, 2.0), 4 * x + 3 * y, rtol=1e-4, atol=1e-4)
    assert count == [3]


def test_one_array_for_two_arguments(runs):
    count, run = runs
    x, y = values(7, seed=0), values(7, seed=1)
    for _ in range(3):
        np.testing.assert_allclose(run(x, x, 2.0), 7 * x, rtol=1e-5)
    assert count == [3]
    for _ in range(2):
        np.testing.assert_allclose(run(x, y, 2.0), 4 * x + 3 * y, rtol=1e-5, atol=1e-6)


def test_arrays_that_lie_otherwise(runs):
    _, run = runs
    x, y = values(7, seed=0), values(14, seed=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="C-contiguous"):
            run(x, y[::2], 2.0)


def test_what_numpy_does_is_done_each_time():
    @launch_cache.cached_launches
    def run(x):
        y = allocator.empty(x.shape, x.dtype)
        record_call(np.add, x, 1, y)
        return y

    for seed in range(4):
        x = values(9, seed=seed)
        np.testing.assert_array_equal(run(x), x + 1)


def test_another_number_of_threads_is_another_call():
    x = images(*SMALL.x_shape, seed=0)
    found = []
    before = numba.get_num_threads()
    try:
        for threads in (1, before, 1, before, 1, before):
            numba.set_num_threads(threads)
            found.append(cpu.avg_pool2d(x, Pool2dGeometry(2, 6, 6, 6, 2, 2, 2, 2), True))
    finally:
        numba.set_num_threads(before)
    assert all(np.array_equal(y, found[0]) for y in found)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread is all there is")
def test_what_was_written_down_for_one_thread_is_not_done_on_one_of_several(monkeypatch):
    asked, launch_all = [], threads.launch_all
    monkeypatch.setattr(threads, "launch_all", lambda launches, most: asked.append(most) or launch_all(launches, most))
    x = np.ones(1 << 17, np.float32)
    before = numba.get_num_threads()
    try:
        for available, times in ((1, 3), (2, 4), (1, 3), (2, 3)):
            numba.set_num_threads(available)
            for _ in range(times):
                cpu.relu(x)
    finally:
        numba.set_num_threads(before)
    available = threads.number()
    assert asked[0] == 1
    assert available < 2 or asked[-1] == 2


def test_arguments_by_name():
    x = images(*POOL.x_shape, seed=0)
    for _ in range(3):
        y = cpu.avg_pool2d(x, geometry=POOL, count_include_pad=True)
        np.testing.assert_array_equal(y, cpu.avg_pool2d(x, POOL, True))


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal")
def test_what_a_signal_s_handler_asks_for_is_no_part_of_it():
    found = []

    @launch_cache.cached_launches
    def run(x):
        y = allocator.empty(x.shape, x.dtype)
        _scaled(1, x, x, y, Scratch(x.size, x.dtype), 1.0)
        signal.raise_signal(signal.SIGUSR1)
        _scaled(1, y, x, y, Scratch(x.size, x.dtype), 1.0)
        return y

    former = signal.signal(signal.SIGUSR1, lambda *_: found.append(cpu.linear_backward_bias(values(5, 6, seed=3))))
    try:
        for seed in range(2):
            run(values(9, seed=seed))
        assert len(found) == 2
        for x in found:
            x[...] = 7
        for seed in range(3):
            x = values(9, seed=seed)
            np.testing.assert_allclose(run(x), 3 * x, rtol=1e-6)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert all((x == 7).all() for x in found)


def test_a_window_without_a_tap_keeps_a_bias_that_is_nan():
    g = Conv2dGeometry(1, 3, 2, 2, 3, 1, 1, 1, 1, 2, 2, 2, 2, groups=3)
    bias = np.array([np.nan, -1, 1], np.float32)
    y = cpu.conv2d(images(*g.x_shape, seed=0), values(*g.weight_shape, seed=1), bias, g, "direct", "relu")
    np.testing.assert_array_equal(y[0, :, 0, 0], np.array([np.nan, 0, 1], np.float32))


def test_several_threads_at_once(runs):
    _, run = runs
    wrong = []

    def work(seed):
        for i in range(200):
            x, y = values(1000, seed=seed + i), values(1000, seed=seed + i + 1)
            if not np.allclose(run(x, y, 2.0), 4 * x + 3 * y, rtol=1e-4, atol=1e-4):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@kernel
def _place(chunk, target, small, large):
    target[0], target[1] = small.ctypes.data % 64, large.ctypes.data % 64


@launch_cache.cached_launches
def _places(x):
    _place(1, x, Scratch(5, np.dtype(np.float32)), Scratch(100, np.dtype(np.float32)))


def test_scratch_begins_at_a_line():
    """What the C library has at hand begins anywhere, and each vector of it would be in two lines."""
    kept = []
    for size in range(40):
        kept.append(np.empty(16 * size + 8, np.uint8))
        x = np.full(2, 9, np.float32)
        _places(x)
        np.testing.assert_array_equal(x, 0)
