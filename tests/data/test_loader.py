"""The loader: its batches, its order, and its threads, which all end."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.data import ArrayDataset, DataLoader, RandomCrop
from tests.recorder import Recorder

PREFETCH = pytest.mark.parametrize("prefetch", [0, 1, 3])


def numbered(n, dtype=np.uint8):
    """Images that hold their own number."""
    images = np.broadcast_to(np.arange(n).reshape(n, 1, 1, 1), (n, 2, 3, 4)).astype(dtype)
    return ArrayDataset(images, np.arange(n))


def order(loader):
    return [label for _, labels in loader for label in labels.tolist()]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "numbacnn-loader"]


def no_thread_is_left():
    """Whether the loaders' threads end on their own, soon."""
    until = time.monotonic() + 20
    while loader_threads() and time.monotonic() < until:
        time.sleep(0.001)
    return not loader_threads()


@pytest.fixture(autouse=True)
def _threads_end():
    gc.collect()
    assert no_thread_is_left()
    yield
    gc.collect()
    assert no_thread_is_left()


@given(st.integers(0, 20), st.integers(1, 8), st.booleans(), st.booleans(), st.integers(0, 3))
def test_every_sample_once(n, batch_size, shuffle, drop_last, prefetch):
    loader = DataLoader(numbered(n), batch_size, shuffle, drop_last=drop_last, prefetch=prefetch)
    batches = list(loader)
    sizes = [len(labels) for _, labels in batches]
    assert len(sizes) == len(loader)
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == (n - n % batch_size if drop_last else n)
    seen = [label for _, labels in batches for label in labels.tolist()]
    assert len(set(seen)) == len(seen) and set(seen) <= set(range(n))
    assert shuffle or seen == sorted(seen)
    for images, labels in batches:
        expected = (labels / 255).astype(np.float32)[:, None, None, None]
        np.testing.assert_array_equal(images, np.broadcast_to(expected, images.shape))


@PREFETCH
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_batches_are_contiguous_float32_and_the_callers_own(dtype, shuffle, prefetch):
    dataset = numbered(5, dtype)
    dataset.images = np.asfortranarray(dataset.images)
    before = dataset.images.copy(), dataset.labels.copy()
    loader = DataLoader(dataset, 2, shuffle, prefetch=prefetch)
    first = list(loader)
    for images, labels in first:
        assert images.dtype == np.float32 and images.flags.c_contiguous and images.flags.writeable
        assert labels.dtype == np.int64 and labels.flags.writeable
        images[:], labels[:] = -1, -1
    for array, was in zip((dataset.images, dataset.labels), before, strict=True):
        np.testing.assert_array_equal(array, was)
    for images, labels in loader:
        scale = 255 if dtype == np.uint8 else 1
        np.testing.assert_array_equal(images[:, 0, 0, 0], (labels / scale).astype(np.float32))
    assert all((images == -1).all() for images, _ in first)


@pytest.mark.parametrize("free", [None, 2**40, 2 * 7 * (24 * 4 + 8), 2 * 7 * (24 + 8) - 1])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_batches_of_a_backend_are_the_same_bits(dtype, shuffle, free):
    dataset = numbered(7, dtype)
    dataset.images = np.asfortranarray(dataset.images)
    device = Recorder(free=free)
    own, other = (DataLoader(dataset, 3, shuffle, seed=2, backend=backend) for backend in (None, device))
    for epoch in (0, 1):
        for loader in (own, other):
            loader.set_epoch(epoch)
        for (images, labels), (expected, numbers) in zip(other, own, strict=True):
            assert images.dtype == np.float32 and labels.dtype == np.int64 and images.flags.c_contiguous
            np.testing.assert_array_equal(images, expected)
            np.testing.assert_array_equal(labels, numbers)
            images[:], labels[:] = -1, -1
    assert [len(labels) for _, labels in DataLoader(dataset, 3, drop_last=True, backend=device)] == [3, 3]
    assert list(DataLoader(numbered(0), 3, backend=device)) == []


def test_batches_of_any_backend(backend):
    dataset = numbered(9)
    for (images, labels), (expected, numbers) in zip(
        DataLoader(dataset, 4, shuffle=True, backend=backend.name), DataLoader(dataset, 4, shuffle=True), strict=True
    ):
        assert backend.is_array(images) and backend.is_array(labels)
        np.testing.assert_array_equal(backend.to_numpy(images), expected)
        np.testing.assert_array_equal(backend.to_numpy(labels), numbers)


