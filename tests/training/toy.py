"""A training task that takes a moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.data import ArrayDataset, DataLoader
from numbacnn.training import EpochRecord, History


def dataset(size: int = 20, seed: int = 0) -> ArrayDataset:
    """Images of 1x2x2 whose brighter half is the label."""
    images = np.random.default_rng([size, seed]).random((size, 1, 2, 2), dtype=np.float32)
    return ArrayDataset(images, (images[:, 0, 0].sum(1) > images[:, 0, 1].sum(1)).astype(np.int64), ["low", "high"])


def loaders(size: int = 20, batch_size: int = 8) -> tuple[DataLoader, DataLoader]:
    """Training and test batches, the last one smaller."""
    train = DataLoader(dataset(size), batch_size, shuffle=True, seed=3, prefetch=0)
    return train, DataLoader(dataset(10, seed=1), batch_size, prefetch=0)


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random images with random labels."""
    rng = np.random.default_rng(0)
    return [(rng.random((6, 1, 2, 2), np.float32), rng.integers(0, 2, 6)) for _ in range(count)]


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same names with the same bits."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def model_and_optimizer(lr: float = 0.5) -> tuple[nn.Sequential, optim.SGD]:
    """A model that draws random numbers, and an optimizer that remembers."""
    nc.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 2))
    return model, optim.SGD(model.parameters(), lr, momentum=0.5)


def record(epoch: int, **changes: Any) -> EpochRecord:
    """Some figures of an epoch."""
    figures = {
        "train_loss": 2.0 / epoch,
        "train_accuracy": 0.5,
        "test_loss": 2.5 / epoch,
        "test_accuracy": 0.4,
        "examples_per_second": 1000.0,
        "wall_examples_per_second": 500.0,
        "lr": 0.1,
        "seconds": 2.0,
    }
    return EpochRecord(epoch=epoch, **(figures | changes))


def run_with(epochs: int, total: int = 5) -> SimpleNamespace:
    """A run with a history of ``epochs`` epochs, for callbacks that look at no more."""
    return SimpleNamespace(history=History([record(epoch) for epoch in range(1, epochs + 1)]), epochs=total)
