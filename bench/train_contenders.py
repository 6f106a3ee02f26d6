"""Training one model on data that stays on the device: what is trained, and our loader and step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from numbacnn import nn, optim
from numbacnn.backends import Backend, use_backend
from numbacnn.cli.recipes import RECIPES
from numbacnn.data import ArrayDataset, DataLoader
from numbacnn.nn.init import manual_seed, xavier_uniform
from numbacnn.training import TrainingStep

from .precision import FULL, suffix, using

__all__ = ["MODELS", "Contender", "Model", "Ours", "Task"]


@dataclass(frozen=True)
class Model:
    """A network as we build it and as PyTorch does, with the same state-dict keys; how it is trained."""

    ours: Callable[[], nn.Layer]
    torch: Callable[[], Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    lr: float
    batch_size: int = 256


@dataclass(frozen=True)
class Task:
    """What all contenders train: a model from the same weights on the same batches, by plain SGD."""

    model: Model
    examples: int
    batch_size: int
    seed: int = 0
    dropout: bool = True
    """False leaves out what each library draws in its own way, so that losses can be compared."""

    @property
    def steps(self) -> int:
        """Batches in an epoch, all of them full."""
        return self.examples // self.batch_size

    @functools.cached_property
    def has_dropout(self) -> bool:
        """Whether the model draws random numbers."""
        with use_backend("reference"):
            return bool(self.model.ours().random_state())

    def dataset(self) -> ArrayDataset:
        """Random uint8 images and labels."""
        rng = np.random.default_rng(self.seed)
        images = rng.integers(0, 256, (self.examples, *self.model.image_shape), np.uint8)
        labels = rng.integers(0, self.model.num_classes, self.examples)
        return ArrayDataset(images, labels, [str(number) for number in range(self.model.num_classes)])

    def order(self, epoch: int) -> np.ndarray:
        """The order of the images, that of DataLoader."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.examples)

    def network(self) -> nn.Layer:
        """Our model with its initial weights, on the default backend."""
        manual_seed(self.seed)
        model = self.model.ours()
        xavier_uniform(model)
        for layer in model.layers():
            if isinstance(layer, nn.Dropout) and not self.dropout:
                layer.p = 0.0
        return model

    def torch_network(self, torch: Any, device: str) -> Any:
        """PyTorch's model with the same weights."""
        model = self.model.torch()
        with use_backend("reference"):
            state = self.network().state_dict()
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        for layer in model.modules():
            if isinstance(layer, torch.nn.Dropout) and not self.dropout:
                layer.p = 0.0
        return model.to(device)


class Contender(Protocol):
    """Something that trains on one batch after the other, and may return before that is done."""

    name: str
    precision: str

    @property
    def mode(self) -> str | None:
        """How a step runs."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, made one by one."""

    def step(self, x: Any, y: Any) -> None:
        """Train on a batch."""

    def wait(self) -> None:
        """Wait until everything is done."""

    def mean_loss(self) -> float:
        """Loss per example since the last time; waits."""


class Ours:
    """What ``fit`` does, without its reports."""

    def __init__(self, task: Task, backend: Backend, precision: str = FULL) -> None:
        self.name, self.precision = "numbacnn" + suffix(precision), precision
        with use_backend(backend.name):
            model, loss = task.network(), nn.CrossEntropyLoss()
        self.first_launches: int | None = None
        """Kernel launches in the first step, which is never a captured one; None where the device counts none."""
        self.last_launches: int | None = None
        self._backend = backend
        self._loader = DataLoader(
            task.dataset(), task.batch_size, shuffle=True, seed=task.seed, drop_last=True, backend=backend
        )
        model.train()
        self._step = TrainingStep(model, loss, optim.SGD(model.parameters(), task.model.lr))
        self._loss_sum, self._examples = 0.0, 0

    @property
    def mode(self) -> str | None:
        return self._step.mode

    def batches(self, epoch: int) -> Iterator[Any]:
        self._loader.set_epoch(epoch)
        return iter(self._loader)

    def step(self, x: Any, y: Any) -> None:
        before = self._launches()
        with using(self.precision):
            self._step(x, y)
        if before is not None:
            self.last_launches = self._launches() - before
            if self.first_launches is None:
                self.first_launches = self.last_launches
        if not self._backend.asynchronous:
            self._read()

    def wait(self) -> None:
        self._backend.synchronize()

    def mean_loss(self) -> float:
        self._read()
        loss_sum, examples, self._loss_sum, self._examples = self._loss_sum, self._examples, 0.0, 0
        return loss_sum / examples

    def _read(self) -> None:
        loss_sum, _, examples = self._step.totals()
        self._loss_sum += loss_sum
        self._examples += examples

    def _launches(self) -> Any:
        if self._backend.name != "cuda":
            return None
        from numbacnn.backends.cuda.runtime.device_array import device

        return device().launches


def _of_the_book(name: str) -> Model:
    recipe = RECIPES[name]

    def in_torch() -> Any:
        from . import torch_models

        return torch_models.BOOK[name]()

    shape = (1, recipe.size, recipe.size)
    return Model(lambda: recipe.build(1, 10), in_torch, shape, 10, recipe.lr, recipe.batch_size)


MODELS = {name: _of_the_book(name) for name in ("lenet", "alexnet", "vgg", "nin", "googlenet", "resnet", "densenet")}
"""The networks of the recipes, by the name that ``--model`` takes."""
