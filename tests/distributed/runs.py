"""Training runs whose weights do not depend on how many processes there are: ``python -m tests.distributed.runs``.

A number, as its argument, makes other weights and images of it, those of other seeds. The first process prints, as
JSON, what each of them has: the hash of all that each run ends with, by its name.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import numbacnn as nc
from numbacnn import data, distributed, models, nn, optim
from numbacnn.distributed import exchange
from numbacnn.training import Accuracy, MeanAbsoluteError, WeightAverage, fit

SAMPLES, TESTS = 38, 13
exchange.OverMpi.piece_bytes = 16_384  # some of which are there long before others


def loaders(channels: int, size: int, seed: int) -> list[data.DataLoader]:
    """Images to train on, moved, mirrored, partly cut, in batches of 16, 16 and 6; and images to test on."""
    rng = np.random.default_rng(seed)
    sets = [
        data.ArrayDataset(
            rng.integers(0, 256, (n, channels, size, size), np.uint8), rng.integers(0, 10, n), [*"abcdefghij"]
        )
        for n in (SAMPLES, TESTS)
    ]
    moved = data.Compose([data.RandomCrop(size, padding=2), data.RandomHorizontalFlip()])
    train = data.DataLoader(sets[0], 16, shuffle=True, seed=seed, transform=moved)
    return [train, data.DataLoader(sets[1], 5)]


def lenet() -> nn.Sequential:
    """With dropout, of two sorts."""
    *layers, last = models.lenet()
    return nn.Sequential(*layers[:3], nn.Dropout2d(0.2), *layers[3:], nn.Dropout(0.4), last)


def resnet() -> nn.Sequential:
    """With batch normalisation, of shards of one image, too, but small, for processes that share two cores."""

    def normalized(channels: int, inner: int, stride: int = 1) -> list[nn.Layer]:
        return [nn.Conv2d(channels, inner, 3, stride, padding=1, bias=False), nn.BatchNorm2d(inner)]

    block = nn.Add(nn.Sequential(*normalized(8, 8), nn.ReLU(), *normalized(8, 8)), nn.Identity())
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    wider = nn.Add(nn.Sequential(*normalized(8, 16, 2), nn.ReLU(), *normalized(16, 16)), shortcut)
    ends = [nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(*normalized(3, 8), nn.ReLU(), block, nn.ReLU(), wider, nn.ReLU(), *ends)


def synchronised() -> nn.Layer:
    """With batch normalisation of whole batches, and dropout between."""
    *layers, last = resnet()
    return nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(*layers[:3], nn.Dropout2d(0.2), *layers[3:], last))


def adamw(model: nn.Layer) -> optim.Optimizer:
    """With settings of its own for norms and biases."""
    return optim.AdamW(model.parameters(), 1e-3, no_decay=optim.norms_and_biases(model.parameters()))


def sgd(model: nn.Layer) -> optim.Optimizer:
    """With momentum."""
    return optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)


def mixed(loader: data.DataLoader) -> list[Any]:
    """Batches that each process has whole."""
    return [*loader]


Made = Callable[[Any], Any]
RUNS: Mapping[str, tuple[Any, Made, int, dict[str, Any]]] = {
    "LeNet, SGD": (lenet, sgd, 0, {"shards": 8, "clip_norm": 1.0}),
    "LeNet, AdamW": (lenet, adamw, 1, {"shards": 8, "accumulate": 2, "micro_batch": 1}),
    "LeNet in lists": (lenet, adamw, 2, {"shards": 5, "metrics": {"top3": Accuracy(3)}}),
    "ResNet, SGD": (resnet, sgd, 3, {"shards": 8, "capture": False}),
    "ResNet, AdamW": (resnet, adamw, 4, {"shards": 8}),
    "ResNet, synchronised": (synchronised, sgd, 5, {"shards": 8, "accumulate": 2}),
}


def digest(*states: Any) -> str:
    """Of arrays and numbers, by names."""
    found = hashlib.sha256()
    for state in states:
        for name, value in sorted(state.items()):
            found.update(name.encode())
            found.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return found.hexdigest()


def run(name: str, group: distributed.Group) -> str:
    """Two epochs on the backend cpu; the hash of weights, optimizer, averages and figures."""
    make_model, make_optimizer, number, options = RUNS[name]
    seed = number + len(RUNS) * int(sys.argv[1] if len(sys.argv) > 1 else 0)
    train, test = loaders(1 if make_model is lenet else 3, 28 if make_model is lenet else 8, seed)
    with nc.use_backend("cpu"):
        nc.manual_seed(seed + group.rank)  # all begin with the weights of the first
        model = make_model()
        optimizer = make_optimizer(model)
        average = WeightAverage(model, 0.9)
        history = fit(
            *(model, mixed(train) if "lists" in name else train, test, nn.CrossEntropyLoss(), optimizer, 2),
            group=group,
            weight_average=average,
            **options,
        )
    figures = {
        f"{record.epoch} {key}": value
        for record in history.records
        for key, value in record.figures.items()
        if "second" not in key
    }
    assert all(np.isfinite([*figures.values()]))
    return digest(model.state_dict(), optimizer.state_dict(), average.state_dict(), model.random_state(), figures)


def regression(group: distributed.Group) -> str:
    """Steps of one's own, in float64, with a metric whose sums are no whole numbers, and a batch with empty shards."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((11, 3)), rng.standard_normal((11, 1))
    with nc.use_backend("cpu"):
        nc.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(3, 4, dtype=np.float64), nn.BatchNorm1d(4, dtype=np.float64), nn.Linear(4, 1, dtype=np.float64)
        )
    model[0].freeze()
    optimizer, metric = optim.SGD(model[2].parameters(), 0.1), MeanAbsoluteError()
    step = nc.training.TrainingStep(model, nn.MSELoss(), optimizer, shards=5, group=group, metrics=[metric])
    for n in (11, 10, 11):
        step(x[:n], y[:n])
    gradients = {name: np.array(parameter.grad) for name, parameter in model.named_parameters()}
    assert any(gradients["1.weight"])  # which is not the optimizer's
    figures = {"totals": step.totals(), "error": metric.value()}
    return digest(model.state_dict(), gradients, figures)


def main() -> None:
    """Do all runs that have a shard for each process."""
    group = distributed.init()
    group.overlap = True
    found = {name: run(name, group) for name, (*_, options) in RUNS.items() if group.size <= options["shards"]}
    if group.size <= 5:
        found["regression"] = regression(group)
    every = group.gather_metrics(found)
    if group.rank == 0:
        print(json.dumps(every))


if __name__ == "__main__":
    main()
