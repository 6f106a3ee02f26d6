"""Batch normalisation over all shards of a batch, by one process; tests/distributed has several."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numba.core import config

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.backends import Backend
from numbacnn.training import Accuracy, MeanAbsoluteError, TrainingStep
from numbacnn.training.lockstep import THREAD
from tests.strategies import SIMULATED
from tests.training.toy import assert_same

RNG = np.random.default_rng(0)
SIZE = 3 if SIMULATED else 5
IMAGES = RNG.standard_normal((22, 2, SIZE, SIZE)) * [[[3]], [[0.1]]] + 5
LABELS = RNG.integers(0, 3, 22)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert THREAD not in {thread.name for thread in threading.enumerate()}


class Gate(nn.Layer):
    """Of one's own: lets through what is above 5, and leaves in an attribute what that was."""

    def forward(self, x: Any) -> Any:
        host = self.backend.to_numpy(x)
        if np.abs(host).max() > 1e6:
            raise ArithmeticError("a large number")
        self.is_open = host > 5
        return self.backend.asarray(host * self.is_open)

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return self.backend.asarray(self.backend.to_numpy(dy) * self.is_open)


def network(dtype: Any = np.float64) -> nn.Sequential:
    """Batch normalisation with an activation and without, where it reads some of the channels, twice, and of lines."""
    nc.manual_seed(1)
    options: dict[str, Any] = {"dtype": dtype}
    dense = nn.Sequential(nn.BatchNorm2d(3, **options), nn.ReLU(), nn.Conv2d(3, 1, 1, **options))
    norm = nn.BatchNorm2d(4, momentum=0.3, affine=False, **options)
    twice = nn.Graph(
        {
            "norm": (norm, "x"),
            "act": (nn.Sigmoid(), "norm"),
            "again": (norm, "act"),
            "sum": (nn.Sum(), "again", "act"),
        }
    )
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, **options), Gate(), nn.DenseBlock(dense), twice, nn.GlobalAvgPool2d(), nn.Flatten(),
        nn.Linear(4, 3, **options), nn.BatchNorm1d(3, **options),
    )  # fmt: skip


def step_of(model: nn.Layer, **options: Any) -> TrainingStep:
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return TrainingStep(model, nn.CrossEntropyLoss(), optimizer, **options)


def synchronized(model: nn.Sequential) -> nn.Sequential:
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


@pytest.mark.parametrize("shards", [3] if SIMULATED else [2, 8, 13])
def test_the_step_is_that_of_the_whole_batch(backend: Backend, shards: int) -> None:
    """Also where shards have one sample, or none."""
    with nc.use_backend(backend.name):
        models = [network(), synchronized(network()), network()]
    options: dict[str, Any] = {"accumulate": 2, "clip_norm": 1.0, "capture": False}
    whole, sync, apart = (
        step_of(model, **(each | options))
        for model, each in zip(models, ({}, {"shards": shards}, {"shards": min(shards, 3)}), strict=True)
    )
    for n in (11, 7, 5):
        for step in (whole, sync, *([apart] if n > 5 else [])):
            step(IMAGES[:n], LABELS[:n])
    whole.flush()
    sync.flush()
    expected, found, other = (step.model.state_dict() for step in (whole, sync, apart))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(sync.totals(), whole.totals(), rtol=1e-9)
    assert found["3.norm.num_batches_tracked"] == 6
    assert np.abs(other["7.running_var"] - expected["7.running_var"]).max() > 1e-4


def test_float32_is_as_near_as_whole_batches_are() -> None:
    """Where a mean is far from zero, too."""
    found = []
    with nc.use_backend("reference"):
        for dtype, shards in ((np.float64, None), (np.float32, None), (np.float32, 4)):
            step = step_of(synchronized(network(dtype=dtype)), shards=shards)
            for _ in range(3):
                step((IMAGES + 100).astype(dtype), LABELS)
            found.append(step.model.state_dict())
    exact, whole, sync = found
    for name, array in exact.items():
        largest = np.abs(array).max()
        assert np.abs(sync[name] - array).max() <= 4 * np.abs(whole[name] - array).max() + 1e-5 * largest, name


class Masks(nn.Dropout):
    """Gives its masks, and keeps them."""

    def forward(self, x: Any) -> Any:
        return self._noted(super().forward(np.ones(x.shape, np.float32)))

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return self._noted(super().backward(np.ones(dy.shape, np.float32), input_gradient))

    def _noted(self, mask: Any) -> Any:
        self.seen.append(self.backend.to_numpy(mask).tobytes())
        return mask


