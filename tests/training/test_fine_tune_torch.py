"""Parts that are frozen, and gradients of several batches, as PyTorch trains them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn, optim
from numbacnn.training import TrainingStep

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

STEPS, BATCH = 20, 6


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    """PyTorch counts, and multiplies the mu of NAdam, in its default dtype."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(default)


def networks() -> tuple[nn.Sequential, Any]:
    """Ours, and the same of PyTorch, in float64."""
    with nc.use_backend("reference"):
        nc.manual_seed(4)
        ours = nn.Sequential(
            *(nn.Conv2d(2, 4, 3, dtype=np.float64), nn.BatchNorm2d(4, dtype=np.float64), nn.ReLU()),
            *(nn.Conv2d(4, 4, 3, dtype=np.float64), nn.BatchNorm2d(4, dtype=np.float64), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(16, 3, dtype=np.float64)),
        )
    theirs = torch.nn.Sequential(
        *(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()),
        *(torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Tanh()),
        *(torch.nn.Flatten(), torch.nn.Linear(16, 3)),
    ).double()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    return ours, theirs


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((STEPS, BATCH, 2, 6, 6)), rng.integers(0, 3, (STEPS, BATCH))


def assert_close(ours: nn.Layer, theirs: Any) -> None:
    for name, tensor in theirs.state_dict().items():
        actual, expected = ours.state_dict()[name], tensor.numpy()
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9, err_msg=name)


def halves(parameters: Any) -> list[dict[str, Any]]:
    """Two groups, of other rates."""
    parameters = list(parameters)
    return [{"params": parameters[:3]}, {"params": parameters[3:], "lr": 0.02}]


OPTIMIZERS = {
    "sgd": (
        lambda ours: optim.SGD(ours, 0.05, momentum=0.9, weight_decay=0.1),
        lambda theirs: torch.optim.SGD(theirs, 0.05, momentum=0.9, weight_decay=0.1),
    ),
    "adamw": (
        lambda ours: optim.AdamW(ours, 0.01, weight_decay=0.1),
        lambda theirs: torch.optim.AdamW(theirs, 0.01, weight_decay=0.1),
    ),
    "nadam, groups": (
        lambda ours: optim.NAdam(halves(ours), 0.01, weight_decay=0.1),
        lambda theirs: torch.optim.NAdam(halves(theirs), 0.01, weight_decay=0.1),
    ),
    "adagrad": (
        lambda ours: optim.Adagrad(ours, 0.05, lr_decay=0.1, eps=1e-3),
        lambda theirs: torch.optim.Adagrad(theirs, 0.05, lr_decay=0.1, eps=1e-3),
    ),
}
FROZEN = {"front": [0, 1, 2], "middle": [3], "batch norm": [1, 4], "end": [7], "all but the head": range(7)}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("frozen", FROZEN)
def test_frozen_parts(backend: Any, frozen: str, kind: str) -> None:
    ours, theirs = networks()
    ours.to(backend)
    for i in FROZEN[frozen]:
        ours[i].freeze()
        theirs[i].requires_grad_(False).eval()
    make_ours, make_theirs = OPTIMIZERS[kind]
    of_ours, of_theirs = make_ours(ours.parameters()), make_theirs(theirs.parameters())
    step = TrainingStep(ours, nn.CrossEntropyLoss(), of_ours, clip_norm=0.5)
    for x, y in zip(*data(), strict=True):
        step(x, y)
        of_theirs.zero_grad()
        torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        of_theirs.step()
    assert_close(ours, theirs)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_parts_that_are_thawed_later(backend: Any, kind: str) -> None:
    """The head alone, with the middle, all but the front again, all: each part has taken other numbers of steps."""
    ours, theirs = networks()
    ours.to(backend)
    make_ours, make_theirs = OPTIMIZERS[kind]
    of_ours, of_theirs = make_ours(ours.parameters()), make_theirs(theirs.parameters())
    step = TrainingStep(ours, nn.CrossEntropyLoss(), of_ours)
    frozen = {0: range(6), 6: range(3), 9: [], 12: range(2), 15: []}
    for i, (x, y) in enumerate(zip(*data(), strict=True)):
        if i in frozen:
            ours.unfreeze()
            theirs.requires_grad_(True).train()
            for part in frozen[i]:
                ours[part].freeze()
                theirs[part].requires_grad_(False).eval()
        step(x, y)
        of_theirs.zero_grad()
        torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        of_theirs.step()
    assert_close(ours, theirs)
    if kind != "sgd":
        counts = [int(of_theirs.state[parameter]["step"]) for parameter in theirs.parameters()]
        assert of_ours.state_dict()["steps"] == counts and len(set(counts)) == 3


def test_parameters_alone(backend: Any) -> None:
    """Running averages go on, as in PyTorch."""
    ours, theirs = networks()
    ours.to(backend)
    for model in (ours, theirs):
        for parameter in list(model.parameters())[:4]:
            parameter.requires_grad = False
    step = TrainingStep(ours, nn.CrossEntropyLoss(), optim.SGD(ours.parameters(), 0.05))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05)
    for x, y in zip(*data(), strict=True):
        step(x, y)
        optimizer.zero_grad()
        torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    assert_close(ours, theirs)


def test_shards_whose_batch_normalisation_is_synchronised(backend: Any) -> None:
    """Against PyTorch's whole batches; a frozen norm rests in both."""
    ours, theirs = networks()
    nn.SyncBatchNorm.convert_sync_batchnorm(ours.to(backend))
    ours[4].freeze()
    theirs[4].requires_grad_(False).eval()
    step = TrainingStep(ours, nn.CrossEntropyLoss(), optim.SGD(ours.parameters(), 0.05, momentum=0.9), shards=4)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9)
    for x, y in zip(*data(), strict=True):
        step(x, y)
        optimizer.zero_grad()
        torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    assert_close(ours, theirs)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_accumulated_gradients(backend: Any, kind: str) -> None:
    """Against the usual loop, whose losses are divided by the number of batches, and one batch of all samples."""
    ours, theirs = networks()
    ours.to(backend)
    make_ours, make_theirs = OPTIMIZERS[kind]
    optimizer = make_theirs(theirs.parameters())
    step = TrainingStep(ours, nn.CrossEntropyLoss(), make_ours(ours.parameters()), accumulate=4, clip_norm=0.5)
    for i, (x, y) in enumerate(zip(*data(), strict=True)):
        step(x, y)
        (torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(y)) / 4).backward()
        if i % 4 == 3:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    assert_close(ours, theirs)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_groups_of_batches_of_any_size_with_labels_that_do_not_count(backend: Any, kind: str) -> None:
    ours, theirs = networks()
    ours.to(backend)
    for i in (1, 4):
        ours[i].freeze()
        theirs[i].requires_grad_(False).eval()
    make_ours, make_theirs = OPTIMIZERS[kind]
    optimizer, weight = make_theirs(theirs.parameters()), [1.0, 2.0, 0.5]
    loss = nn.CrossEntropyLoss(np.array(weight), ignore_index=2)
    of_theirs = torch.nn.CrossEntropyLoss(torch.tensor(weight, dtype=torch.float64), ignore_index=2)
    step = TrainingStep(ours, loss, make_ours(ours.parameters()), accumulate=3)
    for x, y in zip(*data(), strict=True):
        y[[0, 2, 5]] = (0, 1, 1)
        for part in (slice(0, 2), slice(2, 5), slice(5, 6)):
            step(x[part], y[part])
        optimizer.zero_grad()
        of_theirs(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    assert_close(ours, theirs)
