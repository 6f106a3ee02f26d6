"""Data sets of any inputs and targets, and their batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbacnn import backends, nn, optim
from numbacnn.data import DataLoader, Normalize, PairDataset, RandomCrop
from numbacnn.ops.parts import as_tuple
from numbacnn.training import evaluate, fit
from tests.recorder import Recorder


def several(n: int = 7) -> PairDataset:
    """Pixels, numbers, and codes; a mask and a number for each."""
    rng = np.random.default_rng(0)
    inputs = (
        rng.integers(0, 256, (n, 1, 2, 3), np.uint8),
        rng.standard_normal((n, 4)).astype(np.float32),
        rng.integers(0, 256, (n, 2), np.uint8),
    )
    return PairDataset(inputs, (rng.random((n, 2, 3)) < 0.5, rng.standard_normal(n)), "several")


def expected(dataset: PairDataset, order: Any) -> tuple[Any, Any]:
    pixels, numbers, codes = (array[order] for array in dataset.inputs)
    mask, targets = (array[order] for array in dataset.targets)
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled, numbers, codes.astype(np.int64)), (mask.astype(np.int64), targets)


def assert_same(actual: Any, wanted: Any) -> None:
    assert type(actual) is type(wanted)
    for one, other in zip(as_tuple(actual), as_tuple(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def whole(batches: list[Any]) -> tuple[Any, Any]:
    """The batches of an epoch as one."""
    parts = zip(*batches, strict=True)
    x, y = (
        tuple(np.concatenate(arrays) for arrays in zip(*part, strict=True)) if isinstance(part[0], tuple)
        else np.concatenate(part)
        for part in parts
    )  # fmt: skip
    return x, y


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("device", [None, 2**40, 0], ids=["host", "resident", "sent"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_have_the_parts_of_the_data_set(drop_last: bool, device: int | None, prefetch: int) -> None:
    dataset = several()
    backend = None if device is None else Recorder(free=device)
    loader = DataLoader(dataset, 3, True, seed=4, drop_last=drop_last, prefetch=prefetch, backend=backend)
    for epoch in range(2):
        batches = list(loader)
        assert [len(y[1]) for _, y in batches] == ([3, 3] if drop_last else [3, 3, 1])
        order = np.random.default_rng([4, epoch]).permutation(7)[: 6 if drop_last else 7]
        for actual, wanted in zip(whole(batches), expected(dataset, order), strict=True):
            assert_same(actual, wanted)


def test_batches_of_any_backend(backend: backends.Backend) -> None:
    dataset = several()
    (batch,) = DataLoader(dataset, 7, backend=backend)
    for part, wanted in zip(batch, expected(dataset, slice(None)), strict=True):
        assert all(backend.is_array(array) for array in part)
        assert_same(tuple(map(backend.to_numpy, part)), wanted)


def test_a_tuple_of_one_stays_one() -> None:
    x, y = next(iter(DataLoader(PairDataset((np.zeros((3, 2)),), np.arange(3)), 2)))
    assert isinstance(x, tuple) and x[0].dtype == np.float64
    assert y.tolist() == [0, 1]


def test_batches_are_the_callers_own() -> None:
    dataset = PairDataset(np.zeros((4, 2), np.float32), np.zeros((4, 1, 2, 2), np.float32))
    for x, y in DataLoader(dataset, 2, prefetch=0):
        x[:], y[:] = 1, 1
    assert not dataset.inputs.any() and not dataset.targets.any()


def test_half_of_a_device_s_memory_is_for_all_arrays() -> None:
    dataset = several()
    size = sum(array.nbytes for array in (*dataset.inputs, *dataset.targets))
    for free, fits in ((2 * size, True), (2 * size - 1, False)):
        loader = DataLoader(dataset, 3, backend=Recorder(free=free))
        assert len(list(loader)) == 3
        assert (loader._on_device is not None) == fits


@pytest.mark.parametrize("device", [None, 2**40], ids=["host", "resident"])
def test_a_transform_changes_the_inputs_alone(device: int | None) -> None:
    images = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    targets = images.astype(np.float32)
    backend = None if device is None else Recorder(free=device)
    dataset = PairDataset(images, targets)
    loader = DataLoader(dataset, 2, backend=backend, transform=Normalize([0.5, 0.5], [2, 2]))
    ((x, y),) = loader
    np.testing.assert_allclose(x, (images / 255 - 0.5) / 2, rtol=1e-6)
    np.testing.assert_array_equal(y, targets)
    assert (dataset.image_shape, loader.image_shape) == ((2, 3, 3), (2, 3, 3))
    assert DataLoader(dataset, 2, transform=RandomCrop(2)).image_shape == (2, 2, 2)


@pytest.mark.parametrize(
    "inputs",
    [np.zeros((2, 3)), (np.zeros((2, 1, 3, 3)),), np.zeros((2, 1, 3, 3), np.int64)],
    ids=["numbers", "tuple", "integers"],
)
def test_a_transform_needs_images(inputs: Any) -> None:
    dataset = PairDataset(inputs, np.zeros(2))
    with pytest.raises(ValueError, match=r"`transform` must be None .* one array \(n, c, h, w\)"):
        DataLoader(dataset, 2, transform=RandomCrop(2))
    assert len(DataLoader(dataset, 2)) == 1


def test_samples_and_subsets() -> None:
    dataset = several()
    assert len(dataset) == 7 and len(dataset.subset(3)) == 3 and len(dataset.subset(30)) == 7
    (pixels, _, _), (mask, number) = dataset[-1]
    np.testing.assert_array_equal(pixels, dataset.inputs[0][6])
    assert mask.shape == (2, 3) and number == dataset.targets[1][6]
    pixels[...] = 0
    assert dataset.inputs[0][6].any()
    with pytest.raises(IndexError, match=r"`index` 7 must be in -7\.\.6"):
        dataset[7]
    assert repr(dataset.subset(2)) == (
        "PairDataset('several', 2 x ((1, 2, 3) uint8, (4,) float32, (2,) uint8) -> ((2, 3) bool, () float64))"
    )
    assert PairDataset([[1.0], [2.0]], [0, 1]).inputs.dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "match"),
    [
        (np.zeros((3, 2)), np.zeros(4), ValueError, r"must have one length, but their arrays have \[3, 4\]"),
        ((np.zeros(3), np.zeros(2)), np.zeros(3), ValueError, r"\[3, 2, 3\]"),
        ((), np.zeros(3), ValueError, "`inputs` must be an array or a tuple of arrays, not an empty tuple"),
        (np.zeros(3), 5, ValueError, r"`targets` of shape \(\) must have an axis for the samples first"),
        (np.zeros(3, np.float16), np.zeros(3), TypeError, "`inputs` of dtype float16 must be"),
        (np.zeros(3), (np.zeros(3), np.zeros(3, complex)), TypeError, r"`targets\[1\]` of dtype complex128 must be"),
        (np.zeros(3), np.zeros(3, np.uint64), TypeError, "`targets` of dtype uint64 must be"),
    ],
)
def test_what_is_refused(inputs: Any, targets: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        PairDataset(inputs, targets)


NAMES = pytest.mark.parametrize("name", [name for name in ("reference", "cpu") if not backends.available()[name]])


@NAMES
def test_a_graph_of_two_inputs_learns_from_a_loader(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((24, 2)).astype(np.float32) for _ in range(2))
    dataset = PairDataset((a, b), (a - b).sum(1, keepdims=True))
    with backends.use_backend(name):
        nodes = {
            "first": (nn.Linear(2, 1), "a"),
            "second": (nn.Linear(2, 1), "b"),
            "sum": (nn.Sum(), "first", "second"),
        }
        model, loss = nn.Graph(nodes, inputs=["a", "b"]), nn.MSELoss()
    train, test = DataLoader(dataset, 8, shuffle=True, backend=name), DataLoader(dataset, 8, prefetch=0)
    before, _ = evaluate(model, test, loss)
    history = fit(model, train, test, loss, optim.SGD(model.parameters(), 0.1), 15)
    assert history.records[-1].test_loss < 0.01 * before
    np.testing.assert_allclose(np.asarray(model.predict(dataset.inputs)), dataset.targets, atol=0.5)


@NAMES
def test_targets_may_be_images(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4), np.uint8)
    with backends.use_backend(name):
        model, loss = nn.Conv2d(1, 1, 1), nn.MSELoss()
    loader = DataLoader(PairDataset(images, 1 - images / np.float32(255)), 4, backend=name)
    history = fit(model, loader, None, loss, optim.SGD(model.parameters(), 0.5), 30)
    assert history.records[-1].train_loss < 0.1 * history.records[0].train_loss
    assert float(np.asarray(model.weight.value).squeeze()) < -0.5


@NAMES
def test_masks_are_labels_of_pixels(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4), np.uint8)
    with backends.use_backend(name):
        model, loss = nn.Conv2d(1, 2, 1), nn.CrossEntropyLoss()
    loader = DataLoader(PairDataset(images, images[:, 0] > 127), 4, backend=name)
    history = fit(model, loader, None, loss, optim.SGD(model.parameters(), 1), 10)
    assert history.records[-1].train_loss < history.records[0].train_loss
