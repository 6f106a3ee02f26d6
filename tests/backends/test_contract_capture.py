"""What every backend that captures promises: whose memory it uses, what other threads see of it, what it refuses."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

from numbacnn.backends import Backend
from numbacnn.backends.geometry import Conv2dGeometry
from tests.numeric import normal
from tests.strategies import SIMULATED

Launch = Callable[[], None]

# Large enough that the cpu backend uses the memory of arrays again.
SIZE = 100 if SIMULATED else 10_000
# Seconds that a thread waits for another.
PATIENCE = 60


@pytest.fixture(autouse=True)
def _captures(backend: Backend) -> None:
    if backend.name == "reference" or (backend.name == "cpu" and config.DISABLE_JIT):
        assert backend.capture(lambda: None) is None
        pytest.skip("it captures nothing")
    gc.collect()  # so that the memory which a test lets go of is the next to be used again


def full(backend: Backend, value: float) -> Any:
    return backend.asarray(np.full(SIZE, value, np.float32))


def capture(backend: Backend, *functions: Launch, **options: Any) -> tuple[Launch, ...]:
    """After they have run once, as everything does before it is captured."""
    for function in functions:
        function()
    launches = backend.capture(*functions, **options)
    assert launches is not None
    return launches


def assert_all(backend: Backend, array: Any, value: float) -> None:
    np.testing.assert_array_equal(backend.to_numpy(array), np.full(array.shape, value, np.float32))


def assigned(backend: Backend, x: Any) -> Any:
    y = backend.empty(x.shape, np.float32)
    backend.assign(y, x)
    return y


READERS: dict[str, Callable[[Backend, Any], Any]] = {
    "relu": lambda backend, x: backend.relu(x),
    "add": lambda backend, x: backend.add([x]),
    "copy": lambda backend, x: backend.copy(x),
    "assign": assigned,
    "reshape": lambda backend, x: backend.relu(x.reshape(2, -1)[1:]),
}
WRITERS: dict[str, Callable[[Backend, Any, Any], None]] = {
    "accumulate": lambda backend, target, x: backend.accumulate(target, x),
    "assign": lambda backend, target, x: backend.assign(target, x),
    "fill_zero": lambda backend, target, x: backend.fill_zero(target),
}


def test_it_is_done_at_each_launch_and_not_before(backend: Backend) -> None:
    target, value = backend.zeros((5,), np.float32), backend.asarray(np.arange(5, dtype=np.float32))
    backend.accumulate(target, value)
    launches = backend.capture(lambda: backend.accumulate(target, value), lambda: backend.fill_zero(target))
    assert launches is not None
    launch, clear = launches
    np.testing.assert_array_equal(backend.to_numpy(target), np.arange(5))
    launch()
    backend.assign(value, backend.asarray(np.full(5, 2, np.float32)))
    launch()
    np.testing.assert_array_equal(backend.to_numpy(target), 2 * np.arange(5) + 2)
    clear()
    launch()
    assert_all(backend, target, 2)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_it_reads_is_kept(backend: Backend, read: Callable[[Backend, Any], Any]) -> None:
    results = []

    def of_three() -> Launch:
        x = full(backend, 3)
        (launch,) = capture(backend, lambda: results.append(read(backend, x)))
        return launch

    launch = of_three()
    others = [full(backend, -1) for _ in range(8)]
    launch()
    assert_all(backend, results[-1], 3)
    for other in others:
        assert_all(backend, other, -1)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_it_writes_to_is_kept(backend: Backend, write: Callable[[Backend, Any, Any], None]) -> None:
    x = full(backend, 3)

    def into_an_array_that_goes() -> Launch:
        target = full(backend, 5)
        (launch,) = capture(backend, lambda: write(backend, target, x))
        return launch

    launch = into_an_array_that_goes()
    others = [full(backend, -1) for _ in range(8)]
    launch()
    for other in others:
        assert_all(backend, other, -1)


def test_the_arrays_that_it_makes_are_its_own(backend: Backend) -> None:
    x = full(backend, 1)

    def doubled_twice() -> tuple[Launch, Any]:
        results = []

        def work() -> None:
            y = backend.relu(backend.add([x, x]))
            results.append(backend.add([y, y]))

        (launch,) = capture(backend, work)
        return launch, results[-1]

    (first, of_first), (second, of_second) = doubled_twice(), doubled_twice()
    for factor in (2, 3):
        backend.assign(x, full(backend, factor))
        others = [full(backend, -1) for _ in range(8)]
        first()
        backend.fill_zero(x)
        second()
        assert_all(backend, of_first, 4 * factor)
        assert_all(backend, of_second, 0)
        for other in others:
            assert_all(backend, other, -1)


def test_other_threads_compute_meanwhile(backend: Backend) -> None:
    x, z, y = full(backend, 3), full(backend, -5), None
    inside, done = threading.Event(), threading.Event()
    sums: list[Any] = []
    backend.add([z, z])

    def compute() -> None:
        assert inside.wait(PATIENCE)
        new = backend.asarray(np.full(SIZE, -5, np.float32))
        for other in (z, new):
            sums.append(backend.add([other, other]))
            assert_all(backend, sums[-1], -10)
        backend.synchronize()
        done.set()

    def work() -> None:
        nonlocal y
        inside.set()
        assert done.wait(PATIENCE)
        y = backend.relu(x)

    backend.relu(x)
    thread = threading.Thread(target=compute)
    thread.start()
    launches = backend.capture(work)
    thread.join()
    assert launches is not None and len(sums) == 2
    backend.fill_zero(z)
    launches[0]()
    assert_all(backend, y, 3)
    for made in sums:
        assert_all(backend, made, -10)


def test_a_signal_handler_computes_and_is_no_part_of_it(backend: Backend) -> None:
    x, target, handled = full(backend, 3), backend.zeros((SIZE,), np.float32), []

    def handle(*_: Any) -> None:
        handled.append(backend.to_numpy(backend.relu(x)).copy())

    def interrupted() -> None:
        backend.accumulate(target, x)
        signal.raise_signal(signal.SIGTERM)
        backend.accumulate(target, x)

    former = signal.signal(signal.SIGTERM, handle)
    try:
        (launch,) = capture(backend, interrupted)
    finally:
        assert signal.signal(signal.SIGTERM, former) is handle
    assert len(handled) >= 2  # plainly and for each recording
    backend.fill_zero(target)
    of_recording = len(handled)
    launch()
    assert_all(backend, target, 6)
    assert len(handled) == of_recording
    for result in handled:
        np.testing.assert_array_equal(result, np.full(SIZE, 3, np.float32))


def test_threads_capture_at_the_same_time(backend: Backend) -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE)
    found: dict[float, tuple[Launch, Any]] = {}
    backend.add([backend.relu(full(backend, 1))] * 2)

    def capture_one(value: float) -> None:
        x, results = full(backend, value), []

        def work() -> None:
            meeting.wait()
            y = backend.relu(x)
            meeting.wait()
            results.append(backend.add([y, y]))

        launches = backend.capture(work)
        assert launches is not None
        found[value] = launches[0], results[-1]

    threads = [threading.Thread(target=capture_one, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1, 2]
    for launch, _ in found.values():
        launch()
    for value, (_, result) in found.items():
        assert_all(backend, result, 2 * value)


def test_constant_arrays_make_no_difference_to_the_rest(backend: Backend) -> None:
    g = Conv2dGeometry.parse("n1c4h4w5k8r3s3p1")
    x, weight = (backend.asarray(normal(s, 1, np.float32)) for s in (g.x_shape, g.weight_shape))
    results, name = [], backend.choose_conv2d_algorithm(g, "forward")
    (launch,) = capture(backend, lambda: results.append(backend.conv2d(x, weight, None, g, name)), constant=[weight])
    for seed in (3, 4):
        backend.assign(x, backend.asarray(normal(g.x_shape, seed, np.float32)))
        launch()
        expected = backend.to_numpy(backend.conv2d(x, weight, None, g, name))
        np.testing.assert_array_equal(backend.to_numpy(results[-1]), expected)


def test_what_cannot_be_captured_is_said_and_everything_goes_on(backend: Backend) -> None:
    x = full(backend, 1)
    backend.relu(x)
    with pytest.warns(RuntimeWarning, match="it cannot be captured: "):
        assert backend.capture(lambda: backend.relu(x), lambda: backend.to_numpy(x)) is None
    assert_all(backend, backend.add([x, x]), 2)
    (launch,) = capture(backend, lambda: backend.accumulate(x, x))
    launch()
    assert_all(backend, x, 4)


def test_errors_of_what_is_captured_are_its_own(backend: Backend) -> None:
    x = full(backend, 1)
    with pytest.raises(ZeroDivisionError):
        backend.capture(lambda: 1 / 0)
    assert_all(backend, backend.add([x, x]), 2)
