"""Parameters that move into another array, and the counter that a backend follows."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn
from numbacnn.backends import Backend
from numbacnn.backends.capture import recording
from numbacnn.data import ArrayDataset, DataLoader
from numbacnn.nn.state import StepCounter


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.0, np.float32),
        ([1.0, 2], np.float32),
        (([1], [2.5]), np.float32),
        ([np.float64(1)], np.float32),
        (np.ones(2), np.float64),
        (np.float64(1), np.float64),
        (np.ones(2, np.float16), np.float32),
        (np.arange(2), np.float32),
    ],
)
def test_python_s_numbers_are_float32(backend: Backend, value: Any, dtype: Any) -> None:
    parameter = nn.Parameter(value)
    assert parameter.dtype == parameter.grad.dtype == dtype and parameter.shape == np.shape(value)
    buffer = nn.Buffer(value)
    assert buffer.dtype == (dtype if np.asarray(value).dtype == np.float64 else np.asarray(value).dtype)


class Copying(nn.Layer):
    """A layer of one's own that takes what it gets."""

    capturable = True

    def forward(self, x: Any) -> Any:
        return self.backend.copy(x)


def test_pixels_are_scaled_as_by_the_loader(backend: Backend) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 6, 6)).astype(np.uint8)
    ((loaded, _),) = DataLoader(ArrayDataset(images, np.zeros(5, np.int64)), batch_size=5)
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Identity(), nn.Flatten()]
    layers += [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.GlobalAvgPool2d(), nn.Dropout(), nn.Sequential(), Copying()]
    layers += [nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), nn.Add(nn.ReLU(), nn.Identity())]
    for layer in layers:
        layer.eval()
        expected = backend.to_numpy(layer(backend.asarray(loaded)))
        for pixels in (images, backend.asarray(images), images[:, :, ::-1][:, :, ::-1]):
            for run in (layer, layer.predict, nn.InferenceSession(layer)):
                y = backend.to_numpy(run(pixels))
                assert y.dtype == np.float32
                np.testing.assert_array_equal(y, expected, err_msg=repr(layer))
    assert nn.ReLU()(np.zeros((0, 1, 2, 2), np.uint8)).shape == (0, 1, 2, 2)
    assert backend.to_numpy(nn.ReLU()(np.uint8(255))) == 1
    wide = nn.Conv2d(1, 1, 1, dtype=np.float64)
    np.testing.assert_array_equal(wide(images), wide(loaded))


def known(counter: StepCounter, backend: Backend) -> tuple[int, int]:
    return counter.value, int(backend.to_numpy(counter.array(backend)))


def test_a_cleared_gradient_is_zero_however_it_is_read(backend: Backend) -> None:
    def cleared() -> nn.Parameter:
        parameter = nn.Parameter([1.0, 2.0], backend)
        parameter.accumulate([3.0, 4.0])
        parameter.clear_grad()
        return parameter

    def numbers(parameter: nn.Parameter) -> list[float]:
        return backend.to_numpy(parameter.grad).tolist()

    assert numbers(cleared()) == numbers(copy.deepcopy(cleared())) == [0, 0]
    parameter = cleared()
    array = parameter._grad
    parameter.accumulate([5.0, 6.0])
    parameter.accumulate([1.0, 1.0])
    assert parameter.grad is array and numbers(parameter) == [6, 7]
    assert parameter.destination() is None
    parameter.clear_grad()
    there = parameter.destination()
    assert there is array
    backend.assign(there, backend.asarray(np.array([8, 9], np.float32)))
    parameter.accumulate(there)
    assert parameter.grad is array and numbers(parameter) == [8, 9]
    parameter = cleared()
    parameter.grad = [1.0, 2.0]
    assert numbers(parameter) == [1, 2]
    for moved in (
        lambda p: p.place_grad(backend.asarray(np.ones(2, np.float32))), lambda p: p.to("reference"),
        lambda p: p.zero_grad(),
    ):  # fmt: skip
        parameter = cleared()
        moved(parameter)
        assert parameter.backend.to_numpy(parameter.grad).tolist() == [0, 0]


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