def test_what_draws_draws_as_one_shard_after_the_other(backend: Backend) -> None:
    left = []
    for is_frozen in (True, False):
        with nc.use_backend(backend.name):
            nc.manual_seed(2)
            masks, norm = Masks(0.5), nn.SyncBatchNorm(3)
            masks.seen = []
            model = nn.Sequential(nn.Flatten(), nn.Linear(2 * SIZE**2, 6), masks, nn.Linear(6, 3), norm)
        if is_frozen:
            norm.freeze()
        step = step_of(model, shards=4, capture=False)
        for _ in range(2):
            step(IMAGES[:11].astype(np.float32), LABELS[:11])
        left.append((sorted(masks.seen), masks.calls))
    assert left[0] == left[1] and left[1][1] == 2
    assert len(set(left[1][0])) == 8 and len(left[1][0]) == 16  # the same forward and backward


def test_nothing_is_left_of_a_batch_that_fails(backend: Backend) -> None:
    """In a forward pass, when others wait, in the loss, when others have gone on, and at a layer that not all reach."""
    wrong, large = LABELS.copy(), IMAGES.copy()
    wrong[9], large[9] = 3, 1e9
    with nc.use_backend(backend.name):
        models = [synchronized(network()) for _ in range(2)]
    metrics = [[] if SIMULATED else [Accuracy()] for _ in models]
    steps = [step_of(model, shards=3, metrics=own) for model, own in zip(models, metrics, strict=True)]
    failing, twin = steps
    for step in steps:
        step(IMAGES[:10], LABELS[:10])
    for x, y, error, message in (
        (large, LABELS, ArithmeticError, "a large number"),
        *([] if backend.asynchronous else [(IMAGES, wrong, ValueError, "labels")]),
    ):
        with pytest.raises(error, match=message):
            failing(x[:10], y[:10])
        assert failing.pending == 0
    for step in steps:
        step(IMAGES[10:], LABELS[10:])
    assert_same(*(step.model.state_dict() for step in steps))
    assert failing.totals() == twin.totals()
    assert [m.value() for m in metrics[0]] == [m.value() for m in metrics[1]]


class Choosy(nn.Layer):
    """Has a norm for some samples alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.SyncBatchNorm(3)

    def forward(self, x: Any) -> Any:
        return self.norm(x) if np.asarray(x).max() < 9 else x

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        return dy


def test_what_cannot_be_synchronised_is_refused() -> None:
    labels = np.zeros(8, int)
    with nc.use_backend("reference"):
        lines = nn.Sequential(nn.Linear(2, 3), nn.SyncBatchNorm(3))
        with pytest.raises(ValueError, match=r"`micro_batch` 2 must be None .* SyncBatchNorm layers and `shards` 4"):
            step_of(lines, shards=4, micro_batch=2)(np.ones((8, 2)), labels)
        with pytest.raises(ValueError, match="more than one value per channel"):
            step_of(lines, shards=4)(np.ones((1, 2)), labels[:1])
        step = step_of(nn.Sequential(Choosy(), nn.Linear(3, 3)), shards=4)
        x = np.ones((8, 3), np.float32)
        step(x, labels)
        x[5] = 9
        with pytest.raises(RuntimeError, match=r"the forward pass of '0.norm' in shard 0 and the end in shard 2"):
            step(x, labels)
        step(x[:4], labels[:4])


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is captured without compiled kernels")
def test_steps_are_captured_where_no_shard_waits() -> None:
    with nc.use_backend("cpu"):
        norms = [(nn.SyncBatchNorm(3), 4), (nn.SyncBatchNorm(3).freeze(), 4), (nn.SyncBatchNorm(3), 1)]
        for (norm, shards), mode in zip(norms, ("plain", "captured", "captured"), strict=True):
            step = step_of(nn.Sequential(nn.Linear(2, 3), norm), shards=shards)
            step(np.ones((8, 2), np.float32), np.zeros(8, int))
            assert step.mode == mode


def test_sums_are_of_all_shards() -> None:
    """Those of metrics, of the loss, and of the gradients of what is not the optimizer's."""
    with nc.use_backend("reference"):
        found = []
        for shards in (None, 5):
            nc.manual_seed(0)
            model = nn.Sequential(nn.Linear(2, 3, dtype=np.float64), nn.SyncBatchNorm(3, dtype=np.float64))
            error = MeanAbsoluteError()
            step = TrainingStep(model, nn.MSELoss(), optim.SGD([model[0].weight], 0.1), shards=shards, metrics=[error])
            for _ in range(2):
                step(IMAGES[:, :, 0, 0], IMAGES[:, :1, 0, 0] * np.ones((1, 3)))
            found.append([error.value(), *step.totals()[::2], *model[1].bias.grad])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
    assert np.abs(found[0][3:]).min() > 0
