"""A pass over a batch in parts: the bits of the whole, whatever lies in between."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
from numba.core import config

from numbacnn import nn
from numbacnn.backends import cpu, use_backend
from numbacnn.backends.cpu.capture import _Parts, _parts_of
from numbacnn.backends.cpu.convolution.correlation import ENOUGH_IMAGES
from numbacnn.backends.cpu.runtime import threads
from numbacnn.backends.geometry import Conv2dGeometry
from numbacnn.nn import session as sessions

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is captured without the compiler")


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def model():
    nn.init.manual_seed(0)
    with use_backend("cpu"):
        return nn.Sequential(
            nn.Conv2d(3, 20, 3, padding=1),
            nn.ReLU(),
            nn.Concat(nn.Identity(), nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 12, 3, padding=1))),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.Add(nn.Identity(), nn.Sequential(nn.Conv2d(32, 32, 5, padding=2), nn.Tanh())),
            nn.Conv2d(32, 48, 1),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48 * 4 * 4, 10),
        ).eval()


@pytest.fixture
def two_threads():
    if config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread is all there is")
    before = numba.get_num_threads()
    numba.set_num_threads(2)
    if threads.number() < 2:
        numba.set_num_threads(before)
        pytest.skip("one core is all there is")
    yield
    numba.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("n", [16, 24, 48])
def test_the_bits_of_the_whole(n):
    network, x = model(), values(n, 3, 16, 16)
    images = cpu.copy(x)
    launch, y = cpu.capture_in_parts(network.forward, images)
    for seed in range(3):
        x = values(n, 3, 16, 16, seed=seed)
        images[...] = x
        launch()
        assert np.array_equal(y, network.forward(x))


@pytest.mark.usefixtures("two_threads")
def test_a_session_takes_them_where_they_are_faster(monkeypatch):
    network, x = model(), values(16, 3, 16, 16)
    monkeypatch.setattr(sessions, "MAX_SECONDS", 1e9)
    for turn in (0, -1):
        monkeypatch.setattr(sessions, "_faster", lambda *ways, turn=turn: ways[turn])
        session = nn.InferenceSession(network)
        found = [session(x) for _ in range(3)]
        assert session.mode == "captured"
        assert all(np.array_equal(y, network.forward(x)) for y in found)
        assert np.array_equal(session(x[::-1]), network.forward(x[::-1]))
        (captured,) = session._captures._found.values()
        assert isinstance(captured.captured.launch, _Parts) is (turn == -1)


class OfTheBatch(nn.Layer):
    """Takes mean and variance from the batch that it gets, in evaluation mode too."""

    capturable = True

    def forward(self, x):
        ones, zeros = (nn.Buffer(np.full(x.shape[1], value, np.float32), "cpu").value for value in (1, 0))
        return self.backend.batch_norm_train(x, ones, zeros, 1e-5)[0]


@pytest.mark.usefixtures("two_threads")
def test_images_that_depend_on_each_other_are_not_taken_apart(monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SECONDS", 1e9)
    monkeypatch.setattr(sessions, "_faster", lambda *ways: ways[-1])
    with use_backend("cpu"):
        network = nn.Sequential(OfTheBatch(), nn.ReLU()).eval()
    session, x = nn.InferenceSession(network), values(16, 3, 4, 4)
    for _ in range(2):
        assert np.array_equal(session(x), network.forward(x))
    assert session.mode == "captured"


@pytest.mark.usefixtures("two_threads")
def test_fewer_threads_do_all_parts_too():
    network = model()
    x = cpu.copy(values(16, 3, 16, 16))
    launch, y = cpu.capture_in_parts(network.forward, x)
    numba.set_num_threads(1)
    launch()
    assert np.array_equal(y, network.forward(x))


@pytest.mark.parametrize(
    ("n", "available", "expected"),
    [(1, 2, 1), (15, 2, 1), (16, 2, 2), (16, 1, 1), (24, 2, 2), (128, 2, 16), (17, 2, 1), (36, 4, 4), (100, 2, 10)],
)
def test_into_how_many_parts(n, available, expected):
    assert _parts_of(n, available) == expected


@pytest.mark.usefixtures("two_threads")
def test_what_is_not_done_by_kernels_alone_is_not_captured_in_parts():
    x = cpu.copy(values(16, 3))
    assert cpu.capture_in_parts(lambda x: cpu.add([x, cpu.asarray(x, np.float64)]), x) is None
    assert cpu.capture_in_parts(lambda x: cpu.relu(x)[:1], x) is None


@pytest.mark.parametrize(
    "descriptor",
    # Of the first five, eight images would be computed in another way than forty, if each batch had the fastest one.
    [
        *("n40c51h5k59r5p2", "n40c63h16k10r3p1", "n40c30h10k65r3p1", "n40c14h4k8r3p1", "n40c48h7k49r5p2"),
        *("n40c20h9k30r1", "n40c12h9k24r3p1g12", "n40c7h9k10r3s2p1", "n40c3h12k20r7s2p3", "n40c20h8k12r3p2d2"),
    ],
)
@pytest.mark.parametrize("is_uneven", [False, True])
def test_an_image_has_the_same_bits_in_every_batch(descriptor, is_uneven):
    g = Conv2dGeometry.parse(descriptor)
    rng = np.random.default_rng(0)
    x, weight, bias = values(*g.x_shape), values(*g.weight_shape, seed=1), values(g.k, seed=2)
    if is_uneven:  # so that Winograd's sums are not good enough for some outputs
        weight[rng.integers(g.k, size=3), 0, 0, 0] *= 1e4
        x[rng.integers(g.n, size=9), 0, 0, 0] = 1e6

    def forward(x):
        of_part = replace(g, n=len(x))
        return cpu.conv2d(x, weight, bias, of_part, cpu.choose_conv2d_algorithm(of_part, "forward"))

    whole = forward(x)
    for first, count in ((0, ENOUGH_IMAGES), (5, 9), (8, 16), (3, 37)):
        assert np.array_equal(forward(x[first : first + count]), whole[first : first + count])
