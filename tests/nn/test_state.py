"""Parameters that move into another array, and the counter that a backend follows."""

from __future__ import annotations

import copy
import pickle

import numpy as np

from numbacnn import backends, nn
from numbacnn.backends import Backend
from numbacnn.backends.replay import recording
from numbacnn.nn.state import StepCounter


def known(counter: StepCounter, backend: Backend) -> tuple[int, int]:
    return counter.value, int(backend.to_numpy(counter.array(backend)))


def test_a_parameter_lives_where_it_is_put(backend: Backend) -> None:
    parameter = nn.Parameter([[1, 2], [3, 4]], backend)
    parameter.accumulate([[1, 1], [1, 1]])
    value, grad = (backend.zeros((2, 8), np.float32) for _ in range(2))
    places = [array[1:2].reshape((8,))[4:8].reshape((2, 2)) for array in (value, grad)]
    parameter.place(places[0])
    parameter.place_grad(places[1])
    assert parameter.value is places[0] and parameter.grad is places[1]
    parameter.value = [[5, 6], [7, 8]]
    parameter.accumulate([[1, 0], [0, 0]])
    np.testing.assert_array_equal(backend.to_numpy(value), [[0] * 8, [0] * 4 + [5, 6, 7, 8]])
    np.testing.assert_array_equal(backend.to_numpy(grad), [[0] * 8, [0] * 4 + [2, 1, 1, 1]])


def test_a_counter_counts_on_host_and_backend(backend: Backend) -> None:
    counter = StepCounter(-1)
    counter.increment()
    assert known(counter, backend) == (0, 0)
    array = counter.array(backend)
    counter.increment()
    counter.increment()
    assert known(counter, backend) == (2, 2) and counter.array(backend) is array
    counter.value = 40
    counter.increment()
    assert known(counter, backend) == (41, 41) and counter.array(backend) is array


def test_a_counter_follows_to_another_backend() -> None:
    first, second = backends.get("reference"), backends.get("cpu")
    counter = StepCounter()
    counter.array(first)
    counter.increment()
    assert known(counter, second) == (1, 1)
    counter.increment()
    assert known(counter, first) == (2, 2)


def test_a_recorded_count_is_the_host_s_to_repeat(backend: Backend) -> None:
    counter, tracked = StepCounter(), nn.Counter()
    array = counter.array(backend)
    with recording() as effects:
        counter.increment()
        tracked.increment()
    assert (counter.value, int(tracked.value)) == (0, 0)
    assert int(backend.to_numpy(array)) == 1
    for effect in effects.after * 2:
        effect()
    assert (counter.value, int(tracked.value)) == (2, 2)


def test_copies_count_on_their_own(backend: Backend) -> None:
    counter = StepCounter()
    counter.array(backend)
    counter.increment()
    for other in (copy.deepcopy(counter), copy.copy(counter), pickle.loads(pickle.dumps(counter))):
        other.increment()
        assert known(other, backend) == (2, 2)
    assert known(counter, backend) == (1, 1)