@pytest.mark.parametrize("fits", [False, True])
def test_a_data_set_goes_to_the_device_once_if_half_of_the_memory_holds_it(monkeypatch, fits):
    dataset = numbered(6)
    size = dataset.images.nbytes + dataset.labels.nbytes
    device = Recorder(free=2 * size - (not fits))
    sent, asarray = [], device.asarray
    monkeypatch.setattr(device, "asarray", lambda *a: (sent.append(a[0].shape), asarray(*a))[1], raising=False)
    loader = DataLoader(dataset, 1, shuffle=True, backend=device)
    assert sent == []
    for _ in range(2):
        iterator = iter(loader)
        next(iterator)
        assert len(loader_threads()) == (not fits)
        list(iterator)
    image = (2, 3, 4)
    once, each = [(6, *image), (6,)], [(6,)]
    assert sent == ([*once, *each, *each] if fits else [(1, *image), (1,)] * 12)
    device.free = 0
    assert len(list(loader)) == 6


def test_no_thread_where_a_backend_of_the_host_prepares(backend):
    if backend.free_memory() is not None:
        pytest.skip("a device")
    iterator = iter(DataLoader(numbered(6), 2, backend=backend))
    next(iterator)
    assert loader_threads() == []


def test_uint8_is_divided_by_255():
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    ((images, _),) = DataLoader(ArrayDataset(values, [0]), 1)
    np.testing.assert_array_equal(images, values.astype(np.float32) / np.float32(255))
    assert images.max() == 1


@PREFETCH
def test_the_order_is_a_function_of_seed_and_epoch(prefetch):
    loader = DataLoader(numbered(50), 7, shuffle=True, seed=3, prefetch=prefetch)
    for epoch in (0, 4, 1, 4):
        loader.set_epoch(epoch)
        assert order(loader) == np.random.default_rng([3, epoch]).permutation(50).tolist()
    assert order(DataLoader(numbered(50), 7, shuffle=True, seed=4)) != order(DataLoader(numbered(50), 7, shuffle=True))


@pytest.mark.parametrize("device", [None, 2**40, 0], ids=["host", "resident", "sent"])
@PREFETCH
def test_each_pass_has_its_own_order_and_random_numbers(prefetch, device):
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 6, 6), np.uint8)
    dataset = ArrayDataset(images, np.arange(30))

    def new_loader():
        backend = None if device is None else Recorder(free=device)
        return DataLoader(dataset, 4, True, seed=3, prefetch=prefetch, backend=backend, transform=RandomCrop(4))

    loader = new_loader()
    passes = [list(loader) for _ in range(3)]
    orders = [[label for _, labels in batches for label in labels.tolist()] for batches in passes]
    assert orders == [np.random.default_rng([3, epoch]).permutation(30).tolist() for epoch in range(3)]
    # The crops of one and the same image differ as well: not all of 30 are the same twice by chance.
    crops = [
        np.concatenate([images for images, _ in batches])[np.argsort(o)]
        for batches, o in zip(passes, orders, strict=True)
    ]
    assert (crops[0] != crops[1]).any() and (crops[1] != crops[2]).any()
    # A function of the seed; and set_epoch goes on where another run was.
    again = new_loader()
    again.set_epoch(1)
    for batches in passes[1:]:
        for (images, labels), (same, numbers) in zip(again, batches, strict=True):
            np.testing.assert_array_equal(images, same)
            np.testing.assert_array_equal(labels, numbers)
    assert again.epoch == loader.epoch == 3


@PREFETCH
def test_a_pass_that_is_left_early_counts(prefetch):
    loader = DataLoader(numbered(50), 7, shuffle=True, seed=3, prefetch=prefetch)
    for _ in loader:
        break
    iter(loader)
    assert order(loader) == np.random.default_rng([3, 2]).permutation(50).tolist()


def test_it_prints_what_it_was_made_of():
    assert (
        repr(DataLoader(numbered(5), 2)) == "DataLoader(ArrayDataset('', 5 x (2, 3, 4) uint8, 5 classes), batch_size=2)"
    )
    loader = DataLoader(numbered(5), 2, True, 3, True, prefetch=0, backend="reference", transform=RandomCrop(2))
    assert repr(loader).endswith(
        "batch_size=2, shuffle=True, seed=3, drop_last=True, prefetch=0, backend='reference', "
        "transform=RandomCrop((2, 2), padding=(0, 0)))"
    )


@PREFETCH
def test_an_iterator_keeps_its_epoch(prefetch):
    loader = DataLoader(numbered(30), 4, shuffle=True, prefetch=prefetch)
    iterator = iter(loader)
    loader.set_epoch(1)
    assert order(iterator) == np.random.default_rng([0, 0]).permutation(30).tolist()


