"""Training one model on data that stays on the device: our loader and step, and PyTorch in its ways to run a step."""

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

__all__ = [
    "MODELS",
    "Contender",
    "Model",
    "Ours",
    "Task",
    "TorchChannelsLast",
    "TorchCompiled",
    "TorchEager",
    "TorchGraph",
]

WARM_UP_STEPS = 3


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

    def __init__(self, task: Task, backend: Backend) -> None:
        self.name = "numbacnn"
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


class TorchEager:
    """PyTorch as one writes it, a call for every operation; loss and right answers are summed as we sum them."""

    name, mode = "torch", "eager"

    def __init__(self, torch: Any, task: Task, device: str) -> None:
        self._torch, self._task, self._device = torch, task, device
        dataset = task.dataset()
        self._images, self._labels = (torch.from_numpy(array).to(device) for array in (dataset.images, dataset.labels))
        self._model = task.torch_network(torch, device)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=task.model.lr)
        self._loss_sum, self._correct = torch.zeros((), device=device), torch.zeros((), device=device)
        self._examples = 0

    def batches(self, epoch: int) -> Iterator[Any]:
        order = self._torch.from_numpy(self._task.order(epoch)).to(self._device)
        for part in order[: self._task.steps * self._task.batch_size].split(self._task.batch_size):
            yield self._images.index_select(0, part) / 255, self._labels.index_select(0, part)

    def _loss_and_correct(self, x: Any, y: Any) -> tuple[Any, Any]:
        logits = self._model(x)
        return self._torch.nn.functional.cross_entropy(logits, y), (logits.argmax(1) == y).sum()

    def _train(self, x: Any, y: Any) -> None:
        loss, correct = self._loss_and_correct(x, y)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._loss_sum += loss.detach() * len(y)
        self._correct += correct

    def step(self, x: Any, y: Any) -> None:
        self._train(x, y)
        self._examples += len(y)

    def wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def mean_loss(self) -> float:
        mean = float(self._loss_sum) / self._examples
        self._loss_sum.zero_()
        self._correct.zero_()
        self._examples = 0
        return mean


class TorchChannelsLast(TorchEager):
    """Images, weights and what is between them in PyTorch's other memory format."""

    name, mode = "torch channels_last", "eager"

    def __init__(self, torch: Any, task: Task, device: str) -> None:
        super().__init__(torch, task, device)
        self._model.to(memory_format=torch.channels_last)

    def batches(self, epoch: int) -> Iterator[Any]:
        for x, y in super().batches(epoch):
            yield x.contiguous(memory_format=self._torch.channels_last), y


class TorchCompiled(TorchEager):
    """Forward, loss and their backward pass made by ``torch.compile``."""

    name, mode = "torch.compile", "compiled"

    def __init__(self, torch: Any, task: Task, device: str) -> None:
        super().__init__(torch, task, device)
        self._loss_and_correct = torch.compile(super()._loss_and_correct)  # type: ignore[method-assign]


class TorchGraph(TorchEager):
    """The whole step recorded as a CUDA graph, which reads its batch from two tensors that stay where they are."""

    name, mode = "torch CUDA graph", "captured"

    def __init__(self, torch: Any, task: Task, device: str) -> None:
        super().__init__(torch, task, device)
        size = task.batch_size
        self._x, self._y = self._images[:size] / 255, self._labels[:size].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._train(self._x, self._y)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._train(self._x, self._y)
        self._model.load_state_dict(task.torch_network(torch, device).state_dict())
        self._loss_sum.zero_()
        self._correct.zero_()

    def batches(self, epoch: int) -> Iterator[Any]:
        order = self._torch.from_numpy(self._task.order(epoch)).to(self._device)
        for part in order[: self._task.steps * self._task.batch_size].split(self._task.batch_size):
            self._torch.div(self._images.index_select(0, part), 255, out=self._x)
            self._torch.index_select(self._labels, 0, part, out=self._y)
            yield self._x, self._y

    def step(self, x: Any, y: Any) -> None:
        self._graph.replay()
        self._examples += len(y)


def _of_the_book(name: str) -> Model:
    recipe = RECIPES[name]

    def in_torch() -> Any:
        from . import torch_models

        return torch_models.BOOK[name]()

    shape = (1, recipe.size, recipe.size)
    return Model(lambda: recipe.build(1, 10), in_torch, shape, 10, recipe.lr, recipe.batch_size)


MODELS = {name: _of_the_book(name) for name in ("lenet", "alexnet", "vgg", "nin", "googlenet", "resnet", "densenet")}
"""The networks of the recipes, by the name that ``--model`` takes."""