@PREFETCH
def test_iterators_are_independent(prefetch):
    loader = DataLoader(numbered(12), 2, shuffle=True, prefetch=prefetch)
    alone = [order(loader) for _ in range(2)]
    pairs = list(itertools.product(loader, loader))
    assert len(pairs) == 36
    loader.set_epoch(0)
    first, second = iter(loader), iter(loader)
    together = [next(iterator)[1].tolist() for _ in range(6) for iterator in (first, second)]
    assert [list(itertools.chain(*own)) for own in (together[::2], together[1::2])] == alone
    assert list(first) == list(second) == []


def test_batches_come_from_one_thread_just_ahead(monkeypatch):
    made = []
    real = sys.modules["numbacnn.data.loader"]._batch

    def counted(*arguments):
        made.append(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(sys.modules["numbacnn.data.loader"], "_batch", counted)
    iterator = iter(DataLoader(numbered(20), 2, prefetch=3))
    for taken in range(6):
        until = time.monotonic() + 20
        while len(made) < taken + 3 and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(made) == taken + 3
        next(iterator)
    assert len(set(made)) == 1 and threading.current_thread() not in made
    iterator.close()

    made.clear()
    list(DataLoader(numbered(20), 2, prefetch=0))
    assert set(made) == {threading.current_thread()}


def test_leaving_a_loop_ends_the_thread():
    for _ in DataLoader(numbered(40), 2):
        assert len(loader_threads()) == 1
        break
    assert no_thread_is_left()

    def fail():
        for _ in DataLoader(numbered(40), 2):
            raise RuntimeError("of the consumer")

    with pytest.raises(RuntimeError, match="of the consumer"):
        fail()


def test_dropping_an_iterator_ends_the_thread():
    iterators = [iter(DataLoader(numbered(40), 2)) for _ in range(3)]
    next(iterators[1])
    assert len(loader_threads()) == 3
    iterators.clear()
    gc.collect()
    assert no_thread_is_left()


@PREFETCH
def test_closing(prefetch):
    iterator = iter(DataLoader(numbered(40), 2, prefetch=prefetch))
    next(iterator)
    iterator.close()
    assert not loader_threads()
    iterator.close()
    assert list(iterator) == []


def test_closing_from_another_thread_wakes_who_waits(monkeypatch):
    hold = threading.Event()
    monkeypatch.setattr(sys.modules["numbacnn.data.loader"], "_batch", lambda *_: hold.wait(20) and (0, 0))
    iterator = iter(DataLoader(numbered(40), 2, prefetch=1))
    got = []
    consumer = threading.Thread(target=lambda: got.extend(iterator))
    closer = threading.Thread(target=iterator.close)
    consumer.start()
    closer.start()
    hold.set()
    consumer.join(20)
    closer.join(20)
    assert not consumer.is_alive() and not closer.is_alive()


@PREFETCH
def test_exceptions_reach_the_consumer(monkeypatch, prefetch):
    real = sys.modules["numbacnn.data.loader"]._batch

    def fails_later(columns, which, backend):
        if which.start == 4:
            raise MemoryError("of the producer")
        return real(columns, which, backend)

    monkeypatch.setattr(sys.modules["numbacnn.data.loader"], "_batch", fails_later)
    iterator = iter(DataLoader(numbered(10), 2, prefetch=prefetch))
    assert next(iterator)[1].tolist() == [0, 1]
    assert next(iterator)[1].tolist() == [2, 3]
    with pytest.raises(MemoryError, match="of the producer"):
        next(iterator)
    assert not loader_threads()
    assert list(iterator) == []


def test_an_open_iterator_does_not_hold_up_the_interpreter():
    script = """
import numpy as np
from numbacnn.data import ArrayDataset, DataLoader, RandomCrop
iterator = iter(DataLoader(ArrayDataset(np.zeros((9, 1, 2, 2), np.uint8), np.zeros(9, int)), 1))
next(iterator)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"dataset": np.zeros((3, 1, 2, 2))},
            TypeError,
            "`dataset` of type ndarray must be an ArrayDataset, a Pair",
        ),
        ({"batch_size": 0}, ValueError, "`batch_size` 0 must be at least 1"),
        ({"batch_size": 2.0}, TypeError, "`batch_size` 2.0 must be an int"),
        ({"seed": -1}, ValueError, "`seed` -1 must be at least 0"),
        ({"prefetch": -1}, ValueError, "`prefetch` -1 must be at least 0"),
        ({"prefetch": True}, TypeError, "`prefetch` True must be an int"),
        ({"backend": "tpu"}, ValueError, "`backend` 'tpu' must be one of"),
    ],
)
def test_refusals(changes, error, words):
    with pytest.raises(error, match=words):
        DataLoader(**({"dataset": numbered(3), "batch_size": 2} | changes))


def test_epochs_are_counted_from_0():
    loader = DataLoader(numbered(3), 2)
    with pytest.raises(ValueError, match="`epoch` -1 must be at least 0"):
        loader.set_epoch(-1)
